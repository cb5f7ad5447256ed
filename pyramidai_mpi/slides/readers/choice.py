"""Choosing the reader of a slide."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING

from pyramidai_mpi.base.errors import InputError
from pyramidai_mpi.slides.readers.openslide_reader import OpenSlideReader

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from pyramidai_mpi.slides.readers.base import SlideReader


log = logging.getLogger(__name__)


def open_slide(path: Path, reader: str = "auto", report: Callable[[str], None] = log.debug) -> SlideReader:
    """Open a slide.

    Parameters
    ----------
    path
        Any file that OpenSlide opens.
    reader
        ``openslide``; ``tiff``; or ``auto``: ``tiff`` for the formats where it was measured to be faster
        (``bench/README.md``), OpenSlide for all others. The pixels are the same.
    report
        Told in a line why OpenSlide reads a slide whose format the tiff reader knows, where that is due to this file or
        this machine. Every rank opens the slide; the trial before it tells the user, once.

    Raises
    ------
    InputError
        When the slide cannot be opened, or not by the reader that is asked for.
    """
    slide = OpenSlideReader(path)
    if reader == "openslide":
        return slide
    from pyramidai_mpi.slides.readers.tiff_levels import find_levels
    from pyramidai_mpi.slides.readers.tiff_reader import TiffReader

    try:
        levels, obstacle = find_levels(path, slide.info)
        if obstacle:
            report(f"{path}: is read by OpenSlide, which takes longer: {obstacle}")
        if any(levels):
            return TiffReader(slide, levels)
        if reader == "tiff":
            why = f" ({obstacle})" if obstacle else ""
            raise InputError(f"{path}: has no level that the tiff reader can read exactly{why}; use --reader auto")
    except BaseException:
        slide.close()
        raise
    return slide
