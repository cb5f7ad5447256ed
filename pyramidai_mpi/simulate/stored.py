"""Execution trees and timings of stored results."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import numpy as np

from pyramidai_mpi.base.errors import UsageError
from pyramidai_mpi.base.types import LOOKED_AT, Mode
from pyramidai_mpi.pyramid.decision import looks_closer, reached
from pyramidai_mpi.simulate.costs import Costs
from pyramidai_mpi.simulate.forest import join, plant
from pyramidai_mpi.simulate.study import Work
from pyramidai_mpi.store.results.dense import read_block_rule
from pyramidai_mpi.store.results.reader import open_result, read_levels, read_rule
from pyramidai_mpi.store.results.tables import read_execution, read_header, read_level_seconds, read_mode

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from pathlib import Path

    import numpy.typing as npt

    from pyramidai_mpi.pyramid.blocks import BlockRule
    from pyramidai_mpi.pyramid.rule import TileRule
    from pyramidai_mpi.pyramid.tree import TreeLevel
    from pyramidai_mpi.simulate.forest import Forest

_TILES_AT_ONCE = 1024


@dataclass(frozen=True)
class Timings:
    """What a run took on the machine that it was done on.

    Attributes
    ----------
    level_windows
        Windows computed on each level, level 0 first: tiles, where they are no blocks.
    level_s
        Seconds that all ranks together worked on each level, reading and batches included; None when the file does not
        tell.
    opening_s, loading_s
        Seconds to open the slide and find its tissue, and to load the networks; 0 when the file does not tell.
    """

    level_windows: tuple[float, ...]
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
        Mode of the run, or of the one that is planned.
    work
        Its execution tree; of an exhaustive run, the part that a pyramidal run of its decisions would have analysed.
    batch_size
        Batch size of the run; None when the file does not tell.
    timings
        What the run took.
    stride_mode
        How blocks of windows were computed; empty where tiles are one window.
    batch_shape
        Tiles that the networks were run with at a time, the most of any level; None when the file does not tell.
    """

    name: str
    mode: Mode
    work: Work
    batch_size: int | None
    timings: Timings
    stride_mode: str = ""
    batch_shape: int | None = None


@dataclass(frozen=True)
class PlannedStride:
    """Windows at a stride, planned from a result without.

    Attributes
    ----------
    stride
        Pixels of level 0 from one window to the next.
    mode
        ``REFERENCE``: every level-0 tile with tissue is a block of windows. ``PYRAMID``: there is one below each
        positive level-0 tile, as `run --stride` has it. None: as the result's own mode.
    """

    stride: int
    mode: Mode | None = None


def read_run(path: Path, planned: PlannedStride | None = None) -> StoredRun:
    """Read a result file.

    Parameters
    ----------
    path
        A result, of tiles that are one window, or of blocks of windows.
    planned
        Windows that its run would look at, too; a window costs what a tile of its level 0 does.

    Raises
    ------
    InputError
        It is no complete result.
    UsageError
        Windows at a stride are planned from a result that has such already, or further apart than they are wide.
    """
    with open_result(path) as file:
        levels, rule, mode = read_levels(file), read_rule(file), read_mode(file)
        facts, level_s = read_execution(file).attributes, read_level_seconds(file)
        side, blocks = read_header(file).model.tile_size, read_block_rule(file)
    batch_size = facts.get("batch_size")
    stride_mode = str(facts.get("stride_mode", ""))
    by_pass = stride_mode == "shared"
    windows = {n: _windows_in(level, by_pass=by_pass) for n, level in levels.items()}
    run = StoredRun(
        name=path.name,
        mode=mode,
        work=Work(
            forest_of(levels, None if blocks is None else windows, prune=mode is Mode.EXHAUSTIVE),
            reference_windows(rule, blocks),
        ),
        batch_size=None if batch_size is None else int(batch_size),
        timings=Timings(
            level_windows=tuple(float(windows[n].sum()) for n in sorted(levels)),
            level_s=None if level_s is None else tuple(level_s.tolist()),
            opening_s=float(facts.get("tissue_s", 0.0)),
            loading_s=float(facts.get("load_s", 0.0)),
        ),
        stride_mode=stride_mode,
        batch_shape=max(map(int, str(facts.get("batch_shapes", "")).split()), default=None),
    )
    if planned is None:
        return run
    if blocks is not None:
        raise UsageError(
            f"--stride: {path.name} has windows at a stride already; leave it out, or give a result without"
        )
    if not 1 <= planned.stride <= side:
        raise UsageError(f"--stride {planned.stride}: expected 1 to {side}, the side of the windows of {path.name}")
    return _with_stride(run, levels, planned, side)


def _windows_in(level: TreeLevel, *, by_pass: bool) -> npt.NDArray[np.float64]:
    """Windows that are computed for each tile of a level, float64 (N,)."""
    if level.state is None:
        return np.ones(len(level))
    looked = np.isin(level.state, LOOKED_AT).sum(axis=(1, 2))
    # a pass costs the same whatever number of its windows exists
    return np.where(looked > 0, level.state[0].size if by_pass and len(level) else looked, 0).astype(np.float64)


def reference_windows(rule: TileRule, blocks: BlockRule | None) -> int:
    """Windows of the finest stride that a run without a pyramid would look at; of plain tiles, those of level 0."""
    tiles = rule.reference_tiles()
    if blocks is None:
        return len(tiles)
    return sum(
        int(blocks.cells(rule, 0, tiles[n : n + _TILES_AT_ONCE]).sum()) for n in range(0, len(tiles), _TILES_AT_ONCE)
    )


def _with_stride(run: StoredRun, levels: Mapping[int, TreeLevel], planned: PlannedStride, side: int) -> StoredRun:
    """What a run with windows at a stride would have to do."""
    a_tile = (side / planned.stride) ** 2
    n_tiles, seconds = run.work.n_reference_tiles or 0, run.timings.level_s
    mode = planned.mode or run.mode
    if mode is Mode.REFERENCE:
        forest = plant(np.zeros(n_tiles), np.full(n_tiles, -1), windows=np.full(n_tiles, a_tile))
        return replace(run, mode=mode, work=Work(forest, round(n_tiles * a_tile)))
    own = run.work.forest
    order = sorted(levels, reverse=True)
    decisions = np.concatenate([levels[n].decision for n in order])
    if run.mode is Mode.EXHAUSTIVE:
        decisions = decisions[np.concatenate(_reached(levels)[::-1])]
    closer = np.flatnonzero((own.level == 0) & looks_closer(decisions[own.origin]))
    forest = plant(
        np.concatenate([own.level + 1, np.zeros(len(closer), np.int64)]),
        np.concatenate([own.parent, closer]),
        windows=np.concatenate([np.ones(len(own)), np.full(len(closer), a_tile)]),
    )
    counts = run.timings.level_windows
    timings = replace(
        run.timings,
        level_windows=(counts[0], *counts),
        level_s=None if seconds is None else (seconds[0], *seconds),
    )
    return replace(run, mode=mode, work=Work(forest, round(n_tiles * a_tile)), timings=timings)


def forest_of(
    levels: Mapping[int, TreeLevel], windows: Mapping[int, npt.NDArray[np.float64]] | None = None, *, prune: bool
) -> Forest:
    """The tree of analysed tiles, rows from the highest level down.

    Parameters
    ----------
    levels
        The tiles.
    windows
        Of each level, how many windows its tiles are; None for one each.
    prune
        Whether to keep only what the decisions lead to.
    """
    order = sorted(levels, reverse=True)
    starts = np.cumsum([0, *(len(levels[n]) for n in order)])
    empty = np.zeros(0, np.int64)
    level = np.concatenate([empty, *(np.full(len(levels[n]), n) for n in order)])
    parent = np.concatenate(
        [empty, *(np.where(levels[n].parent < 0, -1, levels[n].parent + starts[i - 1]) for i, n in enumerate(order))]
    )
    count = None if windows is None else np.concatenate([np.zeros(0), *(windows[n] for n in order)])
    if not prune:
        return plant(level, parent, windows=count)
    kept = np.concatenate(_reached(levels)[::-1])
    number = np.cumsum(kept) - 1
    return plant(
        level[kept],
        np.where(parent < 0, -1, number[parent])[kept],
        windows=None if count is None else count[kept],
    )


def _reached(levels: Mapping[int, TreeLevel]) -> Sequence[npt.NDArray[np.bool_]]:
    """Of each level, level 0 first, the tiles that the decisions lead to, bool (N,)."""
    upwards = sorted(levels)
    return reached([levels[n].decision for n in upwards[1:]], [levels[n].parent for n in upwards])


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

    A tile of a level, or a window where tiles are blocks, takes the mean over all runs that tell, with its part of what
    batches and reading cost; on a level without tiles, the mean over all levels.

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
    depth = max(len(run.timings.level_windows) for run in runs)
    tiles, seconds = np.zeros(depth), np.zeros(depth)
    for run in runs:
        if run.timings.level_s is not None:
            tiles[: len(run.timings.level_windows)] += run.timings.level_windows
            seconds[: len(run.timings.level_s)] += run.timings.level_s
    if not seconds.any():
        raise UsageError(
            f"{runs[0].name} does not tell how long its ranks worked, as the files of a cohort and of resumed runs "
            "do not: give the seconds that a tile takes with --seconds"
        )
    mean = seconds.sum() / tiles.sum()
    return tuple(np.divide(seconds, tiles, out=np.full(depth, mean), where=tiles > 0).tolist())
