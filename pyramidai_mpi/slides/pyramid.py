"""A slide as the analysis sees it: tiles of analysis levels, and a thumbnail for the tissue mask."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import numpy as np

from pyramidai_mpi.pyramid.grid import Grid
from pyramidai_mpi.slides.readers.base import LEFT_OUT, MISSING, THERE
from pyramidai_mpi.slides.resample import resample, source_range
from pyramidai_mpi.slides.spacing import LevelPlan, plan_levels

if TYPE_CHECKING:
    import numpy.typing as npt

    from pyramidai_mpi.base.types import RgbArray
    from pyramidai_mpi.pyramid.run_levels import RunLevels
    from pyramidai_mpi.slides.readers.base import SlideReader

# Thumbnails are read in blocks of this many thumbnail pixels a side: a slide without reduced levels then needs no more
# than 32 x 64 = 2048 of its pixels a side in memory. Around damage, blocks are halved down to the smallest size, about
# that of a stored tile, so that what can be read is read.
_THUMBNAIL_BLOCK = 64
_SMALLEST_BLOCK = 8
_EXACT = 1e-9


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
        levels: RunLevels | None = None,
    ) -> SlidePyramid:
        """Lay a run's levels over a slide: those of a model as they are, unless others are given.

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
        if levels is None or levels.is_plain:
            grid = Grid.of_tiles(*info.l0_size, tile_size, scale_factor, n_levels, plans[0].downsample)
            return cls(reader, grid, plans)
        grid = levels.grid(info.l0_size, [plan.downsample for plan in plans])
        return cls(reader, grid, tuple(replace(plans[n], level=k) for k, n in enumerate(levels.networks)))

    def read_tile(self, level: int, t_col: int, t_row: int) -> RgbArray:
        """What is read for one tile: its window, of a block all windows together; white outside the slide.

        As uint8 (side, side, 3), where side is `Grid.region` of the level.

        Raises
        ------
        UnreadableRegionError
            When pixels inside the slide cannot be had.
        """
        plan = self.plans[level]
        side = self.grid.region(level)
        corner, l0_corner, first, size = self._source_of(plan, t_col, t_row)
        source = self.reader.read(l0_corner, plan.stored_level, size)
        return self._resampled(plan, source, first, corner, (side, side))

    def read_window(self, level: int, corner: tuple[int, int], size: tuple[int, int]) -> RgbArray:
        """Pixels of any region of a level, uint8 (height, width, 3); white outside the slide.

        Parameters
        ----------
        level
            Analysis level.
        corner
            x, y of its top-left corner in pixels of that level; may lie outside the slide.
        size
            Width and height in pixels of that level.

        Raises
        ------
        UnreadableRegionError
            As `read_tile`.
        """
        plan = self.plans[level]
        if plan.ratio == 1:
            l0_corner = (round(corner[0] * plan.downsample), round(corner[1] * plan.downsample))
            return self.reader.read(l0_corner, plan.stored_level, size)
        (first_x, last_x), (first_y, last_y) = (
            stored_span(plan, corner[axis], corner[axis] + size[axis]) for axis in (0, 1)
        )
        l0_corner = (round(first_x * plan.stored_downsample), round(first_y * plan.stored_downsample))
        source = self.reader.read(l0_corner, plan.stored_level, (last_x - first_x, last_y - first_y))
        return self._resampled(plan, source, (first_x, first_y), corner, size)

    def _resampled(
        self,
        plan: LevelPlan,
        source: RgbArray,
        first: tuple[int, int],
        out_origin: tuple[int, int],
        out_size: tuple[int, int],
    ) -> RgbArray:
        """A region of a level from the pixels of the stored level behind it, of which `first` is the top-left one."""
        if plan.ratio == 1:
            return source
        if plan.ratio < 1:
            width, height = self.reader.info.stored_sizes[plan.stored_level]
            _extend_edge(source, 1, first[0], width)
            _extend_edge(source, 0, first[1], height)
        return resample(source, first, out_origin, out_size, plan.ratio)

    def expect_tile(self, level: int, t_col: int, t_row: int) -> None:
        """Say that a tile will be read soon."""
        plan = self.plans[level]
        _, l0_corner, _, size = self._source_of(plan, t_col, t_row)
        self.reader.expect(l0_corner, plan.stored_level, size)

    def on_slide(self, level: int, t_col: int, t_row: int) -> tuple[slice, slice]:
        """Rows and columns of what is read for a tile whose pixels lie wholly on the slide.

        Where there is none in one direction, as a window may meet the slide by less than a pixel, the one that meets it
        most.
        """
        plan, side = self.plans[level], self.grid.region(level)
        spans = []
        corner = self.grid.corners(level, np.array([[t_col, t_row]]))[0].tolist()
        for first, stored in zip(corner, self.reader.info.stored_sizes[plan.stored_level], strict=True):
            whole = max(1, math.floor(stored / plan.ratio + _EXACT))
            start = min(max(0, -first), side - 1)
            spans.append(slice(start, max(start + 1, min(side, whole - first))))
        return spans[1], spans[0]

    def _source_of(
        self, plan: LevelPlan, t_col: int, t_row: int
    ) -> tuple[tuple[int, int], tuple[int, int], tuple[int, int], tuple[int, int]]:
        """Where what is read for a tile lies, and the region of the stored level behind it.

        Its corner in pixels of the analysis level; the region's corner in level-0 pixels and in its own, and its size.
        """
        side = self.grid.region(plan.level)
        x, y = self.grid.corner(plan.level, t_col, t_row)
        if plan.ratio == 1:
            return (x, y), self.grid.l0_corner(plan.level, t_col, t_row), (x, y), (side, side)
        first_x, last_x = source_range(x, x + side, plan.ratio)
        first_y, last_y = source_range(y, y + side, plan.ratio)
        l0_corner = (round(first_x * plan.stored_downsample), round(first_y * plan.stored_downsample))
        return (x, y), l0_corner, (first_x, first_y), (last_x - first_x, last_y - first_y)


def stored_span(plan: LevelPlan, start: int, stop: int) -> tuple[int, int]:
    """First and last (excluded) pixel of the stored level that pixels [start, stop) of a level need, along one axis."""
    return (start, stop) if plan.ratio == 1 else source_range(start, stop, plan.ratio)


def _extend_edge(source: RgbArray, axis: int, first: int, extent: int) -> None:
    """Repeat the slide's outermost row or column once: interpolation at its edge would mix in the white beyond."""
    lines = np.moveaxis(source, axis, 0)  # a view
    for outside, inside in ((-1 - first, -first), (extent - first, extent - 1 - first)):
        if 0 <= outside < len(lines) and 0 <= inside < len(lines):
            lines[outside] = lines[inside]


def read_thumbnail(
    reader: SlideReader,
    downsample: float,
    rows: tuple[int, int] | None = None,
    columns: tuple[int, int] | None = None,
    *,
    block: int = _THUMBNAIL_BLOCK,
) -> tuple[RgbArray, npt.NDArray[np.bool_], npt.NDArray[np.bool_]]:
    """The whole slide, reduced, or a part of it.

    Parameters
    ----------
    reader
        The slide.
    downsample
        Level-0 pixels per pixel of the thumbnail.
    rows, columns
        First row or column of the thumbnail and the one after the last; None reads all.
    block
        Pixels of the thumbnail a side that are read at once; larger ones take less time and more memory.

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
    first_col, last_col = (0, width) if columns is None else columns
    fine_enough = [i for i, d in enumerate(info.stored_downsamples) if d <= downsample * (1 + 1e-9)]
    stored_level = max(fine_enough, key=lambda i: info.stored_downsamples[i], default=0)
    stored = info.stored_downsamples[stored_level]
    ratio = downsample / stored
    shape = (last - first, last_col - first_col)
    rgb = np.empty((*shape, 3), np.uint8)
    readable = np.empty(shape, bool)
    left_out = np.empty(shape, bool)

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
        place = np.s_[top - first : bottom - first, left - first_col : right - first_col]
        if ratio == 1:
            rgb[place], readable[place], left_out[place] = pixels, there != MISSING, there == LEFT_OUT
            return
        if (there == LEFT_OUT).all():
            rgb[place], readable[place], left_out[place] = 255, True, True
            return

        def drawn(source: npt.NDArray[np.uint8]) -> npt.NDArray[np.uint8]:
            return resample(source, (first_x, first_y), (left, top), (right - left, bottom - top), ratio)

        rgb[place] = drawn(pixels)
        readable[place], left_out[place] = True, False
        if (there != THERE).any():
            # what is known of the pixels is drawn like a colour: anything short of full is unreadable
            known, scanned = (np.where(wanted, np.uint8(255), np.uint8(0)) for wanted in (there, there != LEFT_OUT))
            readable[place] = drawn(known[..., np.newaxis])[..., 0] == 255
            left_out[place] = drawn(scanned[..., np.newaxis])[..., 0] < 255

    for top in range(first, last, block):
        for left in range(first_col, last_col, block):
            fill(left, top, min(left + block, last_col), min(top + block, last))
    return rgb, readable, left_out
