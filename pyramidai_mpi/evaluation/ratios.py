"""Retention and speedup over several slides: two means that differ, both named.

The *mean of ratios* asks what a slide gains on average, the *ratio of means* what the whole cohort gains: large slides
count for more in the second. The paper's seconds a slide give the second kind, its tile figures the first.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from pyramidai_mpi.evaluation.bootstrap import estimate

if TYPE_CHECKING:
    import numpy.typing as npt

    from pyramidai_mpi.evaluation.bootstrap import Estimate

    Floats = npt.NDArray[np.float64]
    Ints = npt.NDArray[np.int64]


@dataclass(frozen=True)
class BothMeans:
    """A ratio over several slides.

    Attributes
    ----------
    mean_of_ratios
        Mean over the slides of each slide's own ratio.
    ratio_of_means
        Sum of numerators over sum of denominators.
    """

    mean_of_ratios: Estimate
    ratio_of_means: Estimate


def both_means(numerator: Floats, denominator: Floats, counts: Ints) -> BothMeans:
    """Average a ratio over slides in both ways.

    Parameters
    ----------
    numerator, denominator
        float64 (S,), of each slide. A slide whose ratio is not defined (0 / 0, or NaN in either) is left out of both.
    counts
        int64 (B, S), the drawn cohorts (see `bootstrap.draw_slides`).
    """
    with np.errstate(invalid="ignore", divide="ignore"):
        ratio = np.asarray(numerator, np.float64) / np.asarray(denominator, np.float64)
    there = np.isfinite(ratio)
    ratio, top, bottom = (np.where(there, values, 0.0) for values in (ratio, numerator, denominator))
    n_slides = int(there.sum())
    whole = np.ones((1, len(ratio)), np.int64)
    with np.errstate(invalid="ignore", divide="ignore"):
        means, pooled = (
            [((drawn @ over) / (drawn @ under)) for drawn in (whole, counts)]
            for over, under in ((ratio, there.astype(np.float64)), (top, bottom))
        )
    return BothMeans(
        estimate(float(means[0][0]), means[1], n_slides), estimate(float(pooled[0][0]), pooled[1], n_slides)
    )
