"""What is left to do of a slide, from what was done."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from pyramidai_mpi.base.types import TILE_DTYPE, tile_keys
from pyramidai_mpi.pyramid.rule import zooms_in

if TYPE_CHECKING:
    import numpy.typing as npt

    from pyramidai_mpi.base.types import Mode, PredictionArray, TileArray
    from pyramidai_mpi.pyramid.rule import TileRule

_NO_TILE = np.uint64(2**64 - 1)
"""Beyond the key of any tile."""


@dataclass(frozen=True)
class Resumption:
    """Where a run goes on from.

    Attributes
    ----------
    kept
        bool (N,): the predictions that belong to the tree, each tile once.
    frontier
        Tiles that are known to belong to it and not analysed yet.
    """

    kept: npt.NDArray[np.bool_]
    frontier: TileArray


def find_frontier(predictions: PredictionArray, rule: TileRule, mode: Mode) -> Resumption:
    """Find what is left to do from what a run has done: roots and children of zoomed tiles, minus what is done.

    A tile counts only when it is a root or its parent counts: a prediction may have outlived that of its parent on
    another host, and its turn then comes again. Of a tile that is there twice, the later record counts.

    Parameters
    ----------
    predictions
        Records of `prediction_dtype` (N,), oldest first.
    """
    # of equal keys the last: the first in the reversed order; sorted once, as there may be many millions
    found, last = np.unique(tile_keys(predictions)[::-1], return_index=True)
    latest = len(predictions) - 1 - last
    kept = np.zeros(len(predictions), bool)
    frontier = [np.empty(0, TILE_DTYPE)]
    expected = rule.first_tiles(mode)
    for _ in range(rule.grid.n_levels):
        keys = tile_keys(expected)
        place = np.searchsorted(found, keys)
        is_done = np.append(found, _NO_TILE)[place] == keys
        is_wanted = np.zeros(len(found), bool)
        is_wanted[place[is_done]] = True
        chosen = latest[is_wanted]
        kept[chosen] = True
        frontier.append(expected[~is_done])
        done = predictions[chosen]
        expected = rule.children(done[zooms_in(done, mode)])
    return Resumption(kept, np.concatenate(frontier))
