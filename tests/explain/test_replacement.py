"""What stands where pixels are taken away."""

from __future__ import annotations

import numpy as np
import pytest

from pyramidai_mpi.explain.methods import Fill
from pyramidai_mpi.explain.replacement import replacement


def test_glass_is_white_and_the_mean_is_the_tiles(tile):
    assert (replacement(tile, Fill.GLASS) == 255).all()
    assert (replacement(tile, Fill.MEAN) == np.rint(tile.reshape(-1, 3).mean(axis=0))).all()


@pytest.mark.parametrize(("period", "left"), [(32, 0.00720), (64, 0.291), (224, 0.904)])
def test_the_blur_leaves_of_a_wave_what_a_gaussian_of_a_fourteenth_of_the_side_leaves(period, left):
    wave = np.sin(2 * np.pi * (np.arange(224) + 0.5) / period)
    tile = np.rint(128 + 120 * np.broadcast_to(wave[None, :, None], (224, 224, 3))).astype(np.uint8)
    assert left == pytest.approx(np.exp(-2 * (np.pi * 16 / period) ** 2), rel=0.01)
    blurred = replacement(tile, Fill.BLUR)[100, 64:160, 1].astype(float) - 128
    found = blurred @ wave[64:160] / (wave[64:160] @ wave[64:160]) / 120
    assert found == pytest.approx(left, abs=0.01)


@pytest.mark.parametrize("fill", Fill)
def test_a_tile_of_one_colour_is_its_own_blur_and_mean(fill):
    tile = np.full((20, 20, 3), (200, 120, 180), np.uint8)
    assert (replacement(tile, fill) == (255 if fill is Fill.GLASS else tile)).all()
