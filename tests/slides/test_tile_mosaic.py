"""Which stored tiles regions meet, against going through all of them."""

from __future__ import annotations

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from pyramidai_mpi.slides.readers.tile_mosaic import TileCache, TileMosaic

SPAN = st.tuples(st.integers(-60, 160), st.integers(1, 90)).map(lambda pair: (pair[0], pair[0] + pair[1]))


@given(
    st.integers(1, 120), st.integers(1, 120), st.integers(1, 50), st.integers(1, 50), st.lists(st.tuples(SPAN, SPAN))
)
def test_tiles_of_any_regions_are_those_whose_pixels_they_hold(width, height, tile_width, tile_height, regions):
    mosaic = TileMosaic((width, height), (tile_width, tile_height))
    rows, cols = np.arange(height) // tile_height, np.arange(width) // tile_width
    number = rows[:, None] * mosaic.columns + cols[None]
    met: set[int] = set()
    for (left, right), (top, bottom) in regions:
        one = set(number[max(top, 0) : max(bottom, 0), max(left, 0) : max(right, 0)].ravel().tolist())
        assert {row * mosaic.columns + col for col, row in mosaic.tiles_in(left, top, right, bottom)} == one
        met |= one
    x, y = (np.array([region[axis] for region in regions], np.int64).reshape(-1, 2) for axis in (0, 1))
    assert mosaic.tiles_in_any(x, y).tolist() == sorted(met)


def test_a_region_is_white_outside_the_level_and_nothing_where_a_tile_lacks():
    mosaic = TileMosaic((10, 6), (4, 4))
    image = np.arange(12 * 8 * 3, dtype=np.uint8).reshape(8, 12, 3)

    def tile(col: int, row: int) -> np.ndarray:
        return image[4 * row : 4 * row + 4, 4 * col : 4 * col + 4]

    found = mosaic.compose((-2, 3), (14, 5), tile)
    expected = np.full((5, 14, 3), 255, np.uint8)
    expected[:3, 2:12] = image[3:6, :10]
    np.testing.assert_array_equal(found, expected)
    assert mosaic.compose((0, 0), (10, 6), lambda col, row: None if (col, row) == (2, 1) else tile(col, row)) is None


def test_a_cache_forgets_what_was_not_used_for_longest():
    cache: TileCache[int] = TileCache(300)
    for key in range(3):
        cache.put(key, np.zeros((10, 10), np.uint8))
    assert cache.get(0) is not None
    cache.put(3, np.zeros((10, 10), np.uint8))
    assert [key in cache for key in range(4)] == [True, False, True, True]
    assert cache.n_bytes == 300
