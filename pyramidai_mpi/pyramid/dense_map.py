"""A map of scores on a lattice of windows: what a sliding window gives, by its finest stride."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from pyramidai_mpi.pyramid.grid import stride_margin

if TYPE_CHECKING:
    import numpy.typing as npt


@dataclass(frozen=True)
class DenseMap:
    """Scores of one slide by cell of its finest stride.

    Attributes
    ----------
    score
        float32 (rows, cols): of a cell the score of the finest stride at which one over it was looked at; NaN where
        none was, or none could be read.
    stride
        Stride at which that score was computed, in pixels of `downsample`, uint16 (rows, cols); 0 where there is none.
    cell
        Side of a cell in pixels of `downsample`.
    window
        Side of a window in the same pixels.
    margin
        The window of cell (col, row) has its top-left corner at pixel ``col * cell - margin``, ``row * cell - margin``.
    downsample
        Level-0 pixels of the file per pixel.
    mpp
        µm per level-0 pixel of the file.
    threshold
        From which score on a cell is positive.
    """

    score: npt.NDArray[np.float32]
    stride: npt.NDArray[np.uint16]
    cell: int
    window: int
    margin: int
    downsample: float
    mpp: float
    threshold: float

    def l0_centres(self, index: npt.NDArray[np.integer]) -> npt.NDArray[np.float64]:
        """Centres of the windows of cells (N, 2): col, row, as float64 (N, 2): l0_x, l0_y.

        Scores belong there. Of a coarser stride they are the centres of the finest windows, less than a stride off.
        """
        return (index.astype(np.float64) * self.cell - self.margin + self.window / 2) * self.downsample

    def l0_cell_side(self) -> float:
        """Side of a cell in level-0 pixels."""
        return self.cell * self.downsample

    def subsample(self, times: int) -> DenseMap:
        """The map of a stride that is `times` as wide, from a map whose windows were all looked at at one stride.

        Its windows are among those of this one (see `pyramid.grid.stride_margin`), so its scores are, to the bit.
        """
        cell = self.cell * times
        margin = stride_margin(cell, self.window)
        # window corners: col' * cell - margin = col * self.cell - self.margin
        first = (self.margin - margin) // self.cell
        rows, cols = (-(-extent // times) for extent in self.score.shape)
        score, stride = np.full((rows, cols), np.nan, np.float32), np.zeros((rows, cols), np.uint16)
        found = self.score[first::times, first::times]
        score[: found.shape[0], : found.shape[1]] = found
        known = self.stride[first::times, first::times] > 0
        stride[: found.shape[0], : found.shape[1]] = np.where(known, cell, 0)
        return DenseMap(score, stride, cell, self.window, margin, self.downsample, self.mpp, self.threshold)
