"""The cells of a result, each of which a score stands for, where its tiles are blocks of windows.

In terms of `pyramid.grid`, a result of a run with strides has a lattice of cells at each level; its tiles are blocks
of them. Exports speak of cells, which `cell_grid` takes for tiles; coordinates of a window are those of its corner.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from pyramidai_mpi.base.errors import InputError
from pyramidai_mpi.base.types import OWN_SCORE, Decision, WindowState, outcome_names
from pyramidai_mpi.pyramid.decision import passes
from pyramidai_mpi.pyramid.grid import Grid, GridLevel
from pyramidai_mpi.store.results.tables import iter_cells, iter_rows

if TYPE_CHECKING:
    from collections.abc import Iterator

    import numpy.typing as npt

    from pyramidai_mpi.store.results.result import LevelRecord
    from pyramidai_mpi.store.results.tables import Header, ResultFile

_AT_ONCE = 65536
"""Cells that are handed out together."""
WINDOWS = (*OWN_SCORE, WindowState.UNREADABLE)
"""States of cells whose own window was to be looked at, now or at the coarser stride."""
STATE_WORDS = (
    "nothing",
    "looked at",
    "same window as at the coarser stride",
    "score of the coarser stride",
    "unreadable",
)
"""What `WindowState`s mean, in words for people, indexed by them."""


def is_dense(header: Header) -> bool:
    """Whether a result is of a run with strides: windows overlap, and tiles may be blocks of them."""
    return header.levels[0].cell is not None


def cell_grid(header: Header) -> Grid:
    """The grid of a result with cells for tiles; where tiles are single windows it is the result's own.

    Its `Grid.l0_corners` are those of the cells' windows, its `Grid.l0_cell_corners` those of the cells.
    """
    if not is_dense(header):
        return header.grid
    window = header.model.tile_size
    levels = (GridLevel(one.downsample, one.cell or window, 1, one.margin) for one in header.levels)
    return Grid(*header.slide.l0_size, window, tuple(levels))


def outcomes_of(header: Header, level: int) -> tuple[str, str, str]:
    """What `Cells.decision` means, in words: windows of a block are positive or negative, whatever their stride."""
    return outcome_names(0 if header.levels[level].block > 1 else level)


def decides(header: Header, level: int) -> bool:
    """Whether the network of level 0 looked at a level: its scores stand in the map of scores."""
    network = header.levels[level].network
    return (level if network is None else network) == 0


def look_label(level: LevelRecord, micron: str = "µ") -> str:
    """What the last look at a place was, in a few words: the stride of a block's windows, else the spacing."""
    return f"stride {level.cell}" if level.block > 1 else f"{level.spacing_um_px:.2g} {micron}m/px"


@dataclass(frozen=True)
class Cells:
    """Some cells of one level.

    Attributes
    ----------
    level
        The level.
    index
        uint32 (n, 2): col, row in `cell_grid`.
    score
        float32 (n,): of the positive class, NaN where unreadable.
    state
        uint8 (n,), values of `WindowState`.
    decision
        uint8 (n,), values of `Decision`; of the windows of a block `Decision.ZOOM` where the score passes.
    """

    level: int
    index: npt.NDArray[np.uint32]
    score: npt.NDArray[np.float32]
    state: npt.NDArray[np.uint8]
    decision: npt.NDArray[np.uint8]

    def __len__(self) -> int:
        return len(self.index)


def iter_level_cells(
    file: ResultFile, header: Header, level: int, states: tuple[WindowState, ...] = WINDOWS
) -> Iterator[Cells]:
    """All cells of a level in some states, some thousand at a time, block by block and row by row in each.

    Of a level whose tiles are single windows, these are its tiles.

    Raises
    ------
    InputError
        When the result is damaged.
    """
    record = header.levels[level]
    cols_rows = cell_grid(header).shape(level)
    if record.block == 1:
        for rows in iter_rows(file, level):
            score = rows.probability[:, header.score_column]
            state = np.where(np.isfinite(score), np.uint8(WindowState.LOOKED), np.uint8(WindowState.UNREADABLE))
            _check(file, level, rows.index, cols_rows)
            yield Cells(level, rows.index, score, state, rows.decision)
        return
    side, inner = record.block, np.s_[:, record.inner, record.inner]
    at_once = max(1, _AT_ONCE // side**2)
    for index, scores, all_states in iter_cells(file, level):
        for first in range(0, len(index), at_once):
            own = slice(first, first + at_once)
            state, score = all_states[own][inner], scores[own][inner]
            number, down, right = np.nonzero(np.isin(state, states))
            corner = index[own][number].astype(np.int64) * side
            place = (corner + np.stack([right, down], axis=1)).astype(np.uint32)
            _check(file, level, place, cols_rows)
            state, score = state[number, down, right], score[number, down, right]
            decision = np.where(passes(score, record.threshold), np.uint8(Decision.ZOOM), np.uint8(Decision.STOP))
            decision[state == WindowState.UNREADABLE] = Decision.UNREADABLE
            yield Cells(level, place, score, state, decision)


def count_cells(file: ResultFile, header: Header, level: int, states: tuple[WindowState, ...] = WINDOWS) -> int:
    """How many `iter_level_cells` gives.

    Raises
    ------
    InputError
        When the result is damaged.
    """
    record = header.levels[level]
    if record.block == 1:
        return header.n_tiles[level]
    inner = np.s_[:, record.inner, record.inner]
    return sum(int(np.isin(state[inner], states).sum()) for _, _, state in iter_cells(file, level))


def l0_centres(header: Header, level: int, index: npt.NDArray[np.integer]) -> npt.NDArray[np.float64]:
    """Centres of the windows of cells (N, 2): col, row, as float64 (N, 2): l0_x, l0_y. Scores belong there."""
    grid = cell_grid(header)
    centres = grid.corners(level, index).astype(np.float64) + header.model.tile_size / 2
    return np.asarray(centres * grid.downsample(level))


def outside(file: ResultFile, level: int) -> InputError:
    """What is wrong with a result that has a tile where there is no slide."""
    return InputError(f"{file.filename}: damaged result file: a tile of level {level} lies outside the slide")


def _check(file: ResultFile, level: int, index: npt.NDArray[np.uint32], cols_rows: tuple[int, int]) -> None:
    if (index >= cols_rows).any():
        raise outside(file, level)
