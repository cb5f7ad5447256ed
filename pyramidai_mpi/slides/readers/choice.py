"""Choosing the reader of a slide: one table."""

from __future__ import annotations

import logging
from dataclasses import dataclass
from typing import TYPE_CHECKING

from pyramidai_mpi.base.errors import InputError
from pyramidai_mpi.slides.readers.openslide_reader import OpenSlideReader

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from pyramidai_mpi.slides.readers.base import SlideReader


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
        Opens the path. Told how to report (see `open_slide`), and whether the reader was asked for by its name, and so
        may not leave the slide to another one.
    libraries
        Distributions that decide its pixels.
    """

    name: str
    takes: Callable[[Path], bool]
    open: Callable[[Path, Callable[[str], None], bool], SlideReader]
    libraries: tuple[str, ...]


def open_slide(path: Path, reader: str = "auto", report: Callable[[str], None] = log.debug) -> SlideReader:
    """Open a slide.

    Parameters
    ----------
    path
        Any file that OpenSlide opens.
    reader
        Name of a row of `READERS`, or ``auto``: ``tiff`` for the formats where it was measured to be faster
        (``bench/README.md``), OpenSlide for all others. The pixels are the same.
    report
        Told in a line why OpenSlide reads a slide whose format the tiff reader knows, where that is due to this file or
        this machine. Every rank opens the slide; the trial before it tells the user, once.

    Raises
    ------
    InputError
        When the slide cannot be opened, or not by the reader that is asked for.
    """
    is_asked = reader != "auto"
    row = READERS[reader] if is_asked else next(one for one in READERS.values() if one.takes(path))
    return row.open(path, report, is_asked)


def _open_tiff(path: Path, report: Callable[[str], None], is_asked: bool) -> SlideReader:
    """OpenSlide says what the slide is, and reads what has no level that can be read exactly without it."""
    from pyramidai_mpi.slides.readers.tiff_levels import find_levels
    from pyramidai_mpi.slides.readers.tiff_reader import TiffReader

    slide = OpenSlideReader(path)
    try:
        levels, obstacle = find_levels(path, slide.info)
        if obstacle:
            report(f"{path}: is read by OpenSlide, which takes longer: {obstacle}")
        if any(levels):
            return TiffReader(slide, levels)
        if is_asked:
            why = f" ({obstacle})" if obstacle else ""
            raise InputError(f"{path}: has no level that the tiff reader can read exactly{why}; use --reader auto")
    except BaseException:
        slide.close()
        raise
    return slide


_OPENSLIDE = ("openslide-python", "openslide-bin")
_ROWS = (
    ReaderChoice("tiff", lambda path: True, _open_tiff, (*_OPENSLIDE, "simplejpeg", "imagecodecs")),
    ReaderChoice("openslide", lambda path: True, lambda path, report, is_asked: OpenSlideReader(path), _OPENSLIDE),
)
READERS = {row.name: row for row in _ROWS}
"""By name. ``auto`` gives a slide to the first that takes it."""
