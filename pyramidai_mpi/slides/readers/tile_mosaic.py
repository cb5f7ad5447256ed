"""A stored level as a mosaic of tiles: which of them a region meets, and the region put together from them."""

from __future__ import annotations

from collections import OrderedDict
from dataclasses import dataclass
from typing import TYPE_CHECKING, Generic, TypeVar

import numpy as np

from pyramidai_mpi.slides.readers.base import THERE

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    import numpy.typing as npt

    from pyramidai_mpi.base.types import RgbArray

CACHE_BYTES = 48 << 20
"""Decoded tiles that a reader keeps: 64 of 512 x 512, a row of tiles of a slide 30000 pixels wide."""

Key = TypeVar("Key")


@dataclass(frozen=True)
class TileMosaic:
    """Sizes of a stored level and its tiles, which are numbered row by row.

    Attributes
    ----------
    size
        Width and height of the level in pixels.
    tile_size
        Width and height of its tiles; the last ones reach beyond the level.
    """

    size: tuple[int, int]
    tile_size: tuple[int, int]

    @property
    def columns(self) -> int:
        """Tiles in a row."""
        return -(-self.size[0] // self.tile_size[0])

    @property
    def rows(self) -> int:
        """Rows of tiles."""
        return -(-self.size[1] // self.tile_size[1])

    @property
    def n_tiles(self) -> int:
        """All tiles."""
        return self.columns * self.rows

    def tiles_in(self, left: int, top: int, right: int, bottom: int) -> Iterator[tuple[int, int]]:
        """Columns and rows of the tiles that a region of the level meets."""
        left, top, right, bottom = max(left, 0), max(top, 0), min(right, self.size[0]), min(bottom, self.size[1])
        if left >= right or top >= bottom:
            return
        tile_width, tile_height = self.tile_size
        for row in range(top // tile_height, -(-bottom // tile_height)):
            for col in range(left // tile_width, -(-right // tile_width)):
                yield col, row

    def tiles_in_any(self, x: npt.NDArray[np.int64], y: npt.NDArray[np.int64]) -> npt.NDArray[np.int64]:
        """Numbers of the tiles that any of n regions meets, in order.

        Parameters
        ----------
        x, y
            int64 (n, 2): first and last (excluded) pixel of each region, maybe outside the level.
        """
        spans = []
        is_there = np.ones(len(x), bool)
        for pixels, extent, side in ((x, self.size[0], self.tile_size[0]), (y, self.size[1], self.tile_size[1])):
            first, last = np.maximum(pixels[:, 0], 0), np.minimum(pixels[:, 1], extent)
            is_there &= first < last
            spans.append((first // side, -(-last // side)))
        (left, right), (top, bottom) = spans
        # each region's corners, summed up along both axes, count the regions over each tile
        count = np.zeros((self.rows + 1, self.columns + 1), np.int64)
        for row, col, sign in ((top, left, 1), (bottom, right, 1), (top, right, -1), (bottom, left, -1)):
            np.add.at(count, (row[is_there], col[is_there]), sign)
        met = count.cumsum(axis=0).cumsum(axis=1)[: self.rows, : self.columns] > 0
        return np.flatnonzero(met)

    def compose(
        self,
        corner: tuple[int, int],
        size: tuple[int, int],
        tile: Callable[[int, int], RgbArray | None],
        out: RgbArray | None = None,
    ) -> RgbArray | None:
        """A region put together from decoded tiles; white outside the level.

        Parameters
        ----------
        corner
            x, y of the top-left corner in pixels of the level, maybe outside.
        size
            Width and height.
        tile
            Pixels of the tile of a column and row, uint8 (tile height, tile width, 3), None when it cannot be had.
        out
            uint8 (height, width, 3) to fill; None makes one.

        Returns
        -------
        numpy.ndarray or None
            uint8 (height, width, 3); None as soon as a tile cannot be had.
        """
        (left, top), (right, bottom) = corner, (corner[0] + size[0], corner[1] + size[1])
        pixels = np.empty((size[1], size[0], 3), np.uint8) if out is None else out
        if not (left >= 0 and top >= 0 and right <= self.size[0] and bottom <= self.size[1]):
            pixels.fill(255)
        tile_width, tile_height = self.tile_size
        for col, row in self.tiles_in(left, top, right, bottom):
            found = tile(col, row)
            if found is None:
                return None
            tile_left, tile_top = col * tile_width, row * tile_height
            first_x, last_x = max(left, tile_left), min(right, tile_left + tile_width, self.size[0])
            first_y, last_y = max(top, tile_top), min(bottom, tile_top + tile_height, self.size[1])
            pixels[first_y - top : last_y - top, first_x - left : last_x - left] = found[
                first_y - tile_top : last_y - tile_top, first_x - tile_left : last_x - tile_left
            ]
        return pixels

    def compose_what_is_there(
        self, corner: tuple[int, int], size: tuple[int, int], tile: Callable[[int, int], RgbArray | int]
    ) -> tuple[RgbArray, npt.NDArray[np.uint8]]:
        """As `compose`, where some tiles may not be there: white, and not `THERE`.

        Parameters
        ----------
        tile
            Pixels of the tile of a column and row, or what is known of it: `MISSING` or `LEFT_OUT`.

        Returns
        -------
        pixels : numpy.ndarray
            uint8 (height, width, 3).
        known : numpy.ndarray
            uint8 (height, width); see `readers.base.SlideReader.read_what_is_there`.
        """
        absent: dict[tuple[int, int], int] = {}

        def pixels_of(col: int, row: int) -> RgbArray:
            found = tile(col, row)
            if isinstance(found, int):
                absent[col, row] = found
                return np.full((self.tile_size[1], self.tile_size[0], 3), 255, np.uint8)
            return found

        pixels = self.compose(corner, size, pixels_of)
        assert pixels is not None
        known = np.full((size[1], size[0]), THERE, np.uint8)
        (left, top), (width, height) = corner, self.tile_size
        for (col, row), what in absent.items():
            first_x, last_x = col * width - left, min((col + 1) * width, self.size[0]) - left
            first_y, last_y = row * height - top, min((row + 1) * height, self.size[1]) - top
            known[max(first_y, 0) : last_y, max(first_x, 0) : last_x] = what
        return pixels, known


class TileCache(Generic[Key]):
    """Decoded tiles that were used last, up to so many bytes; one is kept in any case.

    Parameters
    ----------
    n_bytes
        Most bytes.
    """

    def __init__(self, n_bytes: int = CACHE_BYTES) -> None:
        self._tiles: OrderedDict[Key, RgbArray] = OrderedDict()
        self._left = n_bytes

    @property
    def n_bytes(self) -> int:
        """Bytes of what is kept."""
        return sum(tile.nbytes for tile in self._tiles.values())

    def __contains__(self, key: Key) -> bool:
        return key in self._tiles

    def get(self, key: Key) -> RgbArray | None:
        """A tile that is kept."""
        kept = self._tiles.get(key)
        if kept is not None:
            self._tiles.move_to_end(key)
        return kept

    def put(self, key: Key, tile: RgbArray) -> None:
        """Keep a tile that is not kept yet, instead of those that were not used for longest."""
        self._tiles[key] = tile
        self._left -= tile.nbytes
        while self._left < 0 and len(self._tiles) > 1:
            _, oldest = self._tiles.popitem(last=False)
            self._left += oldest.nbytes

    def clear(self) -> None:
        """Forget all tiles."""
        self._left += self.n_bytes
        self._tiles.clear()
