"""A slide at one spacing, as one large picture whose parts are read as they are needed."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING

from pyramidai_mpi.base.errors import InputError, UsageError, input_errors
from pyramidai_mpi.base.odd_levels import INTERPOLATED
from pyramidai_mpi.slides.identity import slide_quickhash
from pyramidai_mpi.slides.pyramid import SlidePyramid
from pyramidai_mpi.slides.readers.base import UnreadableRegionError
from pyramidai_mpi.slides.readers.choice import open_slide
from pyramidai_mpi.slides.readers.trial import try_opening

if TYPE_CHECKING:
    from pathlib import Path

    from pyramidai_mpi.base.types import RgbArray


@dataclass(frozen=True)
class PlaneFacts:
    """What a picture of a slide is of.

    Attributes
    ----------
    path, quickhash
        The slide.
    size
        Width and height of the picture.
    downsample
        Level-0 pixels of the slide per pixel.
    um_px
        µm per pixel; None where nobody knows.
    l0_size, l0_bounds
        Of the slide: width and height, and the corner of what is not empty.
    """

    path: Path
    quickhash: str
    size: tuple[int, int]
    downsample: float
    um_px: float | None
    l0_size: tuple[int, int]
    l0_bounds: tuple[int, int]


class SlidePlane:
    """A slide at one spacing. Used by one thread at a time.

    Parameters
    ----------
    path
        The slide.
    level
        Stored level that is read as it is; nothing is resampled then. Ignored with `um_px`.
    um_px
        µm per pixel to bring it to; None for the stored level.
    mpp
        µm per level-0 pixel of slides that do not say.
    is_known
        Whether somebody has opened the slide before, so that no child has to try it.

    Raises
    ------
    InputError
        It cannot be opened, does not say how large its pixels are where that matters, or is too coarse.
    UsageError
        It has no such level.
    """

    def __init__(
        self,
        path: Path,
        level: int = 0,
        um_px: float | None = None,
        mpp: float | None = None,
        *,
        is_known: bool = False,
    ) -> None:
        if not is_known:
            with try_opening(path, "auto", INTERPOLATED) as trial:
                trial.check()
        reader = open_slide(path, odd_levels=INTERPOLATED)
        try:
            info = reader.info
            l0_um_px = mpp or info.mpp
            if um_px is not None and l0_um_px is None:
                raise InputError(
                    f"{path}: {info.mpp_flaw or 'does not say how large its pixels are'}; give µm per pixel with "
                    "--slide-mpp, or train on a stored level with --level"
                )
            if um_px is None and level >= len(info.stored_sizes):
                raise UsageError(
                    f"{path}: has stored levels 0 to {len(info.stored_sizes) - 1}, not {level}; see --level"
                )
            # a slide of unknown spacing is laid out in its own pixels
            base = l0_um_px or 1.0
            self._pyramid = SlidePyramid.build(
                reader,
                base,
                tile_size=1,
                base_mpp=um_px or base * info.stored_downsamples[level],
                scale_factor=2,
                n_levels=1,
            )
            plan = self._pyramid.plans[0]
            if plan.ratio == 1:
                size = info.stored_sizes[plan.stored_level]
            else:
                size = (math.floor(info.l0_size[0] / plan.downsample), math.floor(info.l0_size[1] / plan.downsample))
            with input_errors(path):
                found = slide_quickhash(path)
        except BaseException:
            reader.close()
            raise
        spacing = None if l0_um_px is None else l0_um_px * plan.downsample
        self.facts = PlaneFacts(path, found, size, plan.downsample, spacing, info.l0_size, info.l0_bounds)

    def read(self, corner: tuple[int, int], size: tuple[int, int]) -> RgbArray:
        """A part of it, uint8 (height, width, 3); white outside.

        Raises
        ------
        InputError
            Pixels of it cannot be had.
        """
        try:
            return self._pyramid.read_window(0, corner, size)
        except UnreadableRegionError as error:
            x, y = (round(place * self.facts.downsample) for place in corner)
            raise InputError(
                f"{self.facts.path}: pixels near x {x}, y {y} of level 0 cannot be read ({error}); leave the slide out"
            ) from error

    def close(self) -> None:
        """Close the slide."""
        self._pyramid.reader.close()
