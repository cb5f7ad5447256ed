"""The outline of a tissue mask, drawn over a picture."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    import numpy.typing as npt

    from pyramidai_mpi.base.types import RgbArray

CONTOUR = (0, 140, 60)
"""Green, which no stain of routine has."""


def outline(mask: npt.NDArray[np.bool_]) -> npt.NDArray[np.bool_]:
    """Pixels of a mask that have a neighbour to the side, above or below outside of it, bool (H, W).

    The picture's edge is no outline: nobody knows what lies beyond.
    """
    around = np.pad(mask, 1, mode="edge")
    within = around[:-2, 1:-1] & around[2:, 1:-1] & around[1:-1, :-2] & around[1:-1, 2:]
    return mask & ~within


def draw_contour(pixels: RgbArray, mask: npt.NDArray[np.bool_]) -> RgbArray:
    """A picture, uint8 (H, W, 3), with the outline of a mask of its size in it."""
    drawn = pixels.copy()
    drawn[outline(mask)] = CONTOUR
    return drawn
