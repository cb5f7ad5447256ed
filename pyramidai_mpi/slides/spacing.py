"""Which stored level serves which analysis level: the snapping rule, as a pure function.

A slide's stored levels have spacings ``mpp * downsample``; a model asks for ``base_mpp * f**n``. When a stored level
lies within 2 % of ``base_mpp`` times a power of f, the slide's own grid is taken as it is and every analysis level is
an exact power of f of it. Otherwise the levels are resampled to exactly the spacings that the model asks for.

A stored level's size is rounded to whole pixels: a quarter of 17602 rows is 4401, so OpenSlide, which takes the ratio
of sizes, has a downsample of 3.9998, places regions of that level at fractions of a pixel, and interpolates: one large
read is not bit-equal to four small ones (up to 3 grey levels on a real biopsy). Such a level of *odd size* is read in
one of two ways.

``own``
    Pixel k of the level is taken to begin at level-0 pixel 4 k, as in levels of exact size, and given as it is stored:
    tile (col, row) is the pixels [col T, (col + 1) T) x [row T, (row + 1) T) of the level, whatever the cut, and what
    must be resampled may come from it. That is where these pixels are when the writer averaged blocks of 4 x 4 and
    dropped or filled up the last ones. When it squeezed the whole slide into the rounded size, pixels lie off by up to
    what was rounded, at the far edge: less than 4 level-0 pixels, which is one of that level.
``interpolated``
    `read_region` at exact corners, so that anybody with OpenSlide gets the same pixels from the coordinates in the
    result. What must be resampled is then read from levels of exact size, in the worst case level 0.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING

from pyramidai_mpi.base.errors import InputError

if TYPE_CHECKING:
    from collections.abc import Sequence

SNAP_TOLERANCE = 0.02
MPP_ANISOTROPY_TOLERANCE = 0.02
UPSAMPLING_TOLERANCE = 0.10
PIXELS_OF_A_MICROSCOPE = (0.02, 20.0)
"""µm. What most pictures say is 72 or 96 pixels an inch, a screen's: 353 and 265 µm; converters say 10 a centimetre."""
MOST_SOURCE_PIXELS = 16384
"""Stored pixels along the side of a tile: more is a mistaken µm/px, and 16384 of them squared take 1 GB as they are."""
# Stored level sizes are rounded to whole pixels, so 7886 of 31544 columns gives 4.0002: nominally 4. A small image
# rounds by more: 185 of 743 rows is 4.016.
NOMINAL_TOLERANCE = 0.01


@dataclass(frozen=True)
class LevelPlan:
    """How the pixels of one analysis level are read.

    Attributes
    ----------
    level
        Analysis level.
    spacing
        µm per pixel of the analysis level.
    stored_level
        Level of the file that is read.
    stored_downsample
        Level-0 pixels per pixel of that stored level (nominal).
    ratio
        Pixels of the stored level per pixel of the analysis level; 1.0 means that it is read unresampled.
    """

    level: int
    spacing: float
    stored_level: int
    stored_downsample: float
    ratio: float

    @property
    def downsample(self) -> float:
        """Level-0 pixels of the file per pixel of the analysis level."""
        return self.stored_downsample * self.ratio


def overruled(own_mpp: float | None, given_mpp: float | None) -> str:
    """What to say of a slide whose µm per level-0 pixel are given, and by its own word are others; else empty."""
    if own_mpp is None or given_mpp is None or abs(own_mpp / given_mpp - 1) <= SNAP_TOLERANCE:
        return ""
    return f"says that its pixels are {own_mpp:g} µm; they are taken for {given_mpp:g} µm, as was asked for"


def square_spacing(mpp_x: float, mpp_y: float) -> tuple[float | None, str]:
    """What µm per pixel across and down are together.

    Returns
    -------
    mpp : float or None
        Their mean; None where they are no sizes of pixels that are about square, or no microscope has.
    flaw : str
        What the file says instead; empty where it is fine.
    """
    if not (math.isfinite(mpp_x) and math.isfinite(mpp_y) and mpp_x > 0 and mpp_y > 0):
        return None, f"says that its pixels are {mpp_x:g} x {mpp_y:g} µm"
    if abs(mpp_x / mpp_y - 1) > MPP_ANISOTROPY_TOLERANCE:
        return None, f"says that its pixels are not square ({mpp_x:g} x {mpp_y:g} µm)"
    mpp = mpp_x if mpp_x == mpp_y else (mpp_x + mpp_y) / 2
    if not PIXELS_OF_A_MICROSCOPE[0] <= mpp <= PIXELS_OF_A_MICROSCOPE[1]:
        return None, f"says that its pixels are {mpp:.4g} µm, as no microscope's are"
    return mpp, ""


def nominal_downsample(downsample: float) -> float:
    """The whole number that a stored level's downsample stands for, or itself when it stands for none."""
    nearest = round(downsample)
    if nearest >= 1 and abs(downsample / nearest - 1) <= NOMINAL_TOLERANCE:
        return float(nearest)
    return downsample


def is_rounded(l0_size: tuple[int, int], size: tuple[int, int], downsample: float) -> bool:
    """Whether a stored level's size is level 0's divided by a whole number and rounded, up or down."""
    sides = zip(l0_size, size, strict=True)
    return float(downsample).is_integer() and all(abs(side * downsample - l0) < downsample for l0, side in sides)


def snapped_base_downsample(
    stored_downsamples: Sequence[float], mpp: float, base_mpp: float, scale_factor: int
) -> float | None:
    """Downsample of analysis level 0 when the slide's own grid serves, else None.

    The finest stored level within `SNAP_TOLERANCE` of ``base_mpp * scale_factor**p`` (p any whole number) decides.
    """
    for stored in stored_downsamples:
        spacing = mpp * stored
        power = round(math.log(spacing / base_mpp, scale_factor))
        if abs(spacing / (base_mpp * float(scale_factor) ** power) - 1) <= SNAP_TOLERANCE:
            return stored / float(scale_factor) ** power
    return None


def plan_levels(
    stored_downsamples: Sequence[float],
    mpp: float,
    *,
    base_mpp: float,
    scale_factor: int,
    n_levels: int,
    tile_size: int = 1,
    stored_exact: Sequence[bool] | None = None,
    allow_upsampling: bool = False,
    name: str = "slide",
) -> tuple[LevelPlan, ...]:
    """Plan the reading of every analysis level.

    Parameters
    ----------
    stored_downsamples
        Nominal downsample of every stored level, finest first: 1.0, unless a file keeps coarser levels alone.
    mpp
        µm per level-0 pixel of the file.
    base_mpp, scale_factor, n_levels
        The model's spacing of level 0 (µm/px), f and number of levels.
    tile_size
        Side of a tile in pixels of its level.
    stored_exact
        For every stored level, whether its pixels can be addressed without interpolation (all, unless given). Others
        are read only as they are, never resampled: the bytes would depend on where a read begins.
    allow_upsampling
        Serve levels finer than the file by more than 10 %.
    name
        What the error calls the slide.

    Returns
    -------
    tuple of LevelPlan
        One for each level, level 0 first.

    Raises
    ------
    InputError
        When a level would be upsampled by more than 10 % and `allow_upsampling` is not set, or a tile would take more
        than `MOST_SOURCE_PIXELS` a side.
    """
    snapped = snapped_base_downsample(stored_downsamples, mpp, base_mpp, scale_factor)
    base_downsample = base_mpp / mpp if snapped is None else snapped
    finest = stored_downsamples[0]
    if finest / base_downsample > 1 + UPSAMPLING_TOLERANCE and not allow_upsampling:
        raise InputError(
            f"{name}: its finest pixels are {mpp * finest:g} µm, coarser than the {base_mpp:g} µm of the model's level "
            "0; use --allow-upsampling to enlarge them, or --mpp X if the slide's own µm/px is wrong"
        )
    plans = []
    for level in range(n_levels):
        downsample = base_downsample * scale_factor**level
        # the tolerance takes in float error alone: 4.000000001 is served by a stored 4
        usable = [
            i
            for i, d in enumerate(stored_downsamples)
            if abs(d / downsample - 1) < 1e-9 or (d < downsample and (stored_exact is None or stored_exact[i]))
        ]
        stored_level = max(usable, key=lambda i: stored_downsamples[i], default=0)
        stored = stored_downsamples[stored_level]
        ratio = downsample / stored
        if abs(ratio - round(ratio)) < 1e-9:
            ratio = float(round(ratio))
        if tile_size * ratio > MOST_SOURCE_PIXELS:
            raise InputError(
                f"{name}: a tile of level {level} takes {tile_size * ratio:.0f} of its pixels a side, each {mpp:g} µm; "
                "give the right µm/px with --mpp, or use a slide with reduced levels"
            )
        plans.append(LevelPlan(level, mpp * downsample, stored_level, stored, ratio))
    return tuple(plans)
