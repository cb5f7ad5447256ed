"""A tile that looks like something, and functions of which it is known what they see."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.ndimage import gaussian_filter

KEY = (3, 0x1234567890ABCDEF1234567890ABCDEF, 0, 5, 8)


@pytest.fixture(scope="session")
def tile():
    """Blobs of colour, uint8 (63, 63, 3): a side that no usual number of cells divides."""
    smooth = gaussian_filter(np.random.default_rng(1).normal(size=(63, 63, 3)), (4, 4, 0))
    return np.clip(140 + 700 * smooth, 0, 255).astype(np.uint8)


@pytest.fixture(scope="session")
def linear(tile):
    """A score that is linear in pixels, float32 (n,) of uint8 (n, S, S, 3): a patch in the upper left speaks for it."""
    weights = np.zeros(tile.shape, np.float64)
    weights[9:27, 9:36] = 1 / (255 * 18 * 27 * 3)

    def score_of(pictures):
        return np.tensordot(pictures, weights, 3).astype(np.float32)

    return score_of
