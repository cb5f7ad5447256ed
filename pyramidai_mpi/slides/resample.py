"""Resampling anchored to a global pixel grid, in integers.

The value of output pixel p depends on p and the source alone, not on the region that was asked for: weights come from
the global index and sums are whole numbers, so one large read and four small ones give identical bytes. (Libraries
anchor the phase at the region's corner and sum in float.)

Shrinking averages by area: output pixel p covers the source interval [p*ratio, (p+1)*ratio). Enlarging interpolates
linearly between pixel centres.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

if TYPE_CHECKING:
    from pyramidai_mpi.base.types import RgbArray

# Weights of one axis sum to 2**11; or to the ratio where that is whole, each source pixel counting once, so that block
# means are exact. 255 * 2**11 * 2**11 just stays below 2**31.
_WEIGHT_SUM = 1 << 11


def source_range(start: int, stop: int, ratio: float) -> tuple[int, int]:
    """Source pixels [first, last) that output pixels [start, stop) of one axis need; may begin below 0."""
    first, weights = axis_weights(np.array([start, stop - 1]), ratio)
    return int(first[0]), int(first[1]) + weights.shape[1]


def axis_weights(
    out_index: npt.NDArray[np.integer], ratio: float
) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.int32]]:
    """First source pixel and integer weights of every output pixel along one axis.

    Parameters
    ----------
    out_index
        (n,) global indices of output pixels.
    ratio
        Source pixels per output pixel, > 0.

    Returns
    -------
    first : numpy.ndarray
        int64 (n,): index of the first source pixel.
    weights : numpy.ndarray
        int32 (n, taps); each row sums to the ratio where that is a whole number up to 2**11, else to 2**11.
    """
    index = out_index.astype(np.float64)
    if 1 <= ratio <= _WEIGHT_SUM and float(ratio).is_integer():
        return out_index.astype(np.int64) * int(ratio), np.ones((len(index), int(ratio)), np.int32)
    if ratio >= 1:
        # Rounding 2**-20 inwards keeps float noise at an exact border from adding a source pixel of weight zero.
        low, high = index * ratio, (index + 1) * ratio
        first = np.floor(low + 2.0**-20).astype(np.int64)
        taps = math.ceil(ratio - 2.0**-20) + 1
        source = first[:, None] + np.arange(taps)
        share = np.clip(np.minimum(high[:, None], source + 1) - np.maximum(low[:, None], source), 0, 1)
    else:
        centre = (index + 0.5) * ratio - 0.5
        first = np.floor(centre).astype(np.int64)
        fraction = centre - first
        share = np.stack([1 - fraction, fraction], axis=1)
    # Largest-remainder rounding: every row sums to exactly 2**11, so flat areas keep their value.
    scaled = share / share.sum(axis=1, keepdims=True) * _WEIGHT_SUM
    cumulative = np.rint(np.cumsum(scaled, axis=1)).astype(np.int32)
    return first, np.diff(cumulative, axis=1, prepend=np.int32(0)).astype(np.int32)


def resample(
    source: RgbArray, source_origin: tuple[int, int], out_origin: tuple[int, int], out_size: tuple[int, int],
    ratio: float,
) -> RgbArray:  # fmt: skip
    """Output pixels from source pixels.

    Parameters
    ----------
    source
        uint8 (h, w, channels) with every pixel that `source_range` names on both axes.
    source_origin, out_origin
        (x, y) of the arrays' top-left pixel in the source's and the output's global grid.
    out_size
        (width, height) of the output.
    ratio
        Source pixels per output pixel.

    Returns
    -------
    numpy.ndarray
        uint8 (height, width, channels).
    """
    width, height = out_size
    first_x, weights_x = axis_weights(out_origin[0] + np.arange(width), ratio)
    first_y, weights_y = axis_weights(out_origin[1] + np.arange(height), ratio)
    column = first_x - source_origin[0]
    row = first_y - source_origin[1]
    if 1 <= ratio <= _WEIGHT_SUM and float(ratio).is_integer():
        return _block_means(source, (int(column[0]), int(row[0])), out_size, int(ratio))
    across = np.zeros((source.shape[0], width, source.shape[2]), np.int32)
    for tap in range(weights_x.shape[1]):
        across += source[:, column + tap].astype(np.int32) * weights_x[None, :, tap, None]
    whole = int(weights_x[0].sum()) * int(weights_y[0].sum())
    total = np.full((height, width, source.shape[2]), whole // 2, np.int32)
    for tap in range(weights_y.shape[1]):
        total += across[row + tap] * weights_y[:, tap, None, None]
    return (total // whole).astype(np.uint8)


def _block_means(source: RgbArray, corner: tuple[int, int], size: tuple[int, int], side: int) -> RgbArray:
    """Means of whole blocks: what weights of 1 come to; from 4 pixels a side on in a quarter of the time."""
    (left, top), (width, height), channels = corner, size, source.shape[2]
    blocks = source[top : top + height * side, left : left + width * side]
    down = blocks.reshape(height, side, width * side * channels).sum(axis=1, dtype=np.uint32)
    total = down.reshape(height, width, side, channels).sum(axis=2, dtype=np.uint32)
    return np.asarray((total + side * side // 2) // (side * side), np.uint8)
