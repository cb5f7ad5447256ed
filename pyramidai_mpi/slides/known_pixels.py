"""Regions of a slide of which something may not be readable: its pixels, and which of them are known."""

from __future__ import annotations

from itertools import pairwise
from typing import TYPE_CHECKING

import numpy as np

from pyramidai_mpi.slides.pyramid import stored_span
from pyramidai_mpi.slides.readers.base import LEFT_OUT, MISSING, UnreadableRegionError

if TYPE_CHECKING:
    from collections.abc import Sequence

    import numpy.typing as npt

    from pyramidai_mpi.base.types import RgbArray
    from pyramidai_mpi.slides.pyramid import SlidePyramid

_SMALLEST = 16
"""Pixels a side down to which what cannot be read is looked at in quarters."""
_MOST_STORED = 4096
"""Stored pixels a side that are read at once: of a slide without reduced levels, a region is read in pieces."""


def read_known(
    pyramid: SlidePyramid, level: int, corner: tuple[int, int], size: tuple[int, int]
) -> tuple[RgbArray, npt.NDArray[np.bool_], str]:
    """Pixels of any region of a level, of whatever size, and which of them could be read.

    Parameters
    ----------
    pyramid, level
        The slide, and its analysis level.
    corner, size
        As of `SlidePyramid.read_window`.

    Returns
    -------
    pixels : numpy.ndarray
        uint8 (height, width, 3), white where not readable, outside the slide, and where nothing was scanned.
    is_known : numpy.ndarray
        bool (height, width): False where pixels inside the slide could not be had.
    reason : str
        Why; empty where all could.
    """
    width, height = size
    side = max(_SMALLEST, int(_MOST_STORED / pyramid.plans[level].ratio))
    if max(size) > side:
        return _in_pieces(pyramid, level, corner, size, range(0, width, side), range(0, height, side))
    try:
        return pyramid.read_window(level, corner, size), np.ones((height, width), bool), ""
    except UnreadableRegionError as error:
        reason = str(error)
    there = _what_is_there(pyramid, level, corner, size)
    is_missing = bool((there == MISSING).any())
    if max(size) <= _SMALLEST or (there == LEFT_OUT).all():
        white = np.full((height, width, 3), 255, np.uint8)
        return white, np.full((height, width), not is_missing), reason if is_missing else ""
    pixels, is_known, _ = _in_pieces(pyramid, level, corner, size, [0, (width + 1) // 2], [0, (height + 1) // 2])
    return pixels, is_known, "" if is_known.all() else reason


def _in_pieces(
    pyramid: SlidePyramid,
    level: int,
    corner: tuple[int, int],
    size: tuple[int, int],
    lefts: Sequence[int],
    tops: Sequence[int],
) -> tuple[RgbArray, npt.NDArray[np.bool_], str]:
    """As `read_known`, cut at these places: resampling is anchored to the slide, so the pixels are the same."""
    width, height = size
    pixels = np.empty((height, width, 3), np.uint8)
    is_known = np.empty((height, width), bool)
    reasons = []
    for left, right in pairwise([*lefts, width]):
        for top, bottom in pairwise([*tops, height]):
            if left < right and top < bottom:
                place = np.s_[top:bottom, left:right]
                at = (corner[0] + left, corner[1] + top)
                pixels[place], is_known[place], why = read_known(pyramid, level, at, (right - left, bottom - top))
                reasons.append(why)
    return pixels, is_known, next((why for why in reasons if why), "")


def _what_is_there(
    pyramid: SlidePyramid, level: int, corner: tuple[int, int], size: tuple[int, int]
) -> npt.NDArray[np.uint8]:
    """What is known of the stored pixels behind a region, see `SlideReader.read_what_is_there`."""
    plan = pyramid.plans[level]
    (first_x, last_x), (first_y, last_y) = (
        stored_span(plan, corner[axis], corner[axis] + size[axis]) for axis in (0, 1)
    )
    l0_corner = (round(first_x * plan.stored_downsample), round(first_y * plan.stored_downsample))
    if plan.ratio == 1:
        l0_corner = (round(corner[0] * plan.downsample), round(corner[1] * plan.downsample))
    size = (last_x - first_x, last_y - first_y)
    return pyramid.reader.read_what_is_there(l0_corner, plan.stored_level, size)[1]


def grown(marks: npt.NDArray[np.bool_], by: int) -> npt.NDArray[np.bool_]:
    """Squares of ``2 * by + 1`` pixels around all that is marked, bool of the same shape."""
    found = marks
    for axis in (0, 1):
        counts = np.cumsum(found, axis=axis, dtype=np.int32)
        counts = np.insert(counts, 0, 0, axis=axis)
        place = np.arange(marks.shape[axis])
        first, last = np.maximum(place - by, 0), np.minimum(place + by + 1, marks.shape[axis])
        found = np.take(counts, last, axis=axis) > np.take(counts, first, axis=axis)
    return np.asarray(found)
