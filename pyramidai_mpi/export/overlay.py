"""The picture everybody wants first: scores over the slide, and how closely each place was looked at."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
from PIL import Image, ImageDraw, ImageFont

from pyramidai_mpi.base.counts import counted
from pyramidai_mpi.base.errors import printable
from pyramidai_mpi.base.intended_use import claim_of, scores_mean_nothing
from pyramidai_mpi.export.cells import is_dense, look_label
from pyramidai_mpi.export.contour import CONTOUR, POSITIVE
from pyramidai_mpi.export.picture import look_colour, open_picture
from pyramidai_mpi.store.files.placing import placed

if TYPE_CHECKING:
    from pathlib import Path

    from pyramidai_mpi.base.types import RgbArray
    from pyramidai_mpi.export.picture import Picture
    from pyramidai_mpi.export.shown import Scale, Show

_LONG_SIDE = 1400
_BAND = 512
_GAP, _FOOT, _FONT_PX = 16, 68, 18
_LEAST_BANNER_FONT_PX, _BANNER_MARGIN = 18, 10
_RAMP_WIDTH = 180
INK = (30, 30, 30)
PAPER = (255, 255, 255)
_BANNER_GROUND = (255, 214, 0)
_MICRON = "\N{MICRO SIGN}"


def write_overlay(
    result: Path, target: Path, slide: Path | None = None, *, overwrite: bool = False, show: Show | None = None
) -> None:
    """Draw a result and write a PNG of two panels: the scores, and the level of the last look at every place.

    Above them, where the model's scores mean nothing, a banner says so, as wide as the picture.

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
    show
        What is shown in place of scores.

    Raises
    ------
    UsageError
        When the result has nothing of the kind to show.
    InputError
        When the result cannot be read, or the slide is another one than the result's.
    OutputExistsError, StorageError
        When the target is in the way or cannot be written.
    """
    inputs = [result] if slide is None else [result, slide]
    with placed(target, overwrite=overwrite, inputs=inputs) as temporary:
        with open_picture(result, slide, long_side=_LONG_SIDE, show=show) as picture:
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
    return round(length / um_px), f"{length / 1000:g} mm" if length >= 1000 else f"{length:g} {_MICRON}m"


def _draw(picture: Picture) -> Image.Image:
    overlay = _stacked([picture.overlay(*rows) for rows in _bands(picture)])
    look = _stacked([picture.look(*rows) for rows in _bands(picture)])
    height, width = overlay.shape[:2]
    panel = max(width, 480)
    beside = panels_side_by_side(width, height)
    second = (panel + _GAP, 0) if beside else (0, height + _FOOT)
    size = (2 * panel + _GAP, height + _FOOT) if beside else (panel, 2 * (height + _FOOT))
    sheet = Image.new("RGB", size, PAPER)
    sheet.paste(Image.fromarray(overlay), (0, 0))
    sheet.paste(Image.fromarray(look), second)
    draw = ImageDraw.Draw(sheet)
    draw.font = ImageFont.load_default(_FONT_PX)
    draw_ramp(sheet, draw, picture.scale, (8, height + 8))
    _draw_outlines(draw, picture, (8, height + 36))
    um_px = picture.header.slide.mpp * picture.downsample
    draw_scale_bar(draw, um_px, (panel, height + 8), width)
    _draw_levels(draw, picture, (second[0] + 8, second[1] + height + 8))
    intended_use = picture.header.model.intended_use
    return with_banner(sheet, claim_of(intended_use)) if scores_mean_nothing(intended_use) else sheet


def with_banner(sheet: Image.Image, text: str) -> Image.Image:
    """A picture below a text that fills its width, so that it can be read at whatever size the picture is shown."""
    inner = sheet.width - 2 * _BANNER_MARGIN
    trial = _LEAST_BANNER_FONT_PX
    font_px = max(trial, int(trial * inner / ImageFont.load_default(trial).getlength(text)))
    font = ImageFont.load_default(font_px)
    lines = wrapped(text, font, inner)
    line_px = round(1.25 * font_px)
    band = line_px * len(lines) + 2 * _BANNER_MARGIN
    whole = Image.new("RGB", (sheet.width, sheet.height + band), _BANNER_GROUND)
    draw = ImageDraw.Draw(whole)
    for number, line in enumerate(lines):
        x = (sheet.width - font.getlength(line)) / 2
        draw.text((x, _BANNER_MARGIN + number * line_px), line, fill=INK, font=font)
    whole.paste(sheet, (0, band))
    return whole


def wrapped(text: str, font: ImageFont.FreeTypeFont | ImageFont.ImageFont, width: int) -> list[str]:
    """The text in lines that are no wider, unless one word is."""
    lines = [""]
    for word in text.split():
        longer = f"{lines[-1]} {word}".strip()
        if font.getlength(longer) > width and lines[-1]:
            lines.append(word)
        else:
            lines[-1] = longer
    return lines


def _bands(picture: Picture) -> list[tuple[int, int]]:
    height = picture.size[1]
    return [(top, min(top + _BAND, height)) for top in range(0, height, _BAND)]


def _stacked(bands: list[RgbArray]) -> RgbArray:
    return np.concatenate(bands)


def draw_ramp(sheet: Image.Image, draw: ImageDraw.ImageDraw, scale: Scale, corner: tuple[int, int]) -> None:
    """Draw a scale with its ends and title."""
    x, y = corner
    low, high = f"{scale.low:.3g}", f"{scale.high:.3g}"
    draw.text((x, y), low, fill=INK)
    left = x + max(18, int(draw.textlength(low)) + 8)
    ramp = scale.colour(np.linspace(scale.low, scale.high, _RAMP_WIDTH)).astype(np.uint8)
    sheet.paste(Image.fromarray(np.ascontiguousarray(np.broadcast_to(ramp, (_FONT_PX, *ramp.shape)))), (left, y + 3))
    draw.text((left + _RAMP_WIDTH + 8, y), f"{high}   {printable(scale.title):.80}", fill=INK)


def _draw_outlines(draw: ImageDraw.ImageDraw, picture: Picture, corner: tuple[int, int]) -> None:
    """What the two outlines are of."""
    x, y = corner
    n_positive, threshold = picture.last_look.n_positive, picture.header.levels[0].threshold
    noun = "positive cell" if is_dense(picture.header) else "positive tile"
    for colour, label in (
        (CONTOUR, "tissue"),
        (POSITIVE, f"{counted(n_positive, noun)} (score >= {threshold:.3g})"),
    ):
        draw.rectangle((x, y + 3, x + 18, y + 20), outline=colour, width=2)
        draw.text((x + 24, y), label, fill=INK)
        x += 24 + int(draw.textlength(label)) + 24


def draw_scale_bar(draw: ImageDraw.ImageDraw, um_px: float, corner: tuple[int, int], width: int) -> None:
    """Draw the scale bar of a picture of so many pixels; it ends at a corner."""
    length, label = scale_bar(um_px, width)
    x, y = corner[0] - 8 - length, corner[1]
    write_text(draw, (x - 8 - text_length(draw, label), y), label)
    draw.rectangle((x, y + 9, x + length, y + 14), fill=INK)


def _draw_levels(draw: ImageDraw.ImageDraw, picture: Picture, corner: tuple[int, int]) -> None:
    x, y = corner
    draw.text((x, y), "last look:", fill=INK)
    x += int(draw.textlength("last look:")) + 14
    levels = picture.header.levels
    for n in range(len(levels) - 1, -1, -1):
        red, green, blue = look_colour(np.array([n]), len(levels))[0].astype(int).tolist()
        draw.rectangle((x, y + 3, x + 18, y + 20), fill=(red, green, blue))
        label = look_label(levels[n], _MICRON)
        write_text(draw, (x + 24, y), label)
        x += 24 + int(text_length(draw, label)) + 16


def write_text(draw: ImageDraw.ImageDraw, corner: tuple[float, float], text: str) -> None:
    """Draw a text; its µ, which Pillow's own font has not, as a u whose left stroke goes down below the line."""
    x, y = corner
    left, right, bottom = _stem_of_u(draw)
    for number, part in enumerate(text.split(_MICRON)):
        if number:
            draw.text((round(x), y), "u", fill=INK)
            below = bottom + 2 * (right - left + 1)
            draw.rectangle((round(x) + left, y + bottom - 2, round(x) + right, y + below), fill=INK)
            x += draw.textlength("u")
        draw.text((x, y), part, fill=INK)
        x += draw.textlength(part)


def _stem_of_u(draw: ImageDraw.ImageDraw) -> tuple[int, int, int]:
    """First and last column of the left stroke of a u, and the letter's last row, in pixels from where it is drawn."""
    _, _, right, bottom = map(int, draw.textbbox((0, 0), "u"))
    sheet = Image.new("L", (right + 2, bottom + 2))
    trial = ImageDraw.Draw(sheet)
    trial.font = draw.font
    trial.text((0, 0), "u", fill=255)
    ink = np.asarray(sheet) > 127
    rows = np.flatnonzero(ink.any(axis=1))
    columns = np.flatnonzero(ink[(rows[0] + rows[-1]) // 2])
    stem = columns[columns - columns[0] == np.arange(len(columns))]
    return int(stem[0]), int(stem[-1]), int(rows[-1])


def text_length(draw: ImageDraw.ImageDraw, text: str) -> float:
    """Pixels from the left end of what `write_text` draws to the right one."""
    return sum(draw.textlength(part) for part in text.split(_MICRON)) + text.count(_MICRON) * draw.textlength("u")
