"""Segmentation: each pixel of a slide under a network without global layers, block by block.

Tiles are blocks. What a block gives follows from the slide and the network alone, so blocks find their ranks as tiles
do. Its labels and, where they are asked for, its probabilities are kept in bytes, compressed.
"""

from __future__ import annotations

import time
import zlib
from dataclasses import dataclass
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from pyramidai_mpi.analyses.base import Look, Seconds, failed_records
from pyramidai_mpi.base.types import KEPT_BYTES, TILE_DTYPE
from pyramidai_mpi.pyramid.grid import Grid, GridLevel
from pyramidai_mpi.pyramid.halo_blocks import HaloBlocks
from pyramidai_mpi.pyramid.mask_labels import UNKNOWN, YES, reduced_labels, reduced_means
from pyramidai_mpi.slides.known_pixels import grown, read_known
from pyramidai_mpi.slides.pyramid import SlidePyramid
from pyramidai_mpi.slides.spacing import LevelPlan, plan_levels

if TYPE_CHECKING:
    from collections.abc import Sequence

    import numpy.typing as npt

    from pyramidai_mpi.analyses.base import OpenSlide
    from pyramidai_mpi.base.segment_order import SegmentOrder
    from pyramidai_mpi.base.settings import SlideInput
    from pyramidai_mpi.base.types import TileArray
    from pyramidai_mpi.models.engines.segmentation_network import SegmentationNetwork
    from pyramidai_mpi.models.segmentation_package import SegmentationText
    from pyramidai_mpi.pyramid.mask_labels import Labels
    from pyramidai_mpi.pyramid.rule import TileRule
    from pyramidai_mpi.slides.readers.base import SlideReader
    from pyramidai_mpi.slides.source import Found

RECORD = np.dtype([*TILE_DTYPE.descr, ("positive", "<u4"), ("unknown", "<u4"), (KEPT_BYTES, "<u4")])
"""A block: how many of its mask pixels are `YES` and `UNKNOWN`, and how many bytes are kept of it."""


def lay_network(reader: SlideReader, text: SegmentationText, mpp: float, side: int, source: SlideInput) -> SlidePyramid:
    """A network's spacing over an open slide, its tiles blocks of `side` pixels.

    Parameters
    ----------
    mpp
        µm per level-0 pixel; 0 where nobody knows, which networks that say no spacing take.

    Raises
    ------
    InputError
        When the slide is too coarse for the network.
    """
    info = reader.info
    if text.mpp is None:
        downsample = info.stored_downsamples[0]
        plan = LevelPlan(0, mpp * downsample, 0, downsample, 1.0)
    else:
        (plan,) = plan_levels(
            info.stored_downsamples,
            mpp,
            base_mpp=text.mpp,
            scale_factor=2,
            n_levels=1,
            stored_exact=info.stored_exact,
            allow_upsampling=source.allow_upsampling,
            name=str(source.path),
        )
    halo = -(-text.halo // text.total_stride) * text.total_stride
    grid = Grid(*info.l0_size, side + 2 * halo, (GridLevel(plan.downsample, side),))
    return SlidePyramid(reader, grid, (plan,))


def blocks_of(pyramid: SlidePyramid, text: SegmentationText, side: int) -> HaloBlocks:
    """The blocks of a slide for a network."""
    return HaloBlocks(pyramid.grid.level_dimensions(0), side, text.halo, text.total_stride)


class Segmented(NamedTuple):
    """A block's part of the mask.

    Attributes
    ----------
    labels
        uint8 (h, w), of `pyramid.mask_labels`.
    probability
        uint8 (h, w), 0 to 255, 0 where unknown.
    reason
        Why something is unknown; empty where nothing is.
    seconds
        What it took.
    """

    labels: Labels
    probability: Labels
    reason: str
    seconds: Seconds


class BlockSegmenter:
    """A network over the blocks of one open slide.

    Parameters
    ----------
    pyramid
        The slide; its level 0 is at the network's spacing.
    network
        Ready to run.
    blocks
        Of the slide.
    downsample
        Pixels along the side of one of the mask; blocks are whole numbers of it wide.
    """

    def __init__(
        self, pyramid: SlidePyramid, network: SegmentationNetwork, blocks: HaloBlocks, downsample: int = 1
    ) -> None:
        self._pyramid, self._network, self._blocks, self._downsample = pyramid, network, blocks, downsample

    def segment(self, col: int, row: int) -> Segmented:
        """One block."""
        blocks = self._blocks
        own, seen = blocks.own(col, row), blocks.seen(col, row)
        begun = time.perf_counter()
        pixels, is_known, reason = read_known(self._pyramid, 0, (seen.left, seen.top), seen.size)
        read = time.perf_counter()
        place = own.within(seen)
        if is_known.any():
            probability = self._network.probability(pixels)[place]
        else:
            probability = np.zeros((own.size[1], own.size[0]), np.float32)
        unknown = np.zeros(probability.shape, bool) if is_known.all() else self._affected(~is_known)[place]
        is_number = np.isfinite(probability)
        if not is_number.all():
            reason = reason or "the network's probability is no number"
            unknown |= ~is_number
        positive = probability >= np.float32(self._network.package.text.threshold)  # False for NaN
        # what is no probability is cut off, for the file alone
        shares = np.rint(np.clip(np.where(unknown, 0, probability), 0, 1) * 255).astype(np.uint8)
        labels = reduced_labels(np.where(unknown, UNKNOWN, positive).astype(np.uint8), self._downsample)
        shares = np.where(labels == UNKNOWN, 0, reduced_means(shares, self._downsample)).astype(np.uint8)
        seconds = Seconds(read=read - begun, compute=time.perf_counter() - read)
        return Segmented(labels, shares, reason if (labels == UNKNOWN).any() else "", seconds)

    def _affected(self, missing: npt.NDArray[np.bool_]) -> npt.NDArray[np.bool_]:
        """All that depends on what is missing, bool (H, W) as this: by the halo, which holds for whole strides."""
        stride = self._blocks.stride
        height, width = (extent // stride for extent in missing.shape)
        cells = np.asarray(missing.reshape(height, stride, width, stride).any(axis=(1, 3)))
        cells = grown(cells, self._blocks.grown_by // stride)
        return cells.repeat(stride, axis=0).repeat(stride, axis=1)


@dataclass(frozen=True)
class Segment:
    """Segments every slide with one network, which this rank has loaded."""

    order: SegmentOrder
    network: SegmentationNetwork

    @property
    def record(self) -> np.dtype[np.void]:
        """`RECORD`."""
        return RECORD

    @property
    def task(self) -> np.dtype[np.void]:
        """Nothing is said of a block beside its place."""
        return TILE_DTYPE

    @property
    def widths(self) -> tuple[int, ...]:
        """One level, no features."""
        return (0,)

    def first(self, rule: TileRule) -> TileArray:
        """All blocks."""
        return rule.roots()

    def closer(self, rule: TileRule, records: npt.NDArray[np.void]) -> TileArray:
        """Nothing follows from a block."""
        return np.empty(0, TILE_DTYPE)

    def contradictions(self, records: npt.NDArray[np.void]) -> npt.NDArray[np.bool_]:
        """Blocks with more pixels than there are, or without labels."""
        most = (self.order.side(self.network.package.text.total_stride) // self.order.downsample) ** 2
        counted = records["positive"].astype(np.int64) + records["unknown"]
        return np.asarray((counted > most) | (records[KEPT_BYTES] == 0))

    def on(self, slide: OpenSlide, rule: TileRule) -> BlocksOfSlide:
        """Begin on a slide that this rank has opened."""
        return BlocksOfSlide(slide, self)


class BlocksOfSlide:
    """Segments blocks of one slide."""

    def __init__(self, slide: OpenSlide, segment: Segment) -> None:
        order, network = segment.order, segment.network
        text = network.package.text
        blocks = blocks_of(slide.pyramid, text, order.side(text.total_stride))
        self._pyramid, self._keeps_probability = slide.pyramid, order.probability
        self._segmenter = BlockSegmenter(slide.pyramid, network, blocks, order.downsample)

    def prepare(self, tiles: TileArray) -> list[Found | None]:
        """Have the system fetch what blocks will need; decoding ahead would take the core that computes."""
        for tile in tiles:
            self._pyramid.expect_tile(0, int(tile["col"]), int(tile["row"]))
        return [None] * len(tiles)

    def close(self) -> None:
        """Close the slide."""
        self._pyramid.reader.close()

    def look(self, tiles: TileArray, prepared: Sequence[Found | None] | None = None) -> Look:
        """Segment blocks; one of which something could not be read is told as failed, and kept all the same."""
        records = np.zeros(len(tiles), RECORD)
        for name in TILE_DTYPE.names or ():
            records[name] = tiles[name]
        reasons, kept, spent = {}, [], np.zeros(3)
        for place, tile in enumerate(tiles):
            found = self._segmenter.segment(int(tile["col"]), int(tile["row"]))
            packed = pack_block(found.labels, found.probability if self._keeps_probability else None)
            counts = np.bincount(found.labels.reshape(-1), minlength=256)
            records["positive"][place], records["unknown"][place] = counts[YES], counts[UNKNOWN]
            records[KEPT_BYTES][place] = len(packed)
            kept.append(packed)
            spent += found.seconds
            if found.reason:
                reasons[place] = f"{counts[UNKNOWN]} of {found.labels.size} mask pixels: {found.reason}"
        seconds = Seconds(*spent.tolist())
        failed = failed_records(tiles, reasons)
        return Look(records, np.empty(0, TILE_DTYPE), failed, seconds=seconds, kept=b"".join(kept))


def pack_block(labels: Labels, probability: Labels | None) -> bytes:
    """A block's labels, and its probabilities after them, compressed."""
    layers = [labels] if probability is None else [labels, probability]
    return zlib.compress(b"".join(layer.tobytes() for layer in layers), 1)


def unpack_block(packed: bytes, shape: tuple[int, int], n_layers: int) -> npt.NDArray[np.uint8]:
    """Inverse of `pack_block`: uint8 (layers, h, w).

    Raises
    ------
    ValueError
        When the bytes are no such block.
    """
    try:
        plain = zlib.decompress(packed)
    except zlib.error as error:
        raise ValueError(f"a block that cannot be unpacked: {error}") from error
    return np.frombuffer(plain, np.uint8).reshape(n_layers, *shape)
