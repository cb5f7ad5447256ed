"""Blocks with a halo, and masks of larger pixels."""

from __future__ import annotations

import numpy as np
import pytest

from pyramidai_mpi.pyramid.halo_blocks import HaloBlocks
from pyramidai_mpi.pyramid.mask_labels import UNKNOWN, reduced_labels, reduced_means


@pytest.mark.parametrize("size", [(1000, 517), (64, 64), (63, 1), (129, 64)])
def test_blocks_cover_the_image_once_and_see_their_halo(size):
    blocks = HaloBlocks(size, 64, 13, 8)
    seen_by = np.zeros(size[::-1], int)
    columns, rows = blocks.shape
    for row in range(rows):
        for col in range(columns):
            own, seen = blocks.own(col, row), blocks.seen(col, row)
            seen_by[own.top : own.bottom, own.left : own.right] += 1
            assert not any(side % 8 for side in seen)
            assert seen.left == 0 or own.left - seen.left >= 13
            assert seen.bottom == blocks.padded[1] or seen.bottom - own.bottom >= 13
            assert np.zeros(seen.size[::-1])[own.within(seen)].shape == own.size[::-1]
    assert (seen_by == 1).all()


def test_a_block_that_no_network_can_be_cut_at_is_none():
    with pytest.raises(ValueError, match="no blocks of 60 px"):
        HaloBlocks((100, 100), 60, 0, 8)


def test_larger_pixels_are_what_half_of_them_is_and_never_hide_what_is_unknown():
    labels = np.array([[1, 1, 0, 0, 1], [0, 0, 0, 1, 1], [UNKNOWN, 0, 1, 1, 0]], np.uint8)
    np.testing.assert_array_equal(reduced_labels(labels, 2), [[1, 0, 1], [UNKNOWN, 1, 0]])
    np.testing.assert_array_equal(reduced_means(np.uint8([[1, 2, 9], [3, 5, 4]]), 2), [[3, 7]])
    assert reduced_labels(labels, 1) is labels
