"""Whether a network's answer turns on a concept: sensitivities, TCAV and Br, with intervals and a computed control.

S is the derivative of a class's logit along a concept's direction. TCAV (Kim et al., Interpretability beyond feature
attribution, ICML 2018) is the share of patches with S above 0; Br (Graziani et al., iMIMIC 2018) is R2 * mean(S) /
std(S).
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from pyramidai_mpi.explain.concepts.regression import Space, angles, fit, r_squared, resampled_directions

if TYPE_CHECKING:
    import numpy.typing as npt

    Floats = npt.NDArray[np.float64]
    Ints = npt.NDArray[np.int64]

CONFIDENCE = 0.95

SAME_EVERYWHERE = 1e-4
"""Sensitivities whose deviation is less than this share of their mean are one number but for rounding (gradients are
float32), and Br would divide by the rounding: so it is behind a layer from which all is linear."""


class Verdict(StrEnum):
    """What the figures say of a concept in a layer."""

    NOT_LEARNT = "not learnt"
    CHANCE = "no better than chance"
    ENCODED = "encoded"
    FOR = "speaks for"
    AGAINST = "speaks against"


class Interval(NamedTuple):
    """A figure with its 95 % interval; NaN where it is not defined."""

    value: float
    low: float
    high: float


@dataclass(frozen=True)
class Control:
    """The same figures of concepts that were shuffled among the patches, float64 (n,) each."""

    r2: Floats
    tcav: Floats
    br: Floats


@dataclass(frozen=True)
class Finding:
    """A concept in a layer.

    Attributes
    ----------
    n_patches, n_patients
        What it stands on.
    r2
        Held-out share of the concept's variance.
    angle
        Median of the degrees between the directions of folds.
    tcav, br
        See the module. They mean nothing where `r2` is not above 0.
    mean, deviation
        Of S.
    penalty
        Of the ridge regression, as a share of the patches.
    control
        Of shuffled concepts.
    direction
        float64 (K,), of length 1.
    """

    n_patches: int
    n_patients: int
    r2: Interval
    angle: float
    tcav: Interval
    br: Interval
    mean: float
    deviation: float
    penalty: float
    control: Control
    direction: Floats

    @property
    def p_r2(self) -> float:
        """Share of the shuffled concepts, this one counted, with an R2 as high."""
        return _share(self.control.r2, self.r2.value)

    @property
    def p_br(self) -> float:
        """Likewise with a Br as far from 0."""
        return _share(np.abs(self.control.br), abs(self.br.value))

    @property
    def verdict(self) -> Verdict:
        """What to say of it."""
        if not self.r2.value > 0:
            return Verdict.NOT_LEARNT
        if self.p_r2 > 1 - CONFIDENCE:
            return Verdict.CHANCE
        if self.tcav.low > 0.5 and not self.br.low <= 0:
            return Verdict.FOR
        if self.tcav.high < 0.5 and not self.br.high >= 0:
            return Verdict.AGAINST
        return Verdict.ENCODED


def _share(control: Floats, value: float) -> float:
    if np.isnan(value):
        return float("nan")
    return float((1 + (control >= value).sum()) / (1 + len(control)))


def sensitivities(gradients: Floats, directions: Floats) -> Floats:
    """Derivatives of the logit along directions (T, K) of gradients (N, K), float64 (N, T).

    The gradients are sums over a map's places: how the logit grows when the map grows everywhere.
    """
    return np.asarray(gradients @ directions.T)


def tcav(sensitivity: Floats, weights: Floats | None = None) -> Floats:
    """Share of patches whose sensitivity is above 0; NaN where all are 0.

    Parameters
    ----------
    sensitivity
        float64 (N, T).
    weights
        float64 (N, T), how often each patch counts; None for once.
    """
    weight = np.ones_like(sensitivity) if weights is None else weights
    share = (weight * (sensitivity > 0)).sum(axis=0) / weight.sum(axis=0)
    return np.where((weight * (sensitivity != 0)).any(axis=0), share, np.nan)


def bidirectional(r2: Floats, sensitivity: Floats, weights: Floats | None = None) -> Floats:
    """Br; NaN where the sensitivity is the same for all patches. Parameters as of `tcav`."""
    weight = np.ones_like(sensitivity) if weights is None else weights
    total = weight.sum(axis=0)
    mean = (weight * sensitivity).sum(axis=0) / total
    deviation = np.sqrt((weight * (sensitivity - mean) ** 2).sum(axis=0) / total)
    with np.errstate(invalid="ignore", divide="ignore"):
        return np.where(deviation > SAME_EVERYWHERE * np.abs(mean), r2 * mean / deviation, np.nan)


def examine(
    activations: npt.NDArray[np.floating],
    gradients: npt.NDArray[np.floating],
    values: Floats,
    patients: Ints,
    folds: Ints,
    shuffles: Ints,
    draws: Ints,
) -> Finding:
    """Whether a layer has learnt a concept and the answer turns on it.

    Parameters
    ----------
    activations, gradients
        (N, K): means of a layer's maps over each patch, and sums of the logit's gradients over their places.
    values
        float64 (N,), finite: the concept.
    patients
        int64 (N,): whose each patch is, 0 to P - 1; patches of one patient are not independent.
    folds
        int64 (N,): see `regression.fit`.
    shuffles
        int64 (R, N): orders of the patches, for the control.
    draws
        int64 (B, P): how often each patient is in each draw with replacement, for the intervals. Directions are found
        anew in each: behind a linear layer S has one sign for all patches, also of a concept that is nothing, and only
        the directions' own uncertainty says so.
    """
    space = Space(activations)
    grads = np.asarray(gradients, np.float64)
    targets = np.concatenate([values[:, None], values[shuffles].T], axis=1)
    found = fit(space, targets, folds)
    r2 = r_squared(targets, found.held_out)
    sensitivity = sensitivities(grads, found.directions)
    share, br = tcav(sensitivity), bidirectional(r2, sensitivity)
    used = draws[draws[:, np.unique(patients)].sum(axis=1) > 0]
    weights = used[:, patients].astype(np.float64)
    drawn = sensitivities(grads, resampled_directions(space, values, float(found.penalties[0]), weights))
    drawn_r2 = r_squared(values, found.held_out[:, 0], weights)
    return Finding(
        len(values),
        len(np.unique(patients)),
        _interval(r2[0], drawn_r2),
        float(np.median(angles(found.fold_directions[:, 0]))),
        _interval(share[0], tcav(drawn, weights.T)),
        _interval(br[0], bidirectional(drawn_r2, drawn, weights.T)),
        float(sensitivity[:, 0].mean()),
        float(sensitivity[:, 0].std()),
        float(found.penalties[0]),
        Control(r2[1:], share[1:], br[1:]),
        found.directions[0],
    )


def _interval(value: float, drawn: Floats) -> Interval:
    """Percentile interval; NaN where a third of the draws do not define the figure."""
    defined = drawn[~np.isnan(drawn)]
    if np.isnan(value) or 3 * len(defined) < 2 * len(drawn) or not len(defined):
        return Interval(float(value), float("nan"), float("nan"))
    low, high = np.quantile(defined, [(1 - CONFIDENCE) / 2, (1 + CONFIDENCE) / 2])
    return Interval(float(value), float(low), float(high))
