"""Choosing the reader of a slide: one table."""

from __future__ import annotations

import logging
from dataclasses import dataclass
from typing import TYPE_CHECKING

from pyramidai_mpi.base.errors import InputError
from pyramidai_mpi.base.patch_order import is_patch_file
from pyramidai_mpi.slides.readers.base import check_can_be_opened
from pyramidai_mpi.slides.readers.openslide_reader import OpenSlideReader
from pyramidai_mpi.slides.readers.pixel_kinds import as_rgb

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from pyramidai_mpi.slides.readers.base import SlideInfo, SlideReader


log = logging.getLogger(__name__)


@dataclass(frozen=True)
class ReaderChoice:
    """One row of the table.

    Attributes
    ----------
    name
        As ``--reader`` and ``SlideInfo.reader`` have it.
    takes
        Whether ``auto`` gives it this path; the first row that takes it opens it.
    open
        Opens the path. Told how to report and what is known (see `open_slide`), and whether the reader was asked for by
        its name, and so may not leave the slide to another one.
    libraries
        Distributions that decide its pixels.
    """

    name: str
    takes: Callable[[Path], bool]
    open: Callable[[Path, Callable[[str], None], SlideInfo | None, bool], SlideReader]
    libraries: tuple[str, ...]


def open_slide(
    path: Path, reader: str = "auto", report: Callable[[str], None] = log.debug, known: SlideInfo | None = None
) -> SlideReader:
    """Open a slide.

    Parameters
    ----------
    path
        Any file that OpenSlide opens, a PNG, JPEG or TIFF that fits in memory, or a file of patches with stored tiles.
    reader
        Name of a row of `READERS`, or ``auto``: ``tiff`` for the formats where it was measured to be faster
        (``bench/README.md``), OpenSlide for all others. The pixels are the same.
    report
        Told in a line what of the file is left out, and why OpenSlide reads a slide whose format the tiff reader knows,
        where that is due to this file or this machine. Every rank opens the slide; the trial before it tells the user,
        once.
    known
        Description of the same slide by another rank, to be spared what that one has found out.

    Raises
    ------
    InputError
        When the slide cannot be opened, or not by the reader that is asked for.
    """
    check_can_be_opened(path)
    is_asked = reader != "auto"
    row = READERS[reader] if is_asked else next(one for one in READERS.values() if one.takes(path))
    return row.open(path, report, known, is_asked)


def _open_tiff(path: Path, report: Callable[[str], None], known: SlideInfo | None, is_asked: bool) -> SlideReader:
    """OpenSlide says what the slide is, and reads what has no level that can be read exactly without it."""
    from pyramidai_mpi.slides.readers.tiff_levels import find_levels
    from pyramidai_mpi.slides.readers.tiff_reader import TiffReader

    slide = OpenSlideReader(path, known)
    try:
        levels, obstacle = find_levels(path, slide.info, slide.stored_tiles.levels)
        remarks = [f"is read by OpenSlide, which takes longer: {obstacle}" if obstacle else "", _left_out(slide.info)]
        if any(remarks):
            report(f"{path}: {'; '.join(filter(None, remarks))}")
        if any(levels[n] is None for n in slide.beyond_openslide):
            raise InputError(f"{path}: {_BEYOND_OPENSLIDE}; convert it: {as_rgb()}")
        if any(levels):
            return TiffReader(slide, levels)
        if is_asked:
            why = f" ({obstacle})" if obstacle else ""
            raise InputError(f"{path}: has no level that the tiff reader can read exactly{why}; use --reader auto")
    except BaseException:
        slide.close()
        raise
    return slide


def _open_openslide(path: Path, report: Callable[[str], None], known: SlideInfo | None, is_asked: bool) -> SlideReader:
    slide = OpenSlideReader(path, known)
    if remark := _left_out(slide.info):
        report(f"{path}: {remark}")
    if slide.beyond_openslide:
        slide.close()
        raise InputError(f"{path}: {_BEYOND_OPENSLIDE}; use --reader tiff")
    return slide


def _open_image(path: Path, report: Callable[[str], None], known: SlideInfo | None, is_asked: bool) -> SlideReader:
    from pyramidai_mpi.slides.readers.image_reader import ImageReader

    return ImageReader(path)


def _open_patches(path: Path, report: Callable[[str], None], known: SlideInfo | None, is_asked: bool) -> SlideReader:
    from pyramidai_mpi.slides.readers.kept_level import open_kept_level

    return open_kept_level(path)


def _takes_image(path: Path) -> bool:
    from pyramidai_mpi.slides.readers.image_reader import is_image

    return is_image(path)


def _left_out(info: SlideInfo) -> str:
    sizes = ", ".join(f"{width} x {height}" for width, height in info.no_levels)
    return f"its pages of {sizes} pixels are no smaller versions of the slide and are left out" if sizes else ""


_BEYOND_OPENSLIDE = (
    "its stored tiles are uncompressed and their bytes no multiple of 1024, which the TIFF library in OpenSlide cannot "
    "read"
)
_OPENSLIDE = ("openslide-python", "openslide-bin")
_ROWS = (
    ReaderChoice("patches", is_patch_file, _open_patches, ("simplejpeg", "imagecodecs")),
    ReaderChoice("image", _takes_image, _open_image, ("pillow", "simplejpeg", "imagecodecs")),
    ReaderChoice("tiff", lambda path: True, _open_tiff, (*_OPENSLIDE, "simplejpeg", "imagecodecs")),
    ReaderChoice("openslide", lambda path: True, _open_openslide, _OPENSLIDE),
)
READERS = {row.name: row for row in _ROWS}
"""By name. ``auto`` gives a slide to the first that takes it."""
