"""From the tiles of a result to the few places that a program would point at.

FROC counts places, not tiles: a lesion of a thousand positive tiles is to be named once. Places are the local maxima
of the score: the highest tile is taken, all tiles within a radius of it are dropped, and so on (non-maximum
suppression, as in Li & Ping, "Cancer metastasis detection with neural conditional random field", 2018). Tiles below a
threshold are no candidates.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from pyramidai_mpi.pyramid.decision import passes

if TYPE_CHECKING:
    import numpy.typing as npt

RADIUS_UM = 200.0
"""Distance of tile centres within which the lower score is dropped: the size above which tumour cells are a metastasis
and no longer isolated."""


@dataclass(frozen=True)
class Detections:
    """Places on one slide, by falling score.

    Attributes
    ----------
    score
        float32 (N,).
    l0_xy
        float64 (N, 2), centres in level-0 pixels.
    """

    score: npt.NDArray[np.float32]
    l0_xy: npt.NDArray[np.float64]

    def __len__(self) -> int:
        return len(self.score)


def find_detections(
    index: npt.NDArray[np.integer],
    score: npt.NDArray[np.float32],
    *,
    threshold: float,
    l0_tile_side: float,
    mpp: float,
    radius_um: float = RADIUS_UM,
) -> Detections:
    """Pick the local maxima among the level-0 tiles of a slide.

    Parameters
    ----------
    index
        (N, 2) col, row.
    score
        float32 (N,), NaN where unreadable.
    threshold
        Lowest score of a candidate; at least 0.
    l0_tile_side
        Side of a tile in level-0 pixels.
    mpp
        µm per level-0 pixel.
    radius_um
        Tiles whose centres are at most this far from a higher one are dropped; 0 keeps all. Of equal scores the first
        in row-major order stays.
    """
    candidates = np.flatnonzero(passes(score, threshold))
    tiles = index[candidates].astype(np.int64)
    order = np.lexsort((tiles[:, 0], tiles[:, 1], -score[candidates].astype(np.float64)))
    reach = math.floor(radius_um / (l0_tile_side * mpp))
    offset = np.arange(-reach, reach + 1) * (l0_tile_side * mpp)
    disk = np.hypot(offset[:, None], offset[None, :]) <= radius_um
    first = tiles.min(axis=0) if len(tiles) else np.zeros(2, np.int64)
    extent = (tiles.max(axis=0) - first + 1) if len(tiles) else np.zeros(2, np.int64)
    dropped = np.zeros((extent[1] + 2 * reach, extent[0] + 2 * reach), bool)  # a rim, so that no disk is cut
    kept = []
    for position in order.tolist():
        col, row = tiles[position] - first
        if not dropped[row + reach, col + reach]:
            kept.append(position)
            dropped[row : row + 2 * reach + 1, col : col + 2 * reach + 1] |= disk
    chosen = np.array(kept, np.int64)
    return Detections(score[candidates[chosen]], (tiles[chosen].astype(np.float64) + 0.5) * l0_tile_side)
