"""The pictures of the slide that the page asks for, each read when it is asked for.

A *view tile* is a square of the whole picture at one of its zooms: zoom n has 2**n level-0 pixels a pixel.
"""

from __future__ import annotations

import io
import math
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING

import numpy as np
from PIL import Image

from pyramidai_mpi.export.cells import cell_grid, is_dense
from pyramidai_mpi.slides.pyramid import read_thumbnail
from pyramidai_mpi.view.colours import striped
from pyramidai_mpi.view.maps import NOT_ANALYSED

if TYPE_CHECKING:
    import numpy.typing as npt

    from pyramidai_mpi.base.types import RgbArray
    from pyramidai_mpi.export.top_tiles import TopTile
    from pyramidai_mpi.pyramid.grid import Grid
    from pyramidai_mpi.slides.readers.base import SlideReader
    from pyramidai_mpi.store.results.tables import Header
    from pyramidai_mpi.view.maps import LevelMap
    from pyramidai_mpi.view.readers import SlideReaders

TILE = 512
_QUALITY = 88
_THUMBNAIL = 96
_MOST_READ = 1024
"""Pixels of a stored level a side that are read at once: 25 MB while they are reduced."""
_TISSUE, _GLASS = (222, 205, 214), (255, 255, 255)


@dataclass(frozen=True)
class Part:
    """A rectangle of the picture at some zoom.

    Attributes
    ----------
    downsample
        Level-0 pixels per pixel.
    left, top, right, bottom
        In pixels of that zoom, right and bottom excluded.
    """

    downsample: float
    left: int
    top: int
    right: int
    bottom: int


@dataclass(frozen=True)
class ViewTiles:
    """Draws view tiles. Used by any number of threads.

    Attributes
    ----------
    header, maps
        What the result says.
    mask
        Its tissue mask, bool (H, W).
    readers
        Its slide; None draws the mask in its place.
    best
        Of a result with strides, its windows with the highest scores.
    """

    header: Header
    maps: tuple[LevelMap, ...]
    mask: npt.NDArray[np.bool_]
    readers: SlideReaders | None
    best: tuple[TopTile, ...] = ()

    @cached_property
    def grid(self) -> Grid:
        """The grid of the maps, whose tiles are cells where the result has strides."""
        return cell_grid(self.header)

    @property
    def n_zooms(self) -> int:
        """How many zooms there are; the last one shows the whole slide in one view tile."""
        return 1 + max(0, math.ceil(math.log2(max(self.header.slide.l0_size) / TILE)))

    def part(self, zoom: int, col: int, row: int) -> Part | None:
        """Which part of the picture a view tile is; None when there is no such tile."""
        if not 0 <= zoom < self.n_zooms:
            return None
        downsample = 1 << zoom
        width, height = (-(-extent // downsample) for extent in self.header.slide.l0_size)
        left, top = col * TILE, row * TILE
        if not (0 <= left < width and 0 <= top < height):
            return None
        return Part(downsample, left, top, min(left + TILE, width), min(top + TILE, height))

    def slide(self, part: Part) -> bytes:
        """The slide as JPEG; what of it cannot be read is striped. Where it is not at hand, the tissue mask as PNG."""
        if self.readers is None:
            return png(np.where(self._tissue(part)[..., None], _TISSUE, _GLASS).astype(np.uint8))
        return self.readers.read(lambda reader: jpeg(_pixels(reader, part)))

    def slide_pixels(self, part: Part) -> RgbArray:
        """Pixels of the slide, uint8 (H, W, 3), from the coarsest stored level that is fine enough.

        Raises
        ------
        InputError
            When the slide was written to since it was opened.
        """
        assert self.readers is not None
        return self.readers.read(lambda reader: _pixels(reader, part))

    def thumbnail(self, level: int, col: int, row: int) -> bytes | None:
        """An analysed tile, or a cell's window, in small as JPEG; None when there is no such tile, or no slide."""
        if self.readers is None or not 0 <= level < len(self.maps):
            return None
        decision = self.maps[level].decision
        if not (0 <= row < decision.shape[0] and 0 <= col < decision.shape[1]) or decision[row, col] == NOT_ANALYSED:
            return None
        if is_dense(self.header):
            side = self.header.model.tile_size * self.grid.downsample(level)
            l0_x, l0_y = self.grid.l0_corners(level, np.array([[col, row]]))[0].tolist()
        else:
            side = self.grid.l0_side(level)
            l0_x, l0_y = col * side, row * side
        downsample = side / _THUMBNAIL
        width, height = (math.ceil(extent / downsample) for extent in self.header.slide.l0_size)
        left, top = round(l0_x / downsample), round(l0_y / downsample)
        right, bottom = min(left + _THUMBNAIL, width), min(top + _THUMBNAIL, height)
        left, top = max(0, min(left, width - 1)), max(0, min(top, height - 1))
        return jpeg(self.slide_pixels(Part(downsample, left, top, right, bottom)))

    def _tissue(self, part: Part) -> npt.NDArray[np.bool_]:
        """Where pixels of a part are tissue."""
        ratio = part.downsample / self.header.mask_downsample
        sides = zip((part.top, part.left), (part.bottom, part.right), self.mask.shape, strict=True)
        places = [
            np.minimum(((np.arange(first, last) + 0.5) * ratio).astype(np.int64), extent - 1)
            for first, last, extent in sides
        ]
        return np.asarray(self.mask[np.ix_(*places)])


def _pixels(reader: SlideReader, part: Part) -> RgbArray:
    fine = [d for d in reader.info.stored_downsamples if d <= part.downsample * (1 + 1e-9)]
    block = max(8, min(TILE, int(_MOST_READ * max(fine, default=1.0) / part.downsample)))
    rows, columns = (part.top, part.bottom), (part.left, part.right)
    pixels, readable, _ = read_thumbnail(reader, part.downsample, rows, columns, block=block)
    striped(pixels, ~readable, part.left, part.top)
    return pixels


def jpeg(pixels: RgbArray) -> bytes:
    """Pixels, uint8 (H, W, 3), as JPEG."""
    stream = io.BytesIO()
    Image.fromarray(pixels).save(stream, "JPEG", quality=_QUALITY, subsampling=0)
    return stream.getvalue()


def png(pixels: npt.NDArray[np.uint8]) -> bytes:
    """Pixels, uint8 (H, W, 3 or 4), as PNG."""
    stream = io.BytesIO()
    Image.fromarray(pixels).save(stream, "PNG", compress_level=1)
    return stream.getvalue()
