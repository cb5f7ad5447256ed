"""From the scores of a result to the few places that a program would point at.

FROC counts places, not tiles: a lesion of a thousand positive tiles is to be named once. Places are the local maxima
of the score: the highest tile is taken, all tiles within a radius of it are dropped, and so on (non-maximum
suppression, as in Liu et al., "Detecting cancer metastases on gigapixel pathology images", 2017, and Li & Ping, "Cancer
metastasis detection with neural conditional random field", 2018: six pixels of a map of stride 128, 187 µm). Tiles
below a threshold are no candidates. How places are picked is no rule of CAMELYON16: its script is given a list of them.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from pyramidai_mpi.evaluation.local_maxima import take_maxima
from pyramidai_mpi.pyramid.decision import passes
from pyramidai_mpi.pyramid.grid import stride_margin

if TYPE_CHECKING:
    import numpy.typing as npt

    from pyramidai_mpi.pyramid.dense_map import DenseMap

RADIUS_UM = 200.0
"""Distance of tile centres within which the lower score is dropped: the size above which tumour cells are a metastasis
and no longer isolated."""

_BAND = 256
"""Rows of a map that are compared at a time, in float64."""


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
    first = tiles.min(axis=0) if len(tiles) else np.zeros(2, np.int64)
    cols, rows = (tiles.max(axis=0) - first + 1).tolist() if len(tiles) else (0, 0)
    found = np.full((rows, cols), -np.inf, np.float32)
    found[tuple((tiles - first).T[::-1])] = score[candidates]
    place, kept = take_maxima(found, l0_tile_side * mpp, radius_um)
    return Detections(kept, ((place[:, ::-1] + first).astype(np.float64) + 0.5) * l0_tile_side)


def find_on_map(dense: DenseMap, *, threshold: float | None = None, radius_um: float = RADIUS_UM) -> Detections:
    """Pick the local maxima of a map at its own resolution, at the centres of the windows that were looked at.

    Parameters
    ----------
    dense
        Of one stride or of several. A score that stands for many cells counts once, at the centre of its window.
    threshold
        Lowest score of a candidate, at least 0; None: the map's.
    radius_um
        Windows whose centres are at most this far from a higher one are dropped; 0 keeps all. Of equal scores the first
        in row-major order stays.
    """
    at_windows = window_scores(dense, dense.threshold if threshold is None else threshold)
    place, score = take_maxima(at_windows, dense.l0_cell_side() * dense.mpp, radius_um)
    return Detections(score, dense.l0_centres(place[:, ::-1]))


def window_scores(dense: DenseMap, threshold: float) -> npt.NDArray[np.float32]:
    """Scores of a map where they were computed.

    Parameters
    ----------
    dense
        The map, in which a coarse window's score stands in all cells that were looked at no closer.
    threshold
        Lowest score that counts.

    Returns
    -------
    numpy.ndarray
        float32 (rows, cols) of cells of the map's finest stride, as many as whole cells of its widest need: a score at
        the cell whose finest window is that window; ``-inf`` elsewhere.

    Raises
    ------
    ValueError
        When a stride of the map is no whole number of its cells.
    """
    strides = np.unique(dense.stride[dense.stride > 0]).tolist()
    if odd := [stride for stride in strides if stride % dense.cell]:
        raise ValueError(f"stride {odd[0]} is no whole number of cells of {dense.cell}")
    times = max(strides, default=dense.cell) // dense.cell
    found = np.full([-(-extent // times) * times for extent in dense.score.shape], -np.inf, np.float32)
    for top in range(0, len(dense.score), _BAND):
        score, stride = dense.score[top : top + _BAND], dense.stride[top : top + _BAND]
        enough = passes(score, threshold)
        for one in np.unique(stride[enough]).tolist():
            row, col = np.nonzero(enough & (stride == one))
            cells = one // dense.cell
            # of stride `one`, the window of cell k has its corner where that of the finest cell k * cells + first has
            first = 0 if cells == 1 else (dense.margin - stride_margin(one, dense.window)) // dense.cell
            own = tuple((place // cells * cells + first) for place in (row + top, col))
            np.maximum.at(found, own, score[row, col])
    return found
