"""Patches read from their slide instead of their file."""

from __future__ import annotations

import math
from contextlib import contextmanager
from typing import TYPE_CHECKING

import numpy as np

from pyramidai_mpi.base.errors import InputError, input_errors
from pyramidai_mpi.base.odd_levels import odd_levels_of
from pyramidai_mpi.slides.dicom import file_of_slide
from pyramidai_mpi.slides.identity import quickhash
from pyramidai_mpi.slides.pyramid import SlidePyramid
from pyramidai_mpi.slides.readers.base import check_can_be_opened
from pyramidai_mpi.slides.readers.choice import open_slide
from pyramidai_mpi.slides.spacing import LevelPlan
from pyramidai_mpi.store.patches.record import PLACES

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    import numpy.typing as npt

    from pyramidai_mpi.base.types import RgbArray
    from pyramidai_mpi.slides.readers.base import SlideReader
    from pyramidai_mpi.store.patches.reader import PatchFile


@contextmanager
def opened_slide(slide: Path, file: PatchFile) -> Iterator[SlideReader]:
    """Open the slide of a file of patches.

    Raises
    ------
    InputError
        When it cannot be read, or is another one than the file's.
    """
    path = file_of_slide(slide)
    check_can_be_opened(path)
    with input_errors(path):
        is_its = path.is_file() and quickhash(path) == file.header.slide.quickhash
    if not is_its:
        raise InputError(f"{slide}: is not the slide that {file.path} was made from ({file.header.slide.name})")
    reader = open_slide(path, odd_levels=odd_levels_of(file.execution().attributes))
    try:
        yield reader
    finally:
        reader.close()


def window_reader(reader: SlideReader, file: PatchFile, table: npt.NDArray[np.void]) -> Callable[[int], RgbArray]:
    """Give the pixels of a patch, uint8 (size, size, 3) RGB, as an extraction that keeps them would.

    Raises
    ------
    InputError
        When the slide's stored levels are read otherwise now than when the patches were taken.
    """
    settings, info = file.header.settings, reader.info
    stored = settings.stored_level
    is_same = stored < len(info.stored_downsamples) and math.isclose(
        info.stored_downsamples[stored], settings.stored_downsample
    )
    if not is_same:
        raise InputError(f"{info.path}: its stored levels are read otherwise now than when {file.path} was made")
    plan = LevelPlan(0, settings.spacing, stored, settings.stored_downsample, settings.ratio)
    pyramid = SlidePyramid(reader, settings.grid(info.l0_size), (plan,))

    def read(number: int) -> RgbArray:
        patch, size = table[number], (settings.size, settings.size)
        if settings.ratio == 1:
            return reader.read((int(patch["l0_x"]), int(patch["l0_y"])), stored, size)
        if settings.places == PLACES[0]:
            return pyramid.read_tile(0, int(patch["col"]), int(patch["row"]))
        x, y = np.rint([patch["l0_x"] / settings.downsample, patch["l0_y"] / settings.downsample])
        return pyramid.read_window(0, (int(x), int(y)), size)

    return read
