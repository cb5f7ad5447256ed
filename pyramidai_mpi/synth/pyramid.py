"""Stored levels of a slide while it streams by: 2 x 2 means, JPEG tiles, spooled until their turn in the file."""

from __future__ import annotations

import tempfile
from typing import IO, TYPE_CHECKING

import imagecodecs
import numpy as np

from pyramidai_mpi.synth.spec import BLOCK

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from numpy.typing import NDArray

    U8 = NDArray[np.uint8]


def level_sizes(width: int, height: int) -> list[tuple[int, int]]:
    """Sizes of the stored levels, each half of the one before, until the longer side is at most 512 pixels.

    Halves are rounded down, so that every pixel of a level is the mean of whole pixels of the slide.
    """
    sizes = [(width, height)]
    while max(sizes[-1]) > BLOCK and min(sizes[-1]) > 1:
        sizes.append((sizes[-1][0] // 2, sizes[-1][1] // 2))
    return sizes


def halve(image: U8) -> U8:
    """2 x 2 means, rounded half up: uint8 (2h, 2w, 3) -> (h, w, 3)."""
    wide = image.astype(np.uint16)
    total = wide[0::2] + wide[1::2]
    total = total[:, 0::2] + total[:, 1::2]
    return ((total + 2) >> 2).astype(np.uint8)


def encode_tile(tile: U8, quality: int) -> bytes:
    """Encode a baseline JPEG with its own tables, YCbCr 4:2:0, as TIFF compression 7 and OpenSlide expect."""
    return bytes(
        imagecodecs.jpeg8_encode(
            np.ascontiguousarray(tile),
            level=quality,
            colorspace="RGB",
            outcolorspace="YCBCR",
            subsampling="420",
        )
    )


class LowerLevel:
    """One stored level below full resolution: gathers rows, encodes full rows of tiles, keeps them in a file.

    Parameters
    ----------
    size
        ``(width, height)`` of the level in pixels.
    shrink
        Full-resolution pixels to one of this level's.
    tile_size, quality
        Of the stored tiles.
    glass
        uint8 (3,), the colour where nothing was painted.
    folder
        Where the spool file lives; it has no name and vanishes when closed.
    """

    def __init__(
        self, size: tuple[int, int], shrink: int, tile_size: int, quality: int, glass: U8, folder: Path
    ) -> None:
        self.size = size
        self._shrink, self._tile, self._quality, self._glass = shrink, tile_size, quality, glass
        self._columns = -(-size[0] // tile_size)
        # blocks overhang the last tile by less than a block
        self._rows: U8 = np.empty((max(tile_size, BLOCK // shrink), self._columns * tile_size + BLOCK, 3), np.uint8)
        self._rows[:] = glass
        self._filled = 0
        self._done_rows = 0
        self._spool: IO[bytes] = tempfile.TemporaryFile(dir=folder)  # noqa: SIM115 - closed by close()
        self._lengths: list[int] = []
        self._blank = np.empty((tile_size, tile_size, 3), np.uint8)
        self._blank[:] = glass
        self._blank_bytes = encode_tile(self._blank, quality)

    def place(self, block_col: int, part: U8) -> None:
        """Put the shrunken block of a column into the band now being gathered."""
        side = BLOCK // self._shrink
        left = block_col * side
        if left < self._rows.shape[1]:
            self._rows[self._filled : self._filled + side, left : left + side] = part

    def end_band(self, *, last: bool) -> None:
        """Close a band of blocks; encode every row of tiles that is now complete."""
        self._filled += BLOCK // self._shrink
        if not last and self._filled < self._tile:
            return
        for top in range(0, self._filled, self._tile):
            if self._done_rows * self._tile < self.size[1]:
                self._encode_row(self._rows[top : top + self._tile])
        self._rows[:] = self._glass
        self._filled = 0

    def _encode_row(self, rows: U8) -> None:
        for column in range(self._columns):
            tile = rows[:, column * self._tile : (column + 1) * self._tile]
            blank = np.array_equal(tile, self._blank)
            data = self._blank_bytes if blank else encode_tile(tile, self._quality)
            self._spool.write(data)
            self._lengths.append(len(data))
        self._done_rows += 1

    def tiles(self) -> Iterator[bytes]:
        """Encoded tiles in row-major order."""
        self._spool.seek(0)
        for length in self._lengths:
            yield self._spool.read(length)

    def close(self) -> None:
        """Free the spool file."""
        self._spool.close()
