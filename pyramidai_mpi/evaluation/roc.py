"""ROC curves and the area under them, over tiles or slides, with slides as the unit of chance."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from pyramidai_mpi.evaluation.bootstrap import estimate

if TYPE_CHECKING:
    from collections.abc import Sequence

    import numpy.typing as npt

    from pyramidai_mpi.evaluation.bootstrap import Estimate

    Bools = npt.NDArray[np.bool_]
    Floats = npt.NDArray[np.float64]
    Ints = npt.NDArray[np.int64]


@dataclass(frozen=True)
class RocCurve:
    """Every operating point of a score.

    Attributes
    ----------
    threshold
        float64 (K,), falling, the first one infinite: ``score >= threshold`` is called positive.
    false_positive_rate, true_positive_rate
        float64 (K,), rising from 0 to 1; NaN where there is nothing of that class.
    """

    threshold: Floats
    false_positive_rate: Floats
    true_positive_rate: Floats


def roc_curve(score: npt.NDArray[np.floating], positive: Bools) -> RocCurve:
    """ROC curve with a point for every distinct score (Fawcett 2006, algorithm 1).

    Parameters
    ----------
    score
        (N,), without NaN.
    positive
        bool (N,).
    """
    order = np.argsort(-score, kind="stable")
    falling, hits = score[order].astype(np.float64), positive[order]
    last_of_equal = np.flatnonzero(np.append(np.diff(falling) != 0, True)) if len(falling) else np.empty(0, np.int64)
    true = np.concatenate([[0], np.cumsum(hits)[last_of_equal]])
    false = np.concatenate([[0], (last_of_equal + 1)]) - true
    with np.errstate(invalid="ignore", divide="ignore"):
        return RocCurve(
            np.concatenate([[np.inf], falling[last_of_equal]]),
            false / np.float64(false[-1]),
            true / np.float64(true[-1]),
        )


@dataclass(frozen=True)
class AucTable:
    """Who outscores whom, by pairs of slides: enough for the pooled area of any drawn cohort.

    Attributes
    ----------
    wins
        float64 (S, S): pairs of a positive of slide s and a negative of slide t in which the positive scores higher,
        equal scores counted half.
    n_positive, n_negative
        int64 (S,).
    """

    wins: Floats
    n_positive: Ints
    n_negative: Ints

    def of(self, counts: Ints) -> Floats:
        """Pooled area of cohorts in which slide s is counts[:, s] times, float64 (B,); NaN with one class only."""
        with np.errstate(invalid="ignore", divide="ignore"):
            pairs = (counts @ self.n_positive).astype(np.float64) * (counts @ self.n_negative)
            return np.asarray(((counts @ self.wins) * counts).sum(axis=1) / pairs)

    def per_slide(self) -> Floats:
        """Area within each slide, float64 (S,); NaN with one class only."""
        with np.errstate(invalid="ignore", divide="ignore"):
            return np.asarray(self.wins.diagonal() / (self.n_positive.astype(np.float64) * self.n_negative))

    def pooled(self, counts: Ints) -> Estimate:
        """Area over all slides together, with its interval over the drawn cohorts int64 (B, S)."""
        n_slides = len(self.n_positive)
        return estimate(float(self.of(np.ones((1, n_slides), np.int64))[0]), self.of(counts), n_slides)


def auc_table(scores: Sequence[npt.NDArray[np.floating]], positives: Sequence[Bools]) -> AucTable:
    """Count for every pair of slides how often a positive outscores a negative (Mann & Whitney 1947).

    Parameters
    ----------
    scores, positives
        One array a slide, (N,) each; NaN scores (unreadable tiles) are left out.
    """
    readable = [~np.isnan(score) for score in scores]
    high = [score[positive & there] for score, positive, there in zip(scores, positives, readable, strict=True)]
    low = [score[~positive & there] for score, positive, there in zip(scores, positives, readable, strict=True)]
    n_slides = len(scores)
    all_high = np.concatenate([np.empty(0), *high])
    slide_of_high = np.repeat(np.arange(n_slides), [len(one) for one in high])
    order = np.argsort(all_high)  # searches in order stay in the cache
    all_high, slide_of_high = all_high[order], slide_of_high[order]
    wins = np.zeros((n_slides, n_slides))
    for t, negatives in enumerate(low):
        rising = np.sort(negatives.astype(np.float64))
        beaten = np.searchsorted(rising, all_high, "left") + np.searchsorted(rising, all_high, "right")
        wins[:, t] = np.bincount(slide_of_high, weights=beaten, minlength=n_slides) / 2
    return AucTable(wins, np.array([len(one) for one in high], np.int64), np.array([len(one) for one in low], np.int64))


def auc(score: npt.NDArray[np.floating], positive: Bools) -> float:
    """Area under the ROC curve of one set of scores; NaN with one class only."""
    return float(auc_table([score], [positive]).per_slide()[0])
