"""Tiles of a slide for a thread that needs them now and one that thinks ahead.

Reading ahead hides waiting, for a cold disk or a network file system. It hides no work: where a rank has one core, what
is decoded ahead is computed later. So pixels are read ahead only while reading is mostly waiting, which is measured all
the time; otherwise the system is told what will be wanted (`posix_fadvise`, by the tiff reader), which costs next to
nothing and keeps many requests to a slow file system under way at once.

Siblings are not read as one square: with OpenSlide that saved 3 % and would move the pixels of interpolated levels; the
tiff reader copies them from stored tiles that are decoded already.
"""

from __future__ import annotations

import threading
import time
from typing import TYPE_CHECKING, TypeAlias

from pyramidai_mpi.base.errors import PyramidError
from pyramidai_mpi.slides.readers.base import UnreadableRegionError

if TYPE_CHECKING:
    from collections.abc import Iterable

    from pyramidai_mpi.base.types import RgbArray
    from pyramidai_mpi.slides.pyramid import SlidePyramid

Found: TypeAlias = "RgbArray | UnreadableRegionError"
"""Pixels of a tile, or why there are none."""

MOSTLY_WAITING = 0.5
"""Share of the time spent reading, without computing, from which on pixels are read ahead."""
_MEMORY_TILES = 32
"""Tiles over which that share is averaged, the last ones counting most."""


class TileSource:
    """Reads tiles, one at a time, for two threads.

    Parameters
    ----------
    pyramid
        The slide's analysis levels.
    read_ahead
        ``auto``; ``always`` or ``never`` read pixels ahead. The pixels are the same.
    """

    def __init__(self, pyramid: SlidePyramid, read_ahead: str = "auto") -> None:
        self._pyramid = pyramid
        self._read_ahead = read_ahead
        self._lock = threading.Lock()
        self._closed = False
        self._waiting = 0.0

    @property
    def reads_ahead(self) -> bool:
        """Whether `prepare` reads pixels now."""
        return self._read_ahead == "always" or (self._read_ahead == "auto" and self._waiting > MOSTLY_WAITING)

    def read(self, level: int, t_col: int, t_row: int) -> Found:
        """One tile, uint8 (tile_size, tile_size, 3), or why it cannot be had."""
        with self._lock:
            return self._read(level, t_col, t_row)

    def read_window(self, level: int, corner: tuple[int, int], size: tuple[int, int]) -> Found:
        """Any region of a level, as `SlidePyramid.read_window`, or why it cannot be had."""
        with self._lock:
            try:
                return self._pyramid.read_window(level, corner, size)
            except UnreadableRegionError as error:
                return error

    def prepare(self, level: int, tiles: Iterable[tuple[int, int]]) -> list[Found | None]:
        """What `read` will give for tiles (t_col, t_row) of a level; None for those left to `read`."""
        wanted = list(tiles)
        for t_col, t_row in wanted:
            self._pyramid.expect_tile(level, t_col, t_row)
        found: list[Found | None] = []
        for t_col, t_row in wanted:
            with self._lock:
                ahead = self.reads_ahead and not self._closed
                try:
                    found.append(self._read(level, t_col, t_row) if ahead else None)
                except PyramidError:  # the slide was written to; `read` will say so where it ends what it must end
                    found.append(None)
        return found

    def close(self) -> None:
        """Close the slide, after the tile being read."""
        with self._lock:
            self._closed = True
            self._pyramid.reader.close()

    def _read(self, level: int, t_col: int, t_row: int) -> Found:
        wall, cpu = time.perf_counter(), time.thread_time()
        try:
            return self._pyramid.read_tile(level, t_col, t_row)
        except UnreadableRegionError as error:
            return error
        finally:
            wall = time.perf_counter() - wall
            share = max(0.0, 1 - (time.thread_time() - cpu) / wall) if wall > 0 else 0.0
            self._waiting += (share - self._waiting) / _MEMORY_TILES
