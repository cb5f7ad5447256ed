"""Explained tiles as CSV."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from pyramidai_mpi.base.csv_text import csv_row
from pyramidai_mpi.store.explanations.contents import CURVES
from pyramidai_mpi.store.explanations.reader import read_explanation
from pyramidai_mpi.store.files.placing import placed

if TYPE_CHECKING:
    from pathlib import Path

    from pyramidai_mpi.store.explanations.contents import Explanation

_PLACE = ("minx", "miny", "width", "height")
_OWN = ("level", "col", "row", "class", "score", "method", "layer", "map_min", "map_max", "repeatability")
_AREAS = tuple(f"{name}_area" for name in CURVES)


def write_explained_csv(explained: Path, target: Path, *, overwrite: bool = False) -> None:
    """Write all explained tiles, one line each, row by row.

    Columns are ``minx,miny,width,height`` (level-0 pixels of the file) and ``prob_<class>`` for each class as of a
    result, then ``level,col,row``, ``class`` and ``score`` (the class that was explained and its probability),
    ``method,layer``, ``map_min,map_max`` (of the tile's map), ``repeatability`` (empty where there is no chance in the
    method), and the areas under the curves of deletion and insertion, of the map and of a random one (empty where
    nobody asked for them). Of an unreadable tile all numbers are empty.

    Raises
    ------
    InputError
        When the explanations cannot be read.
    OutputExistsError, StorageError
        When the target is in the way or cannot be written.
    """
    explanation = read_explanation(explained)
    with (
        placed(target, overwrite=overwrite, inputs=[explained]) as temporary,
        temporary.open("w", encoding="utf-8", newline="") as out,
    ):
        out.write(csv_row(columns_of(explanation)))
        out.writelines(map(csv_row, lines_of(explanation)))


def columns_of(explanation: Explanation) -> list[str]:
    """Names of the columns."""
    return [*_PLACE, *(f"prob_{name}" for name in explanation.model.classes), *_OWN, *_AREAS]


def rows_of(explanation: Explanation) -> list[list[object]]:
    """Values of the columns of each tile; NaN for nothing."""
    tiles, areas = explanation.tiles, explanation.tiles.areas()
    said = (explanation.class_name, explanation.method, explanation.layer)
    rows: list[list[object]] = []
    for n in range(len(tiles)):
        (l0_x, l0_y), (col, row), side = tiles.l0_coords[n].tolist(), tiles.index[n].tolist(), int(tiles.l0_side[n])
        area = [float(areas[name][n]) if areas else float("nan") for name in CURVES]
        rows.append(
            [
                *(l0_x, l0_y, side, side, *tiles.probability[n].tolist(), explanation.level, col, row),
                *(said[0], float(explanation.score[n]), *said[1:]),
                *(float(tiles.maps[n].min()), float(tiles.maps[n].max()), float(tiles.repeatability[n]), *area),
            ]
        )
    return rows


def lines_of(explanation: Explanation) -> list[list[object]]:
    """The same as cells of a table."""
    return [[_number(value) if isinstance(value, float) else value for value in row] for row in rows_of(explanation)]


def _number(value: float) -> str:
    # nine digits give back every float32
    return "" if np.isnan(value) else f"{value:.9g}"
