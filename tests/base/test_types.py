"""Tiles have one order, by level and then row-major, and one number that stands for it."""

from __future__ import annotations

from itertools import product

import numpy as np
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as drawn

from pyramidai_mpi.base.types import MOST_LEVELS, index_keys, tile_keys, tiles_at

places = drawn.arrays(np.uint32, st.tuples(st.integers(0, 20), st.just(2)), elements=st.integers(0, 2**30 - 1))


@given(places, st.integers(0, MOST_LEVELS - 1))
def test_the_order_of_keys_is_row_major(index, level):
    expected = sorted(range(len(index)), key=lambda i: (int(index[i, 1]), int(index[i, 0])))
    assert np.argsort(index_keys(index), kind="stable").tolist() == expected
    assert np.argsort(tile_keys(tiles_at(level, index)), kind="stable").tolist() == expected


def test_no_two_places_of_a_file_have_one_key():
    far = [0, 1, 2**30, 2**31 - 1]
    index = np.array([(col, row) for row, col in product(far, [*far, 2**32 - 1])], np.uint32)
    assert (np.diff(index_keys(index)) > 0).all()


def test_levels_come_one_after_the_other():
    corner = np.array([[2**30 - 1, 2**30 - 1]])
    keys = np.concatenate([tile_keys(tiles_at(n, place)) for n in range(MOST_LEVELS) for place in (corner * 0, corner)])
    assert (keys[1:] > keys[:-1]).all()
