"""Labels without anybody drawing: the recipe of Remedios et al. (2023) for tissue against glass.

The paper's steps at 1/8 of the resolution: what has a grey mean above 230 is background; threshold; median blur;
erosion; dilation; holes filled; scaled up. It names no sizes: those here are ours, and so is that the mean is over the
8 x 8 pixels themselves.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
from scipy import ndimage

if TYPE_CHECKING:
    from collections.abc import Iterable

    import numpy.typing as npt

SHRINK = 8
_GLASS_GREY = 230
_MEDIAN, _ERODED, _DILATED = 5, 3, 3
"""Sides in pixels of the reduced image: 40 and 24 of the image."""


def reduced_darkness(bands: Iterable[npt.NDArray[np.uint8]]) -> npt.NDArray[np.uint8]:
    """Means of darkness over squares of `SHRINK` pixels, of bands of whole squares' rows; the last may be smaller."""
    return np.concatenate([_means(band) for band in bands])


def tissue_of(reduced: npt.NDArray[np.uint8]) -> npt.NDArray[np.bool_]:
    """Tissue in a reduced image, darkness uint8 (h, w) -> bool (h, w)."""
    dark = reduced >= 255 - _GLASS_GREY
    # of a mask, the median is what most have; beyond the image there is glass
    blurred = ndimage.uniform_filter(dark.astype(np.float32), _MEDIAN, mode="constant") > 0.5
    eroded = ndimage.binary_erosion(blurred, np.ones((_ERODED, _ERODED), bool), border_value=1)
    dilated = ndimage.binary_dilation(eroded, np.ones((_DILATED, _DILATED), bool))
    return np.asarray(ndimage.binary_fill_holes(dilated))


def scaled_up(reduced: npt.NDArray[np.bool_], first: int, last: int, width: int) -> npt.NDArray[np.bool_]:
    """Rows [first, last) of the image's labels, bool (last - first, width)."""
    down, across = np.arange(first, last) // SHRINK, np.arange(width) // SHRINK
    return reduced[down][:, across]


def _means(band: npt.NDArray[np.uint8]) -> npt.NDArray[np.uint8]:
    rows = np.add.reduceat(band, np.arange(0, band.shape[0], SHRINK), axis=0, dtype=np.uint32)
    sums = np.add.reduceat(rows, np.arange(0, band.shape[1], SHRINK), axis=1, dtype=np.uint32)
    sides = [np.minimum(SHRINK, extent - np.arange(0, extent, SHRINK)) for extent in band.shape]
    return np.asarray((2 * sums + np.outer(*sides)) // (2 * np.outer(*sides)), np.uint8)
