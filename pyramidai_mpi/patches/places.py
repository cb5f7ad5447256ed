"""Where patches lie: the slide reduced, as far as it is at hand, and the cells of each label over it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from PIL import Image

from pyramidai_mpi.base.counts import counted
from pyramidai_mpi.base.errors import InputError
from pyramidai_mpi.export.page import data_uri
from pyramidai_mpi.patches.label_colours import css, label_colours
from pyramidai_mpi.pyramid.draws import draw
from pyramidai_mpi.slides.pyramid import read_thumbnail
from pyramidai_mpi.slides.readers.base import UnreadableRegionError
from pyramidai_mpi.slides.readers.kept_level import KeptLevel

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    import numpy.typing as npt

    from pyramidai_mpi.base.types import RgbArray
    from pyramidai_mpi.patches.label_colours import Colour
    from pyramidai_mpi.slides.readers.base import SlideReader
    from pyramidai_mpi.store.patches.reader import PatchFile
    from pyramidai_mpi.store.patches.record import PatchHeader, TileStore

_LONG_SIDE = 1000
_NOT_KEPT = (224, 228, 234)
_MOST_PATCHES = 4000
"""Pictures of patches that are put together to one of the slide: decoding them takes 20 s at most."""


@dataclass(frozen=True)
class Base:
    """What lies below the places.

    Attributes
    ----------
    said
        What it is, in a sentence.
    uri
        The picture as a ``data:`` address; empty for none.
    width, height
        What it covers, as parts of the slide's width and height.
    """

    said: str
    uri: str = ""
    width: float = 1.0
    height: float = 1.0


def slide_base(reader: SlideReader) -> Base:
    """The slide itself."""
    l0_size = reader.info.l0_size
    downsample = max(1.0, max(l0_size) / _LONG_SIDE)
    rgb, readable, _ = read_thumbnail(reader, downsample)
    height, width = rgb.shape[:2]
    said = (
        "The picture is the slide, reduced."
        if readable.all()
        else "The picture is the slide, reduced; parts of it cannot be read."
    )
    return Base(
        said,
        data_uri(Image.fromarray(rgb), "JPEG", quality=80),
        width * downsample / l0_size[0],
        height * downsample / l0_size[1],
    )


def kept_base(file: PatchFile, read: Callable[[int], RgbArray] | None) -> Base:
    """The slide as far as a file of patches keeps its tiles or pictures; an empty one where it keeps neither.

    Each tile is decoded once, and reduced for itself: five times faster than `read_thumbnail`, which looks closer
    wherever something is not kept.

    Parameters
    ----------
    file
        The file.
    read
        Gives the pixels of a patch; None where the file has none.
    """
    header = file.header
    if header.tiles is not None:
        return _base_of_tiles(file, header.tiles)
    if read is not None:
        return _base_of_patches(header, file.patches, read)
    return Base("The file keeps no pixels of the slide; with --slide SLIDE the slide is shown below the places.")


def _base_of_tiles(file: PatchFile, store: TileStore) -> Base:
    header, level = file.header, KeptLevel(file, store)
    ratio = max(1.0, max(store.level_size) / _LONG_SIDE)
    tile_width, tile_height = store.tile_size
    whole = (round(level.mosaic.columns * tile_width / ratio) + 1, round(level.mosaic.rows * tile_height / ratio) + 1)
    rgb: RgbArray = np.full((whole[1], whole[0], 3), _NOT_KEPT, np.uint8)
    n_damaged = 0
    for row, number in enumerate(file.tile_index["number"].tolist()):
        tile_row, col = divmod(number, level.mosaic.columns)
        left, right = round(col * tile_width / ratio), round((col + 1) * tile_width / ratio)
        top, bottom = round(tile_row * tile_height / ratio), round((tile_row + 1) * tile_height / ratio)
        if left == right or top == bottom:
            continue  # less than a pixel: its neighbour stands for it
        try:
            tile = Image.fromarray(level.decode(row))
        except (InputError, UnreadableRegionError):
            n_damaged += 1
            continue
        rgb[top:bottom, left:right] = np.asarray(tile.resize((right - left, bottom - top), Image.Resampling.BOX))
    width, height = (max(1, round(side / ratio)) for side in store.level_size)
    scale = ratio * header.settings.stored_downsample
    said = "The picture is put together from the slide's tiles that the file keeps; grey is not kept."
    if n_damaged:
        said += f" {counted(n_damaged, 'tile')} of {header.n_tiles} cannot be decoded."
    return Base(
        said,
        data_uri(Image.fromarray(rgb[:height, :width]), "JPEG", quality=80),
        width * scale / header.slide.l0_size[0],
        height * scale / header.slide.l0_size[1],
    )


def _base_of_patches(header: PatchHeader, table: npt.NDArray[np.void], read: Callable[[int], RgbArray]) -> Base:
    l0_size, l0_side = header.slide.l0_size, header.settings.size * header.settings.downsample
    downsample = max(1.0, max(l0_size) / _LONG_SIDE)
    index = np.stack([table["col"], table["row"]], axis=1)
    shown = draw(index, _MOST_PATCHES, 0, header.slide.quickhash).tolist()
    width, height = reduced(l0_size, downsample)
    picture = Image.new("RGB", (width, height), _NOT_KEPT)
    n_damaged = 0
    for number in shown:
        left, top = (round(int(table[name][number]) / downsample) for name in ("l0_x", "l0_y"))
        right, bottom = (round((int(table[name][number]) + l0_side) / downsample) for name in ("l0_x", "l0_y"))
        try:
            patch = Image.fromarray(read(number))
        except InputError:
            n_damaged += 1
            continue
        size = max(1, right - left), max(1, bottom - top)
        picture.paste(patch.resize(size, Image.Resampling.BOX), (left, top))
    which = f"{len(shown)} of the patches" if len(shown) < len(table) else "the patches"
    said = f"The picture is put together from {which}; what is grey they do not show."
    if n_damaged:
        said += f" {n_damaged} of them cannot be read."
    return Base(
        said, data_uri(picture, "JPEG", quality=80), width * downsample / l0_size[0], height * downsample / l0_size[1]
    )


@dataclass(frozen=True)
class PlaceLayer:
    """The cells of the patches of some labels.

    Attributes
    ----------
    title
        Of which.
    n_patches
        How many they are.
    colour
        For CSS.
    uri
        The picture, clear where there is none of them, over the whole slide.
    """

    title: str
    n_patches: int
    colour: str
    uri: str


def place_layers(
    header: PatchHeader,
    table: npt.NDArray[np.void],
    labels: Sequence[str],
    label: npt.NDArray[np.integer],
) -> list[PlaceLayer]:
    """Where the patches of each label lie, those of most patches first; labels of one colour are one layer.

    Parameters
    ----------
    table
        `PATCH_DTYPE` records.
    labels, label
        Names, and the number of each patch's label among them.
    """
    colours = label_colours(labels)
    downsample = max(1.0, max(header.slide.l0_size) / _LONG_SIDE)
    l0_side = header.settings.stride * header.settings.downsample
    by_colour: dict[Colour, list[int]] = {}
    for number, name in enumerate(labels):
        by_colour.setdefault(colours[name], []).append(number)
    layers = []
    for colour, numbers in by_colour.items():
        members = table[np.isin(label, numbers)]
        if not len(members):
            continue
        shown = covered(members["cell_l0_x"], members["cell_l0_y"], l0_side, downsample, header.slide.l0_size)
        title = labels[numbers[0]] if len(numbers) == 1 else f"{len(numbers)} further labels"
        image = Image.fromarray(shown.astype(np.uint8))
        image.putpalette([0, 0, 0, *colour])
        layers.append(PlaceLayer(title, len(members), css(colour), data_uri(image, "PNG", transparency=0, bits=1)))
    return sorted(layers, key=lambda layer: -layer.n_patches)


def covered(
    l0_x: npt.NDArray[np.integer],
    l0_y: npt.NDArray[np.integer],
    l0_side: float,
    downsample: float,
    l0_size: tuple[int, int],
) -> npt.NDArray[np.bool_]:
    """Which pixels of a reduced slide any of some squares covers, bool (H, W); each square at least one.

    Parameters
    ----------
    l0_x, l0_y
        Their top-left corners in level-0 pixels; what lies off the slide is left out.
    l0_side
        Their side in level-0 pixels.
    downsample
        Level-0 pixels per pixel.
    l0_size
        Width and height of the slide.
    """
    shape = reduced(l0_size, downsample)[::-1]
    spans = []
    is_there = np.ones(len(l0_x), bool)
    for corner, extent in ((l0_y, shape[0]), (l0_x, shape[1])):
        first = np.rint(corner / downsample).astype(np.int64)
        last = np.maximum(np.rint((corner + l0_side) / downsample).astype(np.int64), first + 1)
        first, last = np.clip(first, 0, extent), np.clip(last, 0, extent)
        is_there &= first < last
        spans.append((first, last))
    (top, bottom), (left, right) = spans
    # each square's corners, summed up along both axes, count the squares over each pixel
    count = np.zeros((shape[0] + 1, shape[1] + 1), np.int32)
    for row, col, sign in ((top, left, 1), (bottom, right, 1), (top, right, -1), (bottom, left, -1)):
        np.add.at(count, (row[is_there], col[is_there]), sign)
    return np.asarray(count.cumsum(axis=0).cumsum(axis=1)[: shape[0], : shape[1]] > 0)


def reduced(l0_size: tuple[int, int], downsample: float) -> tuple[int, int]:
    """Width and height of a slide in pixels of this many level-0 pixels, the last partial one counted."""
    width, height = (int(np.ceil(extent / downsample - 1e-9)) for extent in l0_size)
    return width, height
