"""Colours that the colour-blind can tell apart, and patterns for those who see none.

The hues are those of Okabe and Ito (2008, "Color universal design"); what was stopped gets paler from level to level,
as it was looked at from farther away.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    import numpy.typing as npt

    from pyramidai_mpi.base.types import RgbArray

Colour = tuple[int, int, int]

POSITIVE: Colour = (213, 94, 0)
ZOOMED: Colour = (240, 228, 66)
TISSUE: Colour = (0, 158, 115)
ANNOTATION: Colour = (240, 228, 66)
_STOPPED_FINEST, _STOPPED_COARSEST = np.array((0, 114, 178)), np.array((178, 222, 246))
UNREADABLE_DARK, UNREADABLE_LIGHT = (70, 70, 70), (215, 215, 215)
_STRIPE = 8


def stopped(level: int, n_levels: int) -> Colour:
    """Colour of a tile that was stopped at."""
    share = level / max(1, n_levels - 1)
    red, green, blue = np.rint(_STOPPED_FINEST + share * (_STOPPED_COARSEST - _STOPPED_FINEST)).astype(int).tolist()
    return red, green, blue


def striped(pixels: RgbArray, where: npt.NDArray[np.bool_], left: int, top: int) -> None:
    """Draw the stripes of what is unreadable into a part of a picture, uint8 (H, W, 3), in place.

    They run on from part to part: `left` and `top` say where this one lies.
    """
    if where.any():
        height, width = where.shape
        x, y = np.arange(left, left + width), np.arange(top, top + height)
        dark = (x[None, :] + y[:, None]) % (2 * _STRIPE) < _STRIPE
        pixels[where & dark] = UNREADABLE_DARK
        pixels[where & ~dark] = UNREADABLE_LIGHT


def css(colour: Colour) -> str:
    """As style sheets have it."""
    return "#{:02x}{:02x}{:02x}".format(*colour)
