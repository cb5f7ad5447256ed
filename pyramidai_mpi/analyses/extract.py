"""Patches: cells of a slide with enough tissue, and which of them can be read and are not too white or black.

Where stored tiles are kept, what a rank does for a cell is little: its pixels stay in these, and the slide's owner
copies them as they are encoded. So only numbers go through journals and messages, and windows are decoded only where
their pixels are to be measured. Else the rank decodes each window, and its pixels go along: as they are, or as a JPEG,
which is made where the pixels are, by all ranks at once.
"""

from __future__ import annotations

import time
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from pyramidai_mpi.analyses.base import Look, Seconds, failed_records
from pyramidai_mpi.base.types import KEPT_BYTES, TILE_DTYPE, index_of
from pyramidai_mpi.pyramid.cells import CellRule
from pyramidai_mpi.slides.encoded_tiles import EncodedTiles
from pyramidai_mpi.slides.readers.base import UnreadableRegionError
from pyramidai_mpi.slides.readers.tile_codecs import encode_jpeg
from pyramidai_mpi.slides.source import TileSource

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    import numpy.typing as npt

    from pyramidai_mpi.analyses.base import OpenSlide
    from pyramidai_mpi.base.patch_order import PatchLimits, PatchOrder
    from pyramidai_mpi.base.types import RgbArray, TileArray
    from pyramidai_mpi.pyramid.rule import TileRule
    from pyramidai_mpi.slides.source import Found

_SHARES = ("tissue", "tumor", "white", "black")

RECORD = np.dtype([*TILE_DTYPE.descr, *((name, "<f4") for name in _SHARES), ("label", "<i2"), (KEPT_BYTES, "<u4")])
"""A cell: its tissue share, and the share of that which is tumour; shares of white and of black pixels among those of
its window that lie on the slide; number of its label; how many bytes are kept of its picture. Shares are NaN, and the
label is -1, where nobody has looked."""

DECODED = frozenset({"raw", "jpeg"})
"""Kinds of pixels of which each patch is decoded, so that it is measured, too."""


def pixels_of(slide: OpenSlide, order: PatchOrder) -> str:
    """What is kept of the pixels of a slide, one of `base.patch_order.PIXELS`."""
    return "raw" if slide.raw_because else order.pixels


@dataclass(frozen=True)
class Extract:
    """Takes the cells of every slide; `order` says which."""

    order: PatchOrder

    @property
    def record(self) -> np.dtype[np.void]:
        """`RECORD`."""
        return RECORD

    @property
    def task(self) -> np.dtype[np.void]:
        """Nothing is said of a tile beside its place."""
        return TILE_DTYPE

    @property
    def widths(self) -> tuple[int, ...]:
        """One level, no features."""
        return (0,)

    def first(self, rule: TileRule) -> TileArray:
        """All cells that may be patches, or those that were drawn first."""
        return rule.roots()

    def closer(self, rule: TileRule, records: npt.NDArray[np.void]) -> TileArray:
        """Cells that are drawn in place of those that are too white or black, or cannot be read."""
        if not (isinstance(rule, CellRule) and rule.may_refuse):
            return np.empty(0, TILE_DTYPE)
        return rule.followers(index_of(records[~passes(self.order.limits, records)]))

    def contradictions(self, records: npt.NDArray[np.void]) -> npt.NDArray[np.bool_]:
        """Shares and labels that are none, and pictures of a size that none has."""
        wrong = np.isnan(records["tissue"]) | (records["label"] < -1)
        for name in _SHARES:
            wrong |= ~(((records[name] >= 0) & (records[name] <= 1)) | np.isnan(records[name]))
        if self.order.pixels != "jpeg":
            raw = 0 if self.order.pixels == "none" else 3 * self.order.size**2
            wrong |= ~np.isin(records[KEPT_BYTES], [0, raw])
        return np.asarray(wrong)

    def on(self, slide: OpenSlide, rule: TileRule) -> CellsOfSlide:
        """Begin on a slide that this rank has opened."""
        assert isinstance(rule, CellRule)
        return CellsOfSlide(slide, rule, self)


def passes(limits: PatchLimits, records: npt.NDArray[np.void]) -> npt.NDArray[np.bool_]:
    """Which cells (n,) are within the limits, bool (n,); all where there are none, and none that could not be read."""
    within = np.ones(len(records), bool)
    for name, limit in (("white", limits.max_white), ("black", limits.max_black)):
        if limit is not None:
            within &= records[name] <= np.float32(limit)  # False for NaN
    return within


class CellsOfSlide:
    """Looks at cells of one slide.

    Parameters
    ----------
    slide, rule
        The slide, and which of its cells there are.
    extract
        What is asked for.

    Raises
    ------
    InputError
        When the stored tiles are to be kept and cannot be.
    """

    def __init__(self, slide: OpenSlide, rule: CellRule, extract: Extract) -> None:
        order = extract.order
        pixels = pixels_of(slide, order)
        self._extract, self._order, self._rule = extract, order, rule
        self._pyramid = slide.pyramid
        self._source = TileSource(slide.pyramid)
        self._share = rule.tissue.share(0).astype(np.float32)
        self._tiles = EncodedTiles(slide.pyramid) if pixels == "stored" else None
        self._keeps_pictures = pixels in DECODED
        self._decodes = self._keeps_pictures or order.measures

    def prepare(self, tiles: TileArray) -> list[Found | None]:
        """Begin to read windows, where their pixels are looked at at all."""
        if not self._decodes:
            return [None] * len(tiles)
        return self._source.prepare(0, zip(tiles["col"].tolist(), tiles["row"].tolist(), strict=True))

    def close(self) -> None:
        """Close the slide; `prepare` does nothing from now on."""
        self._source.close()

    def look(self, tiles: TileArray, prepared: Sequence[Found | None] | None = None) -> Look:
        """What is to be known of cells, and their pictures; those whose window cannot be had have failed."""
        records = self._known(tiles)
        reasons, pictures, spent = self._reasons(tiles), [], [0.0, 0.0]
        if self._decodes:
            started = time.perf_counter()
            for place, found in enumerate(self._windows(tiles, prepared)):
                read = time.perf_counter()
                if isinstance(found, UnreadableRegionError):
                    reasons.setdefault(place, str(found))
                elif place not in reasons:
                    pictures.append(self._look_at(found, records[place : place + 1]))
                spent[0] += read - started
                started = time.perf_counter()
                spent[1] += started - read
        seconds = Seconds(read=spent[0], compute=spent[1])
        closer = self._extract.closer(self._rule, records)
        return Look(records, closer, failed_records(tiles, reasons), seconds=seconds, kept=b"".join(pictures))

    def _known(self, tiles: TileArray) -> npt.NDArray[np.void]:
        """Records of cells before anybody has looked at their pixels."""
        records = np.zeros(len(tiles), RECORD)
        for name in TILE_DTYPE.names or ():
            records[name] = tiles[name]
        at, marks = (tiles["row"], tiles["col"]), self._rule.marks
        records["tissue"] = self._share[at]
        records["tumor"] = np.nan if marks.tumor is None else marks.tumor[at]
        records["label"] = -1 if marks.label is None else marks.label[at]
        records["white"] = records["black"] = np.nan
        return records

    def _look_at(self, pixels: RgbArray, record: npt.NDArray[np.void]) -> bytes:
        """Measure a window, for its record (1,), and make its picture, if it is to be kept."""
        limits = self._order.limits
        on_slide = self._pyramid.on_slide(0, int(record["col"][0]), int(record["row"][0]))
        record["white"], record["black"] = measured(pixels[on_slide], limits.white_level)
        if not (self._keeps_pictures and passes(limits, record)[0]):
            return b""
        quality = self._order.jpeg_quality
        picture = encode_jpeg(pixels, quality) if quality else pixels.tobytes()
        record[KEPT_BYTES] = len(picture)
        return picture

    def _windows(self, tiles: TileArray, prepared: Sequence[Found | None] | None) -> Iterator[Found]:
        """Decoded windows, uint8 (size, size, 3), one after the other, or why one cannot be had."""
        for place, tile in enumerate(tiles):
            found = prepared[place] if prepared is not None else None
            yield self._source.read(0, int(tile["col"]), int(tile["row"])) if found is None else found

    def _reasons(self, tiles: TileArray) -> dict[int, str]:
        """Why stored tiles under windows cannot be kept, by the windows' place among the tiles."""
        if self._tiles is None:
            return {}
        mosaic = self._tiles.stored.mosaic
        corners = self._pyramid.grid.corners(0, index_of(tiles))
        spans = self._tiles.spans(corners, self._order.size)
        reasons: dict[int, str] = {}
        if all(self._tiles.defect(int(number)) is None for number in mosaic.tiles_in_any(*spans)):
            return reasons
        for place, (x, y) in enumerate(zip(*spans, strict=True)):
            for col, row in mosaic.tiles_in(int(x[0]), int(y[0]), int(x[1]), int(y[1])):
                defect = self._tiles.defect(row * mosaic.columns + col)
                if defect is not None:
                    reasons[place] = defect
                    break
        return reasons


def measured(pixels: RgbArray, white_level: int) -> tuple[float, float]:
    """Share of pixels (H, W, 3) whose channels are all above a level, and of those whose channels are all 0."""
    red, green, blue = pixels[..., 0], pixels[..., 1], pixels[..., 2]  # numpy is slow along an axis of three
    white = np.count_nonzero(np.minimum(np.minimum(red, green), blue) > white_level)
    black = red.size - np.count_nonzero(red | green | blue)
    return white / red.size, black / red.size
