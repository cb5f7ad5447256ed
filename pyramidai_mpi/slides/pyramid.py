"""A slide as the analysis sees it: tiles of analysis levels, and a thumbnail for the tissue mask."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from pyramidai_mpi.pyramid.grid import Grid
from pyramidai_mpi.slides.readers.base import LEFT_OUT
from pyramidai_mpi.slides.resample import resample, source_range
from pyramidai_mpi.slides.spacing import LevelPlan, plan_levels

if TYPE_CHECKING:
    import numpy.typing as npt

    from pyramidai_mpi.base.types import RgbArray
    from pyramidai_mpi.slides.readers.base import SlideReader

# Thumbnails are read in blocks of this many thumbnail pixels a side: a slide without reduced levels then needs no more
# than 32 x 64 = 2048 of its pixels a side in memory. Around damage, blocks are halved down to the smallest size, about
# that of a stored tile, so that what can be read is read.
_THUMBNAIL_BLOCK = 64
_SMALLEST_BLOCK = 8


@dataclass(frozen=True)
class SlidePyramid:
    """The analysis levels of one slide under one model.

    Attributes
    ----------
    reader
        The slide's pixels; used by one thread at a time.
    grid
        Tile geometry.
    plans
        How each level is read, level 0 first.
    """

    reader: SlideReader
    grid: Grid
    plans: tuple[LevelPlan, ...]

    @classmethod
    def build(
        cls,
        reader: SlideReader,
        mpp: float,
        *,
        tile_size: int,
        base_mpp: float,
        scale_factor: int,
        n_levels: int,
        allow_upsampling: bool = False,
    ) -> SlidePyramid:
        """Lay a model's levels over a slide.

        Raises
        ------
        InputError
            When the slide is too coarse for the model (see `plan_levels`).
        """
        info = reader.info
        plans = plan_levels(
            info.stored_downsamples,
            mpp,
            base_mpp=base_mpp,
            scale_factor=scale_factor,
            n_levels=n_levels,
            tile_size=tile_size,
            stored_exact=info.stored_exact,
            allow_upsampling=allow_upsampling,
            name=str(info.path),
        )
        grid = Grid(*info.l0_size, tile_size, scale_factor, n_levels, plans[0].downsample)
        return cls(reader, grid, plans)

    def read_tile(self, level: int, t_col: int, t_row: int) -> RgbArray:
        """Pixels of one tile, uint8 (tile_size, tile_size, 3); white outside the slide.

        Raises
        ------
        UnreadableRegionError
            When pixels inside the slide cannot be had.
        """
        plan = self.plans[level]
        side = self.grid.tile_size
        l0_corner, (first_x, first_y), size = self._source_of(plan, t_col, t_row)
        source = self.reader.read(l0_corner, plan.stored_level, size)
        if plan.ratio == 1:
            return source
        out_origin = (t_col * side, t_row * side)
        if plan.ratio < 1:
            width, height = self.reader.info.stored_sizes[plan.stored_level]
            _extend_edge(source, 1, first_x, width)
            _extend_edge(source, 0, first_y, height)
        return resample(source, (first_x, first_y), out_origin, (side, side), plan.ratio)

    def expect_tile(self, level: int, t_col: int, t_row: int) -> None:
        """Say that a tile will be read soon."""
        plan = self.plans[level]
        l0_corner, _, size = self._source_of(plan, t_col, t_row)
        self.reader.expect(l0_corner, plan.stored_level, size)

    def _source_of(
        self, plan: LevelPlan, t_col: int, t_row: int
    ) -> tuple[tuple[int, int], tuple[int, int], tuple[int, int]]:
        """Region of the stored level behind a tile: corner in level-0 pixels, corner in its own pixels, size."""
        side = self.grid.tile_size
        if plan.ratio == 1:
            l0_x, l0_y = self.grid.l0_corner(plan.level, np.array([[t_col, t_row]]))[0]
            return (int(l0_x), int(l0_y)), (t_col * side, t_row * side), (side, side)
        first_x, last_x = source_range(t_col * side, (t_col + 1) * side, plan.ratio)
        first_y, last_y = source_range(t_row * side, (t_row + 1) * side, plan.ratio)
        l0_corner = (round(first_x * plan.stored_downsample), round(first_y * plan.stored_downsample))
        return l0_corner, (first_x, first_y), (last_x - first_x, last_y - first_y)


def _extend_edge(source: RgbArray, axis: int, first: int, extent: int) -> None:
    """Repeat the slide's outermost row or column once: interpolation at its edge would mix in the white beyond."""
    lines = np.moveaxis(source, axis, 0)  # a view
    for outside, inside in ((-1 - first, -first), (extent - first, extent - 1 - first)):
        if 0 <= outside < len(lines) and 0 <= inside < len(lines):
            lines[outside] = lines[inside]


def read_thumbnail(
    reader: SlideReader, downsample: float, rows: tuple[int, int] | None = None
) -> tuple[RgbArray, npt.NDArray[np.bool_], npt.NDArray[np.bool_]]:
    """The whole slide, reduced, or a band of it.

    Parameters
    ----------
    reader
        The slide.
    downsample
        Level-0 pixels per pixel of the thumbnail.
    rows
        First row of the thumbnail and the one after the last; None reads all.

    Returns
    -------
    rgb : numpy.ndarray
        uint8 (H, W, 3), H and W of the whole rounded up; white outside the slide.
    readable : numpy.ndarray
        bool (H, W): False where any pixel behind it could not be had.
    left_out : numpy.ndarray
        bool (H, W): True where any pixel behind it was not scanned (white).
    """
    info = reader.info
    width, height = (math.ceil(extent / downsample) for extent in info.l0_size)
    first, last = (0, height) if rows is None else rows
    fine_enough = [i for i, d in enumerate(info.stored_downsamples) if d <= downsample * (1 + 1e-9)]
    stored_level = max(fine_enough, key=lambda i: info.stored_downsamples[i], default=0)
    stored = info.stored_downsamples[stored_level]
    ratio = downsample / stored
    rgb = np.empty((last - first, width, 3), np.uint8)
    readable = np.empty((last - first, width), bool)
    left_out = np.empty((last - first, width), bool)

    def fill(left: int, top: int, right: int, bottom: int) -> None:
        first_x, last_x = source_range(left, right, ratio)
        first_y, last_y = source_range(top, bottom, ratio)
        l0_corner = (round(first_x * stored), round(first_y * stored))
        size = (last_x - first_x, last_y - first_y)
        pixels, there = reader.read_what_is_there(l0_corner, stored_level, size)
        if not there.all() and max(right - left, bottom - top) > _SMALLEST_BLOCK:
            # one bad spot fails the whole read: look again in quarters
            middle_x, middle_y = (left + right + 1) // 2, (top + bottom + 1) // 2
            for x in ((left, middle_x), (middle_x, right)):
                for y in ((top, middle_y), (middle_y, bottom)):
                    if x[0] < x[1] and y[0] < y[1]:
                        fill(x[0], y[0], x[1], y[1])
            return
        # what is known of the pixels travels as further channels: anything short of full is unreadable
        known, scanned = (np.where(wanted, np.uint8(255), np.uint8(0)) for wanted in (there, there != LEFT_OUT))
        source = np.dstack([pixels, known, scanned])
        block = resample(source, (first_x, first_y), (left, top), (right - left, bottom - top), ratio)
        rgb[top - first : bottom - first, left:right] = block[..., :3]
        readable[top - first : bottom - first, left:right] = block[..., 3] == 255
        left_out[top - first : bottom - first, left:right] = block[..., 4] < 255

    for top in range(first, last, _THUMBNAIL_BLOCK):
        for left in range(0, width, _THUMBNAIL_BLOCK):
            fill(left, top, min(left + _THUMBNAIL_BLOCK, width), min(top + _THUMBNAIL_BLOCK, last))
    return rgb, readable, left_out
