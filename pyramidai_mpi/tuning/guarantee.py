"""Which slides draw the path of thresholds and which calibrate it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from pyramidai_mpi.base.errors import InputError
from pyramidai_mpi.tuning.conformal import calibrate, draw_path, fewest_slides

if TYPE_CHECKING:
    import numpy.typing as npt

    from pyramidai_mpi.tuning.cohort import Cohort
    from pyramidai_mpi.tuning.conformal import Guarantee


@dataclass(frozen=True)
class GuaranteeRequest:
    """What is to be guaranteed.

    Attributes
    ----------
    alpha
        Expected miss rate on a new slide is at most this.
    calibration_share
        Share of the slides that calibrate, if the guarantee does not take more.
    count_negative
        Whether slides without true positives count, with loss 0: the guarantee is then about any new slide, and easier
        to keep; otherwise about a new slide with tumour.
    seed
        Seed of the split.
    """

    alpha: float
    calibration_share: float = 0.5
    count_negative: bool = False
    seed: int = 0


@dataclass(frozen=True)
class GuaranteedThresholds:
    """A guarantee and the slides that it stands on, by their number in the cohort."""

    request: GuaranteeRequest
    guarantee: Guarantee
    path_slides: tuple[int, ...]
    calibration_slides: tuple[int, ...]


def guarantee_thresholds(cohort: Cohort, request: GuaranteeRequest) -> GuaranteedThresholds:
    """Split the slides at random, draw a path through the optimum of one part, calibrate it on the other.

    Slides without true positives that do not count go to the part that draws the path, where they have a say in what
    is cheap.

    Raises
    ------
    InputError
        When there are too few slides.
    """
    path_slides, calibration = split_slides(cohort.has_positives, request)
    path = draw_path(cohort.subset(path_slides), request.alpha)
    guarantee = calibrate(path, cohort.subset(calibration), request.alpha)
    return GuaranteedThresholds(request, guarantee, path_slides, calibration)


def split_slides(positive: npt.NDArray[np.bool_], request: GuaranteeRequest) -> tuple[tuple[int, ...], tuple[int, ...]]:
    """Split slides at random into those that draw a path and those that calibrate it, each in rising order.

    Parameters
    ----------
    positive
        bool (slides,): which have true positives, and so something to miss.
    request
        What is to be guaranteed.

    Raises
    ------
    InputError
        When there are too few slides.
    """
    eligible = np.arange(len(positive)) if request.count_negative else np.flatnonzero(positive)
    needed = fewest_slides(request.alpha)
    if len(eligible) <= needed or not positive.any():
        kind = "slides" if request.count_negative else "slides with true positives"
        raise InputError(
            f"a miss rate of at most {request.alpha:g} takes at least {needed} calibration slides (1 / ALPHA - 1) and "
            f"one more to draw the path, but there are {len(eligible)} {kind}; give more slides or a larger ALPHA"
        )
    order = np.random.default_rng(request.seed).permutation(eligible)
    n_calibration = min(max(round(request.calibration_share * len(order)), needed), len(order) - 1)
    calibration = np.sort(order[:n_calibration])
    path_slides = np.setdiff1d(np.arange(len(positive)), calibration)
    if not positive[path_slides].any():
        raise InputError(
            "no slide with true positives is left to draw the path; give more slides, or another --seed or "
            "--calibration-share"
        )
    return tuple(path_slides.tolist()), tuple(calibration.tolist())
