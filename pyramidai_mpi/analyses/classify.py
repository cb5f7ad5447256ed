"""Classifying tiles: the analysis and decision blocks of PyramidAI."""

from __future__ import annotations

import time
import zlib
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from pyramidai_mpi.analyses.base import Look, Seconds, failed_records
from pyramidai_mpi.base.types import TILE_DTYPE, Decision, Mode, prediction_dtype
from pyramidai_mpi.models.stain.map import StainError
from pyramidai_mpi.pyramid.decision import decide
from pyramidai_mpi.pyramid.rule import zooms_in
from pyramidai_mpi.slides.readers.base import UnreadableRegionError
from pyramidai_mpi.slides.source import TileSource

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    import numpy.typing as npt

    from pyramidai_mpi.analyses.base import OpenSlide
    from pyramidai_mpi.base.types import PredictionArray, RgbArray, TileArray
    from pyramidai_mpi.models.engines.base import Engine
    from pyramidai_mpi.models.stain.engine import StainEngine
    from pyramidai_mpi.pyramid.rule import TileRule
    from pyramidai_mpi.slides.pyramid import SlidePyramid
    from pyramidai_mpi.slides.source import Found


@dataclass(frozen=True)
class Classify:
    """A model's networks and thresholds, for slide after slide.

    Attributes
    ----------
    engines
        One engine a level, level 0 first.
    thresholds
        One threshold a level, level 0 first.
    n_classes, positive_class
        Number of classes, and the one whose probability is the score; 0 and None of an encoder.
    mode
        Which tiles are looked at.
    features
        Whether the networks' feature vectors are kept.
    feature_type
        What numbers they are kept in: ``float32``, or ``float16``, rounded to the nearest, of two to the even one.
    encoder
        Gives the features of the tiles of level 0 in the networks' place; None where no other network does.
    read_ahead
        ``auto``, ``always`` or ``never``: whether tiles are read before their turn (see `slides.source`).
    stain_engine
        Needed for slides whose stain is normalised.
    """

    engines: Sequence[Engine]
    thresholds: Sequence[float]
    n_classes: int
    positive_class: int | None
    mode: Mode = Mode.PYRAMID
    features: bool = False
    feature_type: str = "float32"
    encoder: Engine | None = None
    read_ahead: str = "auto"
    stain_engine: StainEngine | None = None

    @property
    def record(self) -> np.dtype[np.void]:
        """`prediction_dtype` of its classes."""
        return prediction_dtype(self.n_classes)

    @property
    def task(self) -> np.dtype[np.void]:
        """Nothing is said of a tile beside its place."""
        return TILE_DTYPE

    @property
    def batch_grain(self) -> int:
        """Networks run so many tiles at a time, padding what is missing."""
        return max(engine.batch_shape for engine in self.networks)

    @property
    def networks(self) -> Sequence[Engine]:
        """All engines: those of the levels, and the encoder's."""
        return self.engines if self.encoder is None else [*self.engines, self.encoder]

    @property
    def widths(self) -> tuple[int, ...]:
        """Length of each level's feature vectors, 0 where none are kept."""
        if self.encoder is not None:
            return (self.encoder.n_features, *(0 for _ in self.engines[1:]))
        return tuple(engine.n_features if self.features else 0 for engine in self.engines)

    def first(self, rule: TileRule) -> TileArray:
        """The roots, or all tiles of level 0 under them for a reference run."""
        return rule.first_tiles(self.mode)

    def closer(self, rule: TileRule, records: PredictionArray) -> TileArray:
        """Children of the tiles to zoom into."""
        return rule.children(records[zooms_in(records, self.mode)])

    def contradictions(self, records: PredictionArray) -> npt.NDArray[np.bool_]:
        """Records whose decision does not follow from their probabilities."""
        if self.positive_class is None:
            return np.asarray(records["decision"] == Decision.ZOOM)
        threshold = self.thresholds[int(records["level"][0])]
        return np.asarray(decide(records["probability"], self.positive_class, threshold) != records["decision"])

    def on(self, slide: OpenSlide, rule: TileRule) -> SlideClassifier:
        """Begin on a slide that this rank has opened."""
        return SlideClassifier(self, slide.pyramid, rule, normaliser_of(slide, self.stain_engine))


def normaliser_of(slide: OpenSlide, stain_engine: StainEngine | None) -> Callable[[RgbArray], RgbArray] | None:
    """What normalises the stain of whatever is read of a slide at a time; None where that is not asked for.

    Where each tile's own stain is normalised, it raises `StainError` for pixels whose stain cannot be estimated.
    """
    if slide.stain is None and slide.tile_stain is None:
        return None
    assert stain_engine is not None
    if slide.tile_stain is not None:
        return stain_engine.tile_normaliser(slide.tile_stain)
    assert slide.stain is not None
    return stain_engine.normaliser(slide.stain)


class SlideClassifier:
    """Reads tiles of one slide, runs their level's network and decides.

    Parameters
    ----------
    classify
        Networks, thresholds and mode.
    pyramid
        The slide's analysis levels.
    rule
        Which of its tiles exist.
    normalise
        See `normaliser_of`; None leaves pixels as they are.
    source
        Where tiles are read, of an analysis that reads more of the slide; None makes one.
    """

    def __init__(
        self,
        classify: Classify,
        pyramid: SlidePyramid,
        rule: TileRule,
        normalise: Callable[[RgbArray], RgbArray] | None = None,
        source: TileSource | None = None,
    ) -> None:
        self._classify = classify
        self._rule = rule
        self._normalise = normalise
        self._grid = pyramid.grid
        self._source = source or TileSource(pyramid, classify.read_ahead)

    def prepare(self, tiles: TileArray) -> list[Found | None]:
        """Begin to read tiles of one level, for `look` to be given what comes of it; from another thread."""
        places = zip(tiles["col"].tolist(), tiles["row"].tolist(), strict=True)
        return self._source.prepare(int(tiles["level"][0]), places)

    def close(self) -> None:
        """Close the slide; `prepare` does nothing from now on."""
        self._source.close()

    def look(
        self,
        tiles: TileArray,
        prepared: Sequence[Found | None] | None = None,
        checked: npt.NDArray[np.bool_] | None = None,
    ) -> Look:
        """Classify a batch of tiles of one level.

        Parameters
        ----------
        tiles
            `TILE_DTYPE` records that share one level.
        prepared
            One entry a tile of what `prepare` has found, None for what is to be read now.
        checked
            Of which tiles the checksum of the pixels is wanted, bool (n,); None for none.

        Returns
        -------
        Look
            `prediction_dtype` records. As failed count tiles that could not be read, whose stain cannot be estimated
            where it is each tile's own, or that gave no finite probability, or feature where these are kept.
        """
        level = int(tiles["level"][0])
        started = time.perf_counter()
        pixels, readable, reasons = self._read(level, tiles, prepared)
        read_pixels = None if checked is None else _checksums(pixels, readable, checked)
        read = time.perf_counter()
        readable = self._normalise_stain(pixels, readable, reasons)
        normalised = time.perf_counter()
        classify = self._classify
        probability = np.full((len(tiles), classify.n_classes), np.nan, np.float32)
        seen = pixels[: len(readable)]
        probability[readable], vectors = classify.engines[level].predict(
            seen, features=classify.features, positions=self._positions(level, tiles[readable])
        )
        if classify.encoder is not None and level == 0:
            vectors = classify.encoder.predict(seen, features=True)[1]
        computed = time.perf_counter()

        decision = decide(probability, classify.positive_class, classify.thresholds[level])
        decision[list(reasons)] = Decision.UNREADABLE
        for position in np.flatnonzero(decision == Decision.UNREADABLE).tolist():
            reasons.setdefault(position, "the network gave a probability that is not finite")
        features = None if vectors is None else self._kept(vectors, readable, decision, reasons)
        probability[decision == Decision.UNREADABLE] = np.nan
        records = _predictions(tiles, decision, probability)
        return Look(
            records,
            classify.closer(self._rule, records),
            failed_records(tiles, reasons),
            features,
            Seconds(read - started, normalised - read, computed - normalised),
            pixels=read_pixels,
        )

    def _kept(
        self,
        vectors: npt.NDArray[np.float32],
        readable: list[int],
        decision: npt.NDArray[np.uint8],
        reasons: dict[int, str],
    ) -> npt.NDArray[np.float32]:
        """Features of all tiles, float32 (n, F), NaN where unreadable: which is also a tile whose own are not finite.

        In the journal and on their way they are float32, whatever they are rounded to.
        """
        kind = self._classify.feature_type
        features = np.full((len(decision), vectors.shape[1]), np.nan, np.float32)
        with np.errstate(over="ignore"):  # met below
            features[readable] = vectors.astype(kind, copy=False)
        for position, vector in zip(readable, vectors, strict=True):
            if not np.isfinite(features[position]).all():
                is_own = not np.isfinite(vector).all()
                reasons.setdefault(
                    position,
                    "the network gave a feature that is not finite" if is_own else f"a feature is too large for {kind}",
                )
                decision[position] = Decision.UNREADABLE
        features[decision == Decision.UNREADABLE] = np.nan
        return features

    def _positions(self, level: int, tiles: TileArray) -> npt.NDArray[np.float32] | None:
        """Where tiles lie, for a network that is told."""
        if not self._classify.engines[level].sees_position:
            return None
        places = np.stack([tiles["col"], tiles["row"]], axis=1)
        return self._grid.positions(level, self._grid.corners(level, places))

    def _read(
        self, level: int, tiles: TileArray, prepared: Sequence[Found | None] | None
    ) -> tuple[RgbArray, list[int], dict[int, str]]:
        """Pixels of the readable tiles, their positions, and the reasons of the others by position."""
        pixels = np.empty((len(tiles), self._grid.window, self._grid.window, 3), np.uint8)
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
        return pixels, readable, reasons

    def _normalise_stain(self, pixels: RgbArray, readable: list[int], reasons: dict[int, str]) -> list[int]:
        """Normalise, in place, and leave out tiles whose stain cannot be estimated: the positions of the others."""
        if self._normalise is None:
            return readable
        kept: list[int] = []
        for k, position in enumerate(readable):
            try:
                pixels[len(kept)] = self._normalise(pixels[k])
            except StainError as error:
                reasons[position] = str(error)
            else:
                kept.append(position)
        return kept


def _checksums(pixels: RgbArray, readable: list[int], checked: npt.NDArray[np.bool_]) -> npt.NDArray[np.uint32]:
    """CRC-32 of what was read of the tiles that are checked, uint32 (n,), 0 for the others."""
    found = np.zeros(len(checked), np.uint32)
    for k, position in enumerate(readable):
        if checked[position]:
            found[position] = zlib.crc32(pixels[k])
    return found


def _predictions(
    tiles: TileArray, decision: npt.NDArray[np.uint8], probability: npt.NDArray[np.float32]
) -> PredictionArray:
    predictions = np.empty(len(tiles), prediction_dtype(probability.shape[1]))
    for name in TILE_DTYPE.names or ():
        predictions[name] = tiles[name]
    predictions["decision"] = decision
    predictions["probability"] = probability
    return predictions
