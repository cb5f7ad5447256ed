"""Which tiles exist, and of which the children are looked at."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Self

import numpy as np

from pyramidai_mpi.base.types import TILE_DTYPE, Mode, tiles_at
from pyramidai_mpi.pyramid.decision import looks_closer

if TYPE_CHECKING:
    import numpy.typing as npt

    from pyramidai_mpi.base.part import Part
    from pyramidai_mpi.base.types import PredictionArray, TileArray
    from pyramidai_mpi.pyramid.grid import Grid
    from pyramidai_mpi.pyramid.tissue import TissueMap

_BLOCK = 1 << 16
"""Tiles whose children are found together."""


@dataclass(frozen=True)
class TileRule:
    """Which tiles exist: the rule that roots, children and the reference run share.

    Attributes
    ----------
    tissue
        Tissue of every tile.
    min_root_share
        A lowest-level tile is a root when its tissue share is at least this, and above 0.
    part
        Of the slide: of its roots, only those of this part count. None for the whole slide.
    """

    tissue: TissueMap
    min_root_share: float
    part: Part | None = field(default=None, kw_only=True)

    @property
    def grid(self) -> Grid:
        """Tile geometry."""
        return self.tissue.grid

    def whole(self) -> Self:
        """The same rule for the whole slide."""
        return replace(self, part=None)

    def root_map(self) -> npt.NDArray[np.bool_]:
        """Roots as bool (rows, cols) of the lowest level."""
        found = self.roots_of_slide()
        if self.part is None:
            return found
        places = np.flatnonzero(found)  # row-major
        own = np.zeros(found.size, bool)
        own[places[self.share_of(self.part, len(places))]] = True
        return own.reshape(found.shape)

    def share_of(self, part: Part, n_roots: int) -> slice:
        """Which of the slide's roots, in row-major order, are a part's.

        One in N: how much lies under a root is unknown, and alike under neighbours.
        """
        return part.every_nth()

    def roots_of_slide(self) -> npt.NDArray[np.bool_]:
        """Roots of all parts, as `root_map`."""
        lowest = self.grid.n_levels - 1
        return np.asarray((self.tissue.share(lowest) >= self.min_root_share) & (self.tissue.counts[lowest] > 0))

    def roots(self) -> TileArray:
        """All roots in row-major order."""
        return tiles_at(self.grid.n_levels - 1, np.argwhere(self.root_map())[:, ::-1])

    def children(self, tiles: TileArray) -> TileArray:
        """All existing children of the given tiles; tiles of level 0 have none."""
        found = [np.empty(0, TILE_DTYPE)]
        for level in np.unique(tiles["level"]):
            if level == 0:
                continue
            parents = tiles[tiles["level"] == level]
            for first in range(0, len(parents), _BLOCK):
                block = parents[first : first + _BLOCK]
                index = self.grid.t_children(int(level), np.stack([block["col"], block["row"]], axis=1))
                holds_tissue = self.tissue.counts[level - 1][index[:, 1], index[:, 0]] > 0
                found.append(tiles_at(level - 1, index[holds_tissue]))
        return np.concatenate(found)

    def reference_tiles(self) -> TileArray:
        """All level-0 descendants of the roots, in row-major order."""
        return tiles_at(0, np.argwhere(self._reference_map())[:, ::-1])

    def count_reference(self) -> int:
        """How many tiles `reference_tiles` are."""
        return int(np.count_nonzero(self._reference_map()))

    def _reference_map(self) -> npt.NDArray[np.bool_]:
        """Level-0 descendants of the roots, bool (rows, cols)."""
        present = self.root_map()
        for level in range(self.grid.n_levels - 2, -1, -1):
            cols, rows = self.grid.shape(level)
            f = self.grid.factor(level + 1)
            under = present.repeat(f, axis=0).repeat(f, axis=1)[:rows, :cols]
            present = under & (self.tissue.counts[level] > 0)
        return present

    def count_under(self, tiles: TileArray) -> npt.NDArray[np.int64]:
        """Of each level, how many tiles these and all their descendants are: int64 (levels,), level 0 first."""
        levels = range(self.grid.n_levels)
        counts = np.zeros(self.grid.n_levels, np.int64)
        present = np.zeros(self.tissue.counts[-1].shape, bool)
        for level in reversed(levels):
            cols, rows = self.grid.shape(level)
            if level < levels[-1]:
                f = self.grid.factor(level + 1)
                present = present.repeat(f, axis=0).repeat(f, axis=1)[:rows, :cols] & (self.tissue.counts[level] > 0)
            of_level = tiles[tiles["level"] == level]
            present[of_level["row"], of_level["col"]] = True
            counts[level] = np.count_nonzero(present)
        return counts

    def first_tiles(self, mode: Mode) -> TileArray:
        """What a run of this mode begins with: its roots, or the reference tiles."""
        return self.reference_tiles() if mode is Mode.REFERENCE else self.roots()


def zooms_in(predictions: PredictionArray, mode: Mode) -> npt.NDArray[np.bool_]:
    """Which analysed tiles have their children analysed too, bool (N,)."""
    if mode is Mode.EXHAUSTIVE:
        return np.asarray(predictions["level"] > 0)
    return np.asarray((predictions["level"] > 0) & looks_closer(predictions["decision"]))
