"""A result in numbers: tiles, scores and time by level, work by rank, what the pyramid saved."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from pyramidai_mpi.base.types import LOOKED_AT, Decision, Mode, outcome_names
from pyramidai_mpi.export.cells import cell_grid, count_cells, is_dense, iter_level_cells
from pyramidai_mpi.pyramid.looked_at import warning_of
from pyramidai_mpi.pyramid.metrics import busiest_over_ideal, tiles_against_reference
from pyramidai_mpi.pyramid.tissue import TissueMap
from pyramidai_mpi.store.results.tables import (
    damage_is_named,
    iter_cells,
    iter_column,
    read_execution,
    read_level_seconds,
    read_mask_rows,
)
from pyramidai_mpi.store.results.tissue import read_tissue_counts

if TYPE_CHECKING:
    from pyramidai_mpi.store.results.result import Execution
    from pyramidai_mpi.store.results.tables import Header, ResultFile

N_BINS = 20


@dataclass(frozen=True)
class LevelFigures:
    """One level.

    Attributes
    ----------
    number
        The level; 0 is the finest.
    spacing_um_px, threshold
        Spacing and threshold, as in the result.
    analysed, zoomed, unreadable
        Tiles, or the windows of blocks that were looked at; at level 0 and of these `zoomed` are the positive ones.
    stopped_scores, zoomed_scores
        The same by score, `N_BINS` equal bins of 0 to 1, by decision.
    seconds
        Working seconds of all ranks, None where the result does not tell.
    stride
        Pixels of the level between the windows of blocks; None where tiles are single windows.
    around
        Further windows that blocks looked at right around them, to see borders.
    """

    number: int
    spacing_um_px: float
    threshold: float
    analysed: int
    zoomed: int
    unreadable: int
    stopped_scores: tuple[int, ...]
    zoomed_scores: tuple[int, ...]
    seconds: float | None
    stride: int | None = None
    around: int = 0

    @property
    def noun(self) -> str:
        """What is counted."""
        return "tile" if self.stride is None else "window"

    @property
    def outcome(self) -> str:
        """What `zoomed` ones are."""
        return outcome_names(self.number if self.stride is None else 0)[Decision.ZOOM]

    @property
    def tiles_per_second(self) -> float | None:
        """Tiles per working second of a rank."""
        return self.analysed / self.seconds if self.seconds else None


@dataclass(frozen=True)
class RankFigures:
    """One rank: host, tiles and seconds; None where the result does not tell."""

    rank: int
    host: str
    tiles: int | None
    stolen: int | None
    busy_s: float
    wall_s: float | None


@dataclass(frozen=True)
class ReportSummary:
    """A whole result.

    Attributes
    ----------
    levels
        The coarsest first, as a run goes.
    ranks
        Figures of each rank, in order.
    n_reference
        Tiles of a run without pyramid: all level-0 descendants of the roots.
    execution
        Settings, versions, phase times, batches.
    """

    levels: tuple[LevelFigures, ...]
    ranks: tuple[RankFigures, ...]
    n_reference: int
    execution: Execution

    @property
    def n_tiles(self) -> int:
        """Analysed tiles or windows."""
        return sum(level.analysed + level.around for level in self.levels)

    @property
    def noun(self) -> str:
        """What is counted: windows, where tiles are blocks of them."""
        return "window" if any(level.stride for level in self.levels) else "tile"

    @property
    def warning(self) -> str:
        """What was not looked at, see `pyramid.looked_at.warning_of`; empty for nothing."""
        finest_first = self.levels[::-1]
        return warning_of([level.analysed for level in finest_first], [level.unreadable for level in finest_first])

    @property
    def saving(self) -> tuple[float, str]:
        """Tiles of this run against the reference run, see `pyramid.metrics.tiles_against_reference`."""
        return tiles_against_reference(self.n_reference, self.n_tiles)

    @property
    def balance(self) -> float:
        """Busiest rank's working time over the mean."""
        return busiest_over_ideal([rank.busy_s for rank in self.ranks])


def read_report_summary(file: ResultFile, header: Header) -> ReportSummary:
    """Add up an open result.

    Raises
    ------
    InputError
        When it is damaged.
    """
    execution = read_execution(file)
    seconds = read_level_seconds(file)
    levels = tuple(
        level_figures(file, header, n, None if seconds is None else float(seconds[n]))
        for n in range(len(header.levels) - 1, -1, -1)
    )
    n_reference = _count_reference(file, header, str(execution.attributes.get("mode", "")))
    with damage_is_named(file):
        ranks = tuple(map(_rank_figures, execution.ranks))
        _check_batches(execution, len(levels))
    return ReportSummary(levels, ranks, n_reference, execution)


def _check_batches(execution: Execution, n_levels: int) -> None:
    """See that each batch is of a rank and a level that are there, and has its times."""
    batches = execution.batches
    if not (
        (batches["rank"] >= 0).all()
        and (batches["rank"] < len(execution.ranks)).all()
        and (batches["level"] < n_levels).all()
        and np.isfinite(batches["start_s"]).all()
        and np.isfinite(batches["end_s"]).all()
    ):
        raise ValueError("its batches are of no rank, level or time of this run")


def level_figures(file: ResultFile, header: Header, level: int, seconds: float | None = None) -> LevelFigures:
    """Count what was analysed at a level.

    Raises
    ------
    InputError
        When the result is damaged.
    """
    decisions = np.zeros(len(Decision), np.int64)
    scores = np.zeros((len(Decision), N_BINS), np.int64)
    for cells in iter_level_cells(file, header, level, LOOKED_AT):
        decisions += np.bincount(cells.decision, minlength=len(Decision))
        for decision in (Decision.STOP, Decision.ZOOM):
            score = cells.score[cells.decision == decision]
            scores[decision] += np.histogram(np.clip(score, 0, 1), N_BINS, (0, 1))[0]
    record = header.levels[level]
    return LevelFigures(
        level,
        record.spacing_um_px,
        record.threshold,
        analysed=int(decisions.sum()),
        zoomed=int(decisions[Decision.ZOOM]),
        unreadable=int(decisions[Decision.UNREADABLE]),
        stopped_scores=tuple(scores[Decision.STOP].tolist()),
        zoomed_scores=tuple(scores[Decision.ZOOM].tolist()),
        seconds=seconds,
        stride=record.cell if record.block > 1 else None,
        around=_count_around(file, header, level),
    )


def _count_around(file: ResultFile, header: Header, level: int) -> int:
    if header.levels[level].side == header.levels[level].block:
        return 0
    looked_at = sum(int(np.isin(state, LOOKED_AT).sum()) for _, _, state in iter_cells(file, level))
    return looked_at - count_cells(file, header, level, LOOKED_AT)


def _count_reference(file: ResultFile, header: Header, mode: str) -> int:
    """Level-0 tiles with tissue under the roots, as `tree.TileRule.reference_tiles` has them, or their windows."""
    if is_dense(header):
        return _count_windows_of_reference(file, header)
    if mode == Mode.REFERENCE:
        return header.n_tiles[0]
    grid = header.grid
    top = grid.n_levels - 1
    cols, rows = grid.shape(top)
    roots = np.zeros((rows, cols), bool)
    for index in iter_column(file, top, "index"):
        roots[index[:, 1], index[:, 0]] = True
    tissue = read_tissue_counts(file, header, grid.shape(0)) > 0
    times = grid.span(top)
    under = roots.repeat(times, axis=0)[: tissue.shape[0]].repeat(times, axis=1)[:, : tissue.shape[1]]
    return int((under & tissue).sum())


def _count_windows_of_reference(file: ResultFile, header: Header) -> int:
    """Windows of the finest stride in squares with tissue under the roots."""
    if not any(header.n_tiles[1:]):  # without roots there is nothing else
        return count_cells(file, header, 0, LOOKED_AT)
    grid, cells = header.grid, cell_grid(header)
    top = grid.n_levels - 1
    cols, rows = grid.shape(top)
    roots = np.zeros((rows, cols), bool)
    for index in iter_column(file, top, "index"):
        roots[index[:, 1], index[:, 0]] = True
    mask = read_mask_rows(file, 0, header.mask_shape[0])
    squares = TissueMap(grid, mask, round(grid.l0_side(0) / header.mask_downsample)).squares
    times = grid.span(top) * grid.bases
    under = roots.repeat(times, axis=0)[: squares.shape[0]].repeat(times, axis=1)[:, : squares.shape[1]]
    cells_a_square = round(grid.l0_side(0) / grid.bases / cells.l0_side(0))
    down, across = (
        np.clip(extent - np.arange(n) * cells_a_square, 0, cells_a_square)
        for extent, n in zip(cells.shape(0)[::-1], squares.shape, strict=True)
    )
    return int(down @ (under & squares).astype(np.int64) @ across)


def _rank_figures(record: np.void) -> RankFigures:
    names = record.dtype.names or ()
    return RankFigures(
        rank=int(record["rank"]),
        host=record["host"].decode(errors="replace") if "host" in names else "",
        tiles=int(record["tasks"]) if "tasks" in names else None,
        stolen=int(record["tasks_stolen"]) if "tasks_stolen" in names else None,
        busy_s=float(record["busy_s"]),
        wall_s=float(record["wall_s"]) if "wall_s" in names else None,
    )
