"""Grids of the analysis levels: pure geometry, no pixels.

A *cell* is the square of the slide that a score stands for, its *window* the square that the network sees for it: of
the same number of pixels at every level. Cells cover the slide and nest exactly; windows are what is read. Where both
have the same side they are the same square. Where cells are smaller, windows overlap.

A *tile* is what is done at a time: one cell, or a square block of cells, whose windows share most of their pixels.

Frames: ``l0_`` is a level-0 pixel of the file, ``t_`` a tile (col, row) in the grid of an analysis level.
The children of tile (n, c, r) are (n-1, f*c+i, f*r+j) with 0 <= i, j < f, where f is `Grid.factor` of n.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from itertools import pairwise

import numpy as np
import numpy.typing as npt


@dataclass(frozen=True)
class GridLevel:
    """Spacing, cells and tiles of one level.

    Attributes
    ----------
    downsample
        Level-0 pixels of the file per pixel of the level. Need not be an integer.
    cell
        Side of a cell in pixels of the level: the stride from one window to the next.
    block
        Cells along the side of a tile.
    margin
        Pixels of a window to the left of its cell and above it; None where the window lies around the cell's middle.
        See `stride_margin` for another.
    """

    downsample: float
    cell: int
    block: int = 1
    margin: int | None = None

    @property
    def side(self) -> int:
        """Side of a tile in pixels of the level."""
        return self.cell * self.block

    @property
    def l0_side(self) -> float:
        """Side of a tile in level-0 pixels."""
        return self.side * self.downsample


def stride_margin(stride: int, window: int) -> int:
    """Pixels of a window to the left of its cell, of windows whose corners lie at whole multiples of their stride.

    A window's cell is then the one that its middle lies in (on its corner, where the stride divides half of the
    window). So windows of a stride that another divides are among the windows of that one, to the bit, and a cell's
    window is that of one of the finer cells in it. Of windows around the cell's middle neither holds.
    """
    return stride * (window // (2 * stride))


@dataclass(frozen=True)
class Grid:
    """The tiles of a slide's analysis levels.

    Parameters
    ----------
    l0_width, l0_height
        Size of the slide in level-0 pixels of the file.
    window
        Side of a window in pixels of its level, at every level.
    levels
        Spacing, cells and tiles of each, the finest first.
    base
        Side in pixels of level 0 of the squares of which tissue decides whether windows in them are looked at; level
        0's tiles are whole numbers of them wide. None for these tiles themselves.

    Raises
    ------
    ValueError
        When a level's tiles are no whole number of the finer level's tiles wide, or level 0's of `base`.
    """

    l0_width: int
    l0_height: int
    window: int
    levels: tuple[GridLevel, ...]
    base: int | None = None

    def __post_init__(self) -> None:
        for finer, coarser in pairwise(self.levels):
            if not _times(coarser, finer):
                raise ValueError(f"tiles of {coarser.l0_side} level-0 pixels do not hold tiles of {finer.l0_side}")
        if self.base is not None and self.levels[0].side % self.base:
            raise ValueError(f"tiles of {self.levels[0].side} pixels are no whole number of {self.base} wide")

    @classmethod
    def of_tiles(
        cls, l0_width: int, l0_height: int, tile_size: int, scale_factor: int, n_levels: int, base_downsample: float
    ) -> Grid:
        """A grid whose cells are as large as its windows, each level `scale_factor` times as coarse as the next finer.

        Parameters
        ----------
        l0_width, l0_height
            Size of the slide in level-0 pixels.
        tile_size
            Side of cells and windows in pixels of their level.
        scale_factor, n_levels
            Ratio of neighbouring levels' spacings, and how many there are.
        base_downsample
            Level-0 pixels of the file per pixel of analysis level 0.
        """
        levels = (GridLevel(base_downsample * float(scale_factor**n), tile_size) for n in range(n_levels))
        return cls(l0_width, l0_height, tile_size, tuple(levels))

    @property
    def n_levels(self) -> int:
        """Number of levels."""
        return len(self.levels)

    def downsample(self, level: int) -> float:
        """Level-0 pixels of the file per pixel of an analysis level."""
        return self.levels[level].downsample

    def l0_side(self, level: int) -> float:
        """Side of a tile of `level` in level-0 pixels."""
        return self.levels[level].l0_side

    @property
    def bases(self) -> int:
        """Squares of `base` along the side of a tile of level 0."""
        return 1 if self.base is None else self.levels[0].side // self.base

    def region(self, level: int) -> int:
        """Side of what is read for a tile in pixels of `level`: all windows of its cells together."""
        one = self.levels[level]
        return (one.block - 1) * one.cell + self.window

    def factor(self, level: int) -> int:
        """Tiles of ``level - 1`` along the side of a tile of `level`, which is above 0."""
        return _times(self.levels[level], self.levels[level - 1])

    def span(self, level: int) -> int:
        """Tiles of level 0 along the side of a tile of `level`."""
        return math.prod(self.factor(n) for n in range(1, level + 1))

    def shape(self, level: int) -> tuple[int, int]:
        """Columns and rows of the tiles of `level` that meet the slide."""
        side = self.l0_side(level)
        return math.ceil(self.l0_width / side), math.ceil(self.l0_height / side)

    def level_dimensions(self, level: int) -> tuple[int, int]:
        """Width and height of the slide in pixels of an analysis level, the last partial pixel counted."""
        downsample = self.downsample(level)
        return math.ceil(self.l0_width / downsample), math.ceil(self.l0_height / downsample)

    def margin(self, level: int) -> int:
        """Pixels of a window to the left of its cell and above it."""
        one = self.levels[level]
        return (self.window - one.cell) // 2 if one.margin is None else one.margin

    def corners(self, level: int, t_index: npt.NDArray[np.integer]) -> npt.NDArray[np.int64]:
        """Top-left corners of the first windows of tiles (N, 2): col, row.

        As int64 (N, 2): x, y in pixels of the level. They are the corners of what is read for the tiles, too.
        """
        return np.asarray(t_index.astype(np.int64) * self.levels[level].side - self.margin(level))

    def corner(self, level: int, t_col: int, t_row: int) -> tuple[int, int]:
        """As `corners`, of one tile: numpy takes ten times as long."""
        side, margin = self.levels[level].side, self.margin(level)
        return t_col * side - margin, t_row * side - margin

    def l0_corner(self, level: int, t_col: int, t_row: int) -> tuple[int, int]:
        """As `l0_corners`, of one tile."""
        l0_side, l0_margin = self.l0_side(level), self.margin(level) * self.downsample(level)
        return round(t_col * l0_side - l0_margin), round(t_row * l0_side - l0_margin)

    def l0_corners(self, level: int, t_index: npt.NDArray[np.integer]) -> npt.NDArray[np.int64]:
        """The same in level-0 pixels of the file, rounded where the downsample is not an integer."""
        corners = t_index.astype(np.float64)
        corners *= self.l0_side(level)
        corners -= self.margin(level) * self.downsample(level)
        return np.rint(corners, out=corners).astype(np.int64)

    def l0_cell_corners(self, level: int, t_index: npt.NDArray[np.integer]) -> npt.NDArray[np.int64]:
        """Top-left corners of the tiles' cells themselves in level-0 pixels, as `l0_corners`."""
        return np.rint(t_index.astype(np.float64) * self.l0_side(level)).astype(np.int64)

    def positions(self, level: int, corners: npt.NDArray[np.integer]) -> npt.NDArray[np.float32]:
        """Where on the slide windows lie, for networks that are told: their middles over the slide's size.

        Parameters
        ----------
        level
            Their level.
        corners
            (N, 2), x and y of their top-left corners in pixels of the level, as `corners` gives them.

        Returns
        -------
        ndarray
            float32 (N, 2), x and y in [0, 1]; of a window whose middle lies beyond the slide's border, the border.
        """
        l0_middles = (corners.astype(np.float64) + self.window / 2) * self.downsample(level)
        return np.clip(l0_middles / (self.l0_width, self.l0_height), 0, 1).astype(np.float32)

    def inside(self, level: int, t_index: npt.NDArray[np.integer]) -> npt.NDArray[np.float32]:
        """Share of the area of what is read for each tile that lies on the slide, float32 (N,); the rest is white."""
        l0_corners = self.corners(level, t_index) * self.downsample(level)
        return share_inside(l0_corners, self.region(level) * self.downsample(level), (self.l0_width, self.l0_height))

    def t_children(self, level: int, t_index: npt.NDArray[np.integer]) -> npt.NDArray[np.int64]:
        """Tiles of ``level - 1`` under the given ones that meet the slide, as int64 (M, 2)."""
        f = self.factor(level)
        offsets = np.stack(np.meshgrid(np.arange(f), np.arange(f), indexing="xy"), axis=-1).reshape(-1, 2)
        children = (t_index.astype(np.int64)[:, None, :] * f + offsets[None]).reshape(-1, 2)
        return children[(children < self.shape(level - 1)).all(axis=1)]


def share_inside(
    l0_corners: npt.NDArray[np.number], l0_side: float, l0_size: tuple[int, int]
) -> npt.NDArray[np.float32]:
    """Share of each square's area that lies on the slide, float32 (N,), from corners (N, 2): l0_x, l0_y."""
    extent = np.array(l0_size, np.float64)
    covered = np.clip(np.minimum(l0_corners + l0_side, extent) - np.maximum(l0_corners, 0), 0, None)
    return np.asarray((covered / l0_side).prod(axis=1).astype(np.float32))


def _times(coarser: GridLevel, finer: GridLevel) -> int:
    """How many tiles of one level lie along the side of a tile of another; 0 where that is no whole number."""
    ratio = coarser.l0_side / finer.l0_side
    nearest = round(ratio)
    return nearest if nearest >= 1 and abs(ratio / nearest - 1) < 1e-9 else 0
