"""The cells of a result with strides as squares that QuPath opens, one for each window."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

import numpy as np

from pyramidai_mpi.base.errors import UsageError
from pyramidai_mpi.base.types import Decision
from pyramidai_mpi.export.cells import cell_grid, count_cells, iter_level_cells, outcomes_of
from pyramidai_mpi.export.features import OTHERS, UNREADABLE, ZOOMED, classification, positive_classification

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from pyramidai_mpi.export.cells import Cells
    from pyramidai_mpi.pyramid.grid import Grid
    from pyramidai_mpi.store.results.tables import Header, ResultFile

MOST_SQUARES = 1_000_000
"""As a text, 300 MB; QuPath needs ten times as much."""


def square_texts(file: ResultFile, header: Header, levels: Sequence[int]) -> Iterator[list[str]]:
    """Features of the windows of some levels, some thousand at a time, each a JSON text.

    A square is the window's cell, in level-0 pixels from the corner of the slide's bounds; its measurements are score,
    level and stride. Of more than two classes only the positive one is told.

    Raises
    ------
    UsageError
        When there are too many.
    InputError
        When the result is damaged.
    """
    n_squares = sum(count_cells(file, header, level) for level in levels)
    if n_squares > MOST_SQUARES:
        raise UsageError(
            f"--flat: {n_squares} windows of the result of {header.slide.name} are more squares than programs open "
            f"({MOST_SQUARES}); leave --flat out for outlines, or choose coarser strides with --levels"
        )
    grid = cell_grid(header)
    return (_texts(cells, header, grid) for level in levels for cells in iter_level_cells(file, header, level))


def _texts(cells: Cells, header: Header, grid: Grid) -> list[str]:
    bounds = np.array(header.slide.l0_bounds, np.int64)
    low, high = (grid.l0_cell_corners(cells.level, cells.index.astype(np.int64) + k) - bounds for k in (0, 1))
    x0, y0, x1, y1 = (values.tolist() for values in (*low.T, *high.T))
    name = json.dumps(f"prob_{header.model.positive_class}", ensure_ascii=False).replace("%", "%%")
    classes = _classes(header, cells.level)
    measures = f'{name}:%.9g,"level":{cells.level},"stride":{grid.levels[cells.level].cell}'
    place = (
        '{"type":"Feature","geometry":{"type":"Polygon","coordinates":[[[%d,%d],[%d,%d],[%d,%d],[%d,%d],[%d,%d]]]},'
        '"properties":{"objectType":"tile","classification":%s'
    )
    readable, unreadable = place + ',"measurements":{' + measures + "}}}", place + "}}"
    decisions, scores = cells.decision.tolist(), cells.score.tolist()
    corners = zip(x0, y0, x1, y0, x1, y1, x0, y1, x0, y0, strict=True)
    return [
        unreadable % (*corner, classes[decision])
        if decision == Decision.UNREADABLE
        else readable % (*corner, classes[decision], score)
        for corner, decision, score in zip(corners, decisions, scores, strict=True)
    ]


def _classes(header: Header, level: int) -> list[str]:
    """Classifications by decision."""
    others = [one for one in header.model.classes if one != header.model.positive_class]
    words = outcomes_of(header, level)
    enough = positive_classification(header)
    if words[Decision.ZOOM] != "positive":
        enough = classification(words[Decision.ZOOM], ZOOMED)
    return [
        classification(others[0] if len(others) == 1 else words[Decision.STOP], OTHERS[0]),
        enough,
        classification(words[Decision.UNREADABLE], UNREADABLE),
    ]
