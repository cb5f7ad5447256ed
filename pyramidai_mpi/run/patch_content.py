"""What a file of patches is to hold, from the records of all cells that were looked at."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from pyramidai_mpi.analyses.extract import passes, pixels_of
from pyramidai_mpi.base.types import index_of, kept_lengths, tile_keys
from pyramidai_mpi.run.cells import settings_of
from pyramidai_mpi.slides.encoded_tiles import EncodedTiles
from pyramidai_mpi.store.patches.record import (
    IMAGE_CODINGS,
    ImageStore,
    PatchSlide,
    TileStore,
    origin_of,
    patch_table,
)
from pyramidai_mpi.store.patches.writer import KeptImages, KeptTiles, PatchContent

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    import numpy.typing as npt

    from pyramidai_mpi.analyses.base import OpenSlide
    from pyramidai_mpi.base.patch_order import PatchOrder
    from pyramidai_mpi.pyramid.cells import CellRule


def content_of(
    slide: OpenSlide,
    rule: CellRule,
    order: PatchOrder,
    records: npt.NDArray[np.void],
    failed: npt.NDArray[np.void],
    read: Callable[[int, int], bytes] | None = None,
    origin: Mapping[str, str] | None = None,
) -> PatchContent:
    """What was found of a slide, in the order of its file.

    Parameters
    ----------
    records, failed
        `RECORD` and `FAILED_DTYPE` records of all cells that were looked at, in any order.
    read
        Gives the bytes from a place on, of those that are kept of all cells in the order of `records`; None where there
        are none.
    origin
        Where the slide is from; None takes what its name says.
    """
    lengths = kept_lengths(records)
    places = np.cumsum(lengths) - lengths
    within = passes(order.limits, records)
    needed = rule.settled(index_of(records), within)
    is_readable = ~np.isin(tile_keys(records), tile_keys(failed))
    order_of_file = np.argsort(tile_keys(records))
    kept = order_of_file[(needed & is_readable & within)[order_of_file]]
    taken, failed = records[kept], failed[np.argsort(tile_keys(failed))]
    index = index_of(taken)
    patches = patch_table(slide.pyramid.grid, index, taken["tissue"])
    for name in ("tumor", "white", "black", "label"):
        patches[name] = taken[name]
    info, pixels = slide.pyramid.reader.info, pixels_of(slide, order)
    origin = origin_of(info.name) if origin is None else origin
    return PatchContent(
        PatchSlide(info.name, slide.quickhash, info.vendor, info.l0_size, slide.mpp, origin),
        settings_of(slide, order, rule.tissue.source),
        patches,
        failed[np.isin(tile_keys(failed), tile_keys(records[needed]))],
        int(rule.candidates().sum()),
        _kept(slide, index) if pixels == "stored" else None,
        images=_pictures(ImageStore(pixels, order.jpeg_quality), places[kept], lengths[kept], read)
        if pixels in IMAGE_CODINGS
        else None,
        n_refused=int(np.count_nonzero(needed & is_readable & ~within)),
    )


def _pictures(
    store: ImageStore,
    places: npt.NDArray[np.int64],
    lengths: npt.NDArray[np.int64],
    read: Callable[[int, int], bytes] | None,
) -> KeptImages:
    """Pictures of patches (N,), by the places and lengths of their bytes."""

    def picture(number: int) -> bytes:
        assert read is not None
        return read(int(places[number]), int(lengths[number]))

    return KeptImages(store, lengths, picture)


def _kept(slide: OpenSlide, index: npt.NDArray[np.integer]) -> KeptTiles:
    """The encoded tiles that patches need."""
    tiles = EncodedTiles(slide.pyramid)
    mosaic, coding = tiles.stored.mosaic, tiles.stored.coding
    grid = slide.pyramid.grid
    numbers = mosaic.tiles_in_any(*tiles.spans(grid.corners(0, index), grid.window))
    store = TileStore(mosaic.size, mosaic.tile_size, coding.name, coding.tables, coding.is_ycbcr, coding.differences)
    return KeptTiles(store, numbers, tiles.stored.counts[numbers], tiles.read)
