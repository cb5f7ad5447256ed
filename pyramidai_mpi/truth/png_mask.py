"""Masks as PNG: the same as a label mask, small enough to be held in memory."""

from __future__ import annotations

import warnings
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from PIL import Image

from pyramidai_mpi.base.errors import InputError
from pyramidai_mpi.truth.coverage import UNIT, cover_blocks
from pyramidai_mpi.truth.label_mask import downsample_of

if TYPE_CHECKING:
    from pathlib import Path

    import numpy.typing as npt

_ONE_CHANNEL = frozenset({"1", "L", "P", "I", "I;16"})
_BLOCK = 1024


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
                marked = np.asarray(image) > 0
    except Image.DecompressionBombError as error:
        raise InputError(
            f"{path}: is too large for a PNG mask ({error}); save it smaller, or as a tiled TIFF"
        ) from error
    except (OSError, SyntaxError, ValueError) as error:
        raise InputError(f"{path}: not a readable PNG ({error}); check the mask") from error
    return PngMask(marked, l0_size, downsample)
