"""Classifying windows that overlap: a sliding window, block by block, alone or below the levels of a pyramid."""

from __future__ import annotations

import time
import zlib
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, NamedTuple, Protocol

import numpy as np

from pyramidai_mpi.analyses.base import Look, Seconds, failed_records
from pyramidai_mpi.analyses.classify import SlideClassifier, normaliser_of
from pyramidai_mpi.base.types import TILE_DTYPE, WindowState
from pyramidai_mpi.models.stain.map import StainError
from pyramidai_mpi.slides.readers.base import UnreadableRegionError
from pyramidai_mpi.slides.source import TileSource

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    import numpy.typing as npt

    from pyramidai_mpi.analyses.base import OpenSlide
    from pyramidai_mpi.analyses.classify import Classify
    from pyramidai_mpi.base.types import RgbArray, TileArray
    from pyramidai_mpi.models.engines.base import Engine
    from pyramidai_mpi.pyramid.blocks import BlockRule, Known
    from pyramidai_mpi.pyramid.rule import TileRule
    from pyramidai_mpi.slides.pyramid import SlidePyramid
    from pyramidai_mpi.slides.source import Found

_MOST_COMPARED = 400
"""Windows of a slide, about, that are computed by themselves, too, where blocks are approximate."""
_WINDOWS_AT_ONCE = 64
"""Windows that are cut out of a region before the network sees them: 10 MB of 224 px."""


class SharedPass(Protocol):
    """All windows of a block in one pass of a network."""

    def predict(self, region: RgbArray) -> npt.NDArray[np.float32]:
        """Probabilities float32 (B, B, C) of a block from what is read for it, uint8 (side, side, 3)."""
        ...

    def is_worth(self, n_windows: int) -> bool:
        """Whether it costs no more than so many windows by themselves. The same on all machines."""
        ...


@dataclass(frozen=True)
class Dense:
    """A model's networks over windows at one or more strides, for slide after slide.

    Attributes
    ----------
    classify
        Networks and thresholds of the run's levels.
    rule
        Which tiles are looked at.
    shared
        Of levels whose blocks may be done in one pass, how.
    """

    classify: Classify
    rule: BlockRule
    shared: Mapping[int, SharedPass] = field(default_factory=dict)

    @property
    def record(self) -> np.dtype[np.void]:
        """See `BlockRule.record`."""
        return self.rule.record

    @property
    def task(self) -> np.dtype[np.void]:
        """See `BlockRule.task`."""
        return self.rule.task

    @property
    def widths(self) -> tuple[int, ...]:
        """No features are kept."""
        return (0,) * len(self.rule.levels.each)

    @property
    def engines(self) -> Sequence[Engine]:
        """One engine a level, level 0 first."""
        return self.classify.engines

    @property
    def networks(self) -> Sequence[Engine]:
        """The same: no encoder looks at windows."""
        return self.classify.engines

    @property
    def thresholds(self) -> Sequence[float]:
        """One threshold a level, level 0 first."""
        return self.classify.thresholds

    def first(self, rule: TileRule) -> TileArray:
        """See `BlockRule.first`."""
        return self.rule.first(rule)

    def closer(self, rule: TileRule, records: npt.NDArray[np.void]) -> TileArray:
        """See `BlockRule.closer`."""
        return self.rule.closer(rule, records)

    def contradictions(self, records: npt.NDArray[np.void]) -> npt.NDArray[np.bool_]:
        """Records whose decision does not follow from their probabilities or cells."""
        level = int(records["level"][0])
        if self.rule.levels.each[level].block == 1:
            return self.classify.contradictions(records)
        return self.rule.contradictions(records, self.classify.thresholds[level])

    def on(self, slide: OpenSlide, rule: TileRule) -> SlideDense:
        """Begin on a slide that this rank has opened."""
        return SlideDense(self, slide.pyramid, rule, normaliser_of(slide, self.classify.stain_engine))


class _Place(NamedTuple):
    """What is read for a block.

    Attributes
    ----------
    corner, size
        Of the region, in pixels of the level: x, y and width, height.
    is_wide
        Whether windows of the ring are in it.
    first
        Row and column, of block and ring, of the cell whose window lies at the region's corner.
    """

    corner: tuple[int, int]
    size: tuple[int, int]
    is_wide: bool
    first: int


class SlideDense:
    """Reads blocks of one slide and scores the windows in them.

    Parameters
    ----------
    dense
        Networks and rule.
    pyramid
        The slide's levels.
    rule
        Which of its tiles exist.
    normalise
        See `normaliser_of`; each tile's own stain is that of all that is read for a block. None leaves pixels as they
        are.
    """

    def __init__(
        self,
        dense: Dense,
        pyramid: SlidePyramid,
        rule: TileRule,
        normalise: Callable[[RgbArray], RgbArray] | None = None,
    ) -> None:
        self._dense, self._rule, self._grid = dense, rule, pyramid.grid
        self._normalise = normalise
        self._source = TileSource(pyramid, dense.classify.read_ahead)
        self._tiles = SlideClassifier(dense.classify, pyramid, rule, normalise, self._source)

    def prepare(self, tiles: TileArray) -> list[Found | None]:
        """Begin to read tiles of one level, for `look` to be given what comes of it; from another thread.

        Not blocks whose rings are read, too: what is read of them differs.
        """
        level = int(tiles["level"][0])
        if self._dense.rule.reads_ring(level):
            return [None] * len(tiles)
        places = zip(tiles["col"].tolist(), tiles["row"].tolist(), strict=True)
        return self._source.prepare(level, places)

    def close(self) -> None:
        """Close the slide; `prepare` does nothing from now on."""
        self._source.close()

    def look(
        self,
        tiles: TileArray,
        prepared: Sequence[Found | None] | None = None,
        checked: npt.NDArray[np.bool_] | None = None,
    ) -> Look:
        """Score the windows of a batch of tiles of one level.

        Parameters
        ----------
        tiles
            Records of `Dense.task` that share one level.
        prepared
            One entry a tile of what `prepare` has found, None for what is to be read now.
        checked
            Of which tiles the checksum of the pixels is wanted, bool (n,); None for none.

        Returns
        -------
        Look
            Records of `Dense.record`. As failed count tiles with windows that could not be read or gave no finite
            probability.
        """
        level, blocks = int(tiles["level"][0]), self._dense.rule
        records = np.zeros(len(tiles), self._dense.record)
        for name in TILE_DTYPE.names or ():
            records[name] = tiles[name]
        if blocks.levels.each[level].block == 1:
            look = self._tiles.look(tiles, prepared, checked)
            for name in look.records.dtype.names or ():
                records[name] = look.records[name]
            closer = blocks.closer(self._rule, records)
            return Look(records, closer, look.failed, None, look.seconds, pixels=look.pixels)
        read_pixels = None if checked is None else np.zeros(len(tiles), np.uint32)
        reasons: dict[int, str] = {}
        seconds = Seconds()
        for position, tile in enumerate(tiles):
            found = None if prepared is None else prepared[position]
            took, reason, region = self._block(level, tile, found, records[position : position + 1])
            seconds = Seconds(*np.add(seconds, took).tolist())
            if reason:
                reasons[position] = reason
            if read_pixels is not None and checked is not None and checked[position]:
                read_pixels[position] = zlib.crc32(region.tobytes())
        closer = blocks.closer(self._rule, records)
        return Look(records, closer, failed_records(tiles, reasons), None, seconds, pixels=read_pixels)

    def _block(
        self, level: int, tile: np.void, found: Found | None, record: npt.NDArray[np.void]
    ) -> tuple[Seconds, str, RgbArray]:
        """Fill in the record (1,) of one block; what it took, which of its windows have no score, and why; its pixels.

        The pixels are those that were read.
        """
        blocks, classify, side = self._dense.rule, self._dense.classify, self._dense.rule.side(level)
        known = blocks.known(self._rule, tile)
        place = self._place(level, tile, known.state)
        started = time.perf_counter()
        if place.is_wide:
            found = self._source.read_window(level, place.corner, place.size)
        elif found is None:
            found = self._source.read(level, int(tile["col"]), int(tile["row"]))
        is_whole = not isinstance(found, UnreadableRegionError)
        region, why = self._without_damage(level, place, found, known.state)
        read, as_read = time.perf_counter(), region
        if self._normalise is not None:
            try:
                region = self._normalise(region)
            except StainError as error:
                known.state[known.state == WindowState.LOOKED] = WindowState.UNREADABLE
                why = str(error)
        normalised = time.perf_counter()
        probability, in_pass = self._probabilities(level, place, region, known.state, is_whole=is_whole)
        computed = time.perf_counter()

        wanted = known.state == WindowState.LOOKED
        for row, col in np.argwhere(wanted & ~np.isfinite(probability).all(axis=2)).tolist():
            known.state[row, col] = WindowState.UNREADABLE
            why = why or "the network gave a probability that is not finite"
        looked = known.state == WindowState.LOOKED
        known.score[looked] = probability[looked][:, blocks.positive_class]
        record["score"][0, :side, :side], record["state"][0, :side, :side] = known.score, known.state
        inner = (blocks.ring(level).inner(blocks.levels.each[level].block),) * 2
        record["probability"] = self._best(known.score[inner], looked[inner], probability[inner])
        if blocks.n_compared:
            record["compared"] = self._compared(level, tile, place, region, known, in_pass)
        threshold = classify.thresholds[level]
        record["decision"] = blocks.decide(level, known.score[None], known.state[None], threshold)
        n_failed = int((known.state == WindowState.UNREADABLE).sum())
        n_exist = int((known.state != WindowState.NOTHING).sum())
        reason = f"{n_failed} of {n_exist} windows: {why}" if n_failed else ""
        return Seconds(read - started, normalised - read, computed - normalised), reason, as_read

    def _place(self, level: int, tile: np.void, state: npt.NDArray[np.uint8]) -> _Place:
        """What is to be read for a block: also its ring, where cells of that are to be looked at."""
        ring, one = self._dense.rule.ring(level), self._grid.levels[level]
        x, y = self._grid.corner(level, int(tile["col"]), int(tile["row"]))
        in_ring = state == WindowState.LOOKED
        in_ring[ring.inner(one.block), ring.inner(one.block)] = False
        is_wide = bool(in_ring.any())
        before, width = (ring.before, ring.width) if is_wide else (0, 0)
        side = self._grid.region(level) + width * one.cell
        return _Place((x - before * one.cell, y - before * one.cell), (side, side), is_wide, ring.before - before)

    def _without_damage(
        self, level: int, place: _Place, found: Found, state: npt.NDArray[np.uint8]
    ) -> tuple[RgbArray, str]:
        """What is read for a block; where that fails, what its windows give, and `state` says which cannot be read."""
        if not isinstance(found, UnreadableRegionError):
            return found, ""
        cell, window = self._grid.levels[level].cell, self._grid.window
        region = np.full((*place.size, 3), 255, np.uint8)
        why = ""
        for row, col in np.argwhere(state == WindowState.LOOKED).tolist():
            left, top = (col - place.first) * cell, (row - place.first) * cell
            part = self._source.read_window(level, (place.corner[0] + left, place.corner[1] + top), (window, window))
            if isinstance(part, UnreadableRegionError):
                state[row, col] = WindowState.UNREADABLE
                why = why or str(part)
            else:
                region[top : top + window, left : left + window] = part
        return region, why

    def _probabilities(
        self, level: int, place: _Place, region: RgbArray, state: npt.NDArray[np.uint8], *, is_whole: bool
    ) -> tuple[npt.NDArray[np.float32], npt.NDArray[np.bool_]]:
        """Probabilities float32 (B + ring, B + ring, C) of the windows that are to be looked at, NaN elsewhere.

        A shared pass gives those of all windows, and cells that were not to be refined then get theirs, too, if the
        region is whole: else only windows that are to be looked at are in it. With them bool (B + ring, B + ring): of
        which windows it gave them.
        """
        classify, window, one = self._dense.classify, self._grid.window, self._grid.levels[level]
        cell = one.cell
        found = np.full((*state.shape, classify.n_classes), np.nan, np.float32)
        wanted, in_pass = state == WindowState.LOOKED, np.zeros(state.shape, bool)
        shared = self._dense.shared.get(level)
        ring = self._dense.rule.ring(level)
        inner = (ring.inner(one.block),) * 2
        if shared is not None and shared.is_worth(int(wanted[inner].sum())):
            first, side = (ring.before - place.first) * cell, self._grid.region(level)
            computed = shared.predict(np.ascontiguousarray(region[first : first + side, first : first + side]))
            own = state[inner]  # a view
            if is_whole:
                own[own == WindowState.COARSER] = WindowState.LOOKED
            done = own == WindowState.LOOKED
            found[inner][done] = computed[done]
            wanted[inner], in_pass[inner] = False, done
        places = np.argwhere(wanted)
        pixels = np.empty((min(len(places), _WINDOWS_AT_ONCE), window, window, 3), np.uint8)
        for first in range(0, len(places), _WINDOWS_AT_ONCE):
            some = places[first : first + _WINDOWS_AT_ONCE]
            for k, (row, col) in enumerate(((some - place.first) * cell).tolist()):
                pixels[k] = region[row : row + window, col : col + window]
            engine = classify.engines[level]
            where = self._positions(level, place, some) if engine.sees_position else None
            found[some[:, 0], some[:, 1]] = engine.predict(pixels[: len(some)], positions=where)[0]
        return found, in_pass

    def _positions(self, level: int, place: _Place, cells: npt.NDArray[np.integer]) -> npt.NDArray[np.float32]:
        """Where the windows of cells (n, 2) lie, given as rows and columns of block and ring."""
        corners = np.asarray(place.corner) + (cells[:, ::-1] - place.first) * self._grid.levels[level].cell
        return self._grid.positions(level, corners)

    def _compared(
        self,
        level: int,
        tile: np.void,
        place: _Place,
        region: RgbArray,
        known: Known,
        in_pass: npt.NDArray[np.bool_],
    ) -> npt.NDArray[np.float32]:
        """Scores (n, 2) of some of the windows of a block's pass, as they are there, and by themselves."""
        blocks, one, window = self._dense.rule, self._grid.levels[level], self._grid.window
        found = np.full((blocks.n_compared, 2), np.nan, np.float32)
        rng = np.random.Generator(np.random.Philox(key=[int(tile["col"]), int(tile["row"]) * 16 + level]))
        places = np.argwhere(in_pass & (known.state == WindowState.LOOKED))
        share = _MOST_COMPARED / blocks.n_compared / max(int((self._rule.tissue.counts[level] > 0).sum()), 1)
        if rng.random() >= share or not len(places):
            return found
        chosen = places[rng.permutation(len(places))[: blocks.n_compared]]
        corners = ((chosen - place.first) * one.cell).tolist()
        pixels = np.stack([region[row : row + window, col : col + window] for row, col in corners])
        alone = self._dense.classify.engines[level].predict(pixels)[0][:, blocks.positive_class]
        found[: len(chosen)] = np.stack([known.score[chosen[:, 0], chosen[:, 1]], alone], axis=1)
        return found

    def _best(
        self,
        score: npt.NDArray[np.float32],
        looked: npt.NDArray[np.bool_],
        probability: npt.NDArray[np.float32],
    ) -> npt.NDArray[np.float32]:
        """Probabilities (C,) of a block's cell with the highest score; NaN where none has one.

        Of a cell that has the score of a coarser one the others are not known: they get equal shares of the rest.
        """
        positive, n_classes = self._dense.rule.positive_class, self._dense.rule.n_classes
        if not np.isfinite(score).any():
            return np.full(n_classes, np.nan, np.float32)
        row, col = np.unravel_index(int(np.nanargmax(score)), score.shape)
        if looked[row, col]:
            return np.asarray(probability[row, col])
        rest = (1 - score[row, col]) / max(n_classes - 1, 1)
        return np.asarray(np.where(np.arange(n_classes) == positive, score[row, col], rest).astype(np.float32))
