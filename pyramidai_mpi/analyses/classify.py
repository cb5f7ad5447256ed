"""The analysis and decision blocks together: tiles in, predictions out."""

from __future__ import annotations

import time
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import numpy as np

from pyramidai_mpi.base.types import MOST_LEVELS, TILE_DTYPE, Decision, prediction_dtype
from pyramidai_mpi.pyramid.decision import decide
from pyramidai_mpi.slides.readers.base import UnreadableRegionError
from pyramidai_mpi.slides.source import TileSource

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    import numpy.typing as npt

    from pyramidai_mpi.base.types import PredictionArray, RgbArray, TileArray
    from pyramidai_mpi.models.engines.base import Engine
    from pyramidai_mpi.slides.pyramid import SlidePyramid
    from pyramidai_mpi.slides.source import Found

FAILED_DTYPE = np.dtype([*TILE_DTYPE.descr, ("reason", "S200")])
"""One unreadable tile: level, column, row and why (UTF-8, cut at 200 bytes)."""


@dataclass
class PhaseSeconds:
    """Wall seconds of one rank's worker thread.

    Attributes
    ----------
    read, stain, infer
        By phase.
    levels
        float64 (MOST_LEVELS,), the phases together by level.
    """

    read: float = 0.0
    stain: float = 0.0
    infer: float = 0.0
    levels: npt.NDArray[np.float64] = field(default_factory=lambda: np.zeros(MOST_LEVELS))


@dataclass
class Analyser:
    """Reads tiles of one slide, runs their level's network and decides.

    Used by one thread at a time, but for `prepare` and `close`.

    Attributes
    ----------
    pyramid
        The slide's analysis levels.
    engines
        One engine a level, level 0 first.
    thresholds
        One threshold a level, level 0 first.
    n_classes, positive_class
        Number of classes, and the one that is the score.
    keep_features
        Called with (level, float32 (n, F)) for each batch, rows as its predictions, NaN where unreadable; None computes
        no features.
    normalise
        Gives a tile's pixels with the slide's stain normalised; None leaves them as they are.
    read_ahead
        ``auto``, ``always`` or ``never``: whether `prepare` reads pixels (see `slides.source`).
    seconds
        Time spent so far.
    """

    pyramid: SlidePyramid
    engines: Sequence[Engine]
    thresholds: Sequence[float]
    n_classes: int
    positive_class: int
    keep_features: Callable[[int, npt.NDArray[np.float32]], None] | None = None
    normalise: Callable[[RgbArray], RgbArray] | None = None
    read_ahead: str = "auto"
    seconds: PhaseSeconds = field(default_factory=PhaseSeconds)

    def __post_init__(self) -> None:
        self._source = TileSource(self.pyramid, self.read_ahead)

    def prepare(self, tiles: TileArray) -> list[Found | None]:
        """Begin to read tiles of one level, for `analyse` to be given what comes of it; from another thread."""
        places = zip(tiles["col"].tolist(), tiles["row"].tolist(), strict=True)
        return self._source.prepare(int(tiles["level"][0]), places)

    def close(self) -> None:
        """Close the slide; `prepare` does nothing from now on."""
        self._source.close()

    def analyse(
        self, tiles: TileArray, prepared: Sequence[Found | None] | None = None
    ) -> tuple[PredictionArray, npt.NDArray[np.void]]:
        """Analyse a batch of tiles of one level.

        Parameters
        ----------
        tiles
            `TILE_DTYPE` records that share one level.
        prepared
            One entry a tile of what `prepare` has found, None for what is to be read now.

        Returns
        -------
        predictions : numpy.ndarray
            One `prediction_dtype` record a tile, in the same order.
        failed : numpy.ndarray
            `FAILED_DTYPE` records of the tiles among them that could not be read or gave no finite probability.
        """
        level = int(tiles["level"][0])
        started = time.perf_counter()
        side = self.pyramid.grid.tile_size
        pixels = np.empty((len(tiles), side, side, 3), np.uint8)
        reasons: dict[int, str] = {}
        readable: list[int] = []
        for position, tile in enumerate(tiles):
            found = prepared[position] if prepared is not None else None
            if found is None:
                found = self._source.read(level, int(tile["col"]), int(tile["row"]))
            if isinstance(found, UnreadableRegionError):
                reasons[position] = str(found)
            else:
                pixels[len(readable)] = found
                readable.append(position)
        read = time.perf_counter()
        if self.normalise is not None:
            for k in range(len(readable)):
                pixels[k] = self.normalise(pixels[k])
        normalised = time.perf_counter()
        probability = np.full((len(tiles), self.n_classes), np.nan, np.float32)
        engine, wanted = self.engines[level], self.keep_features is not None
        probability[readable], features = engine.predict(pixels[: len(readable)], features=wanted)
        self.seconds.read += read - started
        inferred = time.perf_counter()
        self.seconds.stain += normalised - read
        self.seconds.infer += inferred - normalised
        self.seconds.levels[level] += inferred - started

        if self.keep_features is not None and features is not None:
            rows = np.full((len(tiles), features.shape[1]), np.nan, np.float32)
            rows[readable] = features
            self.keep_features(level, rows)
        decision = decide(probability, self.positive_class, self.thresholds[level])
        unreadable = decision == Decision.UNREADABLE
        probability[unreadable] = np.nan
        for position in np.flatnonzero(unreadable).tolist():
            reasons.setdefault(position, "the network gave a probability that is not finite")
        return _predictions(tiles, decision, probability), _failed(tiles, reasons)


def _predictions(
    tiles: TileArray, decision: npt.NDArray[np.uint8], probability: npt.NDArray[np.float32]
) -> PredictionArray:
    predictions = np.empty(len(tiles), prediction_dtype(probability.shape[1]))
    for name in ("level", "col", "row"):
        predictions[name] = tiles[name]
    predictions["decision"] = decision
    predictions["probability"] = probability
    return predictions


def _failed(tiles: TileArray, reasons: dict[int, str]) -> npt.NDArray[np.void]:
    failed = np.zeros(len(reasons), FAILED_DTYPE)
    for row, (position, reason) in enumerate(sorted(reasons.items())):
        for name in ("level", "col", "row"):
            failed[name][row] = tiles[name][position]
        failed["reason"][row] = reason.encode(errors="backslashreplace")[:200]  # a path in it may be no UTF-8
    return failed
