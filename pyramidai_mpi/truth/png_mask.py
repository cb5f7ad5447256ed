"""Masks as PNG: the same as a label mask, small enough to be held in memory."""

from __future__ import annotations

import os
import struct
import warnings
import zlib
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from PIL import Image

from pyramidai_mpi.base.damage import DAMAGE
from pyramidai_mpi.base.errors import InputError, failed_read
from pyramidai_mpi.truth.coverage import UNIT, cover_blocks
from pyramidai_mpi.truth.label_mask import downsample_of

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    import numpy.typing as npt

_ONE_CHANNEL = frozenset({"1", "L", "P", "I", "I;16"})
_BLOCK = 1024
_HEAD = struct.Struct(">II5B")
_ADAM7 = ((0, 0, 8, 8), (4, 0, 8, 8), (0, 4, 4, 8), (2, 0, 4, 4), (0, 2, 2, 4), (1, 0, 2, 2), (0, 1, 1, 2))
"""First column and row, and steps, of the passes of an interlaced PNG."""


@dataclass(frozen=True)
class PngMask:
    """A mask that was seen to fit its slide.

    Attributes
    ----------
    marked
        bool (H, W): pixels above 0.
    l0_size
        Width and height of the slide.
    downsample
        Level-0 pixels per pixel.
    """

    marked: npt.NDArray[np.bool_]
    l0_size: tuple[int, int]
    downsample: float

    def coverage(self, shape: tuple[int, int], step: float) -> npt.NDArray[np.int32]:
        """Coverage of cells of side `step` level-0 pixels, int32 of `shape` (rows, cols), 0 to `UNIT`."""
        covered = np.zeros(shape, np.float64)
        pixel = self.downsample / step
        for row in range(0, self.marked.shape[0], _BLOCK):
            for col in range(0, self.marked.shape[1], _BLOCK):
                block = self.marked[row : row + _BLOCK, col : col + _BLOCK]
                cover_blocks(block, (row, col), (pixel, pixel), covered)
        return np.clip(np.rint(covered * UNIT), 0, UNIT).astype(np.int32)


def open_png_mask(path: Path, l0_size: tuple[int, int]) -> PngMask:
    """Read a PNG that is a mask of a slide of this size; of one with a palette the numbers count, not the colours.

    Raises
    ------
    InputError
        When it cannot be read, is too large, has colours, or another shape than the slide.
    """
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", Image.DecompressionBombWarning)
            with Image.open(path, formats=["PNG"]) as image:
                if image.mode not in _ONE_CHANNEL:
                    raise InputError(f"{path}: is a picture in colours ({image.mode}), expected a mask of one channel")
                downsample = downsample_of(path, image.size, l0_size)
                image.load()
                _check_rows(path)
                marked = np.asarray(image) > 0
    except Image.DecompressionBombError as error:
        raise InputError(
            f"{path}: is too large for a PNG mask ({error}); save it smaller, or as a tiled TIFF"
        ) from error
    except DAMAGE as error:
        raise failed_read(path, error) or InputError(
            f"{path}: not a readable PNG ({error!s:.200}); check the mask"
        ) from error
    return PngMask(marked, l0_size, downsample)


def _check_rows(path: Path) -> None:
    """See that a PNG of one channel that could be decoded holds as many bytes of pixels as it says.

    Pillow takes rows that are missing for zeros, so that half of a mask would be a slide with half of its tissue.

    Raises
    ------
    ValueError
        When it does not.
    """
    unpack, found = zlib.decompressobj(), 0
    for name, data in _chunks(path):
        if name == b"IHDR":
            width, height, bits, _, _, _, is_interlaced = _HEAD.unpack(data)
        elif name == b"IDAT":
            while data:
                found += len(unpack.decompress(data, _BLOCK * _BLOCK))
                data = unpack.unconsumed_tail
    found += len(unpack.flush())
    wanted = 0
    for left, top, step_x, step_y in _ADAM7 if is_interlaced else ((0, 0, 1, 1),):
        n_cols, n_rows = -(-(width - left) // step_x), -(-(height - top) // step_y)
        if n_cols > 0 and n_rows > 0:
            wanted += n_rows * (1 + -(-n_cols * bits // 8))  # a byte before each row says how it is filtered
    if found < wanted:
        raise ValueError(f"it holds {100 * found // wanted} % of its pixels")


def _chunks(path: Path) -> Iterator[tuple[bytes, bytes]]:
    with path.open("rb") as file:
        size = os.fstat(file.fileno()).st_size
        file.seek(8)
        while len(head := file.read(8)) == 8:
            length, name = struct.unpack(">I4s", head)
            # of a piece that nobody needs Pillow does not look at the length, which may be 4 GiB
            if length > size - file.tell():
                raise ValueError(f"its piece {name!r} is to reach beyond its end")
            yield name, file.read(length)
            file.seek(4, os.SEEK_CUR)  # the checksum, which Pillow has looked at
