"""A faster way to the same pixels: stored tiles of TIFF files decoded directly, OpenSlide for all else.

OpenSlide decodes to BGRA with alpha, composes tiles through cairo, and what comes out is turned into RGBA, then RGB.
Here a tile is decoded to RGB once, kept for its neighbours, and copied into place. What is not plain (interpolated
levels, corners between pixels, missing or damaged tiles, other formats) goes to OpenSlide, region by region, so that
OpenSlide alone decides what is unreadable and why.

Own pixels of levels of odd size are not to be had from OpenSlide, which interpolates them (see `spacing`). A tile of
such a level that is missing, or that the strict decoder refuses, is unreadable.
"""

from __future__ import annotations

import os
from contextlib import suppress
from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np

from pyramidai_mpi.base.errors import InputError, input_errors
from pyramidai_mpi.base.odd_levels import OWN
from pyramidai_mpi.slides.readers.base import MISSING, THERE, UnreadableRegionError
from pyramidai_mpi.slides.readers.tile_mosaic import CACHE_BYTES, TileCache

if TYPE_CHECKING:
    from collections.abc import Sequence

    import numpy.typing as npt

    from pyramidai_mpi.base.types import RgbArray
    from pyramidai_mpi.slides.readers.base import SlideInfo
    from pyramidai_mpi.slides.readers.openslide_reader import OpenSlideReader
    from pyramidai_mpi.slides.readers.tiff_levels import TiffLevel

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
    name
        As `SlideInfo.reader` is to have it: ``openslide`` where levels are read here whose own pixels it cannot give.

    Raises
    ------
    InputError
        When the file cannot be read; when reading, once it has been written to since it was opened.
    """

    def __init__(
        self,
        slide: OpenSlideReader,
        levels: Sequence[TiffLevel | None],
        cache_bytes: int = CACHE_BYTES,
        name: str = "tiff",
    ) -> None:
        self._slow = slide
        self._levels = levels
        read_here = [level is not None for level in levels]
        self._is_own = [here and not exact for here, exact in zip(read_here, slide.info.stored_exact, strict=True)]
        self.info: SlideInfo = replace(
            slide.info,
            reader=name,
            stored_exact=tuple(np.logical_or(slide.info.stored_exact, self._is_own).tolist()),
            odd_levels=OWN if any(self._is_own) else "",
        )
        with input_errors(self.info.path):
            self._file = os.open(self.info.path, os.O_RDONLY)
        self._file_bytes = os.fstat(self._file).st_size
        self._expected: set[tuple[int, int]] = set()
        self._cache: TileCache[tuple[int, int]] = TileCache(cache_bytes)

    @property
    def levels(self) -> Sequence[TiffLevel | None]:
        """Each stored level, None where OpenSlide alone reads it."""
        return self._levels

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
        level = self._levels[stored_level]
        if level is not None and self._is_own[stored_level] and _on_pixels(level, l0_corner):

            def tile(col: int, row: int) -> RgbArray | int:
                try:
                    return self._own_tile(stored_level, level, col, row)
                except UnreadableRegionError:
                    return MISSING

            found = level.mosaic.compose_what_is_there(_corner(level, l0_corner), size, tile)
            self._slow.check_unchanged()
            return found
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
        left, top = _corner(level, l0_corner)
        for col, row in level.mosaic.tiles_in(left, top, left + size[0], top + size[1]):
            number = row * level.mosaic.columns + col
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
        if level is None or not _on_pixels(level, l0_corner):
            return None
        tile = self._own_tile if self._is_own[stored_level] else self._tile
        try:
            return level.mosaic.compose(
                _corner(level, l0_corner), size, lambda col, row: tile(stored_level, level, col, row)
            )
        except UnreadableRegionError:
            self._slow.check_unchanged()  # a defect that came after the opening ends the run
            raise

    def _own_tile(self, stored_level: int, level: TiffLevel, col: int, row: int) -> RgbArray:
        """Pixels of a stored tile that nobody else can give."""
        tile = self._tile(stored_level, level, col, row)
        if tile is not None:
            return tile
        defect = self.tile_defect(stored_level, row * level.mosaic.columns + col) or "is damaged"
        raise UnreadableRegionError(f"stored tile column {col}, row {row} of stored level {stored_level} {defect}")

    def _tile(self, stored_level: int, level: TiffLevel, col: int, row: int) -> RgbArray | None:
        """Pixels of a stored tile, None when it is not there or not sound."""
        number = row * level.mosaic.columns + col
        key = (stored_level, number)
        kept = self._cache.get(key)
        if kept is not None:
            return kept
        if self.tile_defect(stored_level, number) is not None:
            return None
        offset, count = int(level.offsets[number]), int(level.counts[number])
        try:
            tile = level.decode(os.pread(self._file, count, offset))
        except (ValueError, OSError):
            return None
        self._cache.put(key, tile)
        return tile

    def tile_defect(self, stored_level: int, number: int) -> str | None:
        """Why a stored tile of a level that is read here cannot be had, as far as is known without decoding it."""
        level = self._levels[stored_level]
        assert level is not None
        offset, count = int(level.offsets[number]), int(level.counts[number])
        if count <= 0:
            return "is not in the file"
        if offset <= 0 or offset + count > self._file_bytes:
            return "lies beyond the end of the file"
        row, col = divmod(number, level.mosaic.columns)
        return self._slow.stored_tiles.tile_defect(stored_level, col, row)

    def encoded(self, stored_level: int, number: int) -> bytes:
        """Bytes of a stored tile without a known defect, as they are in the file.

        Raises
        ------
        InputError
            When they cannot be read, or the slide was written to since it was opened.
        """
        level = self._levels[stored_level]
        assert level is not None
        count = int(level.counts[number])
        with input_errors(self.info.path):
            data = os.pread(self._file, count, int(level.offsets[number]))
        self._slow.check_unchanged()
        if len(data) != count:
            raise InputError(f"{self.info.path}: was cut while it was being read")
        return data


def _on_pixels(level: TiffLevel, l0_corner: tuple[int, int]) -> bool:
    """Whether a corner in level-0 pixels is one of a pixel of a level."""
    return not (l0_corner[0] % level.downsample or l0_corner[1] % level.downsample)


def _corner(level: TiffLevel, l0_corner: tuple[int, int]) -> tuple[int, int]:
    """The pixel of a level in which a corner in level-0 pixels lies."""
    return l0_corner[0] // level.downsample, l0_corner[1] // level.downsample
