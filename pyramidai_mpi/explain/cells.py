"""Maps over a tile: how a tile is cut into cells, and how maps of other sizes are brought to them."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    import numpy.typing as npt


def edges(side: int, n: int) -> npt.NDArray[np.int64]:
    """Where the cells of a side of pixels begin and end, int64 (n + 1,): sizes differ by one pixel at most."""
    return np.asarray((2 * side * np.arange(n + 1) + n) // (2 * n), np.int64)


def cell_means(values: npt.NDArray[np.floating], shape: tuple[int, int]) -> npt.NDArray[np.float64]:
    """Means over cells, float64 (..., h, w) of (..., H, W) with h <= H and w <= W."""
    rows, cols = edges(values.shape[-2], shape[0]), edges(values.shape[-1], shape[1])
    sums = np.add.reduceat(np.add.reduceat(values.astype(np.float64), rows[:-1], axis=-2), cols[:-1], axis=-1)
    return np.asarray(sums / (np.diff(rows)[:, None] * np.diff(cols)))


def resampled(values: npt.NDArray[np.floating], shape: tuple[int, int]) -> npt.NDArray[np.float64]:
    """A map (h, w) at another size, float64: means along a side that gets smaller, else bilinear between middles."""
    rows = _weights(values.shape[0], shape[0])
    cols = _weights(values.shape[1], shape[1])
    # sums without a library of matrices, whose threads decide last bits, and those the order of cells
    return np.asarray(np.einsum("ik,lk->il", np.einsum("ij,jk->ik", rows, values.astype(np.float64)), cols))


def bilinear(places: npt.NDArray[np.float64], n: int) -> npt.NDArray[np.float64]:
    """Weights of n samples at 0, 1 ... n - 1 at places (m,), float64 (m, n); beyond the ends the last one goes on."""
    places = np.clip(places, 0, n - 1)
    return np.asarray(np.maximum(0.0, 1.0 - np.abs(places[:, None] - np.arange(n))))


def _weights(n: int, m: int) -> npt.NDArray[np.float64]:
    """How m samples are made of n over the same side, float64 (m, n)."""
    if m > n:
        return bilinear((np.arange(m) + 0.5) * n / m - 0.5, n)
    bounds = edges(n, m)
    at = np.arange(n)
    inside = (at >= bounds[:-1, None]) & (at < bounds[1:, None])
    return np.asarray(inside / np.diff(bounds)[:, None])
