"""Labels of a mask's pixels, and masks of larger pixels."""

from __future__ import annotations

from typing import TYPE_CHECKING, TypeAlias

import numpy as np
import numpy.typing as npt

if TYPE_CHECKING:
    from numpy.typing import NDArray

Labels: TypeAlias = npt.NDArray[np.uint8]

NO, YES, UNKNOWN = 0, 1, 255
"""Below the threshold; at or above it; could not be read, or depends on what could not."""


def reduced_labels(labels: Labels, by: int) -> Labels:
    """Labels (h, w) in pixels `by` times as large: unknown where any part is, else yes where at least half of it is."""
    if by == 1:
        return labels
    inside = _sums(np.ones(labels.shape, np.uint8), by)
    found = np.where(2 * _sums(labels == YES, by) >= inside, YES, NO)
    return np.where(_sums(labels == UNKNOWN, by) > 0, UNKNOWN, found).astype(np.uint8)


def reduced_means(values: Labels, by: int) -> Labels:
    """Means of values (h, w) in pixels `by` times as large, rounded half up."""
    if by == 1:
        return values
    inside = _sums(np.ones(values.shape, np.uint8), by)
    return np.asarray((2 * _sums(values, by) + inside) // (2 * inside), np.uint8)


def _sums(values: NDArray[np.uint8] | NDArray[np.bool_], by: int) -> NDArray[np.int64]:
    """Sums over squares of `by` pixels a side; the last ones may be smaller."""
    height, width = values.shape
    padded = np.zeros((-(-height // by) * by, -(-width // by) * by), np.uint8)
    padded[:height, :width] = values
    down = padded.reshape(-1, by, padded.shape[1]).sum(axis=1, dtype=np.int64)
    return np.asarray(down.reshape(down.shape[0], -1, by).sum(axis=2))
