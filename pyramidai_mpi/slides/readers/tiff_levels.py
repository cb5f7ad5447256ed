"""Which levels of a TIFF file can be read without OpenSlide and give its very pixels."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from pyramidai_mpi.slides.readers.tile_codecs import TileCoding
from pyramidai_mpi.slides.readers.tile_mosaic import TileMosaic

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    import numpy.typing as npt
    import tifffile

    from pyramidai_mpi.slides.readers.base import SlideInfo
    from pyramidai_mpi.slides.readers.tiff_directory import TiffPage
    from pyramidai_mpi.slides.readers.tile_codecs import Decoder

_RGB, _YCBCR = 2, 6  # photometric interpretations
_NONE, _JPEG, _DEFLATE, _OLD_DEFLATE, _APERIO_JP2K_RGB = 1, 7, 8, 32946, 33005
_NO_PREDICTOR, _HORIZONTAL = 1, 2


@dataclass(frozen=True)
class TiffLevel:
    """A stored level, tile by tile.

    Attributes
    ----------
    mosaic
        Its size and that of its tiles.
    downsample
        Level-0 pixels per pixel, a whole number.
    offsets, counts
        Places of the tiles in the file and their lengths in bytes, int64 (rows * columns,), in row-major order. A
        length of 0 says that the file lacks the tile.
    coding
        How the tiles are encoded.
    decode
        Function that turns a tile's bytes into its pixels.
    """

    mosaic: TileMosaic
    downsample: int
    offsets: npt.NDArray[np.int64]
    counts: npt.NDArray[np.int64]
    coding: TileCoding
    decode: Decoder


def find_levels(
    path: Path, info: SlideInfo, pages: Sequence[TiffPage | None]
) -> tuple[tuple[TiffLevel | None, ...], str]:
    """The stored levels of a slide that `TiffLevel` can stand for; None for the others.

    OpenSlide has opened the slide before and decided what its levels are. A level qualifies when OpenSlide reads it at
    whole pixels (see ``SlideInfo.stored_exact``; others it interpolates) and a strict decoder exists for it.

    Parameters
    ----------
    path, info
        The slide, as OpenSlide opens it.
    pages
        The page of every stored level.

    Returns
    -------
    levels : tuple
        One entry a stored level; all None for what is no TIFF of a known vendor.
    obstacle : str
        What of this file or this machine is in the way of levels that might qualify, in words; empty for nothing.
    """
    import tifffile

    none = (None,) * len(pages)
    if info.vendor not in {"generic-tiff", "aperio"}:
        return none, ""
    if None in pages:
        return none, "its TIFF pages are not the levels that OpenSlide finds"
    try:
        with tifffile.TiffFile(path) as tiff:
            by_place = {page.offset: page for page in tiff.pages}
            found = [by_place[page.place].aspage() for page in pages if page is not None]
            levels = tuple(_level_of(page, info, n) for n, page in enumerate(found))
    except ImportError as error:
        return none, f"a decoder is not installed ({error})"
    except (tifffile.TiffFileError, ValueError, TypeError, KeyError, IndexError, AttributeError, OSError) as error:
        # of a disk that fails, OpenSlide says what cannot be read
        return none, f"its TIFF tables cannot be read ({type(error).__name__}: {error})"
    if info.vendor == "aperio" and any(level is not None and not level.counts.all() for level in levels):
        return none, ""  # OpenSlide fills missing tiles of Aperio's from other levels
    return levels, ""


def _level_of(page: tifffile.TiffPage, info: SlideInfo, number: int) -> TiffLevel | None:
    tile_size = (page.tilewidth, page.tilelength)
    if not (number == 0 or info.stored_exact[number]) or not _is_plain(page):
        return None
    coding = _coding_of(page, tile_size)
    if coding is None:
        return None
    level = TiffLevel(
        mosaic=TileMosaic((page.imagewidth, page.imagelength), tile_size),
        downsample=round(info.stored_downsamples[number]),
        offsets=np.array(page.dataoffsets, np.int64),
        counts=np.array(page.databytecounts, np.int64),
        coding=coding,
        decode=coding.decoder(),
    )
    return level if len(level.offsets) == len(level.counts) == level.mosaic.n_tiles else None


def _is_plain(page: tifffile.TiffPage) -> bool:
    """Whether the samples are three unsigned bytes a pixel, side by side, upright."""
    orientation = page.tags.get("Orientation")
    return bool(
        page.samplesperpixel == 3
        and page.bitspersample == 8
        and page.sampleformat == 1
        and page.planarconfig == 1
        and page.fillorder == 1
        and not page.extrasamples
        and page.imagedepth == page.tiledepth == 1
        and (orientation is None or orientation.value == 1)
        and min(page.tilewidth, page.tilelength) > 0
    )


def _coding_of(page: tifffile.TiffPage, tile_size: tuple[int, int]) -> TileCoding | None:
    """How a page's tiles are encoded, None when no strict decoder takes them, or none that is faster than OpenSlide."""
    photometric, predictor = int(page.photometric), int(page.predictor)
    if page.compression == _JPEG and photometric in {_RGB, _YCBCR}:
        return TileCoding("jpeg", tile_size, page.jpegtables or b"", is_ycbcr=photometric == _YCBCR)
    if photometric != _RGB:
        return None
    if page.compression in {_DEFLATE, _OLD_DEFLATE} and predictor in {_NO_PREDICTOR, _HORIZONTAL}:
        return TileCoding("deflate", tile_size, differences=predictor == _HORIZONTAL)
    if page.compression == _NONE and predictor == _NO_PREDICTOR:
        return TileCoding("raw", tile_size)
    if page.compression == _APERIO_JP2K_RGB and predictor == _NO_PREDICTOR:
        return TileCoding("jpeg2000", tile_size)
    return None
