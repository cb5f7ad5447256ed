"""Tissue by optical density against the slide's own glass.

Whatever the stain, tissue takes light away, and glass of the same slide does not. So no statistics of the stained parts
are needed, and a dark section cannot hide a pale one. What takes light away and is no tissue is told by its texture:

* Ink of pens and black fill are dark and smooth, where dark tissue is full of nuclei and fibres.
* Shadows, bubbles and other even greys are smooth and have no colour, where tissue that smooth is stained.
* Fat is a net of membranes around what lets all light through. Small pieces of it, as between the parts of a section,
  count as tissue; of pieces of more than `_FAT_UM2` only what is stained more than membranes are does.

Lengths are in µm, for 5 to 12 µm per pixel. Chosen and tried at 8.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
from scipy import ndimage

from pyramidai_mpi.slides.pieces import without_small_holes, without_small_pieces

if TYPE_CHECKING:
    import numpy.typing as npt

    from pyramidai_mpi.base.types import RgbArray

    Mask = npt.NDArray[np.bool_]
    Density = npt.NDArray[np.float32]

DEFAULT_LIMIT = 0.03
"""Least optical density (decadic, strongest channel) of tissue. Glass of four real slides stays below 0.008 for 99.9 %
of its pixels; pale collagen of a breast has 0.03 to 0.1."""

# Of the limit: solid tissue lies evenly above it, nets of membranes do not. Densities are cut off at `_SOLID_CUT`
# before they are averaged, so that a few dark membranes do not make up for the holes between them.
_SOLID_CUT, _SOLID_MEAN = 1.67, 1.4
_EVEN_MEAN, _EVEN_SPREAD = 0.75, 0.5
_STRONG = 3.3
_LOOSE_CUT, _LOOSE_MEAN = 2.7, 0.6
# Lengths and areas.
_SOLID_UM, _EVEN_UM, _LOOSE_UM = 72.0, 88.0, 32.0
_SPECK_UM2, _HOLE_UM2 = 2500.0, 4100.0
_LARGE_SOLID_UM2 = 64e3
_FAT_UM2 = 1e6
# Ink: standard deviation in grey levels over 40 µm. Of tissue as dark as that, 99.9 % has more than 4.7 on four slides
# at hand, and more than 3.7 on a fifth; only whole squares of less count.
_INK_UM, _INK_LEAST_UM2, _INK_EDGE_UM = 40.0, 6400.0, 40.0
_INK_DENSITY, _INK_SMOOTH = 0.3, 4.0
_INK_DENSITY_LIKE_STAIN = 0.6
# Even grey: an immunostain has pale parts of hardly more colour; 99.9 % of it has a standard deviation above 6.9.
_GREY_SMOOTH, _GREY_COLOUR, _GREY_EDGE_UM = 6.0, 0.2, 24.0
# Glass is bright and smooth.
_GLASS_SMOOTH, _GLASS_LEAST, _GLASS_SHARE, _GLASS_GREEN = 2.5, 150, 0.005, -12
_FILL = 254
"""Scanners fill what they did not scan with pure white, brighter than glass."""


def find_stained(rgb: RgbArray, scanned: Mask, *, um_px: float, limit: float = DEFAULT_LIMIT) -> Mask:
    """Tissue of a thumbnail.

    Parameters
    ----------
    rgb
        Thumbnail, uint8 (H, W, 3).
    scanned
        bool (H, W): the pixels that count, at least one.
    um_px
        µm per pixel.
    limit
        Least optical density of tissue, above 0.

    Returns
    -------
    numpy.ndarray
        bool (H, W), False where not scanned.
    """
    brightness = rgb.mean(axis=2, dtype=np.float32)
    spread = _spread(brightness, _pixels(_INK_UM, um_px))
    glass, is_known = find_glass(rgb, brightness, scanned & (spread < _GLASS_SMOOTH))
    channels = _densities(rgb, glass)
    density = np.where(scanned, channels.max(axis=2), 0)
    weakest = channels.min(axis=2)
    smoothed = ndimage.gaussian_filter(density, 8.0 / um_px, truncate=3)

    ink = _ink(channels, density, spread, um_px, beside_glass=is_known)
    solid = _solid(density, smoothed, um_px, limit)
    fat = _wide_fat(density, solid, um_px, limit)
    stained = (smoothed > limit) & ~fat | (smoothed > _STRONG * limit)
    stained = without_small_pieces(stained, max_size=_area(_SPECK_UM2, um_px))
    # holes of wide fat stay open
    stained = without_small_holes(stained | solid, max_size=_area(_HOLE_UM2, um_px)) & ~(fat & ~stained & ~solid)
    return np.asarray(stained & ~_grey(density, weakest, spread, um_px, limit) & ~ink & scanned)


def find_glass(rgb: RgbArray, brightness: Density, smooth: Mask) -> tuple[npt.NDArray[np.float64], bool]:
    """Colour of the slide's glass: the brightest that many smooth pixels have.

    Parameters
    ----------
    rgb, brightness
        Thumbnail, uint8 (H, W, 3), and the mean of its channels, float32 (H, W).
    smooth
        bool (H, W), where neighbours are alike.

    Returns
    -------
    colour : numpy.ndarray
        float64 (3,), 0 to 255; white where there is no glass to be seen.
    is_known : bool
        Whether there is.
    """
    # pale stains take most of green away, which neither old nor warm glass does
    excess = rgb[..., 1].astype(np.int16) - np.minimum(rgb[..., 0], rgb[..., 2])
    bright = smooth & (brightness > _GLASS_LEAST) & (excess > _GLASS_GREEN)
    least = _GLASS_SHARE * brightness.size
    glass = bright & (rgb.min(axis=2) < _FILL)
    if glass.sum() < least:
        glass = bright
    if glass.sum() < least:
        return np.full(3, 255.0), False
    counts = np.convolve(np.bincount(np.rint(brightness[glass]).astype(int), minlength=260), np.ones(5), "same")
    peaks = (counts >= np.roll(counts, 1)) & (counts >= np.roll(counts, -1)) & (counts >= counts.max() / 10)
    mode = np.flatnonzero(peaks)[-1]
    return np.median(rgb[glass & (np.abs(brightness - mode) <= 4)], axis=0).astype(np.float64), True


def _densities(rgb: RgbArray, glass: npt.NDArray[np.float64]) -> Density:
    """Optical density of each channel against the glass, float32 (H, W, 3), at least 0."""
    levels = np.maximum(np.arange(256), 1.0)
    return np.stack(
        [np.maximum(np.log10(glass[c] / levels), 0).astype(np.float32)[rgb[..., c]] for c in range(3)], axis=-1
    )


def _ink(channels: Density, density: Density, spread: Density, um_px: float, *, beside_glass: bool) -> Mask:
    """Ink of pens with its edges, and black fill."""
    red, green, blue = np.moveaxis(channels, -1, 0)
    # green, blue and black take away most of the red light, stains most of the green or blue
    like_stain = np.maximum(green, blue) > red + 0.05
    like_stain &= channels.min(axis=2) < 0.6 * density
    core = ~like_stain & (density > _INK_DENSITY) & (spread < _INK_SMOOTH)
    if beside_glass:  # without, a slide of one stain all over would be ink
        core |= like_stain & (density > _INK_DENSITY_LIKE_STAIN) & (spread < _INK_SMOOTH)
    core = _opened(core, _pixels(_INK_UM, um_px))
    core = without_small_pieces(core, max_size=_area(_INK_LEAST_UM2, um_px))
    return _grown(core, _pixels(_INK_EDGE_UM, um_px))


def _grey(density: Density, weakest: Density, spread: Density, um_px: float, limit: float) -> Mask:
    """Even greys with their edges: shadows, bubbles, where the mounting medium ends."""
    side = _pixels(_EVEN_UM, um_px)
    mean = _mean(density, side)
    grey = (spread < _GREY_SMOOTH) & (mean > 0.5 * limit) & (mean - _mean(weakest, side) < _GREY_COLOUR * mean)
    return _grown(_opened(grey, _pixels(56, um_px)), _pixels(_GREY_EDGE_UM, um_px))


def _solid(density: Density, smoothed: Density, um_px: float, limit: float) -> Mask:
    """Tissue that is more than a net: evenly stained, or on average over the holes."""
    filled = _mean(np.minimum(density, _SOLID_CUT * limit), _pixels(_SOLID_UM, um_px)) > _SOLID_MEAN * limit
    side = _pixels(_EVEN_UM, um_px)
    mean = _mean(density, side)
    even = (_spread(density, side) < _EVEN_SPREAD * mean) & (mean > _EVEN_MEAN * limit) & (smoothed > 0.67 * limit)
    return _opened(filled | _opened(even, _pixels(40, um_px)), _pixels(56, um_px))


def _wide_fat(density: Density, solid: Mask, um_px: float, limit: float) -> Mask:
    """Loose tissue in pieces of more than `_FAT_UM2`, holes included."""
    step = max(1, round(_LOOSE_UM / um_px))
    large = without_small_pieces(solid, max_size=_area(_LARGE_SOLID_UM2, um_px))
    net = _blocks(np.minimum(density, _LOOSE_CUT * limit), step)
    loose = ndimage.gaussian_filter(net, _LOOSE_UM / (um_px * step), truncate=3) > _LOOSE_MEAN * limit
    loose &= _blocks(_grown(large, 1).astype(np.float32), step) < 0.5
    wide = without_small_pieces(_opened(loose, _pixels(104, um_px * step)), max_size=_area(_FAT_UM2, um_px * step))
    everywhere = np.asarray(wide, bool).repeat(step, axis=0).repeat(step, axis=1)
    return everywhere[: density.shape[0], : density.shape[1]]


def _pixels(um: float, um_px: float) -> int:
    """An odd number of pixels, at least 3, about as long as that."""
    return max(3, 2 * round((um / um_px - 1) / 2) + 1)


def _area(um2: float, um_px: float) -> int:
    return round(um2 / um_px**2)


def _mean(values: Density, side: int) -> Density:
    mean: Density = ndimage.uniform_filter(values, side)
    return mean


def _spread(values: Density, side: int) -> Density:
    """Standard deviation within squares."""
    mean = _mean(values, side)
    return np.sqrt(np.maximum(_mean(values * values, side) - mean * mean, 0))


def _opened(mask: Mask, side: int) -> Mask:
    """What squares of `side` pixels fit into."""
    eroded = ndimage.minimum_filter(mask.view(np.uint8), side, mode="nearest")
    return np.asarray(ndimage.maximum_filter(eroded, side, mode="constant")).view(bool)


def _grown(mask: Mask, pixels: int) -> Mask:
    return np.asarray(ndimage.maximum_filter(mask.view(np.uint8), 2 * pixels + 1, mode="constant")).view(bool)


def _blocks(values: Density, step: int) -> Density:
    """Means of blocks of `step` pixels a side; the last ones may be smaller."""
    height, width = (-(-extent // step) * step for extent in values.shape)
    padded = np.pad(values, ((0, height - values.shape[0]), (0, width - values.shape[1])), mode="edge")
    return np.asarray(padded.reshape(height // step, step, width // step, step).mean(axis=(1, 3), dtype=np.float32))
