"""Segmentation of tissue on a thumbnail: a pure function of pixels."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
from skimage.color import rgb2hsv
from skimage.filters import threshold_otsu
from skimage.measure import label
from skimage.morphology import remove_small_holes, remove_small_objects

if TYPE_CHECKING:
    import numpy.typing as npt

    from pyramidai_mpi.base.types import RgbArray

# Otsu splits any histogram in two. On a slide full of tissue (no glass) it would cut the tissue, on an empty one the
# noise, so it may only choose within these limits. Glass on the real slides at hand has a saturation below 0.05, fat
# membranes 0.05..0.15, stained tissue 0.2..0.6.
_SATURATION_LIMITS = (0.06, 0.15)
# Hue runs red 0, green 1/3, blue 2/3. Haematoxylin and eosin lie at 0.7..1.05, DAB at 0.05..0.1; green and blue pen lie
# at 0.3..0.6. Hues are turned so that the cut lies between yellow and green, where nothing is.
_HUE_CUT = 0.2
_HUE_LIMITS = (0.45 - _HUE_CUT, 0.65 - _HUE_CUT)
# Black pen and folded coverslips: too dark to be tissue at any stain.
_DARKEST_TISSUE = 0.18
# Of 8-bit colours, two saturations or hues differ by at least 1 / 255**2, or by rounding alone.
_ONE_VALUE = 1e-6
# At 8 µm a mask pixel (32x of 0.25 µm): specks below 8 pixels are dust, holes below 64 are cells torn out or vessels.
_SPECK_PX = 8
_HOLE_PX = 64


def segment_tissue(
    rgb: RgbArray, readable: npt.NDArray[np.bool_], left_out: npt.NDArray[np.bool_] | None = None
) -> npt.NDArray[np.bool_]:
    """Tissue by Otsu thresholds on saturation and hue (as in Wang et al., arXiv:1606.05718, section 3.1).

    Parameters
    ----------
    rgb
        Thumbnail, uint8 (H, W, 3).
    readable
        bool (H, W). What could not be read counts as tissue: a damaged region must show up as unreadable tiles, not
        vanish as background.
    left_out
        bool (H, W), where the scanner left out areas: background, but for what lies within tissue. That was hardly left
        out on purpose, and counts as what could not be read. None for nowhere.

    Returns
    -------
    numpy.ndarray
        bool (H, W).
    """
    if not readable.any():
        return np.ones(readable.shape, bool)
    if left_out is None:
        left_out = np.zeros(readable.shape, bool)
    scanned = readable & ~left_out
    if not scanned.any():
        return ~readable
    hsv = rgb2hsv(rgb)
    hue = (hsv[..., 0] - _HUE_CUT) % 1.0
    saturation, value = hsv[..., 1], hsv[..., 2]
    stained = saturation > np.clip(_otsu(saturation[scanned]), *_SATURATION_LIMITS)
    coloured = scanned & stained
    if coloured.any():
        stained &= hue > np.clip(_otsu(hue[coloured]), *_HUE_LIMITS)
    stained &= value > _DARKEST_TISSUE
    stained = remove_small_objects(stained & scanned, max_size=_SPECK_PX - 1)
    stained = remove_small_holes(stained, max_size=_HOLE_PX - 1)
    within = _enclosed(stained) & left_out if left_out.any() else left_out
    return np.asarray(stained | within | ~readable)


def _enclosed(mask: npt.NDArray[np.bool_]) -> npt.NDArray[np.bool_]:
    """What is not in a mask and cannot be reached from the edge of the picture without crossing it."""
    areas = np.asarray(label(~mask, connectivity=1))  # type: ignore[no-untyped-call]
    reached = np.unique(np.concatenate([areas[0], areas[-1], areas[:, 0], areas[:, -1]]))
    return ~mask & ~np.isin(areas, reached)


def _otsu(values: npt.NDArray[np.floating]) -> float:
    low, high = float(values.min()), float(values.max())
    # of one value but for rounding there are no two kinds, and no room for the bins of a histogram
    return low if high - low < _ONE_VALUE else float(threshold_otsu(values))  # type: ignore[no-untyped-call]
