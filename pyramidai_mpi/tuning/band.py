"""Which band is worth its windows: the fewest that keep the map, and a promise for slides not seen."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from pyramidai_mpi.base.errors import InputError
from pyramidai_mpi.pyramid.refining import Band
from pyramidai_mpi.pyramid.run_levels import doubling_strides
from pyramidai_mpi.tuning.band_play import play, try_band
from pyramidai_mpi.tuning.conformal import first_safe_step
from pyramidai_mpi.tuning.guarantee import split_slides
from pyramidai_mpi.tuning.strategies import TOLERANCE

if TYPE_CHECKING:
    from collections.abc import Sequence

    from pyramidai_mpi.tuning.band_play import FullMap, Trial
    from pyramidai_mpi.tuning.guarantee import GuaranteeRequest

LOWS = (0.05, 0.1, 0.2, 0.3, 0.4)
HIGHS = (0.6, 0.7, 0.8, 0.9, 0.95)
STEPS = (0.1, 0.2, 0.3, 0.5)
"""Limits that are tried, beside the threshold as low and as high: nothing then leaves doubt but a difference."""

EVERYTHING = Band(0.0, 1.0, 1.0)
"""Refines every cell: the full map."""

_DOUBLINGS = (-3, 8)
_STEPS_PER_DOUBLING = 2
"""The path of a guarantee runs from a band of 2^3 times the odds to one of 2^-8 times, then to everything."""


def untuned(slides: Sequence[FullMap]) -> Trial:
    """What a run does on these slides that is told nothing: `Band` as it is, strides that double."""
    full = slides[0].map
    return try_band(slides, doubling_strides(full.cell, full.window), Band())


def bands_around(threshold: float) -> tuple[Band, ...]:
    """Bands to try for a threshold, which all of them hold; last the one that refines everything."""
    lows = sorted({threshold, *(low for low in LOWS if low <= threshold)})
    highs = sorted({threshold, *(high for high in HIGHS if high >= threshold)})
    return (*(Band(low, high, step) for low in lows for high in highs for step in STEPS), EVERYTHING)


def search_bands(slides: Sequence[FullMap], families: Sequence[tuple[int, ...]]) -> tuple[Trial, ...]:
    """Try all bands with all families of strides.

    Parameters
    ----------
    slides
        Full maps of one model and one threshold, at least one.
    families
        Strides, each the finest first.

    Raises
    ------
    InputError
        When the maps have different thresholds.
    UsageError
        When strides do not go with them.
    """
    thresholds = {slide.map.threshold for slide in slides}
    if len(thresholds) != 1:
        raise InputError(f"the results have different thresholds: {', '.join(f'{t:g}' for t in sorted(thresholds))}")
    return tuple(try_band(slides, strides, band) for strides in families for band in bands_around(*thresholds))


def keeps(trial: Trial, objective: float) -> bool:
    """Whether a trial's mean IoU with the full maps is at least the objective, and it loses no lesion."""
    return trial.n_lesions_lost == 0 and not trial.iou < objective - TOLERANCE


def choose_band(trials: Sequence[Trial], objective: float) -> Trial:
    """The trial of the fewest windows, all slides added up, that keeps the objective.

    Of equally cheap ones the one that comes first. There is always one, since everything is tried, too.
    """
    return min((trial for trial in trials if keeps(trial, objective)), key=lambda trial: trial.n_windows)


@dataclass(frozen=True)
class GuaranteedBand:
    """A band with a promise for slides not seen.

    Attributes
    ----------
    strides, band
        What is promised of.
    alpha
        Expected share of the full map's positive cells that are lost on a new slide is at most this.
    step
        Step along the path.
    calibration_loss
        Mean loss of the calibration slides there.
    bound
        ``n / (n + 1) * calibration_loss + 1 / (n + 1)``, at most alpha.
    path_slides, calibration_slides
        By their number.
    """

    strides: tuple[int, ...]
    band: Band
    alpha: float
    step: int
    calibration_loss: float
    bound: float
    path_slides: tuple[int, ...]
    calibration_slides: tuple[int, ...]


def path_through(band: Band, threshold: float) -> tuple[Band, ...]:
    """Bands from narrow to everything through one: the odds of all its limits scaled by one factor.

    Each holds the ones before it, and the threshold.
    """
    first, last = (doubling * _STEPS_PER_DOUBLING for doubling in _DOUBLINGS)
    bands = []
    for k in range(first, last + 1):
        factor = 2.0 ** (-k / _STEPS_PER_DOUBLING)
        low, rest = (_scaled(share, factor) for share in (band.low, 1 - band.high))
        bands.append(Band(min(low, threshold), max(1 - rest, threshold), band.step * factor))
    return (*bands, EVERYTHING)


def guarantee_band(
    slides: Sequence[FullMap], families: Sequence[tuple[int, ...]], request: GuaranteeRequest
) -> GuaranteedBand:
    """Split the slides at random, draw a path through the best band of one part, calibrate it on the other.

    The loss of a slide is the share of its positive cells of the full map that a band loses (conformal risk control,
    see `tuning.conformal`). A wider band can lose a cell that a narrower one keeps, as its neighbours' scores are
    others then; so what counts at a step is the largest loss there or at any wider band, which never rises.

    Raises
    ------
    InputError
        When there are too few slides.
    """
    positive = np.array([bool(slide.positive.any()) for slide in slides])
    path_slides, calibration = split_slides(positive, request)
    best = choose_band(search_bands([slides[k] for k in path_slides], families), 1 - request.alpha)
    path = path_through(best.band, slides[0].map.threshold)
    losses = np.array([[play(slides[k], best.strides, band).lost for band in path] for k in calibration])
    never_rising = np.maximum.accumulate(losses[:, ::-1], axis=1)[:, ::-1]
    step, loss = first_safe_step(never_rising, request.alpha)
    n = len(calibration)
    bound = (n * loss + 1) / (n + 1)
    return GuaranteedBand(best.strides, path[step], request.alpha, step, loss, bound, path_slides, calibration)


def _scaled(share: float, factor: float) -> float:
    """A share whose odds are `factor` times as high."""
    return share * factor / (1 - share + share * factor)
