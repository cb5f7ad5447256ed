"""Explained tiles as pictures: their pixels, and their maps laid over them."""

from __future__ import annotations

import math
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from PIL import Image

from pyramidai_mpi.base.errors import InputError
from pyramidai_mpi.base.odd_levels import odd_levels_of
from pyramidai_mpi.export.explained.scales import scale_of
from pyramidai_mpi.export.picture import is_slide_of
from pyramidai_mpi.slides.pyramid import SlidePyramid
from pyramidai_mpi.slides.readers.choice import open_slide

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    import numpy.typing as npt

    from pyramidai_mpi.base.types import RgbArray
    from pyramidai_mpi.export.shown import Scale
    from pyramidai_mpi.slides.readers.base import SlideReader
    from pyramidai_mpi.store.explanations.contents import Explanation

STRENGTH = 0.6
"""Of colours over pixels."""
GROUND = (255, 255, 255)


@dataclass(frozen=True)
class TilePixels:
    """Reads explained tiles from their slide, as the network was given them before stain normalisation.

    Attributes
    ----------
    explanation, reader
        The tiles, and the open slide.
    """

    explanation: Explanation
    reader: SlideReader
    _pyramid: SlidePyramid

    def read(self, number: int) -> RgbArray:
        """Pixels of a tile by its number, uint8 (side, side, 3).

        Raises
        ------
        UnreadableRegionError
            When pixels inside the slide cannot be had.
        """
        explanation = self.explanation
        x, y = (round(corner / explanation.downsample) for corner in explanation.tiles.l0_coords[number].tolist())
        side = explanation.model.tile_size
        return self._pyramid.read_window(explanation.level, (x, y), (side, side))


@contextmanager
def open_tiles(explained: Path, explanation: Explanation, slide: Path | None) -> Iterator[TilePixels | None]:
    """Open the slide of explained tiles, where it is at hand.

    Raises
    ------
    InputError
        When it cannot be read, is another one, or would be read otherwise than it was.
    """
    if slide is None:
        yield None
        return
    if not is_slide_of(slide, explanation):
        raise InputError(f"{slide}: is not the slide that {explained} is of ({explanation.slide.name})")
    odd_levels = odd_levels_of(explanation.execution.attributes)
    reader, model = open_slide(slide, odd_levels=odd_levels), explanation.model
    try:
        pyramid = SlidePyramid.build(
            reader,
            explanation.slide.mpp,
            tile_size=model.tile_size,
            base_mpp=model.base_mpp,
            scale_factor=model.scale_factor,
            n_levels=len(model.level_sha256),
            allow_upsampling=True,  # whoever explained them was allowed to, where they did
        )
        plan = pyramid.plans[explanation.level]
        if (
            not math.isclose(plan.downsample, explanation.downsample)
            or reader.info.l0_size != explanation.slide.l0_size
        ):
            raise InputError(f"{slide}: is read otherwise now than when its tiles were explained; explain them again")
        yield TilePixels(explanation, reader, pyramid)
    finally:
        reader.close()


def by_score(explanation: Explanation) -> list[int]:
    """Numbers of the readable tiles, the highest score first, equal ones in their order."""
    score = explanation.score
    readable = np.flatnonzero(np.isfinite(score))
    order: list[int] = readable[np.argsort(-score[readable], kind="stable")].tolist()
    return order


def own_scale(explanation: Explanation, number: int) -> Scale:
    """The scale of one tile's map alone, so that the place shows where all of it is weak."""
    return scale_of(explanation, explanation.tiles.maps[number])


def coloured(values: npt.NDArray[np.float32], scale: Scale) -> npt.NDArray[np.float64]:
    """Colours of numbers (h, w): float64 (h, w, 3), 0 to 255; NaN has that of the scale's beginning."""
    flat = np.where(np.isnan(values), np.float32(scale.low), values).ravel()
    return scale.colour(flat).reshape(*values.shape, 3)


def map_over(pixels: RgbArray | None, values: npt.NDArray[np.float32], scale: Scale, side: int) -> RgbArray:
    """A map over grey pixels, uint8 (side, side, 3); alone without pixels.

    The map is enlarged without smoothing: it shows how fine it is. Pixels are grey below it, as their stain is a colour
    too.
    """
    height, width = values.shape
    rows, cols = (((np.arange(side) + 0.5) * extent / side).astype(np.int64) for extent in (height, width))
    colour = coloured(values, scale)[np.ix_(rows, cols)]
    if pixels is not None:
        grey = np.asarray(Image.fromarray(pixels).convert("L").resize((side, side), Image.Resampling.BOX), np.float64)
        colour = STRENGTH * colour + (1 - STRENGTH) * grey[..., None]
    return np.rint(colour).astype(np.uint8)
