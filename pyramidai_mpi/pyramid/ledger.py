"""Knowing when a slide's tree is complete while its tiles arrive from anywhere, in any order."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Callable

    import numpy.typing as npt

    from pyramidai_mpi.base.types import TileArray
    from pyramidai_mpi.pyramid.grid import Grid

_EXPECTED = np.uint8(1)
_RECEIVED = np.uint8(2)
_SETTLED = np.uint8(3)


class TileLedger:
    """Which tiles are expected and which have been received; complete when these are the same.

    Counting alone would not do: the tiles of a rank may arrive before the tile that made them expected, and a missing
    parent then balances a child too many.

    Parameters
    ----------
    grid
        The slide's tiles.
    first
        The tiles that a run begins with.
    closer
        Tiles that follow from records.
    """

    def __init__(self, grid: Grid, first: TileArray, closer: Callable[[npt.NDArray[np.void]], TileArray]) -> None:
        self._closer = closer
        shapes = [grid.shape(level) for level in range(grid.n_levels)]
        self._states = [np.zeros((rows, cols), np.uint8) for cols, rows in shapes]
        self._open = 0
        self._mark(first, _EXPECTED)

    @property
    def complete(self) -> bool:
        """Whether every expected tile has been received, and no other."""
        return self._open == 0

    def record(self, records: npt.NDArray[np.void]) -> None:
        """Take in what was done; the tiles that follow from it are expected.

        Parameters
        ----------
        records
            With the fields of `TILE_DTYPE`, each tile at most once in the ledger's life.
        """
        self._mark(records, _RECEIVED)
        if len(records):
            self._mark(self._closer(records), _EXPECTED)

    def _mark(self, tiles: npt.NDArray[np.void], bit: np.uint8) -> None:
        for level in np.unique(tiles["level"]).tolist():
            chosen: npt.NDArray[np.void] = tiles[tiles["level"] == level]
            at = (chosen["row"], chosen["col"])
            state = self._states[level]
            self._open -= _unsettled(state[at])
            state[at] |= bit
            self._open += _unsettled(state[at])


def _unsettled(states: npt.NDArray[np.uint8]) -> int:
    return int(np.count_nonzero((states != 0) & (states != _SETTLED)))
