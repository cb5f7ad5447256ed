"""What the result says of each tile, packed for a page that tells it of the place under the mouse."""

from __future__ import annotations

import base64
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from pyramidai_mpi.base.types import Decision
from pyramidai_mpi.export.cells import cell_grid, iter_level_cells, outcomes_of

if TYPE_CHECKING:
    import numpy.typing as npt

    from pyramidai_mpi.store.results.tables import Header, ResultFile

MOST_CELLS_TOLD = 400_000
"""Of a level: two bytes each, so that a page grows by a megabyte a level at most."""
_MOST_CELLS = 1 << 23
_UNREADABLE = 1
_STEPS = 10_000


@dataclass(frozen=True)
class LevelTable:
    """The tiles of one level, of blocks of windows their cells, on a grid of cells.

    Attributes
    ----------
    level
        The level.
    step
        A cell is so many tiles wide and high; more than 1 where there are too many tiles, and the cell has the highest
        score among them.
    l0_side
        Side of a cell in level-0 pixels.
    cols, rows
        Cells across and down.
    there
        Base64 of one bit a cell, row by row, the lowest bit first: whether it holds a tile.
    codes
        Base64 of a little-endian uint16 for each cell that does: 1 unreadable; else ``4 * (1 + round(10000 * score)) +
        decision``.
    outcomes
        What each decision means, in words; of blocks of windows with their stride.
    """

    level: int
    step: int
    l0_side: float
    cols: int
    rows: int
    there: str
    codes: str
    outcomes: tuple[str, ...]


def level_table(file: ResultFile, header: Header, level: int, most: int = MOST_CELLS_TOLD) -> LevelTable:
    """Pack a level.

    Parameters
    ----------
    most
        Cells that hold a tile; `LevelTable.step` doubles until there are no more.

    Raises
    ------
    InputError
        When the result is damaged.
    """
    grid = cell_grid(header)
    cols, rows = grid.shape(level)
    step = 1
    while -(-cols // step) * -(-rows // step) > _MOST_CELLS:
        step *= 2
    codes = np.zeros((-(-rows // step), -(-cols // step)), np.uint16)
    for block in iter_level_cells(file, header, level):
        col, row = block.index.T // step
        score = np.clip(np.nan_to_num(block.score), 0, 1)
        readable = 4 * (1 + np.rint(score * _STEPS).astype(np.uint16)) + block.decision
        np.maximum.at(codes, (row, col), np.where(block.decision == Decision.UNREADABLE, _UNREADABLE, readable))
    while np.count_nonzero(codes) > most:
        step, codes = 2 * step, _highest_of_four(codes)
    return LevelTable(
        level,
        step,
        step * grid.l0_side(level),
        codes.shape[1],
        codes.shape[0],
        base64.b64encode(np.packbits(codes.ravel() > 0, bitorder="little").tobytes()).decode(),
        base64.b64encode(codes[codes > 0].astype("<u2").tobytes()).decode(),
        _outcomes(header, level),
    )


def _outcomes(header: Header, level: int) -> tuple[str, ...]:
    record, words = header.levels[level], outcomes_of(header, level)
    return words if record.block == 1 else tuple(f"{word} at stride {record.cell}" for word in words)


def _highest_of_four(codes: npt.NDArray[np.uint16]) -> npt.NDArray[np.uint16]:
    padded = np.pad(codes, ((0, codes.shape[0] % 2), (0, codes.shape[1] % 2)))
    rows = np.maximum(padded[::2], padded[1::2])
    return np.maximum(rows[:, ::2], rows[:, 1::2])
