"""Explaining: for tiles of a slide, where in each of them the network sees the class.

Units of work are not tiles of the slide but parts of what is done for each: (`MASKS`, number of the tile, block of
masks) asks the network about one block of masks, so that ranks share a tile; (`MAPS`, number of the tile, round) makes
its map of all masks so far, and with the last of them the faithfulness curves. A map waits for its masks, which no
record of one unit can say: whoever runs this has them done first, and gives their scores with the rule (`UnitRule`).
Methods by gradients have no masks.
"""

from __future__ import annotations

import time
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import numpy as np

from pyramidai_mpi.analyses.base import Look, Seconds, failed_records
from pyramidai_mpi.analyses.classify import normaliser_of
from pyramidai_mpi.base.types import KEPT_BYTES, TILE_DTYPE, tiles_at
from pyramidai_mpi.explain.cam import gradcam, gradcam_plus_plus
from pyramidai_mpi.explain.faithfulness import curves, random_map
from pyramidai_mpi.explain.integrated import integrated_gradients
from pyramidai_mpi.explain.methods import Fill, MethodName
from pyramidai_mpi.explain.perturbation import MASKS_PER_BLOCK
from pyramidai_mpi.explain.replacement import replacement
from pyramidai_mpi.models.stain.map import StainError
from pyramidai_mpi.pyramid.grid import Grid, GridLevel
from pyramidai_mpi.pyramid.rule import TileRule
from pyramidai_mpi.pyramid.tissue import TissueMap, TissueSource
from pyramidai_mpi.slides.readers.base import UnreadableRegionError
from pyramidai_mpi.slides.source import TileSource

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    import numpy.typing as npt

    from pyramidai_mpi.analyses.base import OpenSlide
    from pyramidai_mpi.base.types import RgbArray, TileArray
    from pyramidai_mpi.explain.chance import Key
    from pyramidai_mpi.explain.methods import Method
    from pyramidai_mpi.explain.perturbation import Perturbation
    from pyramidai_mpi.models.backward.engine import GradientEngine
    from pyramidai_mpi.models.engines.base import Engine
    from pyramidai_mpi.models.stain.engine import StainEngine
    from pyramidai_mpi.slides.source import Found

    Floats = npt.NDArray[np.float32]

MAPS, MASKS = 0, 1
"""Levels of the grid of units."""
CURVE_STEPS = 16
FIRST_MASKS = 256
"""Masks after which the repeatability of a tile's map is looked at for the first time; then after twice as many."""


def explanation_record(n_classes: int) -> np.dtype[np.void]:
    """Record of a unit: probabilities and repeatability of a map's tile, and how many bytes are kept of it."""
    fields = [("repeatability", "<f4"), (KEPT_BYTES, "<u4"), ("probability", "<f4", (n_classes,))]
    return np.dtype([*TILE_DTYPE.descr, *fields])


@dataclass(frozen=True)
class MaskRounds:
    """After how many masks a tile's map is made: once, or again and again until it repeats.

    Attributes
    ----------
    n_masks
        Most masks a tile; 0 for methods without.
    until
        Repeatability that is enough; None makes all masks, and one map.
    """

    n_masks: int
    until: float | None = None

    def masks_in(self, round_number: int) -> int:
        """Masks that the map of a round is made of, those of earlier rounds among them."""
        return self.n_masks if self.until is None else min(self.n_masks, FIRST_MASKS << round_number)

    def blocks_in(self, round_number: int) -> range:
        """Blocks of masks that a round adds."""
        first = 0 if round_number == 0 else -(-self.masks_in(round_number - 1) // MASKS_PER_BLOCK)
        return range(first, -(-self.masks_in(round_number) // MASKS_PER_BLOCK))

    def block(self, number: int) -> range:
        """Numbers of the masks of a block."""
        first = number * MASKS_PER_BLOCK
        return range(first, min(first + MASKS_PER_BLOCK, self.n_masks))

    def goes_on(self, records: npt.NDArray[np.void]) -> npt.NDArray[np.bool_]:
        """Which maps, records of `MAPS` (n,), do not repeat well enough while there are masks left."""
        if self.until is None:
            return np.zeros(len(records), bool)
        has_more = np.array([self.masks_in(int(row)) < self.n_masks for row in records["row"]], bool)
        return np.asarray(has_more & (records["repeatability"] < np.float32(self.until)))  # False for NaN

    @property
    def most_units(self) -> int:
        """Most blocks, or rounds, of a tile."""
        return max(1, -(-self.n_masks // MASKS_PER_BLOCK))


@dataclass(frozen=True)
class UnitRule(TileRule):
    """The units of one slide that are known to be wanted.

    Attributes
    ----------
    tiles
        int64 (N, 2): col, row of the tiles in their level of the slide's grid, row-major.
    rounds
        int64 (N,): how many maps of each tile were wanted so far; those of the last wait for nothing any more.
    scores
        The masks' scores of each tile so far, float32 (m,); empty where nothing is known yet.
    """

    tiles: npt.NDArray[np.int64] = field(kw_only=True)
    rounds: npt.NDArray[np.int64] = field(kw_only=True)
    scores: Sequence[Floats] = field(kw_only=True, default=())

    @classmethod
    def of(
        cls, tiles: npt.NDArray[np.int64], rows: int, rounds: npt.NDArray[np.int64], scores: Sequence[Floats] = ()
    ) -> UnitRule:
        """The rule for tiles of at most so many units of a kind."""
        one = GridLevel(1.0, 1)
        grid = Grid(len(tiles), rows, 1, (one, one))
        tissue = TissueMap(grid, np.ones((rows, len(tiles)), bool), 1, TissueSource("none"))
        return cls(tissue, 0.0, tiles=tiles, rounds=rounds, scores=scores)

    def count_under(self, tiles: TileArray) -> npt.NDArray[np.int64]:
        """As of any rule; units have none under them."""
        return np.bincount(tiles["level"], minlength=self.grid.n_levels).astype(np.int64)


@dataclass(frozen=True)
class Explain:
    """Explains tiles of every slide by one method.

    Attributes
    ----------
    method
        The method.
    level
        Level of the model.
    column, n_classes
        Of the class among the probabilities, and how many there are.
    engine
        The network as runs have it.
    map_shape
        Rows and columns of every map.
    rounds
        How many masks a map is made of.
    seed
        Of all that is drawn.
    fill
        What stands where pixels are taken away.
    faithfulness
        Whether curves are computed.
    steps
        Of integrated gradients.
    gradients
        For methods by gradients.
    layer
        Whose maps Grad-CAM takes.
    perturbation
        For methods by masks.
    stain_engine
        Needed for slides whose stain is normalised.
    """

    method: Method
    level: int
    column: int
    n_classes: int
    engine: Engine
    map_shape: tuple[int, int]
    rounds: MaskRounds
    seed: int = 0
    fill: Fill = Fill.BLUR
    faithfulness: bool = True
    steps: int = 0
    gradients: GradientEngine | None = None
    layer: str = ""
    perturbation: Perturbation | None = None
    stain_engine: StainEngine | None = None

    @property
    def record(self) -> np.dtype[np.void]:
        """`explanation_record` of its classes."""
        return explanation_record(self.n_classes)

    @property
    def task(self) -> np.dtype[np.void]:
        """Nothing is said of a unit beside its place."""
        return TILE_DTYPE

    @property
    def widths(self) -> tuple[int, ...]:
        """No features of either kind of unit."""
        return (0, 0)

    @property
    def n_points(self) -> int:
        """Points of a curve, 0 without."""
        return CURVE_STEPS + 1 if self.faithfulness else 0

    @property
    def kept_of_map(self) -> int:
        """Bytes that are kept of a map and its curves."""
        return 4 * (self.map_shape[0] * self.map_shape[1] + 4 * self.n_points)

    def first(self, rule: TileRule) -> TileArray:
        """The blocks of masks of the first round, and all maps that are known to be wanted."""
        assert isinstance(rule, UnitRule)
        numbers = np.arange(len(rule.tiles))
        maps = [(number, row) for number, rows in enumerate(rule.rounds.tolist()) for row in range(rows)]
        return np.concatenate([self._blocks(numbers, 0), _units(MAPS, maps)])

    def closer(self, rule: TileRule, records: npt.NDArray[np.void]) -> TileArray:
        """The next round's blocks of masks of tiles whose maps do not repeat well enough."""
        maps = records[records["level"] == MAPS]
        again = maps[self.rounds.goes_on(maps)]
        more = [self._blocks(again["col"][again["row"] == row], int(row) + 1) for row in np.unique(again["row"])]
        return np.concatenate([np.empty(0, TILE_DTYPE), *more])

    def _blocks(self, numbers: npt.NDArray[np.integer], round_number: int) -> TileArray:
        blocks = self.rounds.blocks_in(round_number)
        return _units(MASKS, [(int(number), block) for number in numbers for block in blocks])

    def contradictions(self, records: npt.NDArray[np.void]) -> npt.NDArray[np.bool_]:
        """Records of which other numbers of bytes are kept than there can be."""
        kept = records[KEPT_BYTES]
        if int(records["level"][0]) == MAPS:
            return np.asarray((kept != 0) & (kept != self.kept_of_map))
        return np.asarray(kept != [4 * len(self.rounds.block(int(row))) for row in records["row"]])

    def on(self, slide: OpenSlide, rule: TileRule) -> UnitsOfSlide:
        """Begin on a slide that this rank has opened."""
        assert isinstance(rule, UnitRule)
        return UnitsOfSlide(self, slide, rule)


def _units(level: int, places: Sequence[tuple[int, int]]) -> TileArray:
    return tiles_at(level, np.array(places, np.int64).reshape(-1, 2))


@dataclass(frozen=True)
class _Seen:
    """A tile as the network sees it."""

    pixels: RgbArray
    position: npt.NDArray[np.float32] | None

    def positions(self, n: int) -> npt.NDArray[np.float32] | None:
        return None if self.position is None else np.repeat(self.position, n, axis=0)


class UnitsOfSlide:
    """Does units of one slide."""

    def __init__(self, explain: Explain, slide: OpenSlide, rule: UnitRule) -> None:
        self._explain, self._rule, self._grid = explain, rule, slide.pyramid.grid
        self._source = TileSource(slide.pyramid, "never")
        self._normalise = normaliser_of(slide, explain.stain_engine)
        self._quickhash = int(slide.quickhash, 16)
        self._last: tuple[int, _Seen | str] | None = None
        self._spent = np.zeros(2)

    def prepare(self, tiles: TileArray) -> list[Found | None]:
        """Have the system fetch what units will need."""
        level, places = self._explain.level, self._rule.tiles[np.unique(tiles["col"])]
        self._source.prepare(level, [(int(col), int(row)) for col, row in places])
        return [None] * len(tiles)

    def close(self) -> None:
        """Close the slide."""
        self._source.close()

    def look(self, tiles: TileArray, prepared: Sequence[Found | None] | None = None) -> Look:
        """Do units of one kind. As failed count tiles of which there is no map."""
        explain = self._explain
        begun, self._spent = time.perf_counter(), np.zeros(2)
        records = np.zeros(len(tiles), explain.record)
        for name in TILE_DTYPE.names or ():
            records[name] = tiles[name]
        records["repeatability"] = records["probability"] = np.nan
        is_map = int(tiles["level"][0]) == MAPS
        reasons: dict[int, str] = {}
        seen = {place: self._see(int(number)) for place, number in enumerate(tiles["col"])}
        if is_map:
            self._predict(records, seen)
        kept = []
        for place, tile in enumerate(tiles):
            one = seen[place]
            if isinstance(one, str):
                reasons[place] = one
                found = b"" if is_map else np.full(len(explain.rounds.block(int(tile["row"]))), np.nan, "<f4").tobytes()
            elif is_map:
                found = self._map(records[place : place + 1], one)
                values = np.frombuffer(found, "<f4")
                if not np.isfinite(values).all():
                    by_gradients = explain.gradients is not None
                    in_map = not np.isfinite(values[: explain.map_shape[0] * explain.map_shape[1]]).all()
                    reasons[place] = (
                        "the network's gradients or maps are not finite"
                        if by_gradients and in_map
                        else "the network gave a score of a changed tile that is not finite"
                    )
                    records["repeatability"][place] = records["probability"][place] = np.nan
                    found = b""
            else:
                found = self._scores_of_block(int(tile["col"]), int(tile["row"]), one)
            records[KEPT_BYTES][place] = len(found)
            kept.append(found)
        read, stain = self._spent.tolist()
        return Look(
            records,
            explain.closer(self._rule, records),
            failed_records(tiles, reasons),
            seconds=Seconds(read, stain, time.perf_counter() - begun - read - stain),
            kept=b"".join(kept),
        )

    def _see(self, number: int) -> _Seen | str:
        """A tile as the run's network saw it, or why it cannot be had."""
        if self._last is None or self._last[0] != number:
            self._last = (number, self._read(number))
        return self._last[1]

    def _read(self, number: int) -> _Seen | str:
        level, place = self._explain.level, self._rule.tiles[number]
        begun = time.perf_counter()
        found = self._source.read(level, int(place[0]), int(place[1]))
        read = time.perf_counter()
        self._spent[0] += read - begun
        if isinstance(found, UnreadableRegionError):
            return str(found)
        if self._normalise is not None:
            try:
                found = self._normalise(found)
            except StainError as error:
                return str(error)
            self._spent[1] += time.perf_counter() - read
        position = None
        if self._explain.engine.sees_position:
            position = self._grid.positions(level, self._grid.corners(level, place[None]))
        return _Seen(np.ascontiguousarray(found), position)

    def _predict(self, records: npt.NDArray[np.void], seen: dict[int, _Seen | str]) -> None:
        """Probabilities of the tiles as the run had them; those without finite ones are not seen any more."""
        tiles = {place: one for place, one in seen.items() if not isinstance(one, str)}
        if not tiles:
            return
        pixels = np.stack([one.pixels for one in tiles.values()])
        places = [one.position for one in tiles.values() if one.position is not None]
        found, _ = self._explain.engine.predict(pixels, positions=np.concatenate(places) if places else None)
        for place, probability in zip(tiles, found, strict=True):
            if np.isfinite(probability).all():
                records["probability"][place] = probability
            else:
                seen[place] = "the network gave a probability that is not finite"

    def _score(self, one: _Seen, pictures: RgbArray) -> Floats:
        """Probability of the class of pictures (n, S, S, 3) in the tile's place, float32 (n,)."""
        found, _ = self._explain.engine.predict(pictures, positions=one.positions(len(pictures)))
        return np.asarray(found[:, self._explain.column], np.float32)

    def _key(self, number: int) -> Key:
        col, row = self._rule.tiles[number].tolist()
        return (self._explain.seed, self._quickhash, self._explain.level, col, row)

    def _scores_of_block(self, number: int, block: int, one: _Seen) -> bytes:
        explain = self._explain
        assert explain.perturbation is not None
        pictures = explain.perturbation.perturbed(one.pixels, explain.rounds.block(block), self._key(number))
        return self._score(one, pictures).astype("<f4").tobytes()

    def _map(self, record: npt.NDArray[np.void], one: _Seen) -> bytes:
        """The map of a tile and its curves, or nothing where more masks follow; its repeatability in its record."""
        explain = self._explain
        number, round_number = int(record["col"][0]), int(record["row"][0])
        key = self._key(number)
        if explain.perturbation is not None:
            scores = self._rule.scores[number][: explain.rounds.masks_in(round_number)]
            record["repeatability"] = explain.perturbation.repeatability(one.pixels, scores, key)
            if explain.rounds.goes_on(record)[0]:
                return b""
            found = explain.perturbation.map_of(one.pixels, scores, key)
        else:
            found = self._by_gradients(one)
        tables = [found]
        if explain.faithfulness:
            score_of: Callable[[RgbArray], Floats] = lambda pictures: self._score(one, pictures)  # noqa: E731
            chance = random_map(explain.map_shape, key)
            for map_ in (found, chance):
                both = curves(one.pixels, map_, score_of, CURVE_STEPS, explain.fill)
                tables += [both.deletion, both.insertion]
        return b"".join(np.ascontiguousarray(table, "<f4").tobytes() for table in tables)

    def _by_gradients(self, one: _Seen) -> Floats:
        explain, name = self._explain, self._explain.method.name
        engine = explain.gradients
        assert engine is not None
        if name == MethodName.INTEGRATED_GRADIENTS:
            baseline = replacement(one.pixels, explain.fill)

            def gradients_at(pixels: Floats) -> Floats:
                return engine.input_gradients(pixels, explain.column, one.positions(len(pixels)))

            return integrated_gradients(one.pixels, gradients_at, explain.steps, baseline)
        looked = engine.look(one.pixels[None], explain.column, one.position)
        weigh = gradcam if name == MethodName.GRADCAM else gradcam_plus_plus
        return weigh(looked.activations[explain.layer][0], looked.gradients[explain.layer][0])


def unpack_map(kept: bytes, explain: Explain) -> tuple[Floats, tuple[Floats, Floats, Floats, Floats]]:
    """A map (h, w) and the four curves (S + 1,) from what was kept of it: of a map, then of a random one.

    Of a tile that has none, NaN.
    """
    (height, width), n = explain.map_shape, explain.n_points
    if not kept:
        nothing = np.full(n, np.nan, np.float32)
        return np.full((height, width), np.nan, np.float32), (nothing, nothing, nothing, nothing)
    values = np.frombuffer(kept, "<f4")
    lines = values[height * width :].reshape(4, n)
    return values[: height * width].reshape(height, width), (lines[0], lines[1], lines[2], lines[3])
