"""Knowing when a slide's tree is complete while its tiles arrive from anywhere, in any order."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from pyramidai_mpi.pyramid.rule import zooms_in

if TYPE_CHECKING:
    import numpy.typing as npt

    from pyramidai_mpi.base.types import Mode, PredictionArray, TileArray
    from pyramidai_mpi.pyramid.rule import TileRule

_EXPECTED = np.uint8(1)
_RECEIVED = np.uint8(2)
_SETTLED = np.uint8(3)


class TileLedger:
    """Which tiles are expected and which have been received; complete when these are the same.

    Counting alone would not do: the tiles of a rank may arrive before the tile that made them expected, and a missing
    parent then balances a child too many.

    Parameters
    ----------
    rule, mode
        Which tiles exist and are looked at.
    """

    def __init__(self, rule: TileRule, mode: Mode) -> None:
        self._rule = rule
        self._mode = mode
        shapes = [rule.grid.shape(level) for level in range(rule.grid.n_levels)]
        self._states = [np.zeros((rows, cols), np.uint8) for cols, rows in shapes]
        self._open = 0
        self._mark(rule.first_tiles(mode), _EXPECTED)

    @property
    def complete(self) -> bool:
        """Whether every expected tile has been received, and no other."""
        return self._open == 0

    def record(self, predictions: PredictionArray) -> None:
        """Take in analysed tiles; those zoomed into make their children expected.

        Parameters
        ----------
        predictions
            Records of `prediction_dtype`, each tile at most once in the ledger's life.
        """
        self._mark(predictions, _RECEIVED)
        if len(predictions):
            self._mark(self._rule.children(predictions[zooms_in(predictions, self._mode)]), _EXPECTED)

    def _mark(self, tiles: TileArray | PredictionArray, bit: np.uint8) -> None:
        for level in np.unique(tiles["level"]).tolist():
            chosen: npt.NDArray[np.void] = tiles[tiles["level"] == level]
            at = (chosen["row"], chosen["col"])
            state = self._states[level]
            self._open -= _unsettled(state[at])
            state[at] |= bit
            self._open += _unsettled(state[at])


def _unsettled(states: npt.NDArray[np.uint8]) -> int:
    return int(np.count_nonzero((states != 0) & (states != _SETTLED)))
