"""The tiles of a result by place, one map a level: what was scored and decided at any pixel of the slide.

Where tiles are blocks of windows, a map has their cells.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from pyramidai_mpi.base.errors import UsageError
from pyramidai_mpi.base.types import Decision
from pyramidai_mpi.export.cells import cell_grid, is_dense, iter_level_cells
from pyramidai_mpi.store.results.tables import names_damage

if TYPE_CHECKING:
    import numpy.typing as npt

    from pyramidai_mpi.pyramid.grid import Grid
    from pyramidai_mpi.store.results.tables import Header, ResultFile

MOST_CELLS = 100_000_000
"""Of the finest stride: the page holds ten bytes for each."""
NOT_ANALYSED = 255
"""In `LevelMap.decision` and `Finest`: no tile was analysed here."""


@dataclass(frozen=True)
class LevelMap:
    """The analysed tiles of one level on its grid.

    Attributes
    ----------
    score
        float32 (rows, cols), NaN where nothing was analysed or the tile was unreadable.
    decision
        uint8 (rows, cols), values of `types.Decision`, or `NOT_ANALYSED`.
    """

    score: npt.NDArray[np.float32]
    decision: npt.NDArray[np.uint8]

    def best(self, most: int) -> npt.NDArray[np.int64]:
        """Tiles with the highest scores, the highest first, equal ones row by row: int64 (n, 2), col and row."""
        place = np.flatnonzero(np.isfinite(self.score))
        score = self.score.ravel()[place]
        if len(score) > most:  # all that tie with the last are kept, so that the order among equals is that of rows
            kept = score >= np.partition(score, -most)[-most]
            place, score = place[kept], score[kept]
        place = place[np.argsort(-score, kind="stable")[:most]]
        row, col = np.unravel_index(place, self.score.shape)
        return np.stack([col, row], axis=1).astype(np.int64)


@dataclass(frozen=True)
class Finest:
    """The finest analysed tile over each level-0 tile of the grid, readable or not.

    Attributes
    ----------
    level
        uint8 (rows, cols): its level, or `NOT_ANALYSED`.
    decision
        uint8 (rows, cols): its decision, or `NOT_ANALYSED`.
    """

    level: npt.NDArray[np.uint8]
    decision: npt.NDArray[np.uint8]


@names_damage
def read_maps(file: ResultFile, header: Header) -> tuple[LevelMap, ...]:
    """The maps of all levels, level 0 first: 5 bytes a tile of the grid, or a cell.

    Raises
    ------
    UsageError
        When there are more cells than a browser draws.
    InputError
        When the result is damaged.
    """
    grid = cell_grid(header)
    n_cells = math.prod(grid.shape(0))
    if is_dense(header) and n_cells > MOST_CELLS:
        raise UsageError(
            f"the result of {header.slide.name} has {n_cells} cells, more than a browser draws ({MOST_CELLS}); make "
            "pictures of it with pyramidai export --deepzoom, or a map with --heatmap"
        )
    maps = []
    for level in range(len(header.levels)):
        cols, rows = grid.shape(level)
        score = np.full((rows, cols), np.nan, np.float32)
        decision = np.full((rows, cols), NOT_ANALYSED, np.uint8)
        for block in iter_level_cells(file, header, level):
            col, row = block.index.T
            decision[row, col] = block.decision
            readable = block.decision != Decision.UNREADABLE
            score[row[readable], col[readable]] = block.score[readable]
        maps.append(LevelMap(score, decision))
    return tuple(maps)


def finest_of(maps: tuple[LevelMap, ...], grid: Grid) -> Finest:
    """Lay the maps over each other, the finest on top."""
    cols, rows = grid.shape(0)
    level = np.full((rows, cols), NOT_ANALYSED, np.uint8)
    decision = np.full((rows, cols), NOT_ANALYSED, np.uint8)
    for n in range(grid.n_levels - 1, -1, -1):
        times = grid.span(n)
        own = maps[n].decision.repeat(times, axis=0)[:rows].repeat(times, axis=1)[:, :cols]
        analysed = own != NOT_ANALYSED
        decision[analysed] = own[analysed]
        level[analysed] = n
    return Finest(level, decision)
