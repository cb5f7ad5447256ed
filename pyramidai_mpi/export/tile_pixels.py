"""Tiles of a result, read from its slide as the networks were given them, before stain normalisation."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

from pyramidai_mpi.base.errors import InputError
from pyramidai_mpi.export.cells import is_dense
from pyramidai_mpi.slides.pyramid import SlidePyramid
from pyramidai_mpi.store.results.dense import levels_of

if TYPE_CHECKING:
    from pyramidai_mpi.base.types import RgbArray
    from pyramidai_mpi.export.top_tiles import TopTile
    from pyramidai_mpi.slides.readers.base import SlideReader
    from pyramidai_mpi.store.results.tables import Header


def pyramid_of(reader: SlideReader, header: Header) -> SlidePyramid:
    """Lay the levels of a result over its slide again.

    Parameters
    ----------
    reader
        The open slide, which was seen to be the result's.
    header
        The result's description.

    Raises
    ------
    InputError
        When a level would be read otherwise than it was.
    """
    pyramid = SlidePyramid.build(
        reader,
        header.slide.mpp,
        tile_size=header.model.tile_size,
        base_mpp=header.model.base_mpp,
        scale_factor=header.model.scale_factor,
        n_levels=len(header.model.level_sha256),
        allow_upsampling=True,  # the run was allowed to, where it did
        levels=levels_of(header) if is_dense(header) else None,
    )
    for plan, level in zip(pyramid.plans, header.levels, strict=True):
        same = plan.stored_level == level.patch_level and math.isclose(plan.downsample, level.downsample)
        if not same or reader.info.l0_size != header.slide.l0_size:
            raise InputError(
                f"{reader.info.path}: its level {plan.level} is read otherwise now than when the result was made, by "
                f"version {header.software_version} of this program; analyse the slide again"
            )
    return pyramid


def read_shown(pyramid: SlidePyramid, header: Header, tile: TopTile) -> RgbArray:
    """Pixels that the network was given for a tile, or for the window of a cell, uint8 (side, side, 3).

    Raises
    ------
    UnreadableRegionError
        When pixels inside the slide cannot be had.
    """
    record = header.levels[tile.level]
    if record.block == 1:
        return pyramid.read_tile(tile.level, tile.col, tile.row)
    side, cell = header.model.tile_size, record.cell or header.model.tile_size
    corner = tile.col * cell - record.margin, tile.row * cell - record.margin
    return pyramid.read_window(tile.level, corner, (side, side))
