"""Who begins with which tiles."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from pyramidai_mpi.base.types import TileArray
    from pyramidai_mpi.pyramid.grid import Grid


def by_root(tiles: TileArray, grid: Grid) -> tuple[TileArray, np.ndarray[tuple[int], np.dtype[np.int64]]]:
    """Tiles (n,) of any levels, those under one root together, and the number (n,) of the root of each.

    Roots in row-major order, counted from 0; tiles of one root as they came. Neighbours lie in the same stored tiles of
    the slide, which are decoded once where they are read one after the other by the same rank.
    """
    span = np.int64(grid.scale_factor) ** (grid.n_levels - 1 - tiles["level"].astype(np.int64))
    root = np.stack([tiles["row"] // span, tiles["col"] // span], axis=1)
    order = np.lexsort((root[:, 1], root[:, 0]))
    changes = (np.diff(root[order], axis=0) != 0).any(axis=1)
    return tiles[order], np.concatenate([np.zeros(min(len(tiles), 1), np.int64), np.cumsum(changes)])


def deal_by_root(tiles: TileArray, grid: Grid, rank: int, size: int) -> TileArray:
    """Share of `tiles` (n,) that `rank` of `size` begins with: every `size`-th root, with all that lies under it."""
    ordered, root = by_root(tiles, grid)
    return np.asarray(ordered[root % size == rank])
