"""Who begins with which tiles."""

from __future__ import annotations

import math
from heapq import heapreplace
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    import numpy.typing as npt

    from pyramidai_mpi.base.types import TileArray
    from pyramidai_mpi.pyramid.grid import Grid


_FEWEST_BLOCKS = 100
_FEWEST_BLOCKS_A_RANK = 16
_LARGEST_BLOCK = 4


def by_root(tiles: TileArray, grid: Grid) -> tuple[TileArray, np.ndarray[tuple[int], np.dtype[np.int64]]]:
    """Tiles (n,) of any levels, those under one root together, and the number (n,) of the root of each.

    Roots in row-major order, counted from 0; tiles of one root as they came. Neighbours lie in the same stored tiles of
    the slide, which are decoded once where they are read one after the other by the same rank.
    """
    span = _cells_a_root(grid)[tiles["level"]]
    root = np.stack([tiles["row"] // span, tiles["col"] // span], axis=1)
    order = np.lexsort((root[:, 1], root[:, 0]))
    changes = (np.diff(root[order], axis=0) != 0).any(axis=1)
    return tiles[order], np.concatenate([np.zeros(min(len(tiles), 1), np.int64), np.cumsum(changes)])


def evenly_spread(tiles: TileArray, grid: Grid) -> TileArray:
    """The same tiles (n,), those under one root together, in an order of which every part covers the slide evenly.

    Square blocks of roots stay together, as neighbours share stored tiles of the slide; there are a hundred or more.
    Of the blocks come first those of every second column and row, of them those of every fourth, and so on: the binary
    digits of columns and rows taken alternately, the lowest weighing most. So what was done at any moment tells of the
    whole slide, also where tumour lies at one end of it.

    In the order of rows reading takes less on one rank. With the shipped network, which takes 1 ms a tile, that was 8 %
    of a run's processor time on a slide of 428 roots, and 20 % on one of 207; networks that take 100 ms do not notice.
    """
    return _in_blocks(tiles, grid, 1)[0]


def deal_in_blocks(tiles: TileArray, grid: Grid, rank: int, size: int) -> TileArray:
    """Share of `tiles` (n,) that `rank` of `size` begins with, in the order of `evenly_spread`.

    The blocks of that order are dealt whole, each to whom has the fewest tiles so far; blocks get smaller until there
    are some for each rank. Where neighbouring roots are dealt to different ranks, both decode the stored tiles between
    them: on two ranks 0.49 for each tile of a real slide with stored tiles of 512 px, of which 0.35 are left by this.
    """
    spread, first = _in_blocks(tiles, grid, size)
    lengths = np.diff(first, append=len(spread))
    held = [(0, one) for one in range(size)]  # a heap: the rank with the fewest tiles first
    is_own = np.zeros(len(first), bool)
    for block, n in enumerate(lengths.tolist()):
        n_held, taker = held[0]
        heapreplace(held, (n_held + n, taker))
        is_own[block] = taker == rank
    return np.asarray(spread[np.repeat(is_own, lengths)])


def _in_blocks(tiles: TileArray, grid: Grid, size: int) -> tuple[TileArray, npt.NDArray[np.int64]]:
    """Tiles in the order of `evenly_spread`, in blocks for `size` ranks, and the place of the first of each block."""
    tiles, root = by_root(tiles, grid)
    n_roots = int(root[-1]) + 1 if len(root) else 0
    n_blocks = max(_FEWEST_BLOCKS, _FEWEST_BLOCKS_A_RANK * size)
    side = max(1, min(_LARGEST_BLOCK, math.isqrt(n_roots // n_blocks)))
    span = side * _cells_a_root(grid)[tiles["level"]]
    col, row = tiles["col"] // span, tiles["row"] // span
    weight = np.zeros(len(tiles), np.uint64)
    digits = max(grid.shape(grid.n_levels - 1)).bit_length()
    for digit in range(digits):
        for which, place in enumerate((row, col)):
            weight |= ((place >> digit) & 1).astype(np.uint64) << np.uint64(2 * (digits - digit) - 1 - which)
    order = np.argsort(weight, kind="stable")
    is_first = np.diff(weight[order], prepend=~weight[order[:1]]) != 0
    return np.asarray(tiles[order]), np.flatnonzero(is_first)


def deal_by_root(tiles: TileArray, grid: Grid, rank: int, size: int) -> TileArray:
    """Share of `tiles` (n,) that `rank` of `size` begins with: every `size`-th root, with all that lies under it."""
    ordered, root = by_root(tiles, grid)
    return np.asarray(ordered[root % size == rank])


def _cells_a_root(grid: Grid) -> npt.NDArray[np.int64]:
    """Cells of each level along the side of a root, int64 (levels,)."""
    spans = np.array([grid.span(level) for level in range(grid.n_levels)], np.int64)
    return np.asarray(spans[-1] // spans)
