"""Tissue by saturation and hue, as the program found it at first."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
from skimage.color import rgb2hsv
from skimage.filters import threshold_otsu

from pyramidai_mpi.slides.pieces import without_small_holes, without_small_pieces

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
# At 8 µm a mask pixel (32x of 0.25 µm): specks below 8 pixels are dust, holes below 64 are cells torn out or vessels.
_SPECK_PX = 8
_HOLE_PX = 64


def find_stained_by_hsv(rgb: RgbArray, scanned: npt.NDArray[np.bool_]) -> npt.NDArray[np.bool_]:
    """Tissue by Otsu thresholds on saturation and hue (as in Wang et al., arXiv:1606.05718, section 3.1).

    Leaves out what is pale or brown beside what is vivid, and takes red and violet pen in: `optical_density` is the
    better one, and this one gives the results of before.

    Parameters
    ----------
    rgb
        Thumbnail, uint8 (H, W, 3).
    scanned
        bool (H, W): the pixels that count, at least one.

    Returns
    -------
    numpy.ndarray
        bool (H, W), False where not scanned.
    """
    hsv = rgb2hsv(rgb)
    hue = (hsv[..., 0] - _HUE_CUT) % 1.0
    saturation, value = hsv[..., 1], hsv[..., 2]
    stained = saturation > np.clip(_otsu(saturation[scanned]), *_SATURATION_LIMITS)
    coloured = scanned & stained
    if coloured.any():
        stained &= hue > np.clip(_otsu(hue[coloured]), *_HUE_LIMITS)
    stained &= value > _DARKEST_TISSUE
    stained = without_small_pieces(stained & scanned, max_size=_SPECK_PX - 1)
    stained = without_small_holes(stained, max_size=_HOLE_PX - 1)
    return np.asarray(stained)


def _otsu(values: npt.NDArray[np.floating]) -> float:
    low, high = float(values.min()), float(values.max())
    # one hue but for float noise cannot be cut in two: its histogram has no room for bins
    return low if high - low < 1e-6 else float(threshold_otsu(values))  # type: ignore[no-untyped-call]
