"""Choosing the reader of a slide: one table."""

from __future__ import annotations

import logging
from dataclasses import dataclass
from typing import TYPE_CHECKING

from pyramidai_mpi.base.errors import InputError
from pyramidai_mpi.base.odd_levels import OWN
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
class Asked:
    """What is asked of an opening, see `open_slide`.

    Attributes
    ----------
    report, known, odd_levels
        As there.
    by_name
        Whether the reader was asked for by its name, and so may not leave the slide to another one.
    """

    report: Callable[[str], None]
    known: SlideInfo | None
    odd_levels: str
    by_name: bool

    @property
    def own(self) -> bool:
        """Whether levels of odd size are to give their own pixels."""
        return self.odd_levels == OWN


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
        Opens the path, as is asked.
    libraries
        Distributions that decide its pixels.
    """

    name: str
    takes: Callable[[Path], bool]
    open: Callable[[Path, Asked], SlideReader]
    libraries: tuple[str, ...]


def open_slide(
    path: Path,
    reader: str = "auto",
    report: Callable[[str], None] = log.debug,
    known: SlideInfo | None = None,
    odd_levels: str = OWN,
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
    odd_levels
        ``own`` pixels of levels of odd size where the tiff reader can decode them, whatever reader is asked for;
        ``interpolated``: OpenSlide's (see `slides.spacing`), as anyhow where it cannot. That follows from the file.

    Raises
    ------
    InputError
        When the slide cannot be opened, or not by the reader that is asked for.
    """
    check_can_be_opened(path)
    asked = Asked(report, known, odd_levels, by_name=reader != "auto")
    row = READERS[reader] if asked.by_name else next(one for one in READERS.values() if one.takes(path))
    return row.open(path, asked)


def _open_tiff(path: Path, asked: Asked) -> SlideReader:
    """OpenSlide says what the slide is, and reads what has no level that can be read exactly without it."""
    from pyramidai_mpi.slides.readers.tiff_levels import find_levels
    from pyramidai_mpi.slides.readers.tiff_reader import TiffReader

    slide = OpenSlideReader(path, asked.known)
    try:
        levels, obstacle = find_levels(path, slide.info, slide.stored_tiles.levels, own=asked.own)
        remarks = [f"is read by OpenSlide, which takes longer: {obstacle}" if obstacle else "", _left_out(slide.info)]
        if any(remarks):
            asked.report(f"{path}: {'; '.join(filter(None, remarks))}")
        if any(levels[n] is None for n in slide.beyond_openslide):
            raise InputError(f"{path}: {_BEYOND_OPENSLIDE}; convert it: {as_rgb()}")
        if any(levels):
            return TiffReader(slide, levels)
        if asked.by_name:
            why = f" ({obstacle})" if obstacle else ""
            raise InputError(f"{path}: has no level that the tiff reader can read exactly{why}; use --reader auto")
    except BaseException:
        slide.close()
        raise
    return slide


def _open_openslide(path: Path, asked: Asked) -> SlideReader:
    """OpenSlide reads all but own pixels of levels of odd size, which it cannot."""
    slide = OpenSlideReader(path, asked.known)
    try:
        if remark := _left_out(slide.info):
            asked.report(f"{path}: {remark}")
        if slide.beyond_openslide:
            raise InputError(f"{path}: {_BEYOND_OPENSLIDE}; use --reader tiff")
        if asked.own and not all(slide.info.stored_exact):
            from pyramidai_mpi.slides.readers.tiff_levels import find_levels
            from pyramidai_mpi.slides.readers.tiff_reader import TiffReader

            levels, _ = find_levels(path, slide.info, slide.stored_tiles.levels, own=True)
            odd = [None if exact else level for level, exact in zip(levels, slide.info.stored_exact, strict=True)]
            if any(odd):
                return TiffReader(slide, odd, name="openslide")
    except BaseException:
        slide.close()
        raise
    return slide


def _open_image(path: Path, asked: Asked) -> SlideReader:
    from pyramidai_mpi.slides.readers.image_reader import ImageReader

    return ImageReader(path)


def _open_patches(path: Path, asked: Asked) -> SlideReader:
    from pyramidai_mpi.slides.readers.kept_level import open_kept_level

    kept = open_kept_level(path)
    if kept.info.odd_levels and not asked.own:
        kept.close()
        raise InputError(
            f"{path}: keeps tiles of a level of odd size, which nothing interpolates; leave out --odd-levels "
            "interpolated, or use the slide"
        )
    return kept


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
