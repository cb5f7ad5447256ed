"""The probability map of a result on the grid of its tissue mask."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from pyramidai_mpi.types import Decision

if TYPE_CHECKING:
    from collections.abc import Mapping

    import numpy.typing as npt

    from pyramidai_mpi.tree import TreeLevel


def paint_heatmap(
    levels: Mapping[int, TreeLevel],
    shape: tuple[int, int],
    *,
    positive_class: int,
    pixels_per_tile: int,
    scale_factor: int,
) -> npt.NDArray[np.float32]:
    """Score of the last look at every place: a tile's, where none of its children was analysed.

    Parameters
    ----------
    levels
        Analysed tiles by level.
    shape
        Height and width of the mask.
    positive_class
        Column of the score.
    pixels_per_tile
        Mask pixels along the side of a level-0 tile.
    scale_factor
        Ratio of tile sides between neighbouring levels.

    Returns
    -------
    numpy.ndarray
        float32 (H, W); NaN where nothing was analysed, or only unreadable tiles.
    """
    heatmap = np.full(shape, np.nan, np.float32)
    for n in sorted(levels, reverse=True):
        side = pixels_per_tile * scale_factor**n
        level = levels[n]
        readable = level.decision != Decision.UNREADABLE
        scores = level.probability[readable, positive_class]
        for (col, row), score in zip(level.index[readable].tolist(), scores, strict=True):
            heatmap[row * side : (row + 1) * side, col * side : (col + 1) * side] = score
    return heatmap
