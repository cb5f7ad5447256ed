"""A guarantee for slides not seen: conformal risk control (Angelopoulos, Bates, Fisch, Lei, Schuster, ICLR 2024).

The loss of a slide is the share of its true positive level-0 tiles that the pyramid misses. Thresholds run along a path
from strict to none at all, on which no slide's loss ever rises. The path is drawn on other slides than those that then
say how far to go: the first step at which ``n / (n + 1) * mean loss + 1 / (n + 1) <= alpha`` (equation 4, with B = 1).
For a slide drawn like the n calibration slides (exchangeable with them) the expected loss is then at most alpha: over
the drawing of calibration slides and new slide together, not for each cohort of calibration slides.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from pyramidai_mpi.base.errors import InputError
from pyramidai_mpi.tuning.optimal import choose_optimal
from pyramidai_mpi.tuning.points import path_scores

if TYPE_CHECKING:
    import numpy.typing as npt

    from pyramidai_mpi.truth.labelled_tree import LabelledTree
    from pyramidai_mpi.tuning.cohort import Cohort

    Floats = npt.NDArray[np.float64]

_STEPS_PER_DOUBLING = 8
_DOUBLINGS = 24
"""The path runs from 2^24 times the odds of the thresholds that it is drawn through to 2^-24 times, then to 0."""


@dataclass(frozen=True)
class ThresholdPath:
    """Thresholds from strict to none.

    Attributes
    ----------
    thresholds
        float64 (M, N - 1): of levels 1 up at each step, never rising; the last row stops nothing.
    """

    thresholds: Floats

    def retention(self, tree: LabelledTree, l0_threshold: float) -> Floats:
        """Positive retention of a slide at every step, float64 (M,), never falling and 1 at the end.

        A slide without true positives misses none: 1 everywhere.
        """
        wanted = tree.true_positives(l0_threshold)
        if not wanted.any():
            return np.ones(len(self.thresholds))
        under = np.bincount(tree.levels[0].parent[wanted], minlength=len(tree.levels[1]))
        scores = path_scores(tree)[0][under > 0]
        # the first step at which every ancestor reaches its threshold
        rising = -self.thresholds
        first = np.max([np.searchsorted(rising[:, d], -scores[:, d]) for d in range(scores.shape[1])], axis=0)
        kept = np.bincount(first, weights=under[under > 0], minlength=len(self.thresholds))
        return np.asarray(np.cumsum(kept) / wanted.sum())


@dataclass(frozen=True)
class Guarantee:
    """Thresholds with a guarantee for slides not seen.

    Attributes
    ----------
    alpha
        Expected loss of a new slide is at most this.
    thresholds
        Threshold of each level, level 0 first.
    step
        Step along the path.
    n_calibration
        Number of slides that the guarantee stands on.
    calibration_loss
        Their mean loss at that step.
    bound
        ``n / (n + 1) * calibration_loss + 1 / (n + 1)``, at most alpha.
    """

    alpha: float
    thresholds: tuple[float, ...]
    step: int
    n_calibration: int
    calibration_loss: float
    bound: float


def draw_path(cohort: Cohort, alpha: float) -> ThresholdPath:
    """Through the optimal thresholds for a retention of ``1 - alpha``, the odds of all levels scaled by one factor.

    Raises
    ------
    InputError
        When no slide of the cohort has true positives.
    """
    middle = np.clip(choose_optimal(cohort, 1 - alpha).thresholds[1:], 1e-7, 1 - 1e-7)
    steps = np.arange(-_DOUBLINGS * _STEPS_PER_DOUBLING, _DOUBLINGS * _STEPS_PER_DOUBLING + 1)
    odds = middle / (1 - middle) * 2.0 ** (-steps[:, None] / _STEPS_PER_DOUBLING)
    through = odds / (1 + odds)
    through[steps == 0] = middle
    return ThresholdPath(np.concatenate([through, np.zeros((1, len(middle)))]))


def fewest_slides(alpha: float) -> int:
    """Calibration slides without which not even pruning nothing can be guaranteed: n >= 1 / alpha - 1."""
    return max(math.ceil(1 / alpha - 1 - 1e-9), 1)


def calibrate(path: ThresholdPath, calibration: Cohort, alpha: float) -> Guarantee:
    """How far along the path the guarantee holds.

    Parameters
    ----------
    path
        Drawn on other slides.
    calibration
        Every slide of it counts; one without true positives has loss 0.
    alpha
        Largest expected miss rate, in (0, 1).

    Raises
    ------
    InputError
        When there are too few slides to guarantee it.
    """
    retention = np.stack([path.retention(tree, calibration.l0_threshold) for tree in calibration.trees])
    step, loss = first_safe_step(1 - retention, alpha)
    n = len(retention)
    thresholds = (calibration.l0_threshold, *map(float, path.thresholds[step]))
    return Guarantee(alpha, thresholds, step, n, loss, (n * loss + 1) / (n + 1))


def first_safe_step(losses: npt.NDArray[np.floating], alpha: float) -> tuple[int, float]:
    """The first step of a path that is safe, and the mean loss there.

    Parameters
    ----------
    losses
        float (n, M) in [0, 1]: of each calibration slide at each step, never rising, 0 at the last.
    alpha
        Largest expected miss rate, in (0, 1).

    Raises
    ------
    InputError
        When there are too few slides.
    """
    n = len(losses)
    if n < fewest_slides(alpha):
        raise InputError(
            f"a miss rate of at most {alpha:g} cannot be promised from {n} calibration slides: it takes "
            f"{fewest_slides(alpha)} or more (1 / ALPHA - 1); give more slides or a larger ALPHA"
        )
    mean = losses.mean(axis=0)
    # rounding must not turn down a bound that is met exactly
    step = int(np.flatnonzero((n * mean + 1) / (n + 1) <= alpha + 1e-12)[0])
    return step, float(mean[step])
