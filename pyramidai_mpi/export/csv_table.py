"""Tiles as CSV: WSInfer's columns first, ours after them."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from pyramidai_mpi.base.csv_text import csv_row
from pyramidai_mpi.base.types import outcome_names
from pyramidai_mpi.export.cells import STATE_WORDS, cell_grid, is_dense, iter_level_cells, l0_centres, outcomes_of
from pyramidai_mpi.export.levels import chosen_levels
from pyramidai_mpi.export.shown import column_names, tile_columns
from pyramidai_mpi.store.files.placing import placed
from pyramidai_mpi.store.results.reader import open_result
from pyramidai_mpi.store.results.tables import iter_rows, read_header

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from pathlib import Path

    import numpy.typing as npt

    from pyramidai_mpi.store.results.tables import Header, ResultFile, TileRows

_WINDOW_COLUMNS = ("centre_x", "centre_y", "stride", "level", "col", "row", "state", "outcome")
_OWN_COLUMNS = ("level", "col", "row", "decision", "parent", "outcome")


def write_csv(result: Path, target: Path, *, overwrite: bool = False, levels: Sequence[int] | None = None) -> None:
    """Write all analysed tiles, level 0 first, one line each.

    Columns are ``minx,miny,width,height`` (level-0 pixels of the file) and ``prob_<class>`` for each class (enough
    digits to give back the float32, empty where the tile was unreadable) as WSInfer writes them, then
    ``level,col,row``, ``decision`` (0 stop, 1 zoom in or positive, 2 unreadable), ``parent`` (row in the next coarser
    level, -1 for none) and ``outcome``, the decision in words (see `base.types.outcome_names`). Of a
    predicted slide attention and contributions follow, see `export.shown.tile_columns`.

    Of a result with strides there is a line for each window: ``minx,miny,width,height`` are the window's,
    ``prob_<positive class>`` its score, ``centre_x,centre_y`` its centre, where the score belongs (level-0 pixels of
    the file, which need not be whole), ``stride`` in pixels of its level; ``col,row`` are its cell's. ``state`` is one
    of `export.cells.STATE_WORDS`: a window that is the same at a coarser stride stands there, too. Cells without a
    window of their own have no line.

    Parameters
    ----------
    result
        Result file.
    target
        File to write.
    overwrite
        Replace an existing file.
    levels
        Only tiles of these levels; None for all.

    Raises
    ------
    UsageError
        When the result has no such level.
    InputError
        When the result cannot be read.
    OutputExistsError, StorageError
        When the target is in the way or cannot be written.
    """
    with open_result(result) as file:
        header = read_header(file)
        chosen = chosen_levels(header, levels)
        with placed(target, overwrite=overwrite, inputs=[result]) as temporary, temporary.open("wb") as out:
            if is_dense(header):
                out.writelines(_window_lines(file, header, chosen))
                return
            probabilities = [f"prob_{name}" for name in header.model.classes]
            title = ["minx", "miny", "width", "height", *probabilities, *_OWN_COLUMNS, *column_names(header.prediction)]
            out.write(csv_row(title).encode())
            for level in chosen:
                for rows in iter_rows(file, level):
                    more = tile_columns(file, header, level, rows.first_row, rows.first_row + len(rows))
                    out.write(_lines(rows, header.levels[level].patch_size_level0, [*more.values()]).encode())


def _window_lines(file: ResultFile, header: Header, levels: Sequence[int]) -> Iterator[bytes]:
    score_name = f"prob_{header.model.positive_class}"
    yield csv_row(["minx", "miny", "width", "height", score_name, *_WINDOW_COLUMNS]).encode()
    grid = cell_grid(header)
    for level in levels:
        side, words = header.levels[level].patch_size_level0, np.array(outcomes_of(header, level))
        line = f"%d,%d,{side},{side},%.9g,%.12g,%.12g,{grid.levels[level].cell},{level},%d,%d,%s,%s\n"
        for cells in iter_level_cells(file, header, level):
            corners, centres = grid.l0_corners(level, cells.index), l0_centres(header, level, cells.index)
            said = np.array(STATE_WORDS)[cells.state], words[cells.decision]
            columns = [*corners.T, cells.score, *centres.T, *cells.index.T, *said]
            text = "".join(map(line.__mod__, zip(*(column.tolist() for column in columns), strict=True)))
            yield text.replace(",nan,", ",,").encode()


def _lines(rows: TileRows, side: int, more: Sequence[npt.NDArray[np.float32]]) -> str:
    # nine significant digits give back every float32
    numbers = ",%.9g" * rows.probability.shape[1]
    line = f"%d,%d,{side},{side}{numbers},{rows.level},%d,%d,%d,%d,%s{',%.9g' * len(more)}\n"
    outcome = np.array(outcome_names(rows.level))[rows.decision]
    columns = [*rows.l0_coords.T, *rows.probability.T, *rows.index.T, rows.decision, rows.parent, outcome, *more]
    text = "".join(map(line.__mod__, zip(*(column.tolist() for column in columns), strict=True)))
    return text.replace(",nan", ",") if np.isnan(rows.probability).any() else text
