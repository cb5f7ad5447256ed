"""Outlines drawn over a picture: of the tissue, and of what is positive."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    import numpy.typing as npt

    from pyramidai_mpi.base.types import RgbArray

CONTOUR = (0, 140, 60)
"""Of the tissue: green, which no stain of routine has."""
POSITIVE = (0, 0, 0)
"""Of positive tiles: black, which no score's colour and no stain is, and which everybody tells from green."""


def outline(mask: npt.NDArray[np.bool_]) -> npt.NDArray[np.bool_]:
    """Pixels of a mask that have a neighbour to the side, above or below outside of it, bool (H, W).

    The picture's edge is no outline: nobody knows what lies beyond.
    """
    around = np.pad(mask, 1, mode="edge")
    within = around[:-2, 1:-1] & around[2:, 1:-1] & around[1:-1, :-2] & around[1:-1, 2:]
    return mask & ~within


def surround(mask: npt.NDArray[np.bool_]) -> npt.NDArray[np.bool_]:
    """Pixels outside of a mask that touch it by a side or a corner, bool (H, W).

    Drawn round small things, they leave to be seen what is within.
    """
    around = np.pad(mask, 1)
    height, width = mask.shape
    near = np.zeros_like(mask)
    for down in range(3):
        for right in range(3):
            near |= around[down : down + height, right : right + width]
    return near & ~mask


def draw_contour(pixels: RgbArray, mask: npt.NDArray[np.bool_]) -> RgbArray:
    """A picture, uint8 (H, W, 3), with the outline of a mask of its size in it."""
    drawn = pixels.copy()
    drawn[outline(mask)] = CONTOUR
    return drawn
