"""Which levels of a TIFF file can be read without OpenSlide.

They give its very pixels; but for levels of odd size, which OpenSlide interpolates, and whose own pixels are read here.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from pyramidai_mpi.base.damage import damage_and
from pyramidai_mpi.base.errors import InputError
from pyramidai_mpi.base.tiff_chain import pages_in_chain
from pyramidai_mpi.slides.readers.tile_codecs import TileCoding
from pyramidai_mpi.slides.readers.tile_mosaic import TileMosaic
from pyramidai_mpi.slides.spacing import is_rounded

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
_TRIED = 8


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
    path: Path, info: SlideInfo, pages: Sequence[TiffPage | None], *, own: bool = False
) -> tuple[tuple[TiffLevel | None, ...], str]:
    """The stored levels of a slide that `TiffLevel` can stand for; None for the others.

    OpenSlide has opened the slide before and decided what its levels are. A level qualifies when a strict decoder
    exists for it, and OpenSlide reads it at whole pixels (see ``SlideInfo.stored_exact``; others it interpolates) or
    the level's own pixels are asked for: then its size is rounded (see `spacing.is_rounded`), a tile of it decodes, and
    nothing on the slide is transparent. That follows from the file alone.

    Parameters
    ----------
    path, info
        The slide, as OpenSlide opens it.
    pages
        The page of every stored level.
    own
        Whether own pixels are asked for, of levels that OpenSlide interpolates.

    Returns
    -------
    levels : tuple
        One entry a stored level; all None for what is no TIFF of a known vendor.
    obstacle : str
        What of this file or this machine is in the way of levels that might qualify, in words; empty for nothing.

    Raises
    ------
    InputError
        When own pixels are asked for, and a decoder is not installed: what is read would depend on the machine.
    """
    import tifffile

    none = (None,) * len(pages)
    if info.vendor not in {"generic-tiff", "aperio"}:
        return none, ""
    if None in pages:
        return none, "its TIFF pages are not the levels that OpenSlide finds"
    try:
        with tifffile.TiffFile(path) as tiff:
            by_place = {page.offset: page for page in pages_in_chain(tiff)}
            found = [by_place[page.place].aspage() for page in pages if page is not None]
            levels = tuple(_level_of(page, info, n, own=own) for n, page in enumerate(found))
            levels = tuple(
                level if level is None or n == 0 or info.stored_exact[n] or _decodes(tiff, level) else None
                for n, level in enumerate(levels)
            )
    except ImportError as error:
        if own and not all(info.stored_exact):
            raise InputError(
                f"{path}: has levels of odd size, and their pixels cannot be decoded here ({error}); install what is "
                "missing, or use --odd-levels interpolated"
            ) from error
        return none, f"a decoder is not installed ({error})"
    except damage_and(tifffile.TiffFileError) as error:
        # of a disk that fails, OpenSlide says what cannot be read
        return none, f"its TIFF tables cannot be read ({type(error).__name__}: {error})"
    if info.vendor == "aperio" and any(level is not None and not level.counts.all() for level in levels):
        return none, ""  # OpenSlide fills missing tiles of Aperio's from other levels
    return levels, ""


def _level_of(page: tifffile.TiffPage, info: SlideInfo, number: int, *, own: bool) -> TiffLevel | None:
    tile_size = (page.tilewidth, page.tilelength)
    size, downsample = info.stored_sizes[number], info.stored_downsamples[number]
    is_read = number == 0 or info.stored_exact[number] or (own and is_rounded(info.l0_size, size, downsample))
    if not is_read or not _is_plain(page):
        return None
    coding = _coding_of(page, tile_size)
    if coding is None:
        return None
    level = TiffLevel(
        mosaic=TileMosaic((page.imagewidth, page.imagelength), tile_size),
        downsample=round(downsample),
        offsets=np.array(page.dataoffsets, np.int64),
        counts=np.array(page.databytecounts, np.int64),
        coding=coding,
        decode=coding.decoder(),
    )
    return level if len(level.offsets) == len(level.counts) == level.mosaic.n_tiles else None


def _decodes(tiff: tifffile.TiffFile, level: TiffLevel) -> bool:
    """Whether any of a few tiles spread over a level is what the directory says."""
    there = np.flatnonzero(level.counts > 0)
    tried = there[np.unique(np.linspace(0, len(there) - 1, min(_TRIED, len(there))).astype(int))]
    for number in tried.tolist():
        tiff.filehandle.seek(int(level.offsets[number]))
        try:
            level.decode(tiff.filehandle.read(int(level.counts[number])))
        except ValueError:
            continue
        return True
    return False


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
