"""A slide's stain, estimated once from tissue at low resolution, and what normalises it, or each tile's own."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np

from pyramidai_mpi.base.errors import InputError
from pyramidai_mpi.models.stain.engine import StainEngine
from pyramidai_mpi.models.stain.map import ReinhardTarget, colours_of, estimate
from pyramidai_mpi.ranks.collectives import share_bytes
from pyramidai_mpi.slides.readers.base import UnreadableRegionError

if TYPE_CHECKING:
    from mpi4py import MPI

    from pyramidai_mpi.analyses.base import OpenSlide
    from pyramidai_mpi.base.types import RgbArray
    from pyramidai_mpi.models.package import ModelPackage
    from pyramidai_mpi.models.stain.map import StainTarget
    from pyramidai_mpi.pyramid.rule import TileRule

MOST_TILES = 64
"""Roots that are looked at, spread over all: 200000 pixels at 224 px a tile and this step."""
_STEP = 4
"""Every fourth pixel of every fourth row: neighbours say the same."""


def estimate_stain(slide: OpenSlide, rule: TileRule, package: ModelPackage) -> OpenSlide:
    """The slide with the map of its stain, where the model asks for one of the slide and there is tissue.

    The same for the same slide and model, on whichever rank.

    Raises
    ------
    InputError
        When the slide's stain cannot be normalised, or none of those tiles can be read.
    """
    target = package.stain_target
    if target is None or package.stain_per != "slide" or not len(rule.roots()):
        return slide
    try:
        return replace(slide, stain=estimate(_tissue_pixels(slide, rule), target))
    except InputError as error:
        raise InputError(f"{slide.source.path}: {error}; leave the slide out, or normalise no stain") from error


def stain_of_slide(slide: OpenSlide, rule: TileRule, method: str) -> StainTarget:
    """A slide's own colours, by the method ``macenko`` or ``reinhard``, for a model to bring all slides to.

    Raises
    ------
    InputError
        When they cannot be told, or none of the tiles can be read.
    """
    try:
        return colours_of(_tissue_pixels(slide, rule), method)
    except InputError as error:
        raise InputError(f"{slide.source.path}: {error}; name another slide with --stain-target") from error


def _tissue_pixels(slide: OpenSlide, rule: TileRule) -> RgbArray:
    """Pixels (n, 3) from all over a slide's tissue."""
    roots = rule.roots()
    pixels = [np.empty((0, 3), np.uint8)]
    for tile in roots[np.unique(np.linspace(0, len(roots) - 1, MOST_TILES).astype(int))]:
        try:
            read = slide.pyramid.read_tile(int(tile["level"]), int(tile["col"]), int(tile["row"]))
        except UnreadableRegionError:
            continue
        pixels.append(read[::_STEP, ::_STEP].reshape(-1, 3))
    return np.concatenate(pixels)


def share_stain_engine(comm: MPI.Intracomm, package: ModelPackage) -> StainEngine | None:
    """Load what normalises stain on every rank, where the model asks for it; rank 0 writes its graph. Collective."""
    if package.stain_target is None:
        return None
    return StainEngine(share_bytes(comm, _graph_for(package) if comm.rank == 0 else None))


def own_stain_engine(package: ModelPackage) -> StainEngine | None:
    """As `share_stain_engine`, for this process alone."""
    return None if package.stain_target is None else StainEngine(_graph_for(package))


def _graph_for(package: ModelPackage) -> bytes:
    # loads the onnx library, which the other ranks then need not
    from pyramidai_mpi.models.stain.graph import stain_graph

    return stain_graph(mixes_channels=isinstance(package.stain_target, ReinhardTarget))
