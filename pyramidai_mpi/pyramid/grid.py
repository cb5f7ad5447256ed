"""Tile grids of the analysis levels: pure geometry, no pixels.

Frames: ``l0_`` is a level-0 pixel of the file, ``t_`` a tile index (col, row) in the grid of an analysis level.
Grids nest exactly: the children of tile (n, c, r) are (n-1, f*c+i, f*r+j) with 0 <= i, j < f.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt


@dataclass(frozen=True)
class Grid:
    """The tile grids of a slide under a model.

    Parameters
    ----------
    l0_width, l0_height
        Size of the slide in level-0 pixels of the file.
    tile_size
        Side of a tile in pixels of its own level.
    scale_factor
        f, the ratio of spacings between neighbouring levels.
    n_levels
        Number of analysis levels N; level 0 is the finest.
    base_downsample
        Level-0 pixels of the file per pixel of analysis level 0. Need not be an integer.
    """

    l0_width: int
    l0_height: int
    tile_size: int
    scale_factor: int
    n_levels: int
    base_downsample: float

    def downsample(self, level: int) -> float:
        """Level-0 pixels of the file per pixel of an analysis level."""
        return self.base_downsample * float(self.scale_factor**level)

    def l0_tile_side(self, level: int) -> float:
        """Side of a tile of `level` in level-0 pixels."""
        return self.tile_size * self.downsample(level)

    def shape(self, level: int) -> tuple[int, int]:
        """Columns and rows of the tiles of `level` that meet the slide."""
        side = self.l0_tile_side(level)
        return math.ceil(self.l0_width / side), math.ceil(self.l0_height / side)

    def level_dimensions(self, level: int) -> tuple[int, int]:
        """Width and height of the slide in pixels of an analysis level, the last partial pixel counted."""
        downsample = self.downsample(level)
        return math.ceil(self.l0_width / downsample), math.ceil(self.l0_height / downsample)

    def l0_corner(self, level: int, t_index: npt.NDArray[np.integer]) -> npt.NDArray[np.int64]:
        """Top-left corners of tiles.

        Parameters
        ----------
        t_index
            (N, 2) integers: col, row.

        Returns
        -------
        numpy.ndarray
            int64 (N, 2): l0_x, l0_y, rounded to the pixel when the downsample is not an integer.
        """
        corner = np.rint(t_index.astype(np.float64) * self.l0_tile_side(level))
        return corner.astype(np.int64)

    def t_children(self, level: int, t_index: npt.NDArray[np.integer]) -> npt.NDArray[np.int64]:
        """Tiles of ``level - 1`` under the given tiles that meet the slide, as int64 (M, 2)."""
        f = self.scale_factor
        offsets = np.stack(np.meshgrid(np.arange(f), np.arange(f), indexing="xy"), axis=-1).reshape(-1, 2)
        children = (t_index.astype(np.int64)[:, None, :] * f + offsets[None]).reshape(-1, 2)
        return children[(children < self.shape(level - 1)).all(axis=1)]
