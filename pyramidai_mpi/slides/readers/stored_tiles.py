"""What a TIFF's own directory says of its stored tiles, looked at before OpenSlide reads them.

OpenSlide and its libraries take the directory at its word, and a decoder makes what it can of what it gets. Seen with
OpenSlide 4.0.1: a byte count far beyond the memory ends the process; a JPEG 2000 tile whose second half is zeros gives
plausible grey, a deflated one black, a JPEG that lacks its last 30 bytes 200 wrong pixels, all without an error.
"""

from __future__ import annotations

import math
import os
import struct
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from pyramidai_mpi.base.errors import InputError, input_errors

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from pathlib import Path

    import numpy.typing as npt

_VENDORS = frozenset({"generic-tiff", "aperio", "philips", "trestle"})
"""Formats whose levels are pages of the same size, with one stored tile at each place of the grid."""

_MOST_PAGES = 1000
_MOST_ENTRIES = 1000
_MOST_TILE_PIXELS = 1 << 28
_WIDTH, _HEIGHT, _COMPRESSION, _TILE_WIDTH, _TILE_HEIGHT, _OFFSETS, _COUNTS = 256, 257, 259, 322, 323, 324, 325
_WANTED = frozenset({_WIDTH, _HEIGHT, _COMPRESSION, _TILE_WIDTH, _TILE_HEIGHT, _OFFSETS, _COUNTS})
_CODES = {3: "H", 4: "I", 16: "Q"}
"""TIFF's field types of whole numbers, as struct calls them."""

# JPEG, and JPEG 2000 as Aperio stores it, end with the marker FF D9, which cannot stand within their coded data. Some
# writers pad after it.
_MARKED = frozenset({7, 33003, 33005})
_END_MARKER = b"\xff\xd9"
_PADDING = 64
# Deflate (8, 32946) ends with a checksum, LZW (5) with a code that is not zero, Zstandard (50000) with a set bit.
_ZEROS_AT_THE_END = {8: 4, 32946: 4, 5: 2, 50000: 2}
_SAMPLE = 32


@dataclass(frozen=True)
class _Page:
    """One page of tiles; offsets and counts uint64 (rows, cols)."""

    size: tuple[int, int]
    tile: tuple[int, int]
    compression: int
    offsets: npt.NDArray[np.uint64]
    counts: npt.NDArray[np.uint64]


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
        self._levels: dict[int, _Page] = {}
        if vendor not in _VENDORS:
            return
        try:
            with input_errors(path):
                self._descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
                self._file_size = os.fstat(self._descriptor).st_size
                pages = {page.size: page for page in self._pages(path)}
                self._levels = {n: pages[size] for n, size in enumerate(stored_sizes) if size in pages}
                # a writer that leaves the end marker out everywhere did so on purpose
                self._marked = {n: self._ends_are_marked(page) for n, page in self._levels.items()}
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
        page = self._levels.get(stored_level)
        if page is None:
            return None
        rows, cols = page.offsets.shape
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
        page = self._levels.get(stored_level)
        if page is None:
            return None
        offset, count = int(page.offsets[row, col]), int(page.counts[row, col])
        if count == 0:
            return None  # not there by the file's own account; OpenSlide gives transparent pixels
        if offset + count > self._file_size:
            return "lies beyond the end of the file"
        try:
            if self._marked[stored_level] and not self._has_end_marker(offset, count):
                return "lacks its end"
            zeros = min(_ZEROS_AT_THE_END.get(page.compression, 0), count)
            if zeros and os.pread(self._descriptor, zeros, offset + count - zeros) == bytes(zeros):
                return "ends in zeros"
        except OSError as error:
            return f"cannot be read: {error.strerror or error}"
        return None

    def _has_end_marker(self, offset: int, count: int) -> bool:
        length = min(_PADDING, count)
        return _END_MARKER in os.pread(self._descriptor, length, offset + count - length)

    def _ends_are_marked(self, page: _Page) -> bool:
        """Whether most of some tiles spread over the page end with a marker."""
        if page.compression not in _MARKED:
            return False
        offsets, counts = page.offsets.ravel(), page.counts.ravel()
        there = np.flatnonzero((counts > 0) & (counts < self._file_size) & (offsets < self._file_size))
        sample = there[np.linspace(0, len(there) - 1, min(_SAMPLE, len(there))).astype(int)]
        found = [self._has_end_marker(int(offsets[i]), int(counts[i])) for i in sample]
        return sum(found) * 2 > len(found)

    def _pages(self, path: Path) -> Iterator[_Page]:
        """Pages of tiles along the chain of directories; libtiff, too, stops where it turns back."""
        header = os.pread(self._descriptor, 16, 0)
        order = {b"II": "<", b"MM": ">"}.get(header[:2])
        if order is None or len(header) < 16:
            return
        big = struct.unpack_from(f"{order}H", header, 2)[0] == 43
        place = struct.unpack_from(f"{order}Q" if big else f"{order}I", header, 8 if big else 4)[0]
        seen: set[int] = set()
        while place and place not in seen and len(seen) < _MOST_PAGES:
            seen.add(place)
            fields, place = self._directory(place, order, big)
            page = self._page(path, fields)
            if page is not None:
                yield page

    def _page(self, path: Path, fields: dict[int, npt.NDArray[np.uint64]]) -> _Page | None:
        if not fields.keys() >= _WANTED - {_COMPRESSION}:
            return None
        width, height, tile_width, tile_height = (
            int(fields[tag][0]) for tag in (_WIDTH, _HEIGHT, _TILE_WIDTH, _TILE_HEIGHT)
        )
        if not 0 < tile_width * tile_height <= _MOST_TILE_PIXELS:
            raise InputError(f"{path}: damaged slide, its stored tiles are {tile_width} x {tile_height}; copy it again")
        cols, rows = -(-width // tile_width), -(-height // tile_height)
        listed = min(len(fields[_OFFSETS]), len(fields[_COUNTS]))
        if listed < cols * rows:
            raise InputError(
                f"{path}: damaged slide, it lists {listed} stored tiles, but its {width} x {height} pixels take "
                f"{cols * rows}; copy it again"
            )
        offsets, counts = (fields[tag][: rows * cols].reshape(rows, cols) for tag in (_OFFSETS, _COUNTS))
        compression = int(fields[_COMPRESSION][0]) if _COMPRESSION in fields else 1
        return _Page((width, height), (tile_width, tile_height), compression, offsets, counts)

    def _directory(self, place: int, order: str, big: bool) -> tuple[dict[int, npt.NDArray[np.uint64]], int]:
        """Fields of one directory, and the place of the next, 0 for none."""
        length_code, entry_size, place_code = ("Q", 20, "Q") if big else ("H", 12, "I")
        head = self._read(place, struct.calcsize(f"={length_code}"))
        n = struct.unpack(f"{order}{length_code}", head)[0] if head else 0
        if not 0 < n <= _MOST_ENTRIES:
            return {}, 0
        entries = self._read(place + len(head), n * entry_size + struct.calcsize(f"={place_code}"))
        fields = {}
        for i in range(n if entries else 0):
            entry = entries[i * entry_size : (i + 1) * entry_size]
            tag, kind = struct.unpack_from(f"{order}HH", entry)
            if tag in _WANTED and kind in _CODES:
                count = struct.unpack_from(f"{order}{place_code}", entry, 4)[0]
                values = entry[12 if big else 8 :]
                dtype = np.dtype(f"{order}{_CODES[kind]}")
                if count * dtype.itemsize > len(values):
                    values = self._read(struct.unpack(f"{order}{place_code}", values)[0], count * dtype.itemsize)
                if count and len(values) >= count * dtype.itemsize:
                    fields[tag] = np.frombuffer(values, dtype, count).astype(np.uint64)
        return fields, struct.unpack(f"{order}{place_code}", entries[n * entry_size :])[0] if entries else 0

    def _read(self, place: int, length: int) -> bytes:
        """Bytes of the file, none when they do not all lie in it."""
        return b"" if place + length > self._file_size else os.pread(self._descriptor, length, place)
