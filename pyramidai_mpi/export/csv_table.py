"""Tiles as CSV: WSInfer's columns first, ours after them."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from pyramidai_mpi.base.csv_text import csv_row
from pyramidai_mpi.store.files.placing import placed
from pyramidai_mpi.store.results.reader import open_result
from pyramidai_mpi.store.results.tables import iter_rows, read_header

if TYPE_CHECKING:
    from pathlib import Path

    from pyramidai_mpi.store.results.tables import TileRows

_OWN_COLUMNS = ("level", "col", "row", "decision", "parent")


def write_csv(result: Path, target: Path, *, overwrite: bool = False) -> None:
    """Write all analysed tiles, level 0 first, one line each.

    Columns are ``minx,miny,width,height`` (level-0 pixels of the file) and ``prob_<class>`` for each class (enough
    digits to give back the float32, empty where the tile was unreadable) as WSInfer writes them, then
    ``level,col,row``, ``decision`` (0 stop, 1 zoom in or positive, 2 unreadable) and ``parent`` (row in the next
    coarser level, -1 for none).

    Raises
    ------
    InputError
        When the result cannot be read.
    OutputExistsError, StorageError
        When the target is in the way or cannot be written.
    """
    with open_result(result) as file:
        header = read_header(file)
        with placed(target, overwrite=overwrite, inputs=[result]) as temporary, temporary.open("wb") as out:
            out.write(_title([*header.model.classes]).encode())
            for level, record in enumerate(header.levels):
                for rows in iter_rows(file, level):
                    out.write(_lines(rows, record.patch_size_level0).encode())


def _title(classes: list[str]) -> str:
    return csv_row(["minx", "miny", "width", "height", *(f"prob_{name}" for name in classes), *_OWN_COLUMNS])


def _lines(rows: TileRows, side: int) -> str:
    # nine significant digits give back every float32
    numbers = ",%.9g" * rows.probability.shape[1]
    line = f"%d,%d,{side},{side}{numbers},{rows.level},%d,%d,%d,%d\n"
    columns = [*rows.l0_coords.T, *rows.probability.T, *rows.index.T, rows.decision, rows.parent]
    text = "".join(map(line.__mod__, zip(*(column.tolist() for column in columns), strict=True)))
    return text.replace(",nan", ",") if np.isnan(rows.probability).any() else text
