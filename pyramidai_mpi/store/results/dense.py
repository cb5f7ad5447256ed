"""The scores of a result as one map, by the cells of its finest stride, and the rule by which blocks were chosen."""

from __future__ import annotations

import json
import math
from typing import TYPE_CHECKING

import numpy as np

from pyramidai_mpi.base.types import LOOKED_AT, OWN_SCORE, WindowState
from pyramidai_mpi.pyramid.blocks import BlockRule
from pyramidai_mpi.pyramid.decision import passes
from pyramidai_mpi.pyramid.dense_map import DenseMap
from pyramidai_mpi.pyramid.refining import Band
from pyramidai_mpi.pyramid.run_levels import RunLevel, RunLevels
from pyramidai_mpi.pyramid.tissue import Areas
from pyramidai_mpi.store.results.tables import (
    iter_cells,
    iter_rows,
    names_damage,
    read_execution,
    read_header,
    read_mode,
)

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence

    import numpy.typing as npt

    from pyramidai_mpi.store.results.result import LevelRecord, Result
    from pyramidai_mpi.store.results.tables import Header, ResultFile

_Block = tuple["npt.NDArray[np.uint32]", "npt.NDArray[np.float32]", "npt.NDArray[np.uint8]"]


def read_dense_map(file: ResultFile) -> DenseMap:
    """The map of an open result: 6 bytes a cell of its finest stride.

    Of a result without strides below the model's level 0, its cells are the tiles of level 0.

    Raises
    ------
    InputError
        When it cannot be read.
    """
    header = read_header(file)
    score_column = header.score_column

    def blocks(level: int) -> Iterable[_Block]:
        if header.levels[level].block > 1:
            return iter_cells(file, level)
        return (_as_blocks(rows.index, rows.probability[:, score_column]) for rows in iter_rows(file, level))

    return _paint(header.slide.l0_size, header.slide.mpp, header.model.tile_size, header.levels, blocks)


def map_of(result: Result) -> DenseMap:
    """The map of a result in memory, as `read_dense_map`."""
    column = result.model.classes.index(result.model.positive_class)

    def blocks(level: int) -> Iterable[_Block]:
        tiles = result.tree.levels[level]
        if tiles.score is not None and tiles.state is not None:
            return [(tiles.index, tiles.score, tiles.state)]
        return [_as_blocks(tiles.index, tiles.probability[:, column])]

    return _paint(result.slide.l0_size, result.slide.mpp, result.model.tile_size, result.levels, blocks)


def _as_blocks(index: npt.NDArray[np.uint32], score: npt.NDArray[np.float32]) -> _Block:
    """Tiles that are one window as blocks of one cell."""
    known = np.isfinite(score)
    state = np.where(known, np.uint8(WindowState.LOOKED), np.uint8(WindowState.UNREADABLE))
    return index, score[:, None, None], state[:, None, None]


def _paint(
    l0_size: tuple[int, int],
    mpp: float,
    window: int,
    levels: Sequence[LevelRecord],
    blocks: Callable[[int], Iterable[_Block]],
) -> DenseMap:
    """Scores of all levels that the network of level 0 looked at, the coarsest first, so that finer ones cover them."""
    finest = levels[0]
    cell = finest.cell or window
    cols, rows = (math.ceil(extent / (cell * finest.downsample)) for extent in l0_size)
    score, stride = np.full((rows, cols), np.nan, np.float32), np.zeros((rows, cols), np.uint16)
    for n in reversed(range(len(levels))):
        own = levels[n].cell or window
        if (levels[n].network if levels[n].network is not None else n) != 0:
            continue
        times, side = own // cell, levels[n].block
        for index, found, state in blocks(n):
            inner = np.s_[:, levels[n].inner, levels[n].inner]
            looked = np.isin(state[inner], OWN_SCORE)
            number, down, right = np.nonzero(looked)
            values = found[inner][looked]
            first_col = (index[number, 0].astype(np.int64) * side + right) * times
            first_row = (index[number, 1].astype(np.int64) * side + down) * times
            for step_row in range(times):
                for step_col in range(times):
                    row, col = first_row + step_row, first_col + step_col
                    inside = (row < rows) & (col < cols)
                    score[row[inside], col[inside]] = values[inside]
                    stride[row[inside], col[inside]] = own
    return DenseMap(score, stride, cell, window, finest.margin, finest.downsample, mpp, finest.threshold)


@names_damage
def count_windows(file: ResultFile) -> int:
    """Windows of all levels that a run looked at, as `ExecutionTree.n_windows`: also those right around blocks.

    Raises
    ------
    InputError
        When they cannot be read.
    """
    header = read_header(file)
    return sum(
        n_tiles
        if level.block == 1
        else sum(int(np.isin(state, LOOKED_AT).sum()) for _, _, state in iter_cells(file, number))
        for number, (level, n_tiles) in enumerate(zip(header.levels, header.n_tiles, strict=True))
    )


def areas_on_map(dense: DenseMap, mask: npt.NDArray[np.bool_], mask_downsample: float, mpp: float) -> Areas:
    """Areas of a slide whose cells may be smaller than the pixels of its tissue mask.

    A positive cell counts where the mask has tissue at its middle.
    """
    rows, cols = dense.score.shape
    l0_side = dense.l0_cell_side()
    at_row, at_col = (
        np.minimum(((np.arange(n) + 0.5) * l0_side / mask_downsample).astype(np.int64), extent - 1)
        for n, extent in ((rows, mask.shape[0]), (cols, mask.shape[1]))
    )
    positive = passes(dense.score, dense.threshold)
    n_positive = sum(int((positive[row] & mask[at_row[row], at_col]).sum()) for row in range(rows))
    to_mm2 = (mpp / 1000) ** 2
    return Areas(float(mask.sum() * mask_downsample**2 * to_mm2), float(n_positive * l0_side**2 * to_mm2))


def levels_of(header: Header) -> RunLevels:
    """The levels of the run that a result is of."""
    window = header.model.tile_size
    each = tuple(
        RunLevel(n if one.network is None else one.network, one.cell or window, one.block, one.margin)
        for n, one in enumerate(header.levels)
    )
    return RunLevels(each, window, header.levels[0].base or window)


@names_damage
def read_block_rule(file: ResultFile) -> BlockRule | None:
    """By which rule the blocks of a result were chosen; None where its tiles are single windows.

    Raises
    ------
    InputError
        When the result does not say.
    """
    header = read_header(file)
    if all(level.block == 1 for level in header.levels):
        return None
    band = str(read_execution(file).attributes.get("band", ""))
    return BlockRule(
        levels_of(header),
        len(header.model.classes),
        header.score_column,
        read_mode(file),
        Band(*map(float, json.loads(band))) if band else None,
    )
