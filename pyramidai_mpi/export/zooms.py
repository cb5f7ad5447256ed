"""Finer pictures of a result with strides: the map of scores around its highest ones, cell by cell."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import numpy as np
from PIL import Image

from pyramidai_mpi.export.cell_look import CellLook
from pyramidai_mpi.export.page import data_uri
from pyramidai_mpi.export.top_tiles import highest_windows
from pyramidai_mpi.slides.pyramid import read_thumbnail

if TYPE_CHECKING:
    from pyramidai_mpi.export.picture import Picture
    from pyramidai_mpi.export.top_tiles import TopTile

_MOST = 3
_TRIED = 60
_WINDOWS_A_SIDE = 6
_SIDE = 448
_GAP = 8


@dataclass(frozen=True)
class Zoom:
    """One picture.

    Attributes
    ----------
    tile
        The highest-scored window there, in its middle where the slide goes on around it.
    l0_x, l0_y, l0_side
        What is shown, in level-0 pixels.
    uri
        The picture as a ``data:`` address: the slide, where it is at hand, and beside it the same coloured by score.
    width, height
        Its pixels.
    """

    tile: TopTile
    l0_x: int
    l0_y: int
    l0_side: int
    uri: str
    width: int
    height: int


def zooms_of(picture: Picture) -> list[Zoom]:
    """Pictures around the highest scores, six windows wide, none of which shows the window of another.

    None of a result without strides.

    Raises
    ------
    InputError
        When the result is damaged.
    """
    if not isinstance(picture.last_look, CellLook):
        return []
    side = round(_WINDOWS_A_SIDE * picture.header.model.tile_size * picture.header.levels[0].downsample)
    chosen: list[TopTile] = []
    for tile in highest_windows(picture.file, picture.header, _TRIED):
        if all(max(abs(tile.l0_x - one.l0_x), abs(tile.l0_y - one.l0_y)) >= side for one in chosen):
            chosen.append(tile)
        if len(chosen) == _MOST:
            break
    return [_zoom(picture, tile, side) for tile in chosen]


def _zoom(picture: Picture, tile: TopTile, side: int) -> Zoom:
    l0_size = picture.header.slide.l0_size
    fine = replace(picture, downsample=side / _SIDE)
    width, height = fine.size
    left, top = (
        max(0, min(round((corner + tile.l0_side / 2 - side / 2) / fine.downsample), extent - _SIDE))
        for corner, extent in ((tile.l0_x, width), (tile.l0_y, height))
    )
    right, bottom = min(left + _SIDE, width), min(top + _SIDE, height)
    part = np.s_[:, left:right]
    if picture.reader is None:
        slide = fine.slide(top, bottom)
    else:  # only what is shown is read
        slide = np.full((bottom - top, width, 3), 255, np.uint8)
        slide[part] = read_thumbnail(picture.reader, fine.downsample, (top, bottom), (left, right))[0]
    shown = [fine.overlay(top, bottom, slide=slide)[part]]
    if picture.reader is not None:
        shown = [slide[part], np.full((bottom - top, _GAP, 3), 255, np.uint8), *shown]
    pixels = np.concatenate(shown, axis=1)
    uri = data_uri(Image.fromarray(pixels), "JPEG", quality=85)
    l0_x, l0_y = round(left * fine.downsample), round(top * fine.downsample)
    return Zoom(tile, l0_x, l0_y, min(side, *l0_size), uri, pixels.shape[1], pixels.shape[0])
