"""How much of each cell of a grid an area covers: exact, by the signed areas beside its edges.

Signed areas are accumulated as font rasterisers do it (libart, FreeType): an edge that runs down through a cell gives
the cell the part right of it, and all cells further right its whole height. Coverage is rounded to whole numbers of
2**-20 of a cell, so sums are exact: the tumour of a tile is the sum of its children's whatever the order.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Iterable

    import numpy.typing as npt

UNIT = 1 << 20
"""Coverage of a cell that is all tumour."""


def cover_rings(
    rings: Iterable[npt.NDArray[np.float64]], step: float, shape: tuple[int, int], first_row: int = 0
) -> npt.NDArray[np.int32]:
    """Coverage of the cells of a grid by an area.

    Parameters
    ----------
    rings
        Closed rings (first point repeated), float64 (N, 2) of x, y >= 0, of one valid area: shells all turn one way,
        holes the other, and nothing overlaps.
    step
        Side of a cell in the rings' unit.
    shape
        Rows and columns of the grid. Cell ``[r, c]`` spans x in ``[c, c + 1] * step`` and y in
        ``[first_row + r, first_row + r + 1] * step``.
    first_row
        Where a band of rows begins, of a grid that is too large to be drawn at once.

    Returns
    -------
    numpy.ndarray
        int32 of `shape`, 0 to `UNIT`.
    """
    edges = [np.concatenate([ring[:-1], ring[1:]], axis=1) for ring in rings]
    covered = np.zeros(shape, np.int32)
    if not edges:
        return covered
    all_edges = np.concatenate(edges) / step
    top, bottom = np.minimum(all_edges[:, 1], all_edges[:, 3]), np.maximum(all_edges[:, 1], all_edges[:, 3])
    crossing = all_edges[(bottom > first_row) & (top < first_row + shape[0])]
    pieces = _cut_at_grid_lines(crossing)
    # what an edge covers in a row, it covers there alone: rows beyond the band have no say in it
    in_band = np.floor((pieces[:, 1] + pieces[:, 3]) / 2) - first_row
    pieces = pieces[(in_band >= 0) & (in_band < shape[0])]
    if not len(pieces):
        return covered
    x0, y0, x1, y1 = pieces.T
    low_col, low_row = np.floor((x0 + x1) / 2).astype(np.int64), np.floor((y0 + y1) / 2).astype(np.int64)
    low_row -= first_row
    top_row, first_col = int(low_row.min()), int(low_col.min())
    rows, cols = int(low_row.max()) + 1 - top_row, int(low_col.max()) + 1 - first_col
    height = y1 - y0
    right_of_it = height * (low_col + 1 - (x0 + x1) / 2)
    cell = (low_row - top_row) * (cols + 1) + low_col - first_col
    sums = np.bincount(cell, right_of_it, minlength=rows * (cols + 1))
    sums += np.bincount(cell + 1, height - right_of_it, minlength=rows * (cols + 1))
    signed = np.cumsum(sums.reshape(rows, cols + 1), axis=1)[:, :cols]
    exact = np.abs(signed)
    whole = np.clip(np.rint(exact * UNIT), 0, UNIT).astype(np.int32)
    # a border at the very end of the grid may touch one more column, of no area
    cols = min(cols, shape[1] - first_col)
    covered[top_row : top_row + rows, first_col : first_col + cols] = whole[:rows, :cols]
    return covered


def _cut_at_grid_lines(edges: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
    """Split edges (N, 4) of x0, y0, x1, y1 at whole x and y, so that each piece lies in one cell; (M, 4)."""
    edges = edges[edges[:, 1] != edges[:, 3]]  # level edges have no area beside them
    start, along = edges[:, :2], edges[:, 2:] - edges[:, :2]
    number, place = [np.arange(len(edges))] * 2, [np.zeros(len(edges)), np.ones(len(edges))]
    for axis in (0, 1):
        low = np.minimum(edges[:, axis], edges[:, axis + 2])
        high = np.maximum(edges[:, axis], edges[:, axis + 2])
        first = np.floor(low) + 1
        count = np.maximum(np.ceil(high) - first, 0).astype(np.int64)
        edge = np.repeat(np.arange(len(edges)), count)
        line = np.arange(len(edge)) - np.repeat(np.cumsum(count) - count, count) + first[edge]
        number.append(edge)
        place.append(np.clip((line - start[edge, axis]) / along[edge, axis], 0, 1))
    all_numbers, all_places = np.concatenate(number), np.concatenate(place)
    order = np.lexsort((all_places, all_numbers))
    edge, at = all_numbers[order], all_places[order]
    point = start[edge] + at[:, None] * along[edge]
    point[at == 1] = edges[edge[at == 1], 2:]  # exactly the next edge's start, so that rings stay closed
    same = edge[1:] == edge[:-1]
    return np.concatenate([point[:-1][same], point[1:][same]], axis=1)


def cover_blocks(
    labels: npt.NDArray[np.bool_], corner: tuple[int, int], cell: tuple[float, float], covered: npt.NDArray[np.float64]
) -> None:
    """Add to float64 `covered` (rows, cols) the area in cells that a block of a finer (or coarser) mask covers.

    Parameters
    ----------
    labels
        bool (h, w), a block of the mask.
    corner
        Row and column of its first pixel.
    cell
        Height and width of a mask pixel in cells.
    """
    if not labels.any():
        return
    row_weights, first_row = _overlaps(corner[0], labels.shape[0], cell[0], covered.shape[0])
    col_weights, first_col = _overlaps(corner[1], labels.shape[1], cell[1], covered.shape[1])
    rows, cols = row_weights.shape[1], col_weights.shape[1]
    covered[first_row : first_row + rows, first_col : first_col + cols] += row_weights.T @ labels @ col_weights


def at_least_half(covered: npt.NDArray[np.int32], l0_size: tuple[int, int], downsample: float) -> npt.NDArray[np.bool_]:
    """Which pixels of a mask are covered by at least half of their part inside the slide.

    Parameters
    ----------
    covered
        int32 (H, W), 0 to `UNIT`.
    l0_size, downsample
        Width and height of the slide in level-0 pixels, and how many of them a pixel's side is.
    """
    # the last row and column may reach beyond the slide
    inside_x, inside_y = (
        np.clip(extent / downsample - np.arange(n), 0, 1)
        for extent, n in zip(l0_size, covered.shape[::-1], strict=True)
    )
    return np.asarray(covered >= np.floor(0.5 * UNIT * inside_y[:, None] * inside_x[None, :]).clip(1))


def _overlaps(first: int, count: int, size: float, n_cells: int) -> tuple[npt.NDArray[np.float64], int]:
    """Length that each of `count` pixels shares with each cell, float64 (count, cells), and the first cell."""
    low = (first + np.arange(count)) * size
    low_cell, high_cell = int(np.floor(low[0])), min(int(np.ceil(low[-1] + size)), n_cells)
    cells = np.arange(low_cell, max(high_cell, low_cell))
    shared = np.minimum(low[:, None] + size, cells + 1) - np.maximum(low[:, None], cells)
    return np.maximum(shared, 0.0), low_cell
