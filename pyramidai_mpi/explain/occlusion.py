"""Occlusion: how much less the network is sure when a square is taken away."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from pyramidai_mpi.explain.cells import edges
from pyramidai_mpi.explain.methods import Fill
from pyramidai_mpi.explain.replacement import replacement

if TYPE_CHECKING:
    import numpy.typing as npt

    from pyramidai_mpi.base.types import RgbArray
    from pyramidai_mpi.explain.chance import Key


@dataclass(frozen=True)
class Occlusion:
    """A square of some cells at each place where it fits, one after the other.

    Zeiler and Fergus, "Visualizing and understanding convolutional networks", ECCV 2014, section 4.2. A cell of the map
    has the mean over all squares that covered it of how far the score fell. Number 0 is the tile as it is.

    Attributes
    ----------
    side
        Of a tile in pixels.
    cells
        Cells on a side of the map; squares are moved by one.
    window
        Cells on a side of the square.
    fill
        What stands where it was.
    """

    side: int
    cells: int = 14
    window: int = 2
    fill: Fill = Fill.BLUR

    @property
    def _per_side(self) -> int:
        return self.cells - self.window + 1

    @property
    def n_masks(self) -> int:
        """Places of the square, and one for the tile as it is."""
        return 1 + self._per_side**2

    @property
    def map_shape(self) -> tuple[int, int]:
        """Cells."""
        return self.cells, self.cells

    def perturbed(self, pixels: RgbArray, numbers: range, key: Key) -> RgbArray:
        """The tile with each square taken away, uint8 (n, S, S, 3)."""
        out = np.repeat(pixels[None], len(numbers), axis=0)
        filled = replacement(pixels, self.fill)
        bounds = edges(self.side, self.cells)
        for picture, number in zip(out, numbers, strict=True):
            if number:
                row, col = divmod(number - 1, self._per_side)
                part = np.s_[bounds[row] : bounds[row + self.window], bounds[col] : bounds[col + self.window]]
                picture[part] = filled[part]
        return out

    def map_of(self, pixels: RgbArray, scores: npt.NDArray[np.float32], key: Key) -> npt.NDArray[np.float32]:
        """Mean fall of the score by cell, float32 (cells, cells); NaN where no square was yet."""
        total, count = np.zeros(self.map_shape), np.zeros(self.map_shape)
        for number in range(1, len(scores)):
            row, col = divmod(number - 1, self._per_side)
            part = np.s_[row : row + self.window, col : col + self.window]
            total[part] += float(scores[0]) - float(scores[number])
            count[part] += 1
        means = np.divide(total, count, out=np.full(self.map_shape, np.nan), where=count > 0)
        return np.asarray(means, np.float32)

    def repeatability(self, pixels: RgbArray, scores: npt.NDArray[np.float32], key: Key) -> float:
        """NaN: there is no chance in it."""
        return float("nan")
