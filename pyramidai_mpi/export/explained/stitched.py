"""Maps of explained tiles laid side by side: one picture of the slide, averaged where windows overlap."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from pyramidai_mpi.export.heat_pyramid import halved

if TYPE_CHECKING:
    import numpy.typing as npt

    from pyramidai_mpi.store.explanations.contents import Explanation

BLOCK = 64
"""Side of a block of pixels, which is kept only where there are maps."""
MOST_PIXELS, MOST_COVERED = 1 << 27, 1 << 26
"""Of a picture, and of the maps in it: where maps are finer, its pixels are 2, 4, ... of theirs a side."""
_LEAST_COVERED = 0.5
_SMALLEST = 256


@dataclass(frozen=True)
class StitchedMap:
    """Attribution over a slide.

    Attributes
    ----------
    shape
        Height and width in pixels; the last ones may reach beyond the slide.
    l0_side
        Level-0 pixels per pixel. Pixel (x, y) begins at ``l0_side * x``, ``l0_side * y``.
    blocks
        Pixels by row and column of their block of 64 x 64: float32, NaN where no tile was explained.
    """

    shape: tuple[int, int]
    l0_side: float
    blocks: dict[tuple[int, int], npt.NDArray[np.float32]]

    def part(self, top: int, bottom: int, left: int, right: int) -> npt.NDArray[np.float32]:
        """Rows and columns from the first to the last (excluded), float32, NaN where no tile was explained."""
        pixels = np.full((bottom - top, right - left), np.nan, np.float32)
        for row in range(top // BLOCK, -(-bottom // BLOCK)):
            for col in range(left // BLOCK, -(-right // BLOCK)):
                block = self.blocks.get((row, col))
                if block is not None:
                    rows, own_rows = _shared(row * BLOCK, top, bottom)
                    cols, own_cols = _shared(col * BLOCK, left, right)
                    pixels[rows, cols] = block[own_rows, own_cols]
        return pixels

    def rows(self, top: int, bottom: int) -> npt.NDArray[np.float32]:
        """Whole rows, likewise."""
        return self.part(top, bottom, 0, self.shape[1])

    def values(self) -> npt.NDArray[np.float32]:
        """The whole picture."""
        return self.rows(0, self.shape[0])


def stitched(explanation: Explanation, most_pixels: int = MOST_PIXELS, most_covered: int = MOST_COVERED) -> StitchedMap:
    """Lay the maps over the slide.

    A pixel has the mean of what maps say of it, weighted by how much of it each covers; nothing where they cover less
    than half of it. Where windows lie on a grid of whole pixels of their maps, as tiles side by side do, it has a map's
    very number. Unreadable tiles say nothing.

    Parameters
    ----------
    most_pixels, most_covered
        Pixels are made larger until there are no more of them, on the slide and under explained tiles.
    """
    tiles, model = explanation.tiles, explanation.model
    l0_window = model.tile_size * explanation.downsample
    fine = l0_window / max(tiles.maps.shape[1:])
    width, height = explanation.slide.l0_size
    times = 1
    while (
        math.ceil(width / (fine * times)) * math.ceil(height / (fine * times)) > most_pixels
        or len(tiles) * (l0_window / (fine * times)) ** 2 > most_covered
    ):
        times *= 2
    side = fine * times
    shape = math.ceil(width / side), math.ceil(height / side)
    sums: dict[tuple[int, int], npt.NDArray[np.float64]] = {}
    for (l0_x, l0_y), values in zip(tiles.l0_coords.tolist(), tiles.maps.astype(np.float64), strict=True):
        if np.isnan(values).any():
            continue
        left, across = _shares(l0_x, l0_window, side, values.shape[1], shape[0])
        top, down = _shares(l0_y, l0_window, side, values.shape[0], shape[1])
        if across.size and down.size:
            weights = np.outer(down.sum(axis=1), across.sum(axis=1))
            _add(sums, np.stack([down @ values @ across.T, weights]), left, top)
    blocks = {}
    for place, (total, weight) in sums.items():
        known = weight >= _LEAST_COVERED - 1e-9
        blocks[place] = np.where(known, total / np.where(known, weight, 1), np.nan).astype(np.float32)
    return StitchedMap(shape[::-1], side, blocks)


def _shares(l0_first: int, l0_window: float, side: float, n: int, n_pixels: int) -> tuple[int, npt.NDArray[np.float64]]:
    """Along an axis: the first pixel that a window meets; of each pixel (rows) the share of each of `n` of a map."""
    first = l0_first / side
    # corners are whole level-0 pixels: what is off the pixels' grid by less than that lies on it
    if abs(first - round(first)) * side <= 0.5 + 1e-6:
        first = round(first)
    edges = first + np.arange(n + 1) * (l0_window / side / n)
    edges = np.where(np.abs(edges - np.rint(edges)) < 1e-9, np.rint(edges), edges)
    start, end = max(0, math.floor(edges[0])), min(n_pixels, math.ceil(edges[-1]))
    pixels = np.arange(start, max(start, end))[:, None]
    overlap = np.minimum(pixels + 1, edges[None, 1:]) - np.maximum(pixels, edges[None, :-1])
    return start, np.clip(overlap, 0, None)


def _add(
    sums: dict[tuple[int, int], npt.NDArray[np.float64]], values: npt.NDArray[np.float64], left: int, top: int
) -> None:
    """Add sums and weights (2, h, w) to the blocks that they meet."""
    height, width = values.shape[1:]
    for row in range(top // BLOCK, -(-(top + height) // BLOCK)):
        for col in range(left // BLOCK, -(-(left + width) // BLOCK)):
            rows, own_rows = _shared(row * BLOCK, top, top + height)
            cols, own_cols = _shared(col * BLOCK, left, left + width)
            block = sums.setdefault((row, col), np.zeros((2, BLOCK, BLOCK)))
            block[:, own_rows, own_cols] += values[:, rows, cols]


def _shared(block: int, first: int, last: int) -> tuple[slice, slice]:
    """What a block that begins there shares with a range: as a part of the range, and as a part of the block."""
    begin, end = max(block, first), min(block + BLOCK, last)
    return slice(begin - first, end - first), slice(begin - block, end - block)


def pyramid_of(finest: StitchedMap, *, signed: bool) -> tuple[StitchedMap, ...]:
    """The picture and its reduced ones, each half of the one before, until one has 256 pixels a side or fewer.

    A reduced pixel is the largest number of the 2 x 2 below it, of signed numbers the one furthest from 0: no spot is
    lost from an overview.
    """
    levels = [finest]
    while max(levels[-1].shape) > _SMALLEST:
        levels.append(_halved(levels[-1], signed=signed))
    return tuple(levels)


def _halved(fine: StitchedMap, *, signed: bool) -> StitchedMap:
    half = BLOCK // 2
    blocks: dict[tuple[int, int], npt.NDArray[np.float32]] = {}
    for (row, col), block in fine.blocks.items():
        made = blocks.setdefault((row // 2, col // 2), np.full((BLOCK, BLOCK), np.nan, np.float32))
        top, left = row % 2 * half, col % 2 * half
        made[top : top + half, left : left + half] = halved(block, signed=signed)
    height, width = fine.shape
    return StitchedMap((-(-height // 2), -(-width // 2)), 2 * fine.l0_side, blocks)


def seen_at(
    levels: tuple[StitchedMap, ...], downsample: float, rows: tuple[int, int], cols: tuple[int, int]
) -> npt.NDArray[np.float32]:
    """What a picture of so many level-0 pixels a pixel shows in some rows and columns, float32, NaN for nothing.

    Each pixel has the number at its middle, of the finest of `pyramid_of` whose pixels are no smaller.
    """
    level = next((one for one in levels if one.l0_side >= downsample * (1 - 1e-9)), levels[-1])
    places = [
        np.floor((np.arange(first, last) + 0.5) * downsample / level.l0_side).astype(np.int64)
        for first, last in (rows, cols)
    ]
    found = [np.clip(place, 0, extent - 1) for place, extent in zip(places, level.shape, strict=True)]
    if not (found[0].size and found[1].size):
        return np.full((len(found[0]), len(found[1])), np.nan, np.float32)
    top, left = int(found[0][0]), int(found[1][0])
    part = level.part(top, int(found[0][-1]) + 1, left, int(found[1][-1]) + 1)
    return part[np.ix_(found[0] - top, found[1] - left)]
