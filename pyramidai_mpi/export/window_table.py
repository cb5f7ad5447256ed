"""The windows of a level as a table: numpy records, and the columns of a data frame."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from pyramidai_mpi.export.cells import STATE_WORDS, cell_grid, iter_level_cells, l0_centres, outcomes_of

if TYPE_CHECKING:
    import numpy.typing as npt

    from pyramidai_mpi.store.results.tables import Header, ResultFile

WINDOW_DTYPE = np.dtype(
    [
        ("col", "<u4"),
        ("row", "<u4"),
        ("l0_x", "<i8"),
        ("l0_y", "<i8"),
        ("l0_side", "<i8"),
        ("l0_centre", "<f8", (2,)),
        ("score", "<f4"),
        ("state", "u1"),
        ("decision", "u1"),
    ]
)
"""One window: column and row of its cell, corner and side in level-0 pixels, its centre x, y, where the score belongs;
score of the positive class, NaN where unreadable; `types.WindowState`; `types.Decision`, in blocks 1 for positive."""


def read_windows(file: ResultFile, header: Header, level: int) -> npt.NDArray[np.void]:
    """All windows of a level, records of `WINDOW_DTYPE`, block by block and row by row in each.

    Raises
    ------
    InputError
        When the result is damaged.
    """
    grid, found = cell_grid(header), [np.empty(0, WINDOW_DTYPE)]
    for cells in iter_level_cells(file, header, level):
        some = np.empty(len(cells), WINDOW_DTYPE)
        some["col"], some["row"] = cells.index.T
        some["l0_x"], some["l0_y"] = grid.l0_corners(level, cells.index).T
        some["l0_side"] = header.levels[level].patch_size_level0
        some["l0_centre"] = l0_centres(header, level, cells.index)
        some["score"], some["state"], some["decision"] = cells.score, cells.state, cells.decision
        found.append(some)
    return np.concatenate(found)


def window_columns(windows: npt.NDArray[np.void], header: Header, level: int) -> dict[str, npt.NDArray[Any]]:
    """Windows of a level of a result with strides, as ``pyramidai export --csv`` has them."""
    return {
        "minx": windows["l0_x"],
        "miny": windows["l0_y"],
        "width": windows["l0_side"],
        "height": windows["l0_side"],
        f"prob_{header.model.positive_class}": windows["score"],
        "centre_x": windows["l0_centre"][:, 0],
        "centre_y": windows["l0_centre"][:, 1],
        "stride": np.full(len(windows), cell_grid(header).levels[level].cell),
        "level": np.full(len(windows), level),
        "col": windows["col"],
        "row": windows["row"],
        "state": np.array(STATE_WORDS, object)[windows["state"]],
        "outcome": np.array(outcomes_of(header, level), object)[windows["decision"]],
    }
