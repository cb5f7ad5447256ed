"""What thresholds keep and cost on a set of slides, with intervals, and two ways of choosing them compared fairly."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING

import numpy as np

from pyramidai_mpi.evaluation.bootstrap import draw_slides, estimate
from pyramidai_mpi.evaluation.ratios import BothMeans, both_means

if TYPE_CHECKING:
    from collections.abc import Sequence

    import numpy.typing as npt

    from pyramidai_mpi.evaluation.bootstrap import Estimate
    from pyramidai_mpi.truth.labelled_tree import LabelledTree

    Floats = npt.NDArray[np.float64]
    Ints = npt.NDArray[np.int64]

RESAMPLES = 2000


@dataclass(frozen=True)
class Measured:
    """One choice of thresholds on every slide of a set.

    Attributes
    ----------
    analysed
        int64 (S, levels), tiles, level 0 first.
    reference, true_positives, kept
        int64 (S,), see `RunCost`.
    """

    analysed: Ints
    reference: Ints
    true_positives: Ints
    kept: Ints

    @cached_property
    def drawn(self) -> Ints:
        """Resampled cohorts, int64 (B, S); the same for every choice on the same slides."""
        return draw_slides(len(self.reference), RESAMPLES, seed=0)

    @property
    def tiles(self) -> Ints:
        """Tiles of all levels, int64 (S,)."""
        return np.asarray(self.analysed.sum(axis=1))

    @property
    def retention(self) -> BothMeans:
        """Positive retention rate; slides without true positives are in neither mean."""
        return both_means(self.kept.astype(np.float64), self.true_positives.astype(np.float64), self.drawn)

    @property
    def speedup(self) -> BothMeans:
        """Tiles of the reference run over tiles of this one."""
        return both_means(self.reference.astype(np.float64), self.tiles.astype(np.float64), self.drawn)

    def speedup_of(self, seconds: Floats, reference_seconds: Floats) -> BothMeans:
        """The same in seconds."""
        return both_means(reference_seconds, seconds, self.drawn)


def measure(trees: Sequence[LabelledTree], thresholds: Sequence[float]) -> Measured:
    """Play a pyramidal run of these thresholds, level 0 first, on every slide."""
    costs = [tree.cost_of(thresholds) for tree in trees]
    return Measured(
        np.array([cost.analysed for cost in costs], np.int64),
        np.array([cost.n_reference_tiles for cost in costs], np.int64),
        np.array([cost.true_positives for cost in costs], np.int64),
        np.array([cost.kept for cost in costs], np.int64),
    )


def tiles_at_equal_retention(path: Sequence[Measured], other: Measured) -> Estimate:
    """Tiles that one way of choosing needs for the retention of another choice, over the tiles of that one.

    Parameters
    ----------
    path
        One way of choosing at rising objectives, on the same slides as `other`.
    other
        The choice to compare with.

    Notes
    -----
    Retention is the mean over slides and tiles are summed. Between two objectives tiles are interpolated over
    retention; what keeps more for fewer tiles stands for all objectives below it. Where even the highest objective
    keeps less than `other`, the ratio is not defined. The interval resamples slides, the same for both.
    """
    whole = np.ones((1, len(other.reference)), np.int64)
    value, resampled = (_ratio(path, other, drawn) for drawn in (whole, other.drawn))
    return estimate(float(value[0]), resampled, len(other.reference))


def _ratio(path: Sequence[Measured], other: Measured, drawn: Ints) -> Floats:
    tiles = np.stack([drawn @ one.tiles for one in path], axis=1).astype(np.float64)  # (B, K)
    retention = np.stack([_mean_retention(one, drawn) for one in path], axis=1)
    wanted = _mean_retention(other, drawn)
    needed = np.empty(len(drawn))
    for b in range(len(drawn)):
        order = np.lexsort((tiles[b], retention[b]))
        # fewest tiles for at least so much retention: never falls with retention
        fewest = np.minimum.accumulate(tiles[b][order][::-1])[::-1]
        needed[b] = np.interp(wanted[b], retention[b][order], fewest, right=np.nan)
    return np.asarray(needed / (drawn @ other.tiles))


def _mean_retention(one: Measured, drawn: Ints) -> Floats:
    there = one.true_positives > 0
    rate = np.where(there, one.kept / np.maximum(one.true_positives, 1), 0.0)
    with np.errstate(invalid="ignore"):
        return np.asarray((drawn @ rate) / (drawn @ there.astype(np.float64)))


def short(one: Estimate) -> str:
    """Value and interval in three digits."""
    if np.isnan(one.value):
        return "-"
    return f"{one.value:.3g}" if np.isnan(one.low) else f"{one.value:.3g} [{one.low:.3g}, {one.high:.3g}]"


def both(means: BothMeans) -> str:
    """The mean of ratios, then the ratio of means."""
    return f"{short(means.mean_of_ratios)} and {short(means.ratio_of_means)}"
