"""How far colour alone goes: logistic regression on a tile's means and variances of red, green and blue."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray

    F64 = NDArray[np.float64]

_RIDGE = 1e-3
_STEPS = 60


def colour_features(pixels: NDArray[np.uint8]) -> F64:
    """Means and variances of the three colours, uint8 (N, H, W, 3) -> float64 (N, 6)."""
    out = np.empty((len(pixels), 6))
    for k, tile in enumerate(pixels):
        values = tile.reshape(-1, 3).astype(np.float32) / 255
        out[k, :3], out[k, 3:] = values.mean(axis=0), values.var(axis=0)
    return out


class ColourClassifier:
    """Logistic regression with a slight ridge, fitted by Newton's method on standardised features."""

    def __init__(self, features: F64, positive: NDArray[np.bool_]) -> None:
        self._middle = features.mean(axis=0)
        self._spread = features.std(axis=0) + 1e-12
        design = self._design(features)
        self._weights = np.zeros(design.shape[1])
        # the classes weigh the same, as they do in the test
        weight = np.where(positive, 0.5 / max(positive.mean(), 1e-9), 0.5 / max((~positive).mean(), 1e-9))
        for _ in range(_STEPS):
            p = 1 / (1 + np.exp(-np.clip(design @ self._weights, -30, 30)))
            gradient = design.T @ (weight * (p - positive)) + _RIDGE * self._weights
            curvature = (design * (weight * p * (1 - p))[:, None]).T @ design
            self._weights -= np.linalg.solve(curvature + _RIDGE * np.eye(len(gradient)), gradient)

    def _design(self, features: F64) -> F64:
        return np.column_stack([(features - self._middle) / self._spread, np.ones(len(features))])

    def predict(self, features: F64) -> NDArray[np.bool_]:
        """Tumour or not, bool (N,)."""
        out: NDArray[np.bool_] = self._design(features) @ self._weights > 0
        return out


def balanced_accuracy(predicted: NDArray[np.bool_], positive: NDArray[np.bool_]) -> float:
    """Mean of the shares of either class that are right: accuracy as if the classes were equal in number."""
    return float((predicted[positive].mean() + (~predicted[~positive]).mean()) / 2)
