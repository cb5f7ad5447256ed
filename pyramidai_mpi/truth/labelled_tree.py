"""Scores beside ground truth: what any choice of thresholds would have analysed, kept and missed.

An exhaustive run has looked at every tile, so the run of any thresholds is known without analysing a pixel again: a
tile is reached when all its ancestors are zoomed into. Everything that chooses or judges thresholds stands on this.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import numpy as np

from pyramidai_mpi.pyramid.decision import decide, passes, reached
from pyramidai_mpi.pyramid.metrics import speedup_in_tiles

if TYPE_CHECKING:
    from collections.abc import Sequence

    import numpy.typing as npt

    Bools = npt.NDArray[np.bool_]

PASS_THROUGH = -np.inf
"""A threshold that stops nothing."""


@dataclass(frozen=True)
class LabelledLevel:
    """The tiles of one level of an exhaustive run, in row-major order.

    Attributes
    ----------
    index
        uint32 (N, 2): col, row.
    score
        float32 (N,), probability of the positive class; NaN when the tile was unreadable.
    positive
        bool (N,), the ground truth.
    parent
        int64 (N,), row in the next coarser level, -1 where there is none.
    """

    index: npt.NDArray[np.uint32]
    score: npt.NDArray[np.float32]
    positive: npt.NDArray[np.bool_]
    parent: npt.NDArray[np.int64]

    def __len__(self) -> int:
        return len(self.score)

    def passes(self, threshold: float) -> Bools:
        """Which readable tiles score enough to be zoomed into (level 0: called positive), bool (N,).

        See `pyramid.decision.passes`.
        """
        return passes(self.score, threshold)


@dataclass(frozen=True)
class LabelledTree:
    """All tiles of one slide, scores and truth.

    Attributes
    ----------
    slide
        File name of the slide.
    levels
        Level 0 first.
    spans
        Tiles of level 0 along the side of a tile of each level; powers of two unless given.
    """

    slide: str
    levels: tuple[LabelledLevel, ...]
    spans: tuple[int, ...] = ()

    def __post_init__(self) -> None:
        if not self.spans:
            object.__setattr__(self, "spans", tuple(2**level for level in range(len(self.levels))))

    @property
    def n_levels(self) -> int:
        """Number of levels."""
        return len(self.levels)

    @property
    def n_reference_tiles(self) -> int:
        """Tiles that a reference run analyses: all of level 0."""
        return len(self.levels[0])

    def reached(self, thresholds: Sequence[float]) -> tuple[Bools, ...]:
        """Which tiles a pyramidal run analyses: for each level, level 0 first, bool (N,).

        Parameters
        ----------
        thresholds
            Of each level, level 0 first; the first is not used, as nothing lies below level 0. An unreadable tile has
            its children analysed all the same.
        """
        if len(thresholds) != self.n_levels:
            raise ValueError(f"{len(thresholds)} thresholds for {self.n_levels} levels")
        above = zip(self.levels[1:], thresholds[1:], strict=True)
        decisions = [decide(level.score[:, None], 0, threshold) for level, threshold in above]
        return reached(decisions, [level.parent for level in self.levels])

    def labelled_from_below(self) -> LabelledTree:
        """The same tree with tiles above level 0 positive where any level-0 descendant is.

        What a network that decides on zooming in is asked: whether there is something to find below. Labels by the
        tile's own share of tumour call a lesion smaller than half a tile negative, and no threshold that separates
        these labels well then finds it.
        """
        levels = [self.levels[0]]
        for above in self.levels[1:]:
            positive = np.zeros(len(above), bool)
            positive[levels[-1].parent[levels[-1].positive]] = True
            levels.append(replace(above, positive=positive))
        return replace(self, levels=tuple(levels))

    def true_positives(self, l0_threshold: float) -> Bools:
        """Level-0 tiles that are tumour and that a reference run calls so, bool (N,)."""
        return np.asarray(self.levels[0].positive & self.levels[0].passes(l0_threshold))

    def cost_of(self, thresholds: Sequence[float]) -> RunCost:
        """What a pyramidal run of these thresholds analyses and keeps."""
        reached = self.reached(thresholds)
        wanted = self.true_positives(thresholds[0])
        return RunCost(
            analysed=tuple(int(mask.sum()) for mask in reached),
            n_reference_tiles=self.n_reference_tiles,
            true_positives=int(wanted.sum()),
            kept=int((wanted & reached[0]).sum()),
        )


@dataclass(frozen=True)
class RunCost:
    """A pyramidal run of one slide, or of several together, in numbers.

    Attributes
    ----------
    analysed
        Tiles of each level, level 0 first.
    n_reference_tiles
        Tiles of the reference run.
    true_positives
        True positive level-0 tiles of the reference run.
    kept
        Of these, how many the pyramidal run reaches.
    """

    analysed: tuple[int, ...]
    n_reference_tiles: int
    true_positives: int
    kept: int

    @property
    def n_analysed(self) -> int:
        """Tiles of all levels."""
        return sum(self.analysed)

    @property
    def retention(self) -> float:
        """Positive retention rate; NaN for a slide without true positives, which must not enter a mean."""
        return self.kept / self.true_positives if self.true_positives else float("nan")

    @property
    def speedup(self) -> float:
        """See `pyramid.metrics.speedup_in_tiles`."""
        return speedup_in_tiles(self.n_reference_tiles, self.n_analysed)

    @classmethod
    def total(cls, costs: Sequence[RunCost]) -> RunCost:
        """Of several slides with as many levels each, at least one."""
        return cls(
            analysed=tuple(map(sum, zip(*(cost.analysed for cost in costs), strict=True))),
            n_reference_tiles=sum(cost.n_reference_tiles for cost in costs),
            true_positives=sum(cost.true_positives for cost in costs),
            kept=sum(cost.kept for cost in costs),
        )
