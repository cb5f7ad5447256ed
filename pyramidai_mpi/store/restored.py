"""What a journal gives back: the tiles that still count, with their reasons and features."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from pyramidai_mpi.store.journal_reader import read_features
from pyramidai_mpi.types import TILE_DTYPE

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from pathlib import Path

    import numpy.typing as npt

    from pyramidai_mpi.store.journal_reader import Batch
    from pyramidai_mpi.types import PredictionArray


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

    def predictions(self) -> list[PredictionArray]:
        """The predictions that count, a list of records."""
        return [batch.predictions[kept] for batch, kept in self._with_kept()]

    def failed(self) -> list[npt.NDArray[np.void]]:
        """The unreadable tiles among them, a list of records."""
        found = []
        for batch, kept in self._with_kept():
            tiles = batch.predictions[kept][list(TILE_DTYPE.names or ())].astype(TILE_DTYPE)
            own = batch.failed[list(TILE_DTYPE.names or ())].astype(TILE_DTYPE)
            found.append(batch.failed[np.isin(own, tiles)])
        return found

    def features(self, widths: Sequence[int]) -> Iterator[tuple[int, npt.NDArray[np.float32]]]:
        """Level and features of the predictions that count, in their order, batch by batch."""
        if any(widths):
            with_features = [(b, k) for b, k in self._with_kept() if widths[int(b.predictions["level"][0])]]
            rows = read_features(self.path, [batch for batch, _ in with_features], widths)
            for (_, kept), (level, features) in zip(with_features, rows, strict=True):
                yield level, features[kept]

    def _with_kept(self) -> Iterator[tuple[Batch, npt.NDArray[np.bool_]]]:
        start = 0
        for batch in self.batches:
            yield batch, self.kept[start : start + len(batch.predictions)]
            start += len(batch.predictions)
