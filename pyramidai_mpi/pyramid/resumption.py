"""What is left to do of a slide, from what was done."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from pyramidai_mpi.base.types import tile_keys

if TYPE_CHECKING:
    from collections.abc import Callable

    import numpy.typing as npt

    from pyramidai_mpi.base.types import TileArray

_NO_TILE = np.uint64(2**64 - 1)
"""Beyond the key of any tile."""


@dataclass(frozen=True)
class Resumption:
    """Where a run goes on from.

    Attributes
    ----------
    kept
        bool (N,): the records that belong to the tree, each tile once.
    frontier
        Tiles that are known to belong to it and not done yet.
    """

    kept: npt.NDArray[np.bool_]
    frontier: TileArray


def find_frontier(
    records: npt.NDArray[np.void], first: TileArray, closer: Callable[[npt.NDArray[np.void]], TileArray]
) -> Resumption:
    """Find what is left to do from what a run has done: its first tiles and all that follow, minus what is done.

    A tile counts only when it is one of the first or the record that it follows from counts: a record may have outlived
    that of its parent on another host, and its turn then comes again. Of a tile that is there twice, the later record
    counts.

    Parameters
    ----------
    records
        Of tiles (N,), oldest first.
    first
        The tiles that a run begins with.
    closer
        Tiles that follow from records.
    """
    # of equal keys the last: the first in the reversed order; sorted once, as there may be many millions
    found, last = np.unique(tile_keys(records)[::-1], return_index=True)
    latest = len(records) - 1 - last
    kept = np.zeros(len(records), bool)
    frontier = [first[:0]]
    expected = first
    while len(expected):
        keys = tile_keys(expected)
        place = np.searchsorted(found, keys)
        is_done = np.append(found, _NO_TILE)[place] == keys
        is_wanted = np.zeros(len(found), bool)
        is_wanted[place[is_done]] = True
        chosen = latest[is_wanted]
        kept[chosen] = True
        frontier.append(expected[~is_done])
        expected = closer(records[chosen])
    return Resumption(kept, np.concatenate(frontier))
