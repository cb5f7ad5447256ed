"""What a TIFF's own directory says of its stored tiles, looked at before OpenSlide reads them.

OpenSlide and its libraries take the directory at its word, and a decoder makes what it can of what it gets. Seen with
OpenSlide 4.0.1: a byte count far beyond the memory ends the process; a JPEG 2000 tile whose second half is zeros gives
plausible grey, a deflated one black, a JPEG that lacks its last 30 bytes 200 wrong pixels, all without an error.
"""

from __future__ import annotations

import math
import os
from typing import TYPE_CHECKING

import numpy as np

from pyramidai_mpi.base.errors import InputError, failed_read, input_errors
from pyramidai_mpi.slides.readers.tiff_directory import TiffPage, read_pages

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

_VENDORS = frozenset({"generic-tiff", "aperio", "philips", "trestle"})
"""Formats whose levels are pages of tiles, with one stored tile at each place of the grid."""

# JPEG, and JPEG 2000 as Aperio stores it, end with the marker FF D9, which cannot stand within their coded data. Some
# writers pad after it.
_MARKED = frozenset({7, 33003, 33005})
_END_MARKER = b"\xff\xd9"
_PADDING = 64
# Deflate (8, 32946) ends with a checksum, LZW (5) with a code that is not zero, Zstandard (50000) with a set bit.
_ZEROS_AT_THE_END = {8: 4, 32946: 4, 5: 2, 50000: 2}
_SAMPLE = 32


class StoredTiles:
    """The stored tiles of a slide's levels, as far as they can be looked at without decoding them.

    Parameters
    ----------
    path
        The slide's file.
    vendor
        OpenSlide's name of the format; of formats that are no plain TIFF nothing is known, and nothing found wrong.
    stored_sizes
        Width and height of every stored level.

    Attributes
    ----------
    pages
        All pages of a plain TIFF.
    levels
        The page of every stored level, None where it is not known.

    Raises
    ------
    InputError
        When the directory contradicts itself: a page with fewer tiles than its size takes, or tiles of absurd size.
    StorageError
        When the disk fails.
    """

    def __init__(self, path: Path, vendor: str, stored_sizes: Sequence[tuple[int, int]]) -> None:
        self._file_size = 0
        self._descriptor = -1
        self._marked: list[bool] = []
        self.pages: tuple[TiffPage, ...] = ()
        self.levels: tuple[TiffPage | None, ...] = (None,) * len(stored_sizes)
        if vendor not in _VENDORS:
            return
        try:
            with input_errors(path):
                self._descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
                self._file_size = os.fstat(self._descriptor).st_size
                self.pages = tuple(read_pages(path, self._descriptor, self._file_size))
                self.levels = level_pages(self.pages, vendor, stored_sizes)
                # a writer that leaves the end marker out everywhere did so on purpose
                self._marked = [page is not None and self._ends_are_marked(page) for page in self.levels]
        except BaseException:
            self.close()
            raise

    def close(self) -> None:
        """Release the file."""
        if self._descriptor >= 0:
            os.close(self._descriptor)
        self._descriptor = -1

    def defect(self, stored_level: int, corner: tuple[float, float], size: tuple[int, int]) -> str | None:
        """Why a region cannot be what it once was, or None when nothing is known to be wrong.

        Parameters
        ----------
        stored_level
            Level of the file.
        corner
            x, y in pixels of that level, maybe between pixels or outside.
        size
            Width and height in pixels of that level.
        """
        page = self.levels[stored_level]
        if page is None:
            return None
        _, rows, cols = page.offsets.shape
        left, top = (max(math.floor(corner[i]) // page.tile[i], 0) for i in (0, 1))
        right, bottom = (math.ceil(corner[i] + size[i] - 1) // page.tile[i] + 1 for i in (0, 1))
        for row in range(top, min(bottom, rows)):
            for col in range(left, min(right, cols)):
                found = self.tile_defect(stored_level, col, row)
                if found is not None:
                    return f"stored tile column {col}, row {row} of stored level {stored_level} {found}"
        return None

    def tile_defect(self, stored_level: int, col: int, row: int) -> str | None:
        """The like of one stored tile."""
        page = self.levels[stored_level]
        if page is None:
            return None
        for offset, count in zip(page.offsets[:, row, col], page.counts[:, row, col], strict=True):
            if count:  # else not there by the file's own account; OpenSlide gives transparent pixels
                found = self._defect_of(stored_level, page.compression, int(offset), int(count))
                if found is not None:
                    return found
        return None

    def keep(self, stored_levels: Sequence[int]) -> None:
        """Number the levels anew: forget all but these."""
        self.levels = tuple(self.levels[n] for n in stored_levels)
        self._marked = [self._marked[n] for n in stored_levels] if self._marked else []

    def _defect_of(self, stored_level: int, compression: int, offset: int, count: int) -> str | None:
        if offset + count > self._file_size:
            return "lies beyond the end of the file"
        try:
            if self._marked[stored_level] and not self._has_end_marker(offset, count):
                return "lacks its end"
            zeros = min(zeros_that_are_damage(compression), count)
            if zeros and os.pread(self._descriptor, zeros, offset + count - zeros) == bytes(zeros):
                return "ends in zeros"
        except OSError as error:
            return f"cannot be read: {error.strerror or error}"
        return None

    def _has_end_marker(self, offset: int, count: int) -> bool:
        length = min(_PADDING, count)
        return _END_MARKER in os.pread(self._descriptor, length, offset + count - length)

    def _ends_are_marked(self, page: TiffPage) -> bool:
        """Whether most of some tiles spread over the page end with a marker."""
        if page.compression not in _MARKED:
            return False
        offsets, counts = page.offsets.ravel(), page.counts.ravel()
        there = np.flatnonzero((counts > 0) & (counts < self._file_size) & (offsets < self._file_size))
        sample = there[np.linspace(0, len(there) - 1, min(_SAMPLE, len(there))).astype(int)]
        found = [self._has_end_marker(int(offsets[i]), int(counts[i])) for i in sample]
        return sum(found) * 2 > len(found)


def pages_of(path: Path) -> tuple[TiffPage, ...]:
    """Pages of a TIFF that cannot be opened as a slide; none where nobody can tell, or of another file.

    Raises
    ------
    StorageError
        The disk fails.
    """
    try:
        with path.open("rb") as file:
            return tuple(read_pages(path, file.fileno(), os.fstat(file.fileno()).st_size))
    except (OSError, InputError) as error:
        if failure := failed_read(path, error):
            raise failure from error
        return ()


def level_pages(
    pages: Sequence[TiffPage], vendor: str, stored_sizes: Sequence[tuple[int, int]]
) -> tuple[TiffPage | None, ...]:
    """The page behind each of OpenSlide's levels; None where none is known.

    Two pages may have one size, so it is by OpenSlide's own rule that they are told apart: in generic TIFF the first
    page and all that are said to be reduced, widest first and in the file's order where equally wide; elsewhere all
    pages of tiles in the file's order. Philips pads its pages, and OpenSlide's levels are smaller by that.

    Parameters
    ----------
    pages
        Of the file.
    vendor
        OpenSlide's name of the format, one of those whose levels are pages of tiles.
    stored_sizes
        Width and height of every level of OpenSlide's.
    """
    found = [page for page in pages if page.is_tiled]
    if vendor == "generic-tiff":
        found = sorted((page for page in found if not page.number or page.is_reduced), key=lambda page: -page.size[0])
    if len(found) < len(stored_sizes):
        return (None,) * len(stored_sizes)
    return tuple(
        page if page.size == size or (vendor == "philips" and min(np.subtract(page.size, size)) >= 0) else None
        for page, size in zip(found, stored_sizes, strict=False)
    )


def zeros_that_are_damage(compression: int) -> int:
    """How many zero bytes no sound tile or strip of a TIFF compression ends with; 0 where any number may be sound."""
    return _ZEROS_AT_THE_END.get(compression, 0)
