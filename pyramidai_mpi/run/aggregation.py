"""From the features of a slide's tiles to its prediction, once all of them are there.

One rank does it, on one thread, with the tiles in canonical order: the bits depend on the features alone.
"""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np

from pyramidai_mpi.base.errors import InputError, UsageError
from pyramidai_mpi.base.types import Decision
from pyramidai_mpi.models.engines.aggregator import AggregatorEngine
from pyramidai_mpi.models.engines.trial import most_tiles_in_trial
from pyramidai_mpi.store.results.prediction import PredictionRecord, SlidePrediction

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    import numpy.typing as npt
    from mpi4py import MPI

    from pyramidai_mpi.base.settings import RunSettings
    from pyramidai_mpi.models.aggregator_entry import AggregatorEntry
    from pyramidai_mpi.models.package import ModelPackage
    from pyramidai_mpi.process.sandbox import Trial
    from pyramidai_mpi.pyramid.rule import TileRule
    from pyramidai_mpi.run.write import Features
    from pyramidai_mpi.store.results.result import Result

FACT = "aggregator_sha256"
"""Name of the fact that says with which aggregator a slide is predicted."""


def check_aggregation(settings: RunSettings, package: ModelPackage) -> None:
    """See that a package with an aggregator is asked for what it can do.

    Raises
    ------
    InputError, UsageError
        It has several levels, or tiles are to overlap.
    """
    if package.aggregator is None:
        return
    if package.n_levels != 1:
        raise InputError(
            f"{package.folder}: has an aggregator and {package.n_levels} levels, expected one: all tissue is looked at "
            "at level 0"
        )
    if settings.windows.given:
        raise UsageError(
            f"--stride: model {package.name} predicts slides from tiles side by side, as it was trained on; leave out "
            "--stride and --overlap"
        )


def keeps_features(settings: RunSettings, package: ModelPackage) -> bool:
    """Whether the networks' features are kept: also an encoder's, and what an aggregator sees, for parts to join."""
    return settings.model.features or package.aggregator is not None or package.is_encoder


def most_tiles_of(comm: MPI.Intracomm, package: ModelPackage, trial: Trial | None) -> int:
    """How many tiles the package's aggregator can look at together, as rank 0's trial says; 0 for any. Collective."""
    from pyramidai_mpi.ranks.collectives import share_bytes

    if package.aggregator is None:
        return 0
    most = most_tiles_in_trial(trial.check()) if trial is not None else 0
    return int(share_bytes(comm, str(most).encode() if comm.rank == 0 else None))


def check_slide(settings: RunSettings, package: ModelPackage, rule: TileRule, most_tiles: int) -> None:
    """See before the work that a slide can be predicted.

    Parameters
    ----------
    most_tiles
        How many tiles the aggregator can look at together, 0 for any number.

    Raises
    ------
    InputError
        It has more.
    """
    if package.aggregator is None or not most_tiles:
        return
    n_tiles = len(rule.whole().first_tiles(settings.mode))
    if n_tiles > most_tiles:
        raise InputError(
            f"{settings.slide.path}: has {n_tiles} tiles with tissue, more than the {most_tiles} that "
            f"{package.aggregator.onnx_path} can look at together, each at each, in memory; leave some out with --roi "
            "or --exclude, or use a package whose aggregator needs no table of pairs"
        )


class SlideAggregator:
    """The aggregator of a package, loaded when the first slide is complete.

    Parameters
    ----------
    entry
        The aggregator.
    n_features
        Length of a tile's features.
    """

    def __init__(self, entry: AggregatorEntry, n_features: int) -> None:
        self._entry, self._n_features = entry, n_features
        self._engine: AggregatorEngine | None = None

    def with_prediction(
        self, result: Result, slide: Path | str, features_of: Callable[[], npt.NDArray[np.float32]]
    ) -> Result:
        """A whole result with its slide's prediction.

        Parameters
        ----------
        result
            Of one level, without prediction.
        slide
            Named where it cannot be made.
        features_of
            Gives the features of level 0, float32 (N, F), rows as in its tables.

        Raises
        ------
        InputError
            The aggregator cannot be run, or gives what is no prediction.
        """
        entry = self._entry
        readable = result.tree.levels[0].decision != Decision.UNREADABLE
        try:
            engine = self._engine = self._engine or AggregatorEngine(entry, self._n_features)
            attention = np.full((len(readable), engine.n_attentions), np.nan, np.float32)
            contribution = np.full((len(readable), engine.n_logits), np.nan, np.float32)
            record = PredictionRecord(
                task=str(entry.task),
                method=str(entry.method),
                sha256=entry.sha256,
                classes=entry.classes,
                n_tiles=int(readable.sum()),
                prediction=np.full(len(entry.classes), np.nan, np.float32),
                logits=np.full(engine.n_logits, np.nan),
                constant=np.zeros(engine.n_logits, np.float32),
                n_attentions=engine.n_attentions,
            )
            if record.n_tiles:
                features = features_of()
                # a copy only where it has to be: they may be most of the rank's memory
                found = engine.aggregate(features if readable.all() else features[readable])
                attention[readable], contribution[readable] = found.attention, found.contribution
                logits = found.contribution.sum(axis=0, dtype=np.float64) + found.constant
                record = replace(record, prediction=found.prediction, logits=logits, constant=found.constant)
        except InputError as error:
            raise InputError(f"{slide}: no prediction: {error}") from error
        return replace(result, prediction=SlidePrediction(record, attention, contribution))


def gathered_features(comm: MPI.Intracomm, features: Features, level: int = 0) -> npt.NDArray[np.float32] | None:
    """The features of a level of all ranks on rank 0, float32 (N, F) in the result's order. Collective.

    They come in the blocks in which features are written, so that ranks other than 0 hold few of them at a time.
    """
    from pyramidai_mpi.ranks.collectives import allgather
    from pyramidai_mpi.run.write import blocks_for_writers

    own_rows, width = features.rows[level], features.widths[level]
    n_rows = int(allgather(comm, np.array([len(own_rows)])).sum())
    whole = np.empty((n_rows, width), np.float32) if comm.rank == 0 else None
    for first, block in blocks_for_writers(comm, features.spool, level, own_rows, width, [(0, n_rows)]):
        if whole is not None:
            whole[first : first + len(block)] = block
    return whole
