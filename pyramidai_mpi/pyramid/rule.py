"""Which tiles exist, and of which the children are looked at."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from pyramidai_mpi.base.types import TILE_DTYPE, Mode, tiles_at
from pyramidai_mpi.pyramid.decision import looks_closer

if TYPE_CHECKING:
    import numpy.typing as npt

    from pyramidai_mpi.base.types import PredictionArray, TileArray
    from pyramidai_mpi.pyramid.grid import Grid
    from pyramidai_mpi.pyramid.tissue import TissueMap


@dataclass(frozen=True)
class TileRule:
    """Which tiles exist: the rule that roots, children and the reference run share.

    Attributes
    ----------
    tissue
        Tissue of every tile.
    min_root_share
        A lowest-level tile is a root when its tissue share is at least this, and above 0.
    """

    tissue: TissueMap
    min_root_share: float

    @property
    def grid(self) -> Grid:
        """Tile geometry."""
        return self.tissue.grid

    def root_map(self) -> npt.NDArray[np.bool_]:
        """Roots as bool (rows, cols) of the lowest level."""
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
            index = self.grid.t_children(int(level), np.stack([parents["col"], parents["row"]], axis=1))
            holds_tissue = self.tissue.counts[level - 1][index[:, 1], index[:, 0]] > 0
            found.append(tiles_at(level - 1, index[holds_tissue]))
        return np.concatenate(found)

    def reference_tiles(self) -> TileArray:
        """All level-0 descendants of the roots, in row-major order."""
        present = self.root_map()
        for level in range(self.grid.n_levels - 2, -1, -1):
            cols, rows = self.grid.shape(level)
            f = self.grid.scale_factor
            under = present.repeat(f, axis=0).repeat(f, axis=1)[:rows, :cols]
            present = under & (self.tissue.counts[level] > 0)
        return tiles_at(0, np.argwhere(present)[:, ::-1])

    def first_tiles(self, mode: Mode) -> TileArray:
        """What a run of this mode begins with: its roots, or the reference tiles."""
        return self.reference_tiles() if mode is Mode.REFERENCE else self.roots()


def zooms_in(predictions: PredictionArray, mode: Mode) -> npt.NDArray[np.bool_]:
    """Which analysed tiles have their children analysed too, bool (N,)."""
    if mode is Mode.EXHAUSTIVE:
        return np.asarray(predictions["level"] > 0)
    return np.asarray((predictions["level"] > 0) & looks_closer(predictions["decision"]))
