"""Loads that need no clock: who does what is settled by the dealing alone."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from pyramidai_mpi.simulate.dealing import Dealing, owners
from pyramidai_mpi.simulate.forest import LEVELS, TASK

if TYPE_CHECKING:
    import numpy.typing as npt

    from pyramidai_mpi.simulate.costs import Costs, Network
    from pyramidai_mpi.simulate.forest import Forest


@dataclass(frozen=True)
class Load:
    """The busiest worker's tiles, and the seconds until all is done."""

    busiest_tiles: int
    makespan_s: float


def load_unbalanced(
    forest: Forest, seconds: npt.NDArray[np.float64], owner_of_root: npt.NDArray[np.int64], workers: int, costs: Costs
) -> Load:
    """Every worker does its roots and all that grows from them.

    Parameters
    ----------
    forest
        The work.
    seconds
        float64 (N,), of each task.
    owner_of_root
        int64 (n_roots,).
    workers
        Number of workers.
    costs
        For the batches: a worker makes as few as its tasks of each slide and level allow.
    """
    worker = forest.handed_down(owner_of_root)
    busy = np.bincount(worker, seconds, workers) + _batch_seconds(
        forest, np.arange(len(forest)), worker, workers, costs
    )
    return Load(int(np.bincount(worker[forest.is_tile], minlength=workers).max()), float(busy.max()))


def load_level_by_level(
    forest: Forest,
    seconds: npt.NDArray[np.float64],
    workers: int,
    dealing: Dealing,
    costs: Costs,
    network: Network,
    seed: int = 0,
) -> Load:
    """All tiles of a level are dealt anew when all of the level above are done (the paper's synchronisation).

    Between two levels the workers wait for each other and exchange the tiles: up and down a binary tree of messages,
    and each worker's share over its wire.
    """
    tiles = np.zeros(workers, np.int64)
    makespan = 0.0
    for number, level in enumerate(np.unique(forest.level)[::-1]):
        here = np.flatnonzero(forest.level == level)
        here = here[np.argsort(forest.origin[here], kind="stable")]  # rows of tiles, not families
        worker = owners(len(here), workers, dealing, seed + int(level))
        busy = np.bincount(worker, seconds[here], workers)
        makespan += float((busy + _batch_seconds(forest, here, worker, workers, costs)).max())
        if level != forest.opening_level:
            tiles += np.bincount(worker, minlength=workers)
        if number and workers > 1:
            share = -(-len(here) // workers) * TASK.itemsize
            makespan += 2 * math.ceil(math.log2(workers)) * network.latency_s + share / network.bandwidth
    return Load(int(tiles.max()), makespan)


def load_ideal(forest: Forest, seconds: npt.NDArray[np.float64], workers: int, costs: Costs) -> Load:
    """What no way of sharing can better: an equal share of all work, or the longest way from a root to a leaf."""
    one = np.zeros(len(forest), np.int64)
    total = float(seconds.sum() + _batch_seconds(forest, np.arange(len(forest)), one, 1, costs)[0])
    return Load(-(-forest.n_tiles // workers), max(total / workers, forest.longest_path(seconds)))


def load_reference(n_tiles: int, workers: int, costs: Costs) -> Load:
    """`n_tiles` tiles of level 0 without a pyramid, dealt in turn."""
    busiest = -(-n_tiles // workers)
    return Load(busiest, busiest * costs.level_s[0] + costs.batch_s * math.ceil(busiest / costs.batch_size))


def _batch_seconds(
    forest: Forest,
    tasks: npt.NDArray[np.int64],
    worker: npt.NDArray[np.int64],
    workers: int,
    costs: Costs,
) -> npt.NDArray[np.float64]:
    """Seconds a batch costs besides its tasks, for as few batches as can be: float64 (workers,).

    Parameters
    ----------
    tasks, worker
        int64 (n,): numbers of tasks, and who does them.
    """
    if not costs.batch_s:
        return np.zeros(workers)
    slides = int(forest.slide.max(initial=0)) + 1
    group = (worker * slides + forest.slide[tasks]) * LEVELS + forest.level[tasks]
    _, first, count = np.unique(group, return_index=True, return_counts=True)
    batches = np.bincount(worker[first], -(-count // costs.batch_size), workers)
    return np.asarray(costs.batch_s * batches)
