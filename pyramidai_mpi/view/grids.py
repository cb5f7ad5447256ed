"""What the page draws over the slide by itself, at any zoom at once: a number or a colour for each level-0 tile.

A tile of any level covers whole level-0 tiles, so this is all there is to know: one picture of scores, one table of
levels and decisions, 6 bytes for each level-0 tile; and the tissue mask, 1 bit a pixel. The page asks for them once
and draws them exactly however close one looks. Where tiles are blocks of windows, their cells stand in their place.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from pyramidai_mpi.export.cell_look import BAND, CellLook
from pyramidai_mpi.export.picture import score_colour
from pyramidai_mpi.view.tiles import png

if TYPE_CHECKING:
    import numpy.typing as npt

    from pyramidai_mpi.pyramid.last_look import LastLook
    from pyramidai_mpi.view.maps import Finest


def score_picture(last_look: LastLook | CellLook) -> bytes:
    """Colour of the score of the last look, one pixel a level-0 tile or cell, as PNG; clear where there is none."""
    rows, cols = last_look.shape if isinstance(last_look, CellLook) else last_look.score.shape
    colours = np.zeros((rows, cols, 4), np.uint8)
    for top in range(0, rows, BAND):
        band = slice(top, min(top + BAND, rows))
        score = last_look.rows(top, band.stop).score if isinstance(last_look, CellLook) else last_look.score[band]
        shown = np.isfinite(score)
        colours[band][shown, :3] = np.rint(score_colour(score[shown]))
        colours[band][shown, 3] = 255
    return png(colours)


def decision_table(finest: Finest) -> bytes:
    """Level of the finest tile over each level-0 tile, a byte each and row by row; then all decisions likewise."""
    return finest.level.tobytes() + finest.decision.tobytes()


def tissue_table(mask: npt.NDArray[np.bool_]) -> bytes:
    """The mask row by row, 8 pixels a byte, the first in its highest bit; rows do not begin with a byte."""
    return np.packbits(mask).tobytes()
