"""The decision block of strides in steps: which cells of a block are looked at more closely.

At one spacing, a cell has cells of a fraction of its side in it. A cell is refined where its own score leaves doubt, or
where a neighbour's differs much, since a border then runs between them: own scores alone miss borders.

Which neighbours count depends on where in the cell its own window's cell lies (see `pyramid.grid.stride_margin`). Of
strides that double, it is the last one, so that the cell's ground lies between its own window and those of the cells
above, to the left and above to the left. The others would refine ground that is a neighbour's, which refines itself: a
third more windows.

A block knows a ring of cells around it on the sides where neighbours count. Blocks need nothing of each other, then,
and nothing depends on their order.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from pyramidai_mpi.base.types import ANY_SCORE, OWN_SCORE, WindowState

if TYPE_CHECKING:
    import numpy.typing as npt


@dataclass(frozen=True)
class Band:
    """Which scores leave doubt.

    Attributes
    ----------
    low, high
        A cell is refined when its score is in [low, high].
    step
        Or when the score of a neighbour differs from its own by more than this.
    """

    low: float = 0.2
    high: float = 0.8
    step: float = 0.3


class Ring(NamedTuple):
    """On which sides neighbours count, and a block knows one more row and column of cells.

    Attributes
    ----------
    before
        1 above and to the left, else 0.
    after
        1 below and to the right, else 0.
    """

    before: int = 0
    after: int = 0

    @classmethod
    def around(cls, margin: int, finer_margin: int, cell: int, finer_cell: int) -> Ring:
        """The ring of cells whose windows lie `margin` pixels before them, refined to cells of another margin."""
        own = (finer_margin - margin) // finer_cell
        return cls(int(own > 0), int(own < cell // finer_cell - 1))

    @property
    def width(self) -> int:
        """Rows that it adds to a block."""
        return self.before + self.after

    def inner(self, side: int) -> slice:
        """Rows or columns of a block's own cells."""
        return slice(self.before, self.before + side)


def in_doubt(
    score: npt.NDArray[np.float32], state: npt.NDArray[np.uint8], band: Band, ring: Ring
) -> npt.NDArray[np.bool_]:
    """Which cells of blocks are to be refined.

    Parameters
    ----------
    score
        float32 (N, B + ring, B + ring) by row and column; what is not known is not looked at.
    state
        uint8 of the same shape, values of `WindowState`.
    band
        The limits; compared in float64.
    ring
        Which of these cells lie around the block.

    Returns
    -------
    numpy.ndarray
        bool (N, B, B). A cell that could not be read is refined: damage hides nothing. One whose score is that of a
        coarser cell is not, since that has been decided already; its score counts as a neighbour's.
    """
    side = score.shape[1] - ring.width
    known = np.isin(state, ANY_SCORE)
    value = np.where(known, score.astype(np.float64), np.nan)
    inner = ring.inner(side)
    own, own_state = value[:, inner, inner], state[:, inner, inner]
    doubt = (own >= band.low) & (own <= band.high)
    steps = range(-ring.before, ring.after + 1)
    for down in steps:
        for right in steps:
            rows, cols = (slice(ring.before + by, ring.before + by + side) for by in (down, right))
            # a comparison with NaN, which stands for what is not known, is False
            doubt |= np.abs(value[:, rows, cols] - own) > band.step
    looked = np.isin(own_state, OWN_SCORE)
    return np.asarray((doubt & looked) | (own_state == WindowState.UNREADABLE))
