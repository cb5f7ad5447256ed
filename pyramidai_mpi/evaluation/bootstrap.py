"""Confidence intervals by drawing slides with replacement: tiles of one slide are not independent, slides are.

Percentile bootstrap (Efron & Tibshirani, An Introduction to the Bootstrap, 1993, section 13.3).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    import numpy.typing as npt

    Floats = npt.NDArray[np.float64]
    Ints = npt.NDArray[np.int64]

CONFIDENCE = 0.95


@dataclass(frozen=True)
class Estimate:
    """A figure with its confidence interval.

    Attributes
    ----------
    value
        The figure over all slides; NaN where it is not defined.
    low, high
        Ends of the 95 % interval; NaN when there are fewer than two slides.
    n_slides
        Slides that it stands on.
    """

    value: float
    low: float
    high: float
    n_slides: int

    def __str__(self) -> str:
        if np.isnan(self.value):
            return "-"
        return f"{self.value:.4g}" if np.isnan(self.low) else f"{self.value:.4g} [{self.low:.4g}, {self.high:.4g}]"


def draw_slides(n_slides: int, n_resamples: int, seed: int) -> Ints:
    """Draw cohorts of the same size with replacement.

    Returns
    -------
    numpy.ndarray
        int64 (n_resamples, n_slides): how often each slide is in each drawn cohort.
    """
    if n_slides == 0:
        return np.zeros((n_resamples, 0), np.int64)
    drawn = np.random.default_rng(seed).integers(n_slides, size=(n_resamples, n_slides))
    flat = drawn + np.arange(n_resamples)[:, None] * n_slides
    return np.bincount(flat.ravel(), minlength=n_resamples * n_slides).reshape(n_resamples, n_slides)


def estimate(value: float, resampled: Floats, n_slides: int) -> Estimate:
    """Put the percentile interval beside a figure.

    Parameters
    ----------
    value
        The figure over all slides.
    resampled
        float64 (B,), the same figure of each drawn cohort; NaN where it is not defined there (a cohort without tumour).
    n_slides
        Slides that the figure stands on.
    """
    defined = resampled[~np.isnan(resampled)]
    if n_slides < 2 or not len(defined) or np.isnan(value):
        return Estimate(float(value), float("nan"), float("nan"), n_slides)
    tail = (1 - CONFIDENCE) / 2
    low, high = np.quantile(defined, [tail, 1 - tail])
    return Estimate(float(value), float(low), float(high), n_slides)
