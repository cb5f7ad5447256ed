"""The last look at every place of a slide, on the grid of its level-0 tiles.

A tile of any level covers whole level-0 tiles, so this grid holds every probability as it is: one number for each
level-0 tile, 8 MB for a slide of 300000 x 300000 pixels. All pictures are drawn from it, in bands of rows.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol

import numpy as np

from pyramidai_mpi.base.types import Decision

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    import numpy.typing as npt

    from pyramidai_mpi.pyramid.grid import Grid


NEVER = -1
"""In `LastLook.look`: no readable tile lies here."""

_BAND = 512


class AnalysedTiles(Protocol):
    """Tiles of one level, as trees and result files hold them."""

    @property
    def index(self) -> npt.NDArray[np.uint32]:
        """uint32 (N, 2): col, row."""
        ...

    @property
    def probability(self) -> npt.NDArray[np.float32]:
        """float32 (N, C)."""
        ...

    @property
    def decision(self) -> npt.NDArray[np.uint8]:
        """uint8 (N,), values of `types.Decision`."""
        ...


@dataclass(frozen=True)
class LastLook:
    """Score of the last look at every place: a tile's own, where none of its children was read.

    Attributes
    ----------
    score
        float32 (rows, cols) of level-0 tiles; NaN where nothing was analysed, or only unreadable tiles.
    look
        int8 (rows, cols): level of the tile that gave the score, `NEVER` where there is none.
    positive
        bool (rows, cols): where a level-0 tile is positive.
    l0_tile_side
        Side of a level-0 tile in level-0 pixels.
    """

    score: npt.NDArray[np.float32]
    look: npt.NDArray[np.int8]
    positive: npt.NDArray[np.bool_]
    l0_tile_side: float

    @property
    def n_positive(self) -> int:
        """Positive tiles of level 0."""
        return int(self.positive.sum())

    def tiles_at(self, first: int, last: int, downsample: float, axis: int) -> npt.NDArray[np.int64]:
        """Level-0 tile row (axis 0) or column (axis 1) under the centre of each picture pixel `first` to `last`."""
        centre = (np.arange(first, last) + 0.5) * downsample
        # a picture may end one pixel past the last tile when the tile side is not a whole number of level-0 pixels
        return np.asarray(np.minimum((centre // self.l0_tile_side).astype(np.int64), self.score.shape[axis] - 1))

    def scores(self, top: int, bottom: int, width: int, downsample: float) -> npt.NDArray[np.float32]:
        """Rows `top` to `bottom` (excluded) of a picture `width` pixels wide, float32.

        Parameters
        ----------
        downsample
            Level-0 pixels per pixel of the picture.
        """
        return self.score[np.ix_(self.tiles_at(top, bottom, downsample, 0), self.tiles_at(0, width, downsample, 1))]

    def looks(self, top: int, bottom: int, width: int, downsample: float) -> npt.NDArray[np.int8]:
        """Like `scores`, of `look`."""
        return self.look[np.ix_(self.tiles_at(top, bottom, downsample, 0), self.tiles_at(0, width, downsample, 1))]

    def positives(self, top: int, bottom: int, width: int, downsample: float) -> npt.NDArray[np.bool_]:
        """Like `scores`, of `positive`."""
        return self.positive[np.ix_(self.tiles_at(top, bottom, downsample, 0), self.tiles_at(0, width, downsample, 1))]


def paint_last_look(grid: Grid, tiles_of: Callable[[int], Iterable[AnalysedTiles]], score_column: int) -> LastLook:
    """Lay the tiles of all levels over each other, the finest on top.

    Parameters
    ----------
    grid
        Tile geometry.
    tiles_of
        Gives the analysed tiles of a level in blocks.
    score_column
        Column of the score among the probabilities.

    Raises
    ------
    ValueError
        When a tile lies outside the slide.
    """
    cols, rows = grid.shape(0)
    score = np.full((rows, cols), np.nan, np.float32)
    look = np.full((rows, cols), NEVER, np.int8)
    positive = np.zeros((rows, cols), bool)
    for level in range(grid.n_levels - 1, -1, -1):
        level_cols, level_rows = grid.shape(level)
        own = np.full((level_rows, level_cols), np.nan, np.float32)
        for block in tiles_of(level):
            if (block.index >= (level_cols, level_rows)).any():
                raise ValueError(f"a tile of level {level} lies outside the slide")
            readable = block.decision != Decision.UNREADABLE
            index = block.index[readable]
            own[index[:, 1], index[:, 0]] = block.probability[readable, score_column]
            if level == 0:
                positive[index[:, 1], index[:, 0]] = block.decision[readable] == Decision.ZOOM
        times = grid.span(level)
        for top in range(0, rows, _BAND):  # of ten million tiles, numbers repeated for all at once would be most of it
            band = slice(top, min(top + _BAND, rows))
            under = own[np.arange(band.start, band.stop) // times].repeat(times, axis=1)[:, :cols]
            seen = np.isfinite(under)
            score[band][seen] = under[seen]
            look[band][seen] = level
    return LastLook(score, look, positive, grid.l0_side(0))
