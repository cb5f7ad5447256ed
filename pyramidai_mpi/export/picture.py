"""A result as a picture, in bands of rows: scores or levels of the last look, over the slide or its tissue mask."""

from __future__ import annotations

import math
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING

import numpy as np

from pyramidai_mpi.base.errors import InputError, input_errors
from pyramidai_mpi.base.odd_levels import odd_levels_of
from pyramidai_mpi.export.contour import CONTOUR, POSITIVE, outline, surround
from pyramidai_mpi.export.last_look import tissue_rows
from pyramidai_mpi.export.shown import SCORE, along, looks_and_scale
from pyramidai_mpi.pyramid.last_look import NEVER
from pyramidai_mpi.slides.identity import slide_quickhash
from pyramidai_mpi.slides.pyramid import read_thumbnail
from pyramidai_mpi.slides.readers.base import check_can_be_opened
from pyramidai_mpi.slides.readers.choice import open_slide
from pyramidai_mpi.store.results.reader import open_result
from pyramidai_mpi.store.results.tables import read_execution, read_header
from pyramidai_mpi.store.results.tissue import read_packed_mask

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    import numpy.typing as npt

    from pyramidai_mpi.base.types import RgbArray
    from pyramidai_mpi.export.cell_look import CellLook
    from pyramidai_mpi.export.shown import Scale, Show
    from pyramidai_mpi.pyramid.last_look import LastLook
    from pyramidai_mpi.slides.readers.base import SlideReader
    from pyramidai_mpi.store.explanations.contents import Explanation
    from pyramidai_mpi.store.results.tables import Header, ResultFile

# Coarsest to finest look; from the map "viridis" (Smith and van der Walt 2015), readable likewise.
_LOOK_ANCHORS = ((253, 231, 37), (33, 145, 140), (68, 1, 84))
_STRENGTH = 0.55
_TISSUE, _BACKGROUND = (222, 205, 214), (255, 255, 255)


@dataclass(frozen=True)
class Picture:
    """Draws any rows of a result, at any downsample.

    Attributes
    ----------
    file, header, last_look
        The open result.
    reader
        Its slide; None draws over the tissue mask.
    downsample
        Level-0 pixels per pixel of the picture.
    scale
        Of what `last_look` has for scores.
    """

    file: ResultFile
    header: Header
    last_look: LastLook | CellLook
    reader: SlideReader | None
    downsample: float
    scale: Scale

    @property
    def size(self) -> tuple[int, int]:
        """Width and height, the last partial pixel counted."""
        width, height = (math.ceil(extent / self.downsample) for extent in self.header.slide.l0_size)
        return width, height

    def slide(self, top: int, bottom: int) -> RgbArray:
        """Rows of the slide, or of its tissue mask in two colours: uint8 (bottom - top, width, 3)."""
        if self.reader is not None:
            return read_thumbnail(self.reader, self.downsample, (top, bottom))[0]
        return np.where(self.tissue(top, bottom)[..., None], _TISSUE, _BACKGROUND).astype(np.uint8)

    def overlay(self, top: int, bottom: int, slide: RgbArray | None = None) -> RgbArray:
        """Rows of the slide, `slide` where they are at hand, coloured by what is shown, with both outlines."""
        score = self.last_look.scores(top, bottom, self.size[0], self.downsample)
        shown = self.tissue(top, bottom) & np.isfinite(score)
        pixels = self.slide(top, bottom) if slide is None else slide
        tinted = _tinted(pixels, shown, self.scale.colour(score[shown]))
        tinted[self.contour(top, bottom)] = CONTOUR
        tinted[self.positive_contour(top, bottom)] = POSITIVE
        return tinted

    def look(self, top: int, bottom: int) -> RgbArray:
        """Rows of the slide with its tissue coloured by the level of the last look."""
        look = self.last_look.looks(top, bottom, self.size[0], self.downsample)
        shown = self.tissue(top, bottom) & (look != NEVER)
        return _tinted(self.slide(top, bottom), shown, look_colour(look[shown], len(self.header.levels)))

    def contour(self, top: int, bottom: int) -> npt.NDArray[np.bool_]:
        """Where rows show the outline of the tissue, bool (bottom - top, width)."""
        first, last = max(0, top - 1), min(self.size[1], bottom + 1)
        return outline(self.tissue(first, last))[top - first : bottom - first]

    def positive_contour(self, top: int, bottom: int) -> npt.NDArray[np.bool_]:
        """Where rows show the outline round positive tiles of level 0, or cells: bool (bottom - top, width)."""
        first, last = max(0, top - 1), min(self.size[1], bottom + 1)
        positive = self.last_look.positives(first, last, self.size[0], self.downsample)
        return surround(positive)[top - first : bottom - first]

    def tissue(self, top: int, bottom: int) -> npt.NDArray[np.bool_]:
        """Where rows are tissue, bool (bottom - top, width)."""
        return tissue_rows(self.file, self.header, top, bottom, self.size[0], self.downsample, self._packed_mask)

    @cached_property
    def _packed_mask(self) -> npt.NDArray[np.uint8]:
        return read_packed_mask(self.file, self.header)


def is_slide_of(slide: Path, header: Header | Explanation) -> bool:
    """Whether a file is the slide of a result or of explanations, or keeps patches of it.

    Raises
    ------
    InputError
        When it is not there, or cannot be read.
    """
    check_can_be_opened(slide)
    with input_errors(slide):
        return slide.is_file() and slide_quickhash(slide) == header.slide.quickhash


@contextmanager
def open_picture(
    result: Path,
    slide: Path | None,
    *,
    downsample: float | None = None,
    long_side: int | None = None,
    show: Show | None = None,
) -> Iterator[Picture]:
    """Open a result, and its slide where it is at hand, for drawing.

    Parameters
    ----------
    result
        Result file.
    slide
        The slide it was made from, or None.
    downsample
        Level-0 pixels per pixel of the picture; None takes the tissue mask's, or follows `long_side`.
    long_side
        Pixels of the longer side of the picture; never more than the slide has.
    show
        What is shown in place of scores.

    Raises
    ------
    UsageError
        When the result has nothing of the kind to show.
    InputError
        When the result cannot be read, or the slide is another one than the result's.
    """
    with open_result(result) as file:
        header = read_header(file)
        if slide is not None and not is_slide_of(slide, header):
            raise InputError(f"{slide}: is not the slide that {result} was made from ({header.slide.name})")
        if long_side is not None:
            downsample = max(1.0, max(header.slide.l0_size) / long_side)
        looks, scale = looks_and_scale(file, header, show)
        odd_levels = odd_levels_of(read_execution(file).attributes)
        reader = None if slide is None else open_slide(slide, odd_levels=odd_levels)
        try:
            yield Picture(file, header, looks, reader, downsample or header.mask_downsample, scale)
        finally:
            if reader is not None:
                reader.close()


def score_colour(score: npt.NDArray[np.floating]) -> npt.NDArray[np.float64]:
    """Colours of scores (N,): float64 (N, 3), 0 to 255."""
    return SCORE.colour(score)


def look_colour(look: npt.NDArray[np.integer], n_levels: int) -> npt.NDArray[np.float64]:
    """Colours of levels (N,): float64 (N, 3), 0 to 255."""
    return along(1 - look.astype(np.float64) / max(1, n_levels - 1), _LOOK_ANCHORS)


def _tinted(pixels: RgbArray, shown: npt.NDArray[np.bool_], colour: npt.NDArray[np.float64]) -> RgbArray:
    tinted = pixels.copy()
    tinted[shown] = np.rint((1 - _STRENGTH) * pixels[shown] + _STRENGTH * colour).astype(np.uint8)
    return tinted
