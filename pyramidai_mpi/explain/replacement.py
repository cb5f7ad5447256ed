"""What stands where pixels of a tile are taken away.

A network has to be asked about something, and no answer is neutral: black squares are nothing that it has ever seen,
glass says "no tissue here" and makes an edge. The blurred tile keeps the colours of its stains and loses what the eye
reads, as Petsiuk et al. (BMVC 2018) have it for insertion and Fong and Vedaldi (ICCV 2017) for deletion.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
from scipy.ndimage import gaussian_filter

from pyramidai_mpi.explain.methods import Fill

if TYPE_CHECKING:
    import numpy.typing as npt

    from pyramidai_mpi.base.types import RgbArray

BLUR = 1 / 14
"""Sigma of the blur over the tile's side: 16 px of 224. Of a wave of 32 px, the length of a small tumour nucleus at
0.25 µm, 0.7 % is left."""


def replacement(pixels: RgbArray, fill: Fill) -> RgbArray:
    """The tile with nothing left in it, uint8 (S, S, 3), of a tile uint8 (S, S, 3)."""
    if fill is Fill.GLASS:
        return np.full_like(pixels, 255)
    if fill is Fill.MEAN:
        return np.broadcast_to(_whole(pixels.mean(axis=(0, 1), dtype=np.float64)), pixels.shape).copy()
    sigma = BLUR * pixels.shape[0]
    return _whole(gaussian_filter(pixels.astype(np.float64), (sigma, sigma, 0), mode="reflect"))


def _whole(values: npt.NDArray[np.float64]) -> RgbArray:
    return np.rint(values).astype(np.uint8)
