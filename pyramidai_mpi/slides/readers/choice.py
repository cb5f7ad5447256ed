"""Choosing the reader of a slide."""

from __future__ import annotations

from typing import TYPE_CHECKING

from pyramidai_mpi.base.errors import InputError
from pyramidai_mpi.slides.readers.openslide_reader import OpenSlideReader

if TYPE_CHECKING:
    from pathlib import Path

    from pyramidai_mpi.slides.readers.base import SlideReader


def open_slide(path: Path, reader: str = "auto") -> SlideReader:
    """Open a slide.

    Parameters
    ----------
    path
        Any file that OpenSlide opens.
    reader
        ``openslide``; ``tiff``; or ``auto``: ``tiff`` for the formats where it was measured to be faster
        (``bench/README.md``), OpenSlide for all others. The pixels are the same.

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
        levels = find_levels(path, slide.info)
        if any(levels):
            return TiffReader(slide, levels)
        if reader == "tiff":
            raise InputError(f"{path}: has no level that the tiff reader can read exactly; use --reader auto")
    except BaseException:
        slide.close()
        raise
    return slide
