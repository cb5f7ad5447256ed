"""Thresholds of all levels chosen jointly: the fewest analysed tiles that keep a wanted share, exactly.

A tile's children are analysed when the scores of the tile and of all its ancestors reach their levels' thresholds. So
every tile above level 0 is a point whose coordinates are these scores (level 1 first), weighted with its children; and
every level-1 tile over true positives is a point weighted with the retention that hangs on it. Thresholds are a corner:
what lies above it in all coordinates is analysed, and kept.

Raising a threshold up to the next score of a needed point loses nothing and can only save tiles, so only scores of
needed points can be best. With one threshold the search is a sort. With two, the lower level's best threshold falls as
the upper's rises, so one sweep finds it for every candidate of the upper one, and one pass over the points their costs:
O(n log n). With more, candidates of the coarsest threshold are halved again and again, best first; a range of
candidates is bounded by the problem below it that keeps what the range's lowest candidate keeps and analyses only what
its highest analyses (branch and bound, exact).
"""

from __future__ import annotations

import heapq
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from pyramidai_mpi.base.errors import InputError
from pyramidai_mpi.pyramid.decision import passes
from pyramidai_mpi.tuning.points import WHOLE, Points, points_of
from pyramidai_mpi.tuning.strategies import TOLERANCE, Choice

if TYPE_CHECKING:
    import numpy.typing as npt

    from pyramidai_mpi.tuning.cohort import Cohort

    Floats = npt.NDArray[np.float64]


@dataclass(frozen=True)
class Corner:
    """The best thresholds (level 1 first) and the tiles analysed below the coarsest level."""

    thresholds: tuple[float, ...]
    cost: int


class OptimalSearch:
    """The optimum of a cohort for any objective; what does not depend on the objective is made once."""

    def __init__(self, cohort: Cohort) -> None:
        if cohort.n_levels < 2:
            raise InputError("a model of one level has no threshold to tune")
        if not cohort.n_with_positives:
            raise InputError(
                "no slide has a true positive tile at level 0, so there is no retention to keep; give slides with "
                "tumour, or check --truth and the model"
            )
        self._cohort = cohort
        self._needed, self._spent = points_of(cohort)

    def choose(self, objective: float) -> Choice:
        """Thresholds of the fewest tiles on all slides whose mean retention reaches the objective, in (0, 1].

        Of equally cheap ones the sweep takes the lowest threshold at the coarser level.
        """
        # all weights together fall short of WHOLE by their rounding alone
        target = int((objective - TOLERANCE) * WHOLE)
        corner = cheapest_corner(self._needed, self._spent, target)
        assert corner is not None, "the lowest scores of needed tiles keep everything"
        return Choice("optimal", objective, self._cohort.measure((self._cohort.l0_threshold, *corner.thresholds)))


def choose_optimal(cohort: Cohort, objective: float) -> Choice:
    """The fewest analysed tiles at a mean retention of at least the objective; see `OptimalSearch`."""
    return OptimalSearch(cohort).choose(objective)


def cheapest_corner(needed: Points, spent: Points, target: int) -> Corner | None:
    """The thresholds of least spent weight that keep needed weight of at least `target`; None when none do."""
    if needed.scores.shape[1] == 1:
        return _cut(needed, spent, target)
    if needed.scores.shape[1] == 2:
        return _sweep(needed, spent, target)
    return _branch_and_bound(needed, spent, target)


def _cut(needed: Points, spent: Points, target: int) -> Corner | None:
    order = np.argsort(-needed.scores[:, 0], kind="stable")
    kept = np.cumsum(needed.weight[order])
    last = int(np.searchsorted(kept, target))
    if last == len(kept):
        return None
    threshold = float(needed.scores[order[last], 0])
    return Corner((threshold,), int(spent.weight[passes(spent.scores[:, 0], threshold)].sum()))


def _sweep(needed: Points, spent: Points, target: int) -> Corner | None:
    """Every candidate of the upper threshold with the highest lower one that still keeps enough."""
    upper, lower = _feasible_pairs(needed, target)
    if not len(upper):
        return None
    # A point counts for the candidates from the first whose lower threshold it reaches to the last whose upper one.
    first = np.searchsorted(-lower, -spent.scores[:, 0], side="left")
    last = np.searchsorted(upper, spent.scores[:, 1], side="right")
    counts = first < last
    change = np.zeros(len(upper) + 1, np.int64)
    np.add.at(change, first[counts], spent.weight[counts])
    np.subtract.at(change, last[counts], spent.weight[counts])
    cost = np.cumsum(change[:-1])
    best = int(np.argmin(cost))
    return Corner((float(lower[best]), float(upper[best])), int(cost[best]))


def _feasible_pairs(needed: Points, target: int) -> tuple[Floats, Floats]:
    """Rising upper thresholds and, for each, the highest lower one (never rising) that keeps `target`."""
    by_lower = np.argsort(-needed.scores[:, 0], kind="stable")
    by_upper = np.argsort(needed.scores[by_lower, 1], kind="stable")
    weight = needed.weight[by_lower].tolist()
    lower_score = needed.scores[by_lower, 0]
    upper_score = needed.scores[by_lower, 1]
    ranked_upper = upper_score[by_upper]
    starts = np.flatnonzero(np.r_[True, ranked_upper[1:] != ranked_upper[:-1]])
    leaving = by_upper.tolist()
    active = [True] * len(weight)
    kept, admitted, gone = 0, 0, 0  # points by falling lower score: the first `admitted` reach the lower threshold
    pairs: list[int] = []
    for start in starts.tolist():
        for point in leaving[gone:start]:
            active[point] = False
            if point < admitted:
                kept -= weight[point]
        gone = start
        while kept < target and admitted < len(weight):
            if active[admitted]:
                kept += weight[admitted]
            admitted += 1
        if kept < target:
            break
        pairs.append(admitted - 1)
    return ranked_upper[starts[: len(pairs)]], lower_score[pairs]


def _branch_and_bound(needed: Points, spent: Points, target: int) -> Corner | None:
    candidates = np.unique(needed.scores[:, -1])

    def bound(first: int, last: int) -> Corner | None:
        return cheapest_corner(
            needed.where(passes(needed.scores[:, -1], candidates[first])),
            spent.where(passes(spent.scores[:, -1], candidates[last])),
            target,
        )

    waiting: list[tuple[int, int, int, Corner]] = []

    def consider(first: int, last: int) -> None:
        if (found := bound(first, last)) is not None:
            heapq.heappush(waiting, (found.cost, first, last, found))

    consider(0, len(candidates) - 1)
    while waiting:
        _, first, last, found = heapq.heappop(waiting)
        if first == last:  # the bound is the value, and nothing that waits can be below it
            return Corner((*found.thresholds, float(candidates[first])), found.cost)
        middle = (first + last) // 2
        consider(first, middle)
        consider(middle + 1, last)
    return None
