"""Regression concept vectors: which way in a layer a measured concept grows, and how well that foretells it.

After Graziani, Andrearczyk and Mueller (Regression concept vectors for bidirectional explanations in histopathology,
iMIMIC 2018): the concept's value is regressed on a layer's activations, and the vector of coefficients, made of length
1, is its direction. Unlike there the regression is ridge regression, as layers have more maps than there are patches at
times; the activations are the maps' means over the patch (theirs are flattened or pooled); and R2 is of patients that
had no part in the fit.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    import numpy.typing as npt

    Floats = npt.NDArray[np.float64]
    Ints = npt.NDArray[np.int64]

PENALTIES = tuple(10.0**power for power in range(-4, 3))
"""Penalties that are tried, as shares of the number of patches: activations have a deviation of 1 each."""

MOST_COMPONENTS = 512
"""Of layers with more maps the regression sees so many principal components: of all their variance but a little."""


@dataclass(frozen=True)
class Fit:
    """Regressions of T concepts on one layer's activations.

    Attributes
    ----------
    directions
        float64 (T, K): of all patches, of length 1 in the layer's own units; 0 where there is none.
    fold_directions
        float64 (F, T, K): each without the patches of one fold.
    penalties
        float64 (T,): of the fit to all patches.
    held_out
        float64 (N, T): what each patch is foretold by the fit without its fold.
    """

    directions: Floats
    fold_directions: Floats
    penalties: Floats
    held_out: Floats


class Space:
    """A layer's activations as regressions see them: each map with mean 0 and deviation 1, or principal components.

    Parameters
    ----------
    activations
        (N, K): one row a patch.

    Attributes
    ----------
    rows
        float64 (N, r).
    """

    def __init__(self, activations: npt.NDArray[np.floating]) -> None:
        values = np.asarray(activations, np.float64)
        spread = values.std(axis=0)
        # what varies by rounding alone is no variation
        is_live = spread > 1e-6 * np.maximum(np.abs(values).max(axis=0, initial=0), 1e-30)
        self._scale = np.where(is_live, 1 / np.where(is_live, spread, 1), 0)
        self.rows: Floats = (values - values.mean(axis=0)) * self._scale
        self._basis: Floats | None = None
        if values.shape[1] > MOST_COMPONENTS:
            _, vectors = np.linalg.eigh(self.rows.T @ self.rows)
            self._basis = vectors[:, ::-1][:, :MOST_COMPONENTS]
            self.rows = self.rows @ self._basis

    def directions(self, coefficients: Floats) -> Floats:
        """Coefficients (r, ...) of `rows` as directions (..., K) of length 1 in the layer's own units."""
        found = np.moveaxis(coefficients if self._basis is None else np.tensordot(self._basis, coefficients, 1), 0, -1)
        return unit(found * self._scale)


def unit(vectors: Floats) -> Floats:
    """Vectors (..., K) of length 1; those of length 0 stay."""
    length = np.linalg.norm(vectors, axis=-1, keepdims=True)
    return np.asarray(vectors / np.where(length > 0, length, 1))


def fit(space: Space, values: Floats, folds: Ints) -> Fit:
    """Regress concepts on activations.

    The penalty of a fold is the one that foretells the patches of the *other* folds best, so that a fold has no say in
    what foretells it.

    Parameters
    ----------
    space
        Activations of N patches.
    values
        float64 (N, T), finite: the concepts.
    folds
        int64 (N,): the fold of each patch, 0 to F - 1, all of a patient in one.

    Returns
    -------
    Fit
    """
    rows = space.rows
    n_folds = int(folds.max()) + 1
    squares = np.zeros((n_folds, len(PENALTIES), values.shape[1]))
    foretold = np.zeros((len(PENALTIES), *values.shape))
    coefficients = []
    for fold in range(n_folds):
        is_held = folds == fold
        found, offset = _ridge(rows[~is_held], values[~is_held])
        foretold[:, is_held] = rows[is_held] @ found + offset[:, None]
        squares[fold] = ((foretold[:, is_held] - values[is_held]) ** 2).sum(axis=1)
        coefficients.append(found)
    everything = np.arange(values.shape[1])
    held_out = np.zeros_like(values)
    fold_directions = []
    for fold in range(n_folds):
        best = (squares.sum(axis=0) - squares[fold]).argmin(axis=0)
        is_held = folds == fold
        held_out[is_held] = foretold[:, is_held][best, :, everything].T
        fold_directions.append(space.directions(coefficients[fold][best, :, everything].T))
    best = squares.sum(axis=0).argmin(axis=0)
    found, _ = _ridge(rows, values)
    return Fit(
        space.directions(found[best, :, everything].T),
        np.stack(fold_directions),
        np.array(PENALTIES)[best],
        held_out,
    )


def _ridge(rows: Floats, values: Floats) -> tuple[Floats, Floats]:
    """Coefficients (penalties, r, T) and offsets (penalties, T) of ridge regressions, for all penalties at once."""
    middle, mean = rows.mean(axis=0), values.mean(axis=0)
    centred = rows - middle
    eigenvalues, vectors = np.linalg.eigh(centred.T @ centred)
    turned = vectors.T @ (centred.T @ (values - mean))
    penalties = np.array(PENALTIES)[:, None] * len(rows)
    found = vectors @ (turned / (np.maximum(eigenvalues, 0) + penalties)[:, :, None])
    return found, mean - np.tensordot(middle, found, (0, 1))


def resampled_directions(space: Space, values: Floats, penalty: float, weights: Floats) -> Floats:
    """Directions of one concept, from patches drawn with replacement.

    Parameters
    ----------
    space
        Activations of N patches.
    values
        float64 (N,): the concept.
    penalty
        See `Fit.penalties`.
    weights
        float64 (B, N): how often each patch is in each draw.

    Returns
    -------
    numpy.ndarray
        float64 (B, K), of length 1.
    """
    rows = space.rows
    found = np.zeros((len(weights), rows.shape[1]))
    for number, weight in enumerate(weights):
        is_in = weight > 0
        count, part = weight[is_in], rows[is_in]
        total = count.sum()
        centred = part - count @ part / total
        weighted = centred * count[:, None]
        target = values[is_in] - count @ values[is_in] / total
        table = weighted.T @ centred
        table[np.diag_indices_from(table)] += penalty * total
        found[number] = np.linalg.solve(table, weighted.T @ target)
    return space.directions(found.T)


def r_squared(values: Floats, foretold: Floats, weights: Floats | None = None) -> Floats:
    """Share of a concept's variance that was foretold; below 0 where its mean alone would have done better.

    Parameters
    ----------
    values, foretold
        float64 (N,) or (N, T).
    weights
        float64 (B, N): how often each patch is in each of B draws; then of (N,) a float64 (B,).

    Returns
    -------
    numpy.ndarray
        float64, of T, of B, or a single one; NaN where the concept does not vary.
    """
    off = (values - foretold) ** 2
    if weights is None:
        left, spread = off.sum(axis=0), ((values - values.mean(axis=0)) ** 2).sum(axis=0)
    else:
        total = weights.sum(axis=1)
        mean = weights @ values / total
        left, spread = weights @ off, weights @ values**2 - total * mean**2
    scale = np.maximum(np.abs(values).max(initial=0) ** 2, 1e-300) * len(values)
    with np.errstate(invalid="ignore", divide="ignore"):
        return np.asarray(np.where(spread > 1e-12 * scale, 1 - left / spread, np.nan))


def angles(vectors: Floats) -> Floats:
    """Degrees between each two of F vectors of length 1, float64 (F (F - 1) / 2,)."""
    one, other = np.triu_indices(len(vectors), 1)
    cosines = np.clip((vectors[one] * vectors[other]).sum(axis=1), -1, 1)
    return np.asarray(np.degrees(np.arccos(cosines)))
