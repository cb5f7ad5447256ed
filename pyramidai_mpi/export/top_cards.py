"""The highest-scored tiles as a report shows them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from PIL import Image

from pyramidai_mpi.export.page import data_uri, score_colours
from pyramidai_mpi.export.tile_pixels import pyramid_of, read_shown
from pyramidai_mpi.export.top_tiles import highest_last_looks
from pyramidai_mpi.slides.readers.base import UnreadableRegionError

if TYPE_CHECKING:
    from pyramidai_mpi.export.picture import Picture
    from pyramidai_mpi.export.top_tiles import TopTile
    from pyramidai_mpi.slides.pyramid import SlidePyramid
    from pyramidai_mpi.store.results.tables import Header

_MOST = 24
_SIDE = 256


@dataclass(frozen=True)
class Card:
    """One tile.

    Attributes
    ----------
    tile
        The tile.
    colour
        Of its score, for CSS.
    uri
        Its pixels as a ``data:`` address, at most 256 a side; empty where there are none to show.
    flaw
        Why it could not be read from the slide now.
    """

    tile: TopTile
    colour: str
    uri: str = ""
    flaw: str = ""


def top_cards(picture: Picture) -> list[Card]:
    """Cards of up to 24 tiles; without pixels where the slide is not at hand.

    Raises
    ------
    InputError
        When the result is damaged.
    """
    tiles = highest_last_looks(picture.file, picture.header, _MOST)
    colours = score_colours([tile.score for tile in tiles])
    if picture.reader is None:
        return [Card(*card) for card in zip(tiles, colours, strict=True)]
    pyramid = pyramid_of(picture.reader, picture.header)
    return [_with_pixels(pyramid, picture.header, *card) for card in zip(tiles, colours, strict=True)]


def _with_pixels(pyramid: SlidePyramid, header: Header, tile: TopTile, colour: str) -> Card:
    try:
        pixels = read_shown(pyramid, header, tile)
    except UnreadableRegionError as error:
        return Card(tile, colour, flaw=f"{error!s:.200}")
    image = Image.fromarray(pixels)
    image.thumbnail((_SIDE, _SIDE), Image.Resampling.BOX)
    return Card(tile, colour, data_uri(image, "JPEG", quality=85))
