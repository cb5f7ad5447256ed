"""The pictures of a report, as data that stands within the page."""

from __future__ import annotations

import base64
import io
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from PIL import Image

from pyramidai_mpi.base.types import Decision
from pyramidai_mpi.export.cells import cell_grid, iter_level_cells
from pyramidai_mpi.export.contour import CONTOUR, POSITIVE
from pyramidai_mpi.export.picture import look_colour, score_colour
from pyramidai_mpi.export.shown import along
from pyramidai_mpi.pyramid.last_look import NEVER

if TYPE_CHECKING:
    import numpy.typing as npt

    from pyramidai_mpi.export.picture import Picture

_BAND = 512
_UNREADABLE = (120, 120, 120)
_STEPS = 240
_MOST_CELLS_A_SIDE = 2000
"""Of a level's picture where tiles are blocks of windows."""
_STRIP, _MOST_STRIPS_APART = 8, 64


@dataclass(frozen=True)
class Layer:
    """A picture to be laid over the slide.

    Attributes
    ----------
    name, title
        Its name for the page's own use, and its title for people.
    uri
        The picture as a ``data:`` address.
    width, height
        What it covers, as parts of the slide's width and height; may exceed 1, as tiles exceed the slide.
    """

    name: str
    title: str
    uri: str
    width: float
    height: float


def slide_layer(picture: Picture) -> Layer:
    """The slide alone (JPEG), or its tissue mask (PNG)."""
    pixels = np.concatenate([picture.slide(top, bottom) for top, bottom in _bands(picture)])
    image = Image.fromarray(pixels)
    if picture.reader is None:
        return Layer("slide", "Tissue", _uri(image.quantize(4), "PNG"), *_whole(picture))
    return Layer("slide", "Slide", _uri(image, "JPEG", quality=80), *_whole(picture))


def tissue_layer(picture: Picture) -> Layer:
    """The outline of the tissue, clear elsewhere."""
    bands = []
    for top, bottom in _bands(picture):
        shown = picture.contour(top, bottom)
        band = np.zeros((*shown.shape, 4), np.uint8)
        band[shown] = (*CONTOUR, 255)
        bands.append(band)
    return Layer("tissue", "Tissue outline", _uri(Image.fromarray(np.concatenate(bands)), "PNG"), *_whole(picture))


def score_layer(picture: Picture) -> Layer:
    """Scores of the last look, over tissue only, and the outline of positive tiles."""
    return Layer("scores", "Scores", _uri(_painted(picture, "scores"), "PNG"), *_whole(picture))


def shown_layer(picture: Picture) -> Layer:
    """What is shown in place of scores, over tissue only."""
    name = picture.scale.name
    return Layer(name, name.capitalize(), _uri(_painted(picture, "scores"), "PNG"), *_whole(picture))


def look_layer(picture: Picture) -> Layer:
    """Levels of the last look, over tissue only."""
    return Layer("look", "Last look", _uri(_painted(picture, "looks"), "PNG"), *_whole(picture))


def level_layer(picture: Picture, level: int) -> Layer:
    """All tiles or windows that were analysed at a level, one pixel each, by score; grey where unreadable."""
    header = picture.header
    grid, record = cell_grid(header), header.levels[level]
    cols, rows = grid.shape(level)
    stride = "" if record.block == 1 else f", stride {record.cell}"
    title = f"Level {level} ({record.spacing_um_px:.2g} µm/px{stride})"
    if record.block == 1:
        pixels = np.zeros((rows, cols, 4), np.uint8)
        for block in iter_level_cells(picture.file, header, level):
            col, row = block.index.T
            score = _in_steps(np.nan_to_num(block.score))
            colour = np.where((block.decision == Decision.UNREADABLE)[:, None], _UNREADABLE, score_colour(score))
            pixels[row, col, :3] = np.rint(colour)
            pixels[row, col, 3] = 255
        side = grid.l0_side(level)
    else:
        pixels, step = _cell_pixels(picture, level)
        (rows, cols), side = pixels.shape[:2], step * grid.l0_side(level)
    covered = cols * side / grid.l0_width, rows * side / grid.l0_height
    return Layer(f"level{level}", title, _uri(with_palette(pixels), "PNG"), *covered)


def _cell_pixels(picture: Picture, level: int) -> tuple[npt.NDArray[np.uint8], int]:
    """The cells of a level one pixel each, RGBA (rows, cols, 4), or the highest of so many by so many."""
    header = picture.header
    cols, rows = cell_grid(header).shape(level)
    step = -(-max(cols, rows) // _MOST_CELLS_A_SIDE)
    # 0 nothing, 1 unreadable, then the scores in steps, which the colours have too
    codes = np.zeros((-(-rows // step), -(-cols // step)), np.uint8)
    for cells in iter_level_cells(picture.file, header, level):
        col, row = cells.index.T // step
        code = 2 + np.rint(np.clip(np.nan_to_num(cells.score), 0, 1) * _STEPS).astype(np.uint8)
        np.maximum.at(codes, (row, col), np.where(cells.decision == Decision.UNREADABLE, np.uint8(1), code))
    palette = np.zeros((256, 4), np.uint8)
    palette[1:, 3] = 255
    palette[1, :3] = _UNREADABLE
    palette[2 : 3 + _STEPS, :3] = np.rint(score_colour(np.arange(_STEPS + 1) / _STEPS))
    return palette[codes], step


def gantt_uri(batches: npt.NDArray[np.void], n_ranks: int, n_levels: int, width: int = 1200) -> str:
    """A strip of pixels a rank, time from left to right, coloured by the level at work; clear where idle.

    Parameters
    ----------
    batches
        `store.results.result.BATCH_DTYPE` records, at least one.
    width
        Pixels from the start of the analysis to the end of the last batch.
    """
    pixels = np.zeros((n_ranks, width, 4), np.uint8)
    scale = width / max(float(batches["end_s"].max()), 1e-9)
    first = np.clip(np.floor(batches["start_s"] * scale).astype(int), 0, width - 1)
    last = np.clip(np.ceil(batches["end_s"] * scale).astype(int), first + 1, width)
    colours = np.rint(look_colour(np.arange(n_levels), n_levels)).astype(np.uint8)
    for rank, level, left, right in zip(batches["rank"], batches["level"], first, last, strict=True):
        pixels[rank, left:right, :3] = colours[level]
        pixels[rank, left:right, 3] = 255
    if n_ranks <= _MOST_STRIPS_APART:  # a clear line below each strip
        pixels = pixels.repeat(_STRIP, axis=0)
        pixels[_STRIP - 1 :: _STRIP] = 0
    return _uri(Image.fromarray(pixels), "PNG")


def painted_rows(picture: Picture, what: str, top: int, bottom: int) -> npt.NDArray[np.uint8]:
    """Tissue coloured by ``scores``, positives outlined, or by ``looks``: RGBA, uint8 (bottom - top, width, 4)."""
    width = picture.size[0]
    if what == "scores":
        values = picture.last_look.scores(top, bottom, width, picture.downsample)
        shown = np.isfinite(values)
        position = picture.scale.position(np.where(shown, values, np.float32(0)).ravel())
        colour = along(_in_steps(position).astype(np.float64), picture.scale.anchors)
    else:
        looks = picture.last_look.looks(top, bottom, width, picture.downsample)
        shown, colour = looks != NEVER, look_colour(looks.ravel(), len(picture.header.levels))
    band = np.zeros((*shown.shape, 4), np.uint8)
    band[..., :3] = np.rint(np.clip(colour, 0, 255)).reshape(*shown.shape, 3)
    band[..., 3] = 255
    band[~(shown & picture.tissue(top, bottom))] = 0
    if what == "scores":
        band[picture.positive_contour(top, bottom)] = (*POSITIVE, 255)
    return band


def _painted(picture: Picture, what: str) -> Image.Image:
    return with_palette(np.concatenate([painted_rows(picture, what, *rows) for rows in _bands(picture)]))


def _bands(picture: Picture) -> list[tuple[int, int]]:
    height = picture.size[1]
    return [(top, min(top + _BAND, height)) for top in range(0, height, _BAND)]


def _whole(picture: Picture) -> tuple[float, float]:
    """The last pixels may stand for part of a pixel."""
    width, height = picture.size
    l0_width, l0_height = picture.header.slide.l0_size
    return width * picture.downsample / l0_width, height * picture.downsample / l0_height


def _in_steps(score: npt.NDArray[np.floating]) -> npt.NDArray[np.floating]:
    """Scores of which a picture has few enough colours for a palette, and no eye tells two that follow each other."""
    return np.asarray(np.rint(score * _STEPS) / _STEPS)


def with_palette(pixels: npt.NDArray[np.uint8]) -> Image.Image:
    """The same picture, RGBA (H, W, 4), with a palette where it has few colours: a third of the bytes."""
    packed = np.ascontiguousarray(pixels).view(np.uint32)[..., 0]
    bands = [packed[top : top + _BAND] for top in range(0, len(packed), _BAND)]
    colours = np.unique(np.concatenate([np.unique(band) for band in bands]))
    if len(colours) > 256:
        return Image.fromarray(pixels)
    rgba = colours.view(np.uint8).reshape(-1, 4)
    index = np.concatenate([np.searchsorted(colours, band).astype(np.uint8) for band in bands])
    image = Image.fromarray(index, mode="P")
    image.putpalette(rgba.tobytes(), "RGBA")
    return image


def _uri(image: Image.Image, kind: str, **options: int) -> str:
    stream = io.BytesIO()
    image.save(stream, format=kind, optimize=True, **options)
    return f"data:image/{kind.lower()};base64,{base64.b64encode(stream.getvalue()).decode()}"
