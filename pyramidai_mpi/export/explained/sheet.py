"""A sheet of explained tiles: each beside its map, with its curves of deletion and insertion against random ones."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
from PIL import Image, ImageDraw, ImageFont

from pyramidai_mpi.base.counts import counted
from pyramidai_mpi.base.errors import printable
from pyramidai_mpi.base.intended_use import claim_of, scores_mean_nothing
from pyramidai_mpi.export.explained.pictures import by_score, map_over, open_tiles, own_scale
from pyramidai_mpi.export.explained.scales import UNSIGNED
from pyramidai_mpi.export.explained.words import CAVEAT, title_of
from pyramidai_mpi.export.overlay import INK, PAPER, with_banner, wrapped
from pyramidai_mpi.export.shown import SIGNED, along
from pyramidai_mpi.slides.readers.base import UnreadableRegionError
from pyramidai_mpi.store.explanations.reader import read_explanation
from pyramidai_mpi.store.files.placing import placed

if TYPE_CHECKING:
    from pathlib import Path

    import numpy.typing as npt

    from pyramidai_mpi.export.explained.pictures import TilePixels
    from pyramidai_mpi.store.explanations.contents import Explanation

MOST = 48
"""Tiles on a sheet, the highest score first."""
SIDE = 160
"""Pixels of a tile, a map and a plot of curves."""
_GAP, _MARGIN, _FOOT = 8, 16, 62
_FONT_PX, _LINE, _SMALL_PX, _SMALL_LINE = 18, 24, 13, 18
_ACROSS = 2
DELETION, INSERTION = (0, 114, 178), (213, 94, 0)
"""Blue and vermilion of Okabe and Ito (2008); random ones are dashed, too."""
_AXIS, _FLAW = (150, 150, 150), (235, 235, 235)


def write_explained_sheet(explained: Path, target: Path, slide: Path | None = None, *, overwrite: bool = False) -> None:
    """Draw the 48 explained tiles with the highest scores as a PNG.

    Each has its pixels (with the slide), its map over them on a scale of its own, and where they were asked for the
    curves: the class's score from 0 to 1 over the share of pixels that are deleted or inserted, by the map in one line,
    by a random map in a dashed one. Numbers below are the areas under them.

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
        drawn.save(temporary, format="PNG", compress_level=3)  # a third of the time for 4 % more bytes


def _draw(explanation: Explanation, pixels: TilePixels | None) -> Image.Image:
    chosen = by_score(explanation)[:MOST]
    n_panels = 1 + (pixels is not None) + explanation.tiles.has_curves
    card = n_panels * SIDE + (n_panels - 1) * _GAP
    # two cards' width in any case, for the text above
    width = 2 * _MARGIN + max(_ACROSS * card + (_ACROSS - 1) * 3 * _GAP, 2 * (SIDE + _GAP) * 2)
    font = ImageFont.load_default(_FONT_PX)
    said = [line for text in _said(explanation, len(chosen)) for line in wrapped(text, font, width - 2 * _MARGIN)]
    head = _MARGIN + _LINE * (len(said) + 1) + _GAP
    n_rows = -(-len(chosen) // _ACROSS)
    sheet = Image.new("RGB", (width, head + n_rows * (SIDE + _FOOT) + _MARGIN), PAPER)
    draw = ImageDraw.Draw(sheet)
    draw.font = font
    for number, line in enumerate(said):
        draw.text((_MARGIN, _MARGIN + number * _LINE), line, fill=INK)
    _draw_key(sheet, draw, explanation, (_MARGIN, _MARGIN + len(said) * _LINE))
    for place, number in enumerate(chosen):
        left = _MARGIN + place % _ACROSS * (card + 3 * _GAP)
        _draw_card(sheet, explanation, pixels, number, (left, head + place // _ACROSS * (SIDE + _FOOT)))
    use = explanation.model.intended_use
    return with_banner(sheet, claim_of(use)) if scores_mean_nothing(use) else sheet


def _said(explanation: Explanation, n_shown: int) -> list[str]:
    n_tiles = len(explanation.tiles) - len(explanation.failed)
    shown = f"{n_shown} of {counted(n_tiles, 'tile')}, the highest score first"
    said = [f"{explanation.slide.name}, {explanation.model.name}: {title_of(explanation)}", f"{shown}. {CAVEAT}"]
    return [printable(text) for text in said]


def _draw_key(sheet: Image.Image, draw: ImageDraw.ImageDraw, explanation: Explanation, corner: tuple[int, int]) -> None:
    """What colours and lines are; colours without numbers, as each map has its own."""
    x, y = corner
    words, anchors = (("against", "for"), SIGNED) if explanation.is_signed else (("least", "most"), UNSIGNED)
    draw.text((x, y), words[0], fill=INK)
    x += int(draw.textlength(words[0])) + 8
    ramp = np.rint(along(np.linspace(0, 1, 100), anchors)).astype(np.uint8)
    sheet.paste(Image.fromarray(np.ascontiguousarray(np.broadcast_to(ramp, (_FONT_PX, 100, 3)))), (x, y + 3))
    draw.text((x + 108, y), words[1], fill=INK)
    x += 108 + int(draw.textlength(words[1])) + 24
    if explanation.tiles.has_curves:
        for name, colour in (("deletion", DELETION), ("insertion", INSERTION)):
            draw.line((x, y + 12, x + 24, y + 12), fill=colour, width=3)
            draw.text((x + 30, y), name, fill=INK)
            x += 30 + int(draw.textlength(name)) + 16
        for start in range(0, 24, 8):
            draw.line((x + start, y + 12, x + start + 3, y + 12), fill=INK, width=2)
        draw.text((x + 30, y), "random; score 0 to 1 over share of pixels", fill=INK)


def _draw_card(
    sheet: Image.Image, explanation: Explanation, pixels: TilePixels | None, number: int, corner: tuple[int, int]
) -> None:
    left, top = corner
    x, tile = left, None
    draw = ImageDraw.Draw(sheet)
    draw.font = ImageFont.load_default(_SMALL_PX)
    if pixels is not None:
        try:
            tile = pixels.read(number)
        except UnreadableRegionError:
            draw.rectangle((x, top, x + SIDE - 1, top + SIDE - 1), fill=_FLAW)
            draw.text((x + 8, top + SIDE // 2 - 8), "could not be read", fill=INK)
        else:
            sheet.paste(Image.fromarray(tile).resize((SIDE, SIDE), Image.Resampling.BOX), (x, top))
        x += SIDE + _GAP
    shown = map_over(tile, explanation.tiles.maps[number], own_scale(explanation, number), SIDE)
    sheet.paste(Image.fromarray(shown), (x, top))
    x += SIDE + _GAP
    tiles = explanation.tiles
    if tiles.has_curves:
        draw.rectangle((x, top, x + SIDE - 1, top + SIDE - 1), outline=_AXIS)
        for curve, colour, is_random in (
            (tiles.random_deletion[number], DELETION, True),
            (tiles.random_insertion[number], INSERTION, True),
            (tiles.deletion[number], DELETION, False),
            (tiles.insertion[number], INSERTION, False),
        ):
            _draw_curve(draw, curve, colour, (x, top), dashed=is_random)
    for line, text in enumerate(_lines(explanation, number)):
        draw.text((left, top + SIDE + 4 + line * _SMALL_LINE), printable(text), fill=INK)


def _draw_curve(
    draw: ImageDraw.ImageDraw,
    curve: npt.NDArray[np.float32],
    colour: tuple[int, int, int],
    corner: tuple[int, int],
    *,
    dashed: bool,
) -> None:
    """A score from 0 to 1 from left to right."""
    x = corner[0] + np.linspace(1, SIDE - 2, len(curve))
    y = corner[1] + SIDE - 2 - np.clip(curve.astype(np.float64), 0, 1) * (SIDE - 3)
    if not dashed:
        draw.line(list(zip(x.tolist(), y.tolist(), strict=True)), fill=colour, width=2)
        return
    for start in range(0, SIDE, 8):
        ends = corner[0] + np.array([start, min(start + 4, SIDE - 1)])
        first, last = np.interp(ends, x, y).tolist()
        draw.line((float(ends[0]), first, float(ends[1]), last), fill=colour, width=1)


def _lines(explanation: Explanation, number: int) -> list[str]:
    tiles = explanation.tiles
    x, y = tiles.l0_coords[number].tolist()
    repeats = tiles.repeatability[number]
    said = "" if np.isnan(repeats) else f", repeats to {repeats:.2f}"
    lines = [f"{explanation.class_name:.24} {explanation.score[number]:.3f}{said}", f"x {x}, y {y}"]
    if areas := tiles.areas():
        one = {name: float(area[number]) for name, area in areas.items()}
        lines[1] += (
            f"; deletion {one['deletion']:.2f} (random {one['random_deletion']:.2f}), "
            f"insertion {one['insertion']:.2f} ({one['random_insertion']:.2f})"
        )
    return lines
