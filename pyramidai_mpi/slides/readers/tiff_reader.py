"""A faster way to the same pixels: stored tiles of TIFF files decoded directly, OpenSlide for all else.

OpenSlide decodes to BGRA with alpha, composes tiles through cairo, and what comes out is turned into RGBA, then RGB.
Here a tile is decoded to RGB once, kept for its neighbours, and copied into place. What is not plain (interpolated
levels, corners between pixels, missing or damaged tiles, other formats) goes to OpenSlide, region by region, so that
OpenSlide alone decides what is unreadable and why.
"""

from __future__ import annotations

import os
from collections import OrderedDict
from contextlib import suppress
from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np

from pyramidai_mpi.base.errors import input_errors
from pyramidai_mpi.slides.readers.base import THERE

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    import numpy.typing as npt

    from pyramidai_mpi.base.types import RgbArray
    from pyramidai_mpi.slides.readers.base import SlideInfo
    from pyramidai_mpi.slides.readers.openslide_reader import OpenSlideReader
    from pyramidai_mpi.slides.readers.tiff_levels import TiffLevel

CACHE_BYTES = 48 << 20
"""Decoded tiles that a reader keeps: 64 of 512 x 512, a row of tiles of a slide 30000 pixels wide."""
_MOST_EXPECTED = 4096
"""Stored tiles remembered as expected, not to be asked for again and again."""


class TiffReader:
    """A slide whose plain levels are read without OpenSlide. See `SlideReader`.

    Parameters
    ----------
    slide
        The slide as OpenSlide opens it, from now on this reader's to close.
    levels
        One entry a stored level, see `find_levels`.
    cache_bytes
        Most bytes of decoded tiles kept; one tile is kept in any case.

    Raises
    ------
    InputError
        When the file cannot be read; when reading, once it has been written to since it was opened.
    """

    def __init__(
        self, slide: OpenSlideReader, levels: Sequence[TiffLevel | None], cache_bytes: int = CACHE_BYTES
    ) -> None:
        self._slow = slide
        self._levels = levels
        self.info: SlideInfo = replace(slide.info, reader="tiff")
        with input_errors(self.info.path):
            self._file = os.open(self.info.path, os.O_RDONLY)
        self._file_bytes = os.fstat(self._file).st_size
        self._expected: set[tuple[int, int]] = set()
        self._cache: OrderedDict[tuple[int, int], RgbArray] = OrderedDict()
        self._cache_left = cache_bytes

    def read(self, l0_corner: tuple[int, int], stored_level: int, size: tuple[int, int]) -> RgbArray:
        """See `SlideReader.read`."""
        pixels = self._read_fast(l0_corner, stored_level, size)
        if pixels is None:
            return self._slow.read(l0_corner, stored_level, size)
        self._slow.check_unchanged()
        return pixels

    def read_what_is_there(
        self, l0_corner: tuple[int, int], stored_level: int, size: tuple[int, int]
    ) -> tuple[RgbArray, npt.NDArray[np.uint8]]:
        """See `SlideReader.read_what_is_there`."""
        pixels = self._read_fast(l0_corner, stored_level, size)
        if pixels is None:
            return self._slow.read_what_is_there(l0_corner, stored_level, size)
        self._slow.check_unchanged()
        return pixels, np.full((size[1], size[0]), THERE, np.uint8)

    def expect(self, l0_corner: tuple[int, int], stored_level: int, size: tuple[int, int]) -> None:
        """See `SlideReader.expect`."""
        level = self._levels[stored_level]
        if level is None or not hasattr(os, "posix_fadvise"):  # macOS has none
            return
        left, top = l0_corner[0] // level.downsample, l0_corner[1] // level.downsample
        for col, row in _tiles_in(level, left, top, left + size[0], top + size[1]):
            number = row * level.columns + col
            key = (stored_level, number)
            if key in self._cache or key in self._expected or level.counts[number] <= 0:
                continue
            if len(self._expected) >= _MOST_EXPECTED:
                self._expected.clear()
            self._expected.add(key)
            with suppress(OSError):  # advice only: what is wrong with the file shows when it is read
                os.posix_fadvise(
                    self._file, int(level.offsets[number]), int(level.counts[number]), os.POSIX_FADV_WILLNEED
                )

    def close(self) -> None:
        """Release the file."""
        self._slow.close()
        self._cache.clear()
        if self._file >= 0:
            os.close(self._file)
            self._file = -1

    def _read_fast(self, l0_corner: tuple[int, int], stored_level: int, size: tuple[int, int]) -> RgbArray | None:
        """Pixels of a region, None when OpenSlide is to read it."""
        level = self._levels[stored_level]
        if level is None or l0_corner[0] % level.downsample or l0_corner[1] % level.downsample:
            return None
        left, top = l0_corner[0] // level.downsample, l0_corner[1] // level.downsample
        right, bottom = left + size[0], top + size[1]
        is_inside = left >= 0 and top >= 0 and right <= level.size[0] and bottom <= level.size[1]
        pixels = np.empty((size[1], size[0], 3), np.uint8)
        if not is_inside:
            pixels.fill(255)
        tile_width, tile_height = level.tile_size
        for col, row in _tiles_in(level, left, top, right, bottom):
            tile = self._tile(stored_level, level, col, row)
            if tile is None:
                return None
            tile_left, tile_top = col * tile_width, row * tile_height
            first_x, last_x = max(left, tile_left), min(right, tile_left + tile_width, level.size[0])
            first_y, last_y = max(top, tile_top), min(bottom, tile_top + tile_height, level.size[1])
            pixels[first_y - top : last_y - top, first_x - left : last_x - left] = tile[
                first_y - tile_top : last_y - tile_top, first_x - tile_left : last_x - tile_left
            ]
        return pixels

    def _tile(self, stored_level: int, level: TiffLevel, col: int, row: int) -> RgbArray | None:
        """Pixels of a stored tile, None when it is not there or not sound."""
        number = row * level.columns + col
        key = (stored_level, number)
        kept = self._cache.get(key)
        if kept is not None:
            self._cache.move_to_end(key)
            return kept
        offset, count = int(level.offsets[number]), int(level.counts[number])
        if count <= 0 or offset <= 0 or offset + count > self._file_bytes:
            return None
        if self._slow.stored_tiles.tile_defect(stored_level, col, row) is not None:
            return None
        try:
            tile = level.decode(os.pread(self._file, count, offset))
        except (ValueError, OSError):
            return None
        self._cache[key] = tile
        self._cache_left -= tile.nbytes
        while self._cache_left < 0 and len(self._cache) > 1:
            _, oldest = self._cache.popitem(last=False)
            self._cache_left += oldest.nbytes
        return tile


def _tiles_in(level: TiffLevel, left: int, top: int, right: int, bottom: int) -> Iterator[tuple[int, int]]:
    """Columns and rows of the tiles that a region of a level meets."""
    tile_width, tile_height = level.tile_size
    first_col, first_row = max(left, 0) // tile_width, max(top, 0) // tile_height
    for row in range(first_row, -(-min(bottom, level.size[1]) // tile_height)):
        for col in range(first_col, -(-min(right, level.size[0]) // tile_width)):
            yield col, row
