"""Tiles as work for the scheduler."""

from __future__ import annotations

import time
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import numpy as np

from pyramidai_mpi.analyses.classify import FAILED_DTYPE
from pyramidai_mpi.base.types import TILE_DTYPE, Mode, prediction_dtype
from pyramidai_mpi.pyramid.rule import zooms_in
from pyramidai_mpi.store.results.result import BATCH_DTYPE

if TYPE_CHECKING:
    from collections.abc import Callable

    import numpy.typing as npt

    from pyramidai_mpi.analyses.classify import Analyser
    from pyramidai_mpi.base.types import PredictionArray, TileArray
    from pyramidai_mpi.pyramid.rule import TileRule
    from pyramidai_mpi.sched import Progress
    from pyramidai_mpi.slides.source import Found
    from pyramidai_mpi.store.files.feature_spool import FeatureSpool
    from pyramidai_mpi.store.journal.restored import RestoredFile
    from pyramidai_mpi.store.journal.writer import JournalWriter


@dataclass
class TileWorkload:
    """One rank's share of a slide: analyses tiles, keeps their predictions, returns the children to look at.

    Attributes
    ----------
    analyser
        Tiles to predictions.
    rule
        Which tiles exist.
    mode
        Which of them are looked at.
    batch_size
        Most tiles in one call.
    report
        Called on rank 0 with the progress of the whole job.
    spool
        Takes the features, rows of a level as in `predictions`; None computes none.
    journal
        Takes each batch as soon as it is done; None keeps none.
    """

    analyser: Analyser
    rule: TileRule
    mode: Mode
    batch_size: int
    report: Callable[[Progress], None] | None = None
    spool: FeatureSpool | None = None
    journal: JournalWriter | None = None
    dtype: np.dtype[np.void] = field(default=TILE_DTYPE, init=False)
    batch_by: str = field(default="level", init=False)
    _predictions: list[PredictionArray] = field(default_factory=list, init=False)
    _failed: list[npt.NDArray[np.void]] = field(default_factory=list, init=False)
    _batches: list[tuple[int, int, float, float]] = field(default_factory=list, init=False)
    _started: float = field(default=0.0, init=False)
    _features_of_batch: npt.NDArray[np.float32] | None = field(default=None, init=False)

    def __post_init__(self) -> None:
        if self.spool is not None:
            self.analyser.keep_features = self._keep_features

    @property
    def n_features(self) -> tuple[int, ...]:
        """Length of each level's feature vectors, 0 where none are kept."""
        return tuple(engine.n_features if self.spool is not None else 0 for engine in self.analyser.engines)

    def start_clock(self) -> None:
        """Count the time of batches from now on; all ranks call it at about the same time."""
        self._started = time.perf_counter()

    def prepare(self, tasks: TileArray) -> list[Found | None]:
        """Begin to read tiles of one level."""
        return self.analyser.prepare(tasks)

    def expand(self, tasks: TileArray, prepared: list[Found | None] | None = None) -> TileArray:
        """Analyse tiles of one level and return the children of those to zoom into."""
        started = time.perf_counter()
        children = self._expand(tasks, prepared)
        ended = time.perf_counter()
        self._batches.append((int(tasks["level"][0]), len(tasks), started - self._started, ended - self._started))
        return children

    def _expand(self, tasks: TileArray, prepared: list[Found | None] | None) -> TileArray:
        self._features_of_batch = None
        predictions, failed = self.analyser.analyse(tasks, prepared)
        # before anybody hears of the children: no tile is on disk whose parent is not
        if self.journal is not None:
            self.journal.append(predictions, failed, self._features_of_batch)
        self._predictions.append(predictions)
        if len(failed):
            self._failed.append(failed)
        if self.mode is Mode.REFERENCE:
            return np.empty(0, TILE_DTYPE)
        return self.rule.children(tasks[zooms_in(predictions, self.mode)])

    def restore(self, file: RestoredFile) -> None:
        """Take over what an earlier start of the run has finished.

        Raises
        ------
        InputError, StorageError
            When its features cannot be read, or cannot be kept.
        """
        for predictions, failed, features in file.kept_batches(self.n_features):
            self._predictions.append(predictions)
            self._failed.append(failed)
            if self.spool is not None and features is not None:
                self.spool.append(int(predictions["level"][0]), features)

    def on_progress(self, progress: Progress) -> None:
        """Pass the job's progress on."""
        if self.report is not None:
            self.report(progress)

    def predictions(self) -> PredictionArray:
        """All predictions of this rank so far."""
        return np.concatenate([np.empty(0, prediction_dtype(self.analyser.n_classes)), *self._predictions])

    def failed(self) -> npt.NDArray[np.void]:
        """All unreadable tiles of this rank so far, records of `FAILED_DTYPE`."""
        return np.concatenate([np.empty(0, FAILED_DTYPE), *self._failed])

    def batches(self, rank: int) -> npt.NDArray[np.void]:
        """All batches of this rank so far, records of `BATCH_DTYPE`."""
        return np.array([(rank, *batch) for batch in self._batches], BATCH_DTYPE)

    def _keep_features(self, level: int, features: npt.NDArray[np.float32]) -> None:
        assert self.spool is not None
        self.spool.append(level, features)
        self._features_of_batch = features
