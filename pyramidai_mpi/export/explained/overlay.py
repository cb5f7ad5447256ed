"""The stitched maps of explained tiles over the slide, as a PNG."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import numpy as np
from PIL import Image, ImageDraw, ImageFont

from pyramidai_mpi.base.counts import counted
from pyramidai_mpi.base.errors import printable
from pyramidai_mpi.base.intended_use import claim_of, scores_mean_nothing
from pyramidai_mpi.export.explained.pictures import GROUND, STRENGTH, coloured, open_tiles
from pyramidai_mpi.export.explained.scales import scale_of
from pyramidai_mpi.export.explained.stitched import pyramid_of, seen_at, stitched
from pyramidai_mpi.export.explained.words import CAVEAT
from pyramidai_mpi.export.overlay import INK, PAPER, draw_ramp, draw_scale_bar, with_banner, wrapped
from pyramidai_mpi.slides.pyramid import read_thumbnail
from pyramidai_mpi.store.explanations.reader import read_explanation
from pyramidai_mpi.store.files.placing import placed

if TYPE_CHECKING:
    from pathlib import Path

    from pyramidai_mpi.export.explained.pictures import TilePixels
    from pyramidai_mpi.store.explanations.contents import Explanation

_LONG_SIDE, _LEAST_WIDTH = 1400, 720
_BAND, _FONT_PX, _LINE = 256, 18, 24


def write_explained_overlay(
    explained: Path, target: Path, slide: Path | None = None, *, overwrite: bool = False
) -> None:
    """Draw the slide with the attribution of its explained tiles; below it the scale, and what an attribution is not.

    Without the slide the ground is white. A spot that is smaller than a pixel is drawn as one. Above the picture, where
    the model's scores mean nothing, a banner says so.

    Raises
    ------
    InputError
        When the explanations cannot be read, or the slide is another one.
    OutputExistsError, StorageError
        When the target is in the way or cannot be written.
    """
    explanation = read_explanation(explained)
    inputs = [explained] if slide is None else [explained, slide]
    with placed(target, overwrite=overwrite, inputs=inputs) as temporary:
        with open_tiles(explained, explanation, slide) as pixels:
            drawn = _draw(explanation, pixels)
        drawn.save(temporary, format="PNG")


def _draw(explanation: Explanation, pixels: TilePixels | None) -> Image.Image:
    l0_size = explanation.slide.l0_size
    downsample = max(1.0, max(l0_size) / _LONG_SIDE)
    width, height = (math.ceil(side / downsample) for side in l0_size)
    scale = scale_of(explanation)
    levels = pyramid_of(stitched(explanation), signed=scale.is_signed)
    sheet = Image.new("RGB", (max(width, _LEAST_WIDTH), height), PAPER)
    for top in range(0, height, _BAND):
        bottom = min(top + _BAND, height)
        band = np.full((bottom - top, width, 3), GROUND, np.uint8)
        if pixels is not None:
            band = read_thumbnail(pixels.reader, downsample, (top, bottom))[0]
        values = seen_at(levels, downsample, (top, bottom), (0, width))
        shown = np.isfinite(values)
        # grey below the colours, as the stain is a colour too
        grey = np.asarray(Image.fromarray(band).convert("L"), np.float64)[..., None]
        tinted = STRENGTH * coloured(values, scale) + (1 - STRENGTH) * grey
        band = np.where(shown[..., None], np.rint(tinted), band).astype(np.uint8)
        sheet.paste(Image.fromarray(band), (0, top))
    return _with_foot(sheet, explanation, scale_of_picture=(downsample * explanation.slide.mpp, width))


def _with_foot(sheet: Image.Image, explanation: Explanation, scale_of_picture: tuple[float, int]) -> Image.Image:
    font = ImageFont.load_default(_FONT_PX)
    n_tiles = len(explanation.tiles) - len(explanation.failed)
    said = wrapped(printable(f"{counted(n_tiles, 'tile')} explained. {CAVEAT}"), font, sheet.width - 16)
    whole = Image.new("RGB", (sheet.width, sheet.height + 2 * _LINE + 16 + _LINE * len(said)), PAPER)
    whole.paste(sheet, (0, 0))
    draw = ImageDraw.Draw(whole)
    draw.font = font
    um_px, width = scale_of_picture
    draw_scale_bar(draw, um_px, (whole.width, sheet.height + 8), width)
    draw_ramp(whole, draw, scale_of(explanation), (8, sheet.height + 8 + _LINE))
    for number, line in enumerate(said, 2):
        draw.text((8, sheet.height + 8 + number * _LINE), line, fill=INK)
    use = explanation.model.intended_use
    return with_banner(whole, claim_of(use)) if scores_mean_nothing(use) else whole
