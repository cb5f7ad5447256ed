"""Cells of a tile, and maps brought to other sizes."""

from __future__ import annotations

import numpy as np
import pytest
from skimage.measure import block_reduce
from skimage.transform import resize

from pyramidai_mpi.explain.cells import cell_means, edges, resampled

RNG = np.random.default_rng(4)


@pytest.mark.parametrize(("side", "n"), [(224, 14), (224, 28), (225, 14), (37, 9), (5, 5), (9, 1)])
def test_cells_cover_the_side_and_are_alike(side, n):
    found = edges(side, n)
    assert (found[0], found[-1], len(found)) == (0, side, n + 1)
    assert set(np.diff(found)) <= {side // n, -(-side // n)}
    assert (side - found[::-1] == found).all() or side % n  # symmetric where cells are equal


def test_means_over_cells():
    values = RNG.normal(size=(3, 24, 12))
    assert np.allclose(cell_means(values, (6, 4)), [block_reduce(one, (4, 3), np.mean) for one in values], atol=1e-14)
    uneven = cell_means(values[0], (7, 5))
    rows, cols = edges(24, 7), edges(12, 5)
    assert uneven[2, 3] == pytest.approx(values[0, rows[2] : rows[3], cols[3] : cols[4]].mean())


def test_a_map_gets_larger_as_in_scikit_image():
    values = RNG.normal(size=(7, 5))
    expected = resize(values, (28, 15), order=1, mode="edge", anti_aliasing=False)
    assert np.allclose(resampled(values, (28, 15)), expected, atol=1e-12)


def test_a_map_gets_smaller_by_means_and_stays_as_it_is():
    values = RNG.normal(size=(20, 33))
    assert np.allclose(resampled(values, (6, 7)), cell_means(values, (6, 7)), atol=1e-13)
    assert np.allclose(resampled(values, (20, 33)), values, atol=1e-13)
