"""The levels of a run: those of its model, and below them the strides of a sliding window, numbered anew.

Three uses of one idea. A *pyramid*: spacing grows from level to level, a tile is one window. A *sliding window*: one
level at the model's finest spacing, whose tiles are blocks of windows a stride apart. *Strides in steps*: several such
levels, each with a fraction of the stride of the coarser one, and a look closer only where scores leave doubt.
"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import pairwise
from typing import TYPE_CHECKING

from pyramidai_mpi.pyramid.grid import Grid, GridLevel, stride_margin
from pyramidai_mpi.pyramid.refining import Ring

if TYPE_CHECKING:
    from collections.abc import Sequence

_MOST_CELLS_A_WINDOW = 32
"""Along the side of a square that a window of the model's level 0 stands for; with finer strides it gets smaller."""

_CELLS_A_BLOCK = 8
"""Along the side of a block of strides in steps, where nothing says more: neighbours within a block are compared, and
the more of a block's cells have all of theirs in it, the fewer borders are missed. Larger ones refine too much."""

_WIDEST_FIRST_LOOK = 0.6
"""Coarsest of several strides as a share of the window's side."""

_CELLS_A_PASS = 64
"""Most windows along the side of a block that one pass of the network computes together."""


@dataclass(frozen=True)
class RunLevel:
    """One level of a run.

    Attributes
    ----------
    network
        Level of the model whose network looks at its windows, and whose spacing it has.
    cell
        Side of a cell in pixels of the level: the stride of its windows.
    block
        Cells along the side of a tile.
    margin
        Pixels of a window to the left of its cell and above it.
    """

    network: int
    cell: int
    block: int = 1
    margin: int = 0

    @property
    def side(self) -> int:
        """Side of a tile in pixels of the level."""
        return self.cell * self.block


@dataclass(frozen=True)
class RunLevels:
    """All levels of a run, the finest first.

    Attributes
    ----------
    each
        The levels.
    window
        Side of a window in pixels of its level.
    base
        Side in pixels of the model's level 0 of the squares whose tissue decides whether windows in them are looked at.
    """

    each: tuple[RunLevel, ...]
    window: int
    base: int

    @property
    def networks(self) -> tuple[int, ...]:
        """Level of the model whose network looks, of each level."""
        return tuple(level.network for level in self.each)

    @property
    def is_plain(self) -> bool:
        """Whether tiles are windows side by side at every level."""
        return all(level.side == self.window for level in self.each) and not self.n_blocks

    @property
    def n_blocks(self) -> int:
        """How many of the levels, the finest, have blocks of windows for tiles."""
        return sum(level.block > 1 for level in self.each)

    def ring_under(self, level: int) -> Ring:
        """What a block of `level`, above 0, has to know around it for its cells to be refined to those one finer."""
        finer, own = self.each[level - 1 : level + 1]
        return Ring.around(own.margin, finer.margin, own.cell, finer.cell)

    def grid(self, l0_size: tuple[int, int], downsamples: Sequence[float]) -> Grid:
        """The tiles of a slide.

        Parameters
        ----------
        l0_size
            Width and height in level-0 pixels of the file.
        downsamples
            Level-0 pixels of the file per pixel of each level of the model, the finest first.
        """
        levels = (GridLevel(downsamples[one.network], one.cell, one.block, one.margin) for one in self.each)
        return Grid(*l0_size, self.window, tuple(levels), self.base)


def plain_levels(n_levels: int, window: int) -> RunLevels:
    """The levels of a model as they are: cells as large as windows."""
    return RunLevels(tuple(RunLevel(n, window) for n in range(n_levels)), window, window)


def uniform_levels(n_levels: int, window: int, factor: int, stride: int, *, together: bool) -> RunLevels:
    """One stride below the levels of a model.

    Cells of the model's levels are as many strides wide as fit into a window. Under one of its level 0 lies one block.

    Parameters
    ----------
    n_levels, window, factor
        Levels, side of a window and scale factor of the model.
    stride
        In pixels of the model's level 0, from 1 to `window`.
    together
        Whether blocks may be as large as one pass of a network computes best; there are then no model's levels right
        above them, so that they suit runs that begin with blocks.
    """
    count = min(window // stride, _MOST_CELLS_A_WINDOW)
    base = count * stride
    above = [RunLevel(n, base, 1, stride_margin(base, window)) for n in range(n_levels)]
    if count == 1:
        return RunLevels(tuple(above), window, base)
    wider, skipped = 1, 0
    while together and skipped + 1 < n_levels and count * wider * factor <= _CELLS_A_PASS:
        wider, skipped = wider * factor, skipped + 1
    block = RunLevel(0, stride, count * wider, stride_margin(stride, window))
    return RunLevels((block, *above[skipped:]), window, base)


def stepped_levels(
    n_levels: int,
    window: int,
    factor: int,
    strides: Sequence[int],
    *,
    under_pyramid: bool,
    cells: int = _CELLS_A_BLOCK,
) -> RunLevels:
    """Strides in steps, the coarsest of which stands in the place of the model's level 0.

    Parameters
    ----------
    n_levels, window, factor
        As for `uniform_levels`.
    strides
        In pixels of the model's level 0, the finest first, each a whole multiple of the one before.
    under_pyramid
        Whether the model's coarser levels come first; else the run begins with blocks of the coarsest stride.
    cells
        Cells along the side of a block, at least, where the squares above allow.
    """
    base = strides[-1]
    above = [RunLevel(n, base, 1, stride_margin(base, window)) for n in range(1, n_levels)] if under_pyramid else []
    side = factor * base if above else _CELLS_A_BLOCK * base
    blocks: list[RunLevel] = []
    for stride in reversed(strides):
        while blocks and (smaller := _next_smaller(side, base)) >= cells * stride:
            side = smaller
        blocks.append(RunLevel(0, stride, side // stride, stride_margin(stride, window)))
    return RunLevels((*reversed(blocks), *above), window, base)


def doubling_strides(stride: int, window: int) -> tuple[int, ...]:
    """A stride, twice that and so on, as long as windows overlap by two fifths; one step at least if they need not.

    Every place then lies well inside some window of the coarsest stride: of strides up to a whole window, small lesions
    on the border of two windows are missed by both.
    """
    strides = [stride]
    while strides[-1] * 2 <= (_WIDEST_FIRST_LOOK * window if len(strides) > 1 else window):
        strides.append(strides[-1] * 2)
    return tuple(strides)


def nest(strides: Sequence[int]) -> bool:
    """Whether each stride is a whole multiple of the one before, and wider."""
    return all(finer < coarser and coarser % finer == 0 for finer, coarser in pairwise(strides))


def _next_smaller(side: int, base: int) -> int:
    """The next smaller side of which `side` is a whole multiple, itself a whole multiple of `base`; 0 for none."""
    times = side // base
    return next((base * (times // parts) for parts in range(2, times + 1) if times % parts == 0), 0)
