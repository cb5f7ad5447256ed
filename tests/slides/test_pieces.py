"""Small pieces and holes of masks, against scikit-image."""

from __future__ import annotations

import numpy as np
import pytest
from skimage.morphology import remove_small_holes, remove_small_objects

from pyramidai_mpi.slides.pieces import without_small_holes, without_small_pieces


@pytest.mark.parametrize("share", [0.0, 0.3, 0.6, 1.0])
@pytest.mark.parametrize("max_size", [0, 1, 7, 63])
def test_they_are_those_that_scikit_image_takes_away(share: float, max_size: int) -> None:
    mask = np.random.default_rng(max_size).random((90, 70)) < share
    np.testing.assert_array_equal(without_small_pieces(mask, max_size), remove_small_objects(mask, max_size=max_size))
    np.testing.assert_array_equal(without_small_holes(mask, max_size), remove_small_holes(mask, max_size=max_size))


def test_an_empty_picture_has_none() -> None:
    assert without_small_pieces(np.zeros((0, 5), bool), 3).shape == (0, 5)
