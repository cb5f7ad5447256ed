"""The picture everybody wants first: scores over the slide, and how closely each place was looked at."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
from PIL import Image, ImageDraw, ImageFont

from pyramidai_mpi.base.errors import printable
from pyramidai_mpi.export.picture import look_colour, open_picture, score_colour
from pyramidai_mpi.store.files.placing import placed

if TYPE_CHECKING:
    from pathlib import Path

    from pyramidai_mpi.base.types import RgbArray
    from pyramidai_mpi.export.picture import Picture

_LONG_SIDE = 1400
_BAND = 512
_GAP, _FOOT, _FONT_PX = 16, 40, 18
_RAMP_WIDTH = 180
_INK = (30, 30, 30)
_MICRON = "um"  # Pillow's own font has no µ


def write_overlay(result: Path, target: Path, slide: Path | None = None, *, overwrite: bool = False) -> None:
    """Draw a result and write a PNG of two panels: the scores, and the level of the last look at every place.

    Parameters
    ----------
    result
        Result file.
    target
        PNG to write.
    slide
        The slide it was made from; without it the panels are drawn over the tissue mask.
    overwrite
        Replace an existing file.

    Raises
    ------
    InputError
        When the result cannot be read, or the slide is another one than the result's.
    OutputExistsError, StorageError
        When the target is in the way or cannot be written.
    """
    inputs = [result] if slide is None else [result, slide]
    with placed(target, overwrite=overwrite, inputs=inputs) as temporary:
        with open_picture(result, slide, long_side=_LONG_SIDE) as picture:
            drawn = _draw(picture)
        drawn.save(temporary, format="PNG")


def panels_side_by_side(width: int, height: int) -> bool:
    """Whether the panels stand beside each other; wide ones stand below each other."""
    return width <= 1.3 * height


def scale_bar(um_px: float, width: int) -> tuple[int, str]:
    """Length in pixels and label of a scale bar of 1, 2 or 5 times a power of ten, at most a fifth of the width."""
    most = um_px * width / 5
    power = 10.0 ** np.floor(np.log10(most))
    length = next(step * power for step in (5, 2, 1) if step * power <= most)
    return round(length / um_px), f"{length / 1000:g} mm" if length >= 1000 else f"{length:g} {_MICRON}"


def _draw(picture: Picture) -> Image.Image:
    overlay = _stacked([picture.overlay(*rows) for rows in _bands(picture)])
    look = _stacked([picture.look(*rows) for rows in _bands(picture)])
    height, width = overlay.shape[:2]
    panel = max(width, 480)
    beside = panels_side_by_side(width, height)
    second = (panel + _GAP, 0) if beside else (0, height + _FOOT)
    size = (2 * panel + _GAP, height + _FOOT) if beside else (panel, 2 * (height + _FOOT))
    sheet = Image.new("RGB", size, (255, 255, 255))
    sheet.paste(Image.fromarray(overlay), (0, 0))
    sheet.paste(Image.fromarray(look), second)
    draw = ImageDraw.Draw(sheet)
    draw.font = ImageFont.load_default(_FONT_PX)
    _draw_ramp(sheet, draw, picture.header.model.positive_class, (8, height + 8))
    _draw_scale_bar(draw, picture, (panel, height + 8), width)
    _draw_levels(draw, picture, (second[0] + 8, second[1] + height + 8))
    return sheet


def _bands(picture: Picture) -> list[tuple[int, int]]:
    height = picture.size[1]
    return [(top, min(top + _BAND, height)) for top in range(0, height, _BAND)]


def _stacked(bands: list[RgbArray]) -> RgbArray:
    return np.concatenate(bands)


def _draw_ramp(sheet: Image.Image, draw: ImageDraw.ImageDraw, name: str, corner: tuple[int, int]) -> None:
    x, y = corner
    draw.text((x, y), "0", fill=_INK)
    ramp = score_colour(np.linspace(0, 1, _RAMP_WIDTH)).astype(np.uint8)
    sheet.paste(Image.fromarray(np.ascontiguousarray(np.broadcast_to(ramp, (_FONT_PX, *ramp.shape)))), (x + 18, y + 3))
    draw.text((x + 18 + _RAMP_WIDTH + 8, y), f"1   {printable(name):.80}", fill=_INK)


def _draw_scale_bar(draw: ImageDraw.ImageDraw, picture: Picture, corner: tuple[int, int], width: int) -> None:
    length, label = scale_bar(picture.header.slide.mpp * picture.downsample, width)
    x, y = corner[0] - 8 - length, corner[1]
    draw.text((x - 8 - draw.textlength(label), y), label, fill=_INK)
    draw.rectangle((x, y + 9, x + length, y + 14), fill=_INK)


def _draw_levels(draw: ImageDraw.ImageDraw, picture: Picture, corner: tuple[int, int]) -> None:
    x, y = corner
    draw.text((x, y), "last look:", fill=_INK)
    x += int(draw.textlength("last look:")) + 14
    levels = picture.header.levels
    for n in range(len(levels) - 1, -1, -1):
        red, green, blue = look_colour(np.array([n]), len(levels))[0].astype(int).tolist()
        draw.rectangle((x, y + 3, x + 18, y + 20), fill=(red, green, blue))
        label = f"{levels[n].spacing_um_px:.2g} {_MICRON}/px"
        draw.text((x + 24, y), label, fill=_INK)
        x += 24 + int(draw.textlength(label)) + 16
