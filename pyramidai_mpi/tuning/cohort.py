"""Several slides under one choice of thresholds: what it keeps and what it saves."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING

import numpy as np

from pyramidai_mpi.base.errors import InputError
from pyramidai_mpi.truth.labelled_tree import PASS_THROUGH, RunCost

if TYPE_CHECKING:
    from collections.abc import Sequence

    import numpy.typing as npt

    from pyramidai_mpi.truth.labelled_tree import LabelledTree


@dataclass(frozen=True)
class Measurement:
    """Pyramidal runs of several slides with the same thresholds.

    Attributes
    ----------
    thresholds
        Threshold of each level, level 0 first.
    costs
        What the run of each slide costs.
    """

    thresholds: tuple[float, ...]
    costs: tuple[RunCost, ...]

    @property
    def retention(self) -> float:
        """Mean over the slides that have true positives; NaN when none has."""
        rates = [cost.retention for cost in self.costs if cost.true_positives]
        return float(np.mean(rates)) if rates else float("nan")

    @property
    def pooled_retention(self) -> float:
        """True positives kept on all slides over true positives of all slides."""
        return RunCost.total(self.costs).retention

    @property
    def n_analysed(self) -> int:
        """Tiles of all slides and levels."""
        return RunCost.total(self.costs).n_analysed

    @property
    def speedup(self) -> float:
        """In tiles: mean over all slides of each one's own."""
        return float(np.mean([cost.speedup for cost in self.costs]))

    @property
    def pooled_speedup(self) -> float:
        """In tiles: all tiles of the reference runs over all tiles analysed."""
        return RunCost.total(self.costs).speedup


@dataclass(frozen=True)
class Cohort:
    """Slides to choose thresholds on, or to test them on.

    Attributes
    ----------
    trees
        One a slide, all of the same number of levels.
    l0_threshold
        Of level 0: what a reference run calls positive. It is not tuned.
    """

    trees: tuple[LabelledTree, ...]
    l0_threshold: float

    def __post_init__(self) -> None:
        if not self.trees:
            raise ValueError("a cohort needs at least one slide")
        if len({tree.spans for tree in self.trees}) > 1:
            raise InputError("the results have different numbers of levels or scale factors; tune one model at a time")

    @property
    def n_levels(self) -> int:
        """Of every slide."""
        return self.trees[0].n_levels

    @cached_property
    def has_positives(self) -> npt.NDArray[np.bool_]:
        """Which slides have true positives, and so a retention, bool (slides,)."""
        return np.array([tree.true_positives(self.l0_threshold).any() for tree in self.trees])

    @property
    def n_with_positives(self) -> int:
        """Slides that have a retention."""
        return int(self.has_positives.sum())

    def subset(self, slides: Sequence[int]) -> Cohort:
        """Some of its slides."""
        return Cohort(tuple(self.trees[slide] for slide in slides), self.l0_threshold)

    def pass_through(self) -> tuple[float, ...]:
        """Thresholds that stop nothing."""
        return (self.l0_threshold, *[PASS_THROUGH] * (self.n_levels - 1))

    def measure(self, thresholds: Sequence[float]) -> Measurement:
        """Play the runs of these thresholds, of levels 0 to N - 1; that of level 0 is the cohort's."""
        if thresholds[0] != self.l0_threshold:
            raise ValueError(f"level 0 has threshold {thresholds[0]}, the cohort was made for {self.l0_threshold}")
        return Measurement(tuple(thresholds), tuple(tree.cost_of(thresholds) for tree in self.trees))
