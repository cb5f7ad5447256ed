"""Execution trees and timings of stored results."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from pyramidai_mpi.base.errors import UsageError
from pyramidai_mpi.base.types import Mode
from pyramidai_mpi.pyramid.decision import reached
from pyramidai_mpi.simulate.costs import Costs
from pyramidai_mpi.simulate.forest import join, plant
from pyramidai_mpi.simulate.study import Work
from pyramidai_mpi.store.results.reader import open_result, read_levels, read_rule
from pyramidai_mpi.store.results.tables import read_execution, read_level_seconds, read_mode

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from pathlib import Path

    from pyramidai_mpi.pyramid.tree import TreeLevel
    from pyramidai_mpi.simulate.forest import Forest


@dataclass(frozen=True)
class Timings:
    """What a run took on the machine that it was done on.

    Attributes
    ----------
    level_tiles
        Tiles analysed on each level, level 0 first.
    level_s
        Seconds that all ranks together worked on each level, reading and batches included; None when the file does not
        tell.
    opening_s, loading_s
        Seconds to open the slide and find its tissue, and to load the networks; 0 when the file does not tell.
    """

    level_tiles: tuple[int, ...]
    level_s: tuple[float, ...] | None
    opening_s: float
    loading_s: float


@dataclass(frozen=True)
class StoredRun:
    """A result file as work to be simulated.

    Attributes
    ----------
    name
        Name of the file.
    mode
        Mode of the run.
    work
        Its execution tree; of an exhaustive run, the part that a pyramidal run of its decisions would have analysed.
    batch_size
        Batch size of the run; None when the file does not tell.
    timings
        What the run took.
    """

    name: str
    mode: Mode
    work: Work
    batch_size: int | None
    timings: Timings


def read_run(path: Path) -> StoredRun:
    """Read a result file.

    Raises
    ------
    InputError
        It is no complete result.
    """
    with open_result(path) as file:
        levels, rule, mode = read_levels(file), read_rule(file), read_mode(file)
        facts, level_s = read_execution(file).attributes, read_level_seconds(file)
    batch_size = facts.get("batch_size")
    return StoredRun(
        name=path.name,
        mode=mode,
        work=Work(forest_of(levels, prune=mode is Mode.EXHAUSTIVE), len(rule.reference_tiles())),
        batch_size=None if batch_size is None else int(batch_size),
        timings=Timings(
            level_tiles=tuple(len(levels[n]) for n in sorted(levels)),
            level_s=None if level_s is None else tuple(level_s.tolist()),
            opening_s=float(facts.get("tissue_s", 0.0)),
            loading_s=float(facts.get("load_s", 0.0)),
        ),
    )


def forest_of(levels: Mapping[int, TreeLevel], *, prune: bool) -> Forest:
    """The tree of analysed tiles, rows from the highest level down; `prune` keeps what the decisions lead to."""
    order = sorted(levels, reverse=True)
    starts = np.cumsum([0, *(len(levels[n]) for n in order)])
    empty = np.zeros(0, np.int64)
    level = np.concatenate([empty, *(np.full(len(levels[n]), n) for n in order)])
    parent = np.concatenate(
        [empty, *(np.where(levels[n].parent < 0, -1, levels[n].parent + starts[i - 1]) for i, n in enumerate(order))]
    )
    if not prune:
        return plant(level, parent)
    upwards = order[::-1]
    masks = reached([levels[n].decision for n in upwards[1:]], [levels[n].parent for n in upwards])
    kept = np.concatenate(masks[::-1])
    number = np.cumsum(kept) - 1
    return plant(level[kept], np.where(parent < 0, -1, number[parent])[kept])


def pool(runs: Sequence[StoredRun]) -> Work:
    """All runs as one pool of work."""
    if len(runs) == 1:
        return runs[0].work
    reference = [run.work.n_reference_tiles for run in runs]
    known = [n for n in reference if n is not None]
    return Work(join([run.work.forest for run in runs]), sum(known) if len(known) == len(runs) else None)


def costs_from(
    runs: Sequence[StoredRun],
    *,
    level_s: tuple[float, ...] | None = None,
    batch_size: int | None = None,
    batch_s: float = 0.0,
    opening_s: float | None = None,
) -> Costs:
    """Costs as given, and the rest as the runs tell.

    A tile of a level takes the mean over all runs that tell, with its part of what batches and reading cost; on a level
    without tiles, the mean over all levels.

    Raises
    ------
    UsageError
        No seconds are given, and no file tells any (those of resumed runs do not).
    """
    if level_s is None:
        level_s = _mean_seconds(runs)
    if opening_s is None:
        told = [run.timings.opening_s for run in runs if run.timings.opening_s > 0]
        opening_s = float(np.mean(told)) if told else 0.0
    if batch_size is None:
        batch_size = next((run.batch_size for run in runs if run.batch_size is not None), 16)
    return Costs(level_s, batch_size, batch_s, opening_s)


def _mean_seconds(runs: Sequence[StoredRun]) -> tuple[float, ...]:
    depth = max(len(run.timings.level_tiles) for run in runs)
    tiles, seconds = np.zeros(depth), np.zeros(depth)
    for run in runs:
        if run.timings.level_s is not None:
            tiles[: len(run.timings.level_tiles)] += run.timings.level_tiles
            seconds[: len(run.timings.level_s)] += run.timings.level_s
    if not seconds.any():
        raise UsageError(
            f"{runs[0].name} does not tell how long its ranks worked, as the files of a cohort and of resumed runs "
            "do not: give the seconds that a tile takes with --seconds"
        )
    mean = seconds.sum() / tiles.sum()
    return tuple(np.divide(seconds, tiles, out=np.full(depth, mean), where=tiles > 0).tolist())
