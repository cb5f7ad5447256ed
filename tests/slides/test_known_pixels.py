"""Regions of which something cannot be read."""

from __future__ import annotations

import numpy as np
import pytest
from scipy import ndimage

from pyramidai_mpi.slides.known_pixels import grown, read_known
from pyramidai_mpi.slides.pyramid import SlidePyramid
from pyramidai_mpi.slides.readers.choice import open_slide
from tests.tiffs import STORED_TILE, drop_tile, textured, write_slide

IMAGE = textured(900, 700)


def opened(path, base_mpp=0.5):
    return SlidePyramid.build(open_slide(path), 0.25, tile_size=64, base_mpp=base_mpp, scale_factor=2, n_levels=1)


@pytest.fixture
def slide(tmp_path):
    return write_slide(tmp_path / "slide.tif", [IMAGE], compression="zlib")


@pytest.mark.parametrize("base_mpp", [0.25, 0.5, 1.7])
def test_what_can_be_read_is_as_in_one_window(slide, base_mpp, monkeypatch):
    pyramid = opened(slide, base_mpp)
    expected = pyramid.read_window(0, (-5, 10), (100, 90))
    monkeypatch.setattr("pyramidai_mpi.slides.known_pixels._MOST_STORED", 100)
    pixels, is_known, reason = read_known(pyramid, 0, (-5, 10), (100, 90))
    np.testing.assert_array_equal(pixels, expected)
    assert is_known.all()
    assert not reason


def test_of_a_damaged_region_all_but_the_damage_is_known(slide):
    drop_tile(slide, 1, 2)
    pyramid = opened(slide)
    half = STORED_TILE // 2
    pixels, is_known, reason = read_known(pyramid, 0, (0, 0), (448, 352))
    damaged = np.zeros((352, 448), bool)
    damaged[2 * half : 3 * half, half : 2 * half] = True
    # what could not be read is looked at in quarters down to 16 px, and no more is given up than these
    assert not is_known[damaged].any()
    assert is_known[~grown(damaged, 16)].all()
    assert "pixels are not in the file" in reason
    whole = IMAGE[:700, :896].reshape(350, 2, 448, 2, 3).mean(axis=(1, 3))
    assert np.abs(pixels[:350][is_known[:350]] - whole[is_known[:350]]).max() <= 0.75
    assert (pixels[~is_known] == 255).all()


def test_marks_grow_as_squares():
    marks = np.random.default_rng(0).random((40, 50)) < 0.01
    for by in (0, 1, 7):
        expected = ndimage.maximum_filter(marks.view(np.uint8), 2 * by + 1, mode="constant").view(bool)
        np.testing.assert_array_equal(grown(marks, by), expected)
