"""The loss of some tiles, as a sum and what it is the sum of."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
from torch.nn import functional

if TYPE_CHECKING:
    from pyramidai_mpi.training.fit_settings import FitSettings


def class_weights(settings: FitSettings, n_negative: int, n_positive: int) -> tuple[float, float]:
    """Weights of a negative and of a positive tile; ``balanced`` gives both classes the same weight in all."""
    weights = settings.class_weights
    if weights is None:
        return 1.0, 1.0
    if isinstance(weights, str):
        total = n_negative + n_positive
        return total / (2 * n_negative), total / (2 * n_positive)
    return weights


def summed_loss(
    logits: torch.Tensor, positive: torch.Tensor, settings: FitSettings, weights: tuple[float, float]
) -> tuple[torch.Tensor, float]:
    """Sum of the tiles' losses, each by its class's weight, and the sum of these weights.

    Parameters
    ----------
    logits
        float32 (n,): log-odds of the positive class.
    positive
        bool (n,).
    settings
        Which loss, and how much labels are smoothed: with S, a label 1 becomes 1 - S/2 and a label 0 becomes S/2.
    weights
        See `class_weights`.
    """
    truth = positive.to(logits.dtype)
    target = truth * (1 - settings.label_smoothing) + settings.label_smoothing / 2
    if settings.loss == "focal":
        # Lin et al. 2017, equation 4, of both classes by their share of the target
        wrong_if_positive = torch.sigmoid(-logits) ** settings.focal_gamma
        wrong_if_negative = torch.sigmoid(logits) ** settings.focal_gamma
        of_tiles = -target * wrong_if_positive * functional.logsigmoid(logits)
        of_tiles = of_tiles - (1 - target) * wrong_if_negative * functional.logsigmoid(-logits)
    else:
        of_tiles = functional.binary_cross_entropy_with_logits(logits, target, reduction="none")
    weight = torch.where(positive, weights[1], weights[0]).to(logits.dtype)
    return (of_tiles * weight).sum(), float(weight.double().sum())
