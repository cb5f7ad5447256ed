"""The paper's Fig. 6 on labelled trees: tiles of the busiest worker, dealing crossed with balancing."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from pyramidai_mpi.simulate.costs import Costs
from pyramidai_mpi.simulate.dealing import Dealing
from pyramidai_mpi.simulate.forest import Forest, plant
from pyramidai_mpi.simulate.study import Balancing, Row, Setting, Work, compare

if TYPE_CHECKING:
    from collections.abc import Sequence

    from bench.paper.phase_times import RunSeconds
    from pyramidai_mpi.truth.labelled_tree import LabelledTree

DEALINGS = (Dealing.ROUND_ROBIN, Dealing.RANDOM, Dealing.BLOCK)
BALANCINGS = (Balancing.NONE, Balancing.EACH_LEVEL, Balancing.STEAL_ONE, Balancing.ORACLE)
"""As in the paper; `simulate` knows more."""


ENOUGH_TILES = 30
"""Ideal tiles a worker below which no balance is read off: a slide smaller than its workers has none."""


def forest_of_tree(tree: LabelledTree, thresholds: Sequence[float]) -> Forest:
    """The tiles that a pyramidal run of these thresholds analyses; roots in row-major order."""
    reached = tree.reached(thresholds)
    level, parent, above, first = [], [], np.empty(0, np.int64), 0
    for n in range(tree.n_levels - 1, -1, -1):
        rows = np.flatnonzero(reached[n])
        level.append(np.full(len(rows), n))
        parent.append(np.full(len(rows), -1) if n == tree.n_levels - 1 else above[tree.levels[n].parent[rows]])
        above = np.full(len(tree.levels[n]), -1, np.int64)
        above[rows] = first + np.arange(len(rows))
        first += len(rows)
    return plant(np.concatenate(level), np.concatenate(parent))


def simulate_loads(
    trees: Sequence[LabelledTree], thresholds: Sequence[float], workers: Sequence[int], seconds: RunSeconds
) -> list[Row]:
    """Slides one after the other; tiles one at a time, as the paper's workers take them."""
    works = [Work(forest_of_tree(tree, thresholds), tree.n_reference_tiles) for tree in trees]
    setting = Setting(Costs(seconds.analysis, batch_size=1))
    return compare(works, workers, setting, DEALINGS, (*BALANCINGS, Balancing.REFERENCE))


@dataclass(frozen=True)
class Ordering:
    """What the paper reads off its Fig. 6, on ours.

    Attributes
    ----------
    block_worst
        Share of the numbers of workers (2 to `most_workers`) at which block dealing, without balancing, has the busiest
        worker of all dealings.
    excess
        For each dealing without balancing, mean and largest share by which the busiest worker exceeds the ideal.
    stealing_excess
        The largest share by which stealing one tile exceeds it, over all dealings, from 4 workers on.
    most_workers
        The most workers with `ENOUGH_TILES` each: all of this is for no more.
    """

    block_worst: float
    excess: dict[Dealing, tuple[float, float]]
    stealing_excess: float
    most_workers: int


def read_ordering(rows: Sequence[Row]) -> Ordering:
    """The paper's three claims, measured."""
    tiles = {(row.workers, row.balancing, row.dealing): row.busiest_tiles for row in rows}
    ideal = {row.workers: row.busiest_tiles for row in rows if row.balancing is Balancing.ORACLE}
    workers = sorted(n for n, busiest in ideal.items() if n > 1 and busiest >= ENOUGH_TILES)
    over = {
        (balancing, dealing): np.array([tiles[n, balancing, dealing] / ideal[n] - 1 for n in workers])
        for balancing in (Balancing.NONE, Balancing.STEAL_ONE)
        for dealing in DEALINGS
    }
    unbalanced = np.stack([over[Balancing.NONE, dealing] for dealing in DEALINGS])
    from_4 = np.array(workers) >= 4
    return Ordering(
        float((unbalanced.argmax(axis=0) == DEALINGS.index(Dealing.BLOCK)).mean()),
        {dealing: (float(row.mean()), float(row.max())) for dealing, row in zip(DEALINGS, unbalanced, strict=True)},
        max(float(over[Balancing.STEAL_ONE, dealing][from_4].max(initial=0.0)) for dealing in DEALINGS),
        max(workers),
    )
