"""The highest-scored tiles of a result."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from pyramidai_mpi.base.errors import UsageError
from pyramidai_mpi.base.types import Decision, WindowState, index_keys, outcome_names
from pyramidai_mpi.export.cells import cell_grid, decides, is_dense, iter_level_cells
from pyramidai_mpi.pyramid.decision import passes
from pyramidai_mpi.store.results.tables import iter_rows

if TYPE_CHECKING:
    import numpy.typing as npt

    from pyramidai_mpi.store.results.tables import Header, ResultFile, TileRows


def parse_top(text: str) -> int:
    """A number of tiles from an option's text.

    Raises
    ------
    UsageError
        When it is no whole number above 0.
    """
    try:
        top = int(text)
    except ValueError:
        top = 0
    if top < 1:
        raise UsageError(f"--top {text}: expected a whole number of tiles, at least 1")
    return top


@dataclass(frozen=True)
class TopTile:
    """One tile with what the network said of it.

    Attributes
    ----------
    level, col, row
        The tile; of a result with strides the cell.
    l0_x, l0_y, l0_side
        Its top-left corner and its side, in level-0 pixels of the file; of a cell its window's.
    score
        Probability of the positive class.
    probability
        Of each class, float32 (C,); NaN where the result does not tell.
    decision
        A value of `types.Decision`, never unreadable.
    outcome
        The decision in words.
    table_row
        Its row in the level's tables; 0 of a window in a block.
    """

    level: int
    col: int
    row: int
    l0_x: int
    l0_y: int
    l0_side: int
    score: float
    probability: npt.NDArray[np.float32]
    decision: Decision
    outcome: str
    table_row: int = 0


_READABLE = (Decision.STOP, Decision.ZOOM)


def highest_tiles(
    file: ResultFile, header: Header, level: int, most: int, *, of: tuple[Decision, ...] = _READABLE
) -> list[TopTile]:
    """The tiles of a level with the highest scores, the highest first; of equal scores the upper, then the left one.

    Parameters
    ----------
    file, header
        An open result.
    level
        The level.
    most
        How many at most.
    of
        Only tiles of these decisions.

    Raises
    ------
    InputError
        When the result is damaged.
    """
    best: list[TopTile] = []
    for rows in iter_rows(file, level):
        best = sorted(
            [*best, *_highest_of(rows, header, most, of)], key=lambda tile: (-tile.score, tile.row, tile.col)
        )[:most]
    return best


def tiles_of_highest(file: ResultFile, header: Header, values: npt.NDArray[np.floating], most: int) -> list[TopTile]:
    """The tiles of level 0 with the highest of some values, (N,), the highest first; NaN never.

    Raises
    ------
    InputError
        When the result is damaged.
    """
    order = np.argsort(-values, kind="stable")[:most]
    chosen = order[np.isfinite(values[order])].tolist()
    found: dict[int, TopTile] = {}
    for rows in iter_rows(file, 0):
        within = [n for n in chosen if 0 <= n - rows.first_row < len(rows)]
        found |= {n: _top_tile(rows, header, n - rows.first_row) for n in within}
    return [found[n] for n in chosen]


def highest_last_looks(file: ResultFile, header: Header, most: int) -> list[TopTile]:
    """The highest-scored tiles of the finest level with any, then, where these are few, those where a run stopped.

    Of a result with strides, what `highest_windows` finds comes first.

    Tiles of coarser levels come only where nothing finer was looked at: those of which the decision was to stop.

    Raises
    ------
    InputError
        When the result is damaged.
    """
    found: list[TopTile] = []
    if is_dense(header):
        found = highest_windows(file, header, most)
    for level in range(len(header.levels)):
        if is_dense(header) and decides(header, level):
            continue
        if len(found) == most:
            break
        of = (Decision.STOP,) if found else _READABLE
        found += highest_tiles(file, header, level, most - len(found), of=of)
    return found


def highest_windows(file: ResultFile, header: Header, most: int) -> list[TopTile]:
    """The windows of level 0's network with the highest scores in a result with strides, at whatever stride.

    Of windows whose centres are less than half a window apart in both directions only the highest counts, as they show
    the same. Of equal scores the upper comes first, then the left one, then that of the finer stride.

    Raises
    ------
    InputError
        When the result is damaged.
    """
    window = header.model.tile_size
    levels = [n for n in range(len(header.levels)) if decides(header, n)]
    found = np.concatenate([_candidates(file, header, level, most) for level in levels])
    found = found[np.lexsort((found["level"], found["x"], found["y"], -found["score"]))]
    best: list[TopTile] = []
    while len(found) and len(best) < most:
        chosen = found[0]
        best.append(_window_tile(chosen, header))
        apart = np.maximum(abs(found["x"] - chosen["x"]), abs(found["y"] - chosen["y"])) * 2 >= window
        found = found[apart]
    return best


_WINDOW_DTYPE = np.dtype(
    [("level", "u1"), ("col", "<u4"), ("row", "<u4"), ("x", "<i8"), ("y", "<i8"), ("score", "<f4")]
)
"""A window by its cell, with its corner in pixels of its level."""


def _candidates(file: ResultFile, header: Header, level: int, most: int) -> npt.NDArray[np.void]:
    """Windows of a level among which its highest are.

    These lie in the blocks whose best windows are highest: each window that is chosen can leave out others in no more
    blocks than meet the square around it.
    """
    record, grid = header.levels[level], cell_grid(header)
    touched = header.model.tile_size // grid.levels[level].cell // record.block + 2
    n_blocks = most * (touched**2 + 1)
    kept = np.zeros(0, _WINDOW_DTYPE)
    for cells in iter_level_cells(file, header, level, (WindowState.LOOKED,)):
        readable = np.isfinite(cells.score)
        own = np.zeros(int(readable.sum()), _WINDOW_DTYPE)
        index = cells.index[readable]
        own["level"], own["score"] = level, cells.score[readable]
        own["col"], own["row"] = index.T
        own["x"], own["y"] = grid.corners(level, index).T
        kept = _of_highest_blocks(np.concatenate([kept, own]), record.block, n_blocks)
    return kept


def _of_highest_blocks(windows: npt.NDArray[np.void], side: int, most: int) -> npt.NDArray[np.void]:
    """Those that lie in the blocks of the highest windows."""
    windows = windows[np.lexsort((windows["x"], windows["y"], -windows["score"]))]
    blocks = index_keys(np.stack([windows["col"] // side, windows["row"] // side], axis=1))
    _, first, number = np.unique(blocks, return_index=True, return_inverse=True)
    if len(first) <= most:
        return windows
    within = np.zeros(len(first), bool)
    within[np.argsort(first)[:most]] = True
    return windows[within[number]]


def _window_tile(window: np.void, header: Header) -> TopTile:
    level = int(window["level"])
    record, index = header.levels[level], np.array([[window["col"], window["row"]]], np.int64)
    l0_x, l0_y = cell_grid(header).l0_corners(level, index)[0].tolist()
    probability = np.full(len(header.model.classes), np.nan, np.float32)
    probability[header.score_column] = window["score"]
    decision = Decision.ZOOM if passes(window["score"][None], record.threshold)[0] else Decision.STOP
    return TopTile(
        level,
        int(window["col"]),
        int(window["row"]),
        l0_x,
        l0_y,
        record.patch_size_level0,
        float(window["score"]),
        probability,
        decision,
        outcome_names(0)[decision],
    )


def _highest_of(rows: TileRows, header: Header, most: int, of: tuple[Decision, ...]) -> list[TopTile]:
    usable = np.flatnonzero(np.isin(rows.decision, of))
    scores = rows.probability[usable, header.score_column]
    order = usable[np.lexsort((*rows.index[usable].T, -scores))[:most]]
    return [_top_tile(rows, header, n) for n in order.tolist()]


def _top_tile(rows: TileRows, header: Header, n: int) -> TopTile:
    (col, row), (l0_x, l0_y) = rows.index[n].tolist(), rows.l0_coords[n].tolist()
    side, probability = header.levels[rows.level].patch_size_level0, rows.probability[n]
    score, decision = float(probability[header.score_column]), Decision(rows.decision[n])
    outcome = outcome_names(rows.level)[decision]
    place = rows.first_row + n
    return TopTile(rows.level, col, row, l0_x, l0_y, side, score, probability, decision, outcome, place)
