"""Tiles of tissue drawn at random from slides, at every level of a model."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from pyramidai_mpi.analyses.classify import normaliser_of
from pyramidai_mpi.base.errors import InputError
from pyramidai_mpi.base.settings import SlideInput
from pyramidai_mpi.base.types import tiles_at
from pyramidai_mpi.models.engines.base import SeenTiles
from pyramidai_mpi.models.stain.map import StainError
from pyramidai_mpi.run.opening import open_under, rule_of, segment_slide
from pyramidai_mpi.run.stain import estimate_stain, own_stain_engine
from pyramidai_mpi.slides.readers.base import UnreadableRegionError

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from pathlib import Path

    import numpy.typing as npt

    from pyramidai_mpi.base.types import RgbArray, TileArray
    from pyramidai_mpi.models.package import ModelPackage
    from pyramidai_mpi.slides.pyramid import SlidePyramid


def sample_tiles(
    slides: Sequence[Path], package: ModelPackage, per_slide: int, seed: int, *, mpp: float | None = None
) -> list[list[SeenTiles]]:
    """Draw tiles that an exhaustive run would look at, without replacement, as the networks see them.

    Parameters
    ----------
    slides, package
        Which slides, and the model that says spacings and size of tiles, and whether stain is normalised.
    per_slide
        Most tiles of each level of each slide; a slide with little tissue has fewer.
    seed
        Equal seeds draw equal tiles.
    mpp
        µm per level-0 pixel, for slides that do not say.

    Returns
    -------
    list of list of SeenTiles
        For each level, level 0 first, and each slide. Unreadable tiles are left out.

    Raises
    ------
    InputError
        When a slide cannot be opened, its stain cannot be normalised, or none holds tissue.
    """
    stain_engine = own_stain_engine(package)
    drawn: list[list[SeenTiles]] = [[] for _ in range(package.n_levels)]
    for number, path in enumerate(slides):
        slide = open_under(SlideInput(path, mpp), package)
        try:
            rule = rule_of(slide, segment_slide(slide))
            normalise = normaliser_of(estimate_stain(slide, rule, package), stain_engine)
            tiles = rule.roots()
            for level in range(package.n_levels - 1, -1, -1):
                rng = np.random.default_rng([seed, number, level])
                chosen = tiles[np.sort(rng.permutation(len(tiles))[:per_slide])]
                pixels, readable = read_tiles(slide.pyramid, chosen, normalise)
                drawn[level].append(SeenTiles(pixels, positions_of(slide.pyramid, chosen[readable])))
                tiles = rule.children(tiles) if level else tiles_at(0, np.empty((0, 2), np.int64))
        finally:
            slide.pyramid.reader.close()
    if not any(len(part.pixels) for parts in drawn for part in parts):
        raise InputError(f"{slides[0]}: no tissue found on any of the slides; give slides with tissue")
    return drawn


def positions_of(pyramid: SlidePyramid, tiles: TileArray) -> npt.NDArray[np.float32]:
    """Where tiles of one level lie, float32 (n, 2), see `Grid.positions`."""
    if not len(tiles):
        return np.empty((0, 2), np.float32)
    level = int(tiles["level"][0])
    return pyramid.grid.positions(level, pyramid.grid.corners(level, np.stack([tiles["col"], tiles["row"]], axis=1)))


def read_tiles(
    pyramid: SlidePyramid, tiles: TileArray, normalise: Callable[[RgbArray], RgbArray] | None = None
) -> tuple[RgbArray, npt.NDArray[np.bool_]]:
    """Read tiles, normalise their stain if told how, and leave out those of which one or the other cannot be done.

    Returns
    -------
    pixels
        uint8 (m, T, T, 3) of the readable tiles, in their order.
    readable
        bool (n,), which of the n tiles these are.
    """
    side = pyramid.grid.region(int(tiles["level"][0])) if len(tiles) else pyramid.grid.window
    pixels = np.empty((len(tiles), side, side, 3), np.uint8)
    readable = np.ones(len(tiles), bool)
    for position, tile in enumerate(tiles):
        try:
            found = pyramid.read_tile(int(tile["level"]), int(tile["col"]), int(tile["row"]))
            pixels[position] = found if normalise is None else normalise(found)
        except (UnreadableRegionError, StainError):
            readable[position] = False
    return pixels[readable], readable
