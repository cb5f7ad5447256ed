"""What a journal gives back: the tiles that still count, with their reasons and features."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from pyramidai_mpi.base.types import TILE_DTYPE
from pyramidai_mpi.store.journal.reader import read_features

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from pathlib import Path

    import numpy.typing as npt

    from pyramidai_mpi.base.types import PredictionArray, TileArray
    from pyramidai_mpi.store.journal.reader import Batch


@dataclass(frozen=True)
class RestoredFile:
    """What one file of a journal gave.

    Attributes
    ----------
    path
        The file.
    batches
        As they were written.
    kept
        bool (n,) for the predictions of all batches together: those that count.
    """

    path: Path
    batches: list[Batch]
    kept: npt.NDArray[np.bool_]

    def kept_batches(
        self, widths: Sequence[int]
    ) -> Iterator[tuple[PredictionArray, npt.NDArray[np.void], npt.NDArray[np.float32] | None]]:
        """Batch by batch the predictions that count, the reasons of the unreadable ones among them, and their features.

        Raises
        ------
        InputError
            When the features cannot be read.
        """
        rows = self._features(widths)
        start = 0
        for batch in self.batches:
            kept = self.kept[start : start + len(batch.predictions)]
            start += len(batch.predictions)
            features = next(rows) if widths[int(batch.predictions["level"][0])] else None
            predictions = batch.predictions[kept]
            failed = batch.failed[np.isin(_tiles_of(batch.failed), _tiles_of(predictions))]
            yield predictions, failed, None if features is None else features[kept]

    def _features(self, widths: Sequence[int]) -> Iterator[npt.NDArray[np.float32]]:
        if any(widths):
            for _, features in read_features(self.path, self.batches, widths):
                yield features


def _tiles_of(records: npt.NDArray[np.void]) -> TileArray:
    tiles = np.empty(len(records), TILE_DTYPE)
    for name in TILE_DTYPE.names or ():
        tiles[name] = records[name]
    return tiles
