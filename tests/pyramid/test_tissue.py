"""Tissue per tile is a sum of whole mask pixels, so parents hold exactly what their children hold."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pyramidai_mpi.pyramid.grid import Grid
from pyramidai_mpi.pyramid.run_levels import stepped_levels
from pyramidai_mpi.pyramid.tissue import Areas, TissueMap, mask_downsample, mask_pixels_per_tile


def random_map(seed: int, *, q: int, f: int, n_levels: int, size: tuple[int, int], pad: int = 0) -> TissueMap:
    grid = Grid.of_tiles(*size, 60, f, n_levels, 1.0)
    step = 60 / q
    mask = np.random.default_rng(seed).random((int(-(-size[1] // step)) + pad, int(-(-size[0] // step)) + pad)) < 0.3
    return TissueMap(grid, mask, q)


maps = st.builds(
    random_map,
    st.integers(0, 99),
    q=st.sampled_from([1, 2, 3, 5]),
    f=st.integers(2, 3),
    n_levels=st.integers(1, 4),
    size=st.tuples(st.integers(1, 1500), st.integers(1, 1500)),
)


@settings(max_examples=40, deadline=None)
@given(maps)
def test_the_tissue_of_a_tile_is_what_slicing_the_mask_counts(tissue):
    for level, counts in enumerate(tissue.counts):
        side = tissue.pixels_per_tile * tissue.grid.span(level)
        cols, rows = tissue.grid.shape(level)
        assert counts.shape == (rows, cols)
        for row in range(min(rows, 6)):
            for col in range(min(cols, 6)):
                part = tissue.mask[row * side : (row + 1) * side, col * side : (col + 1) * side]
                assert counts[row, col] == part.sum()


@settings(max_examples=40, deadline=None)
@given(maps)
def test_no_tissue_is_lost_between_levels(tissue):
    assert [int(counts.sum()) for counts in tissue.counts] == [int(tissue.mask.sum())] * tissue.grid.n_levels


@settings(max_examples=20, deadline=None)
@given(maps)
def test_a_share_is_of_the_part_of_a_tile_that_lies_inside_the_slide(tissue):
    for level in range(tissue.grid.n_levels):
        side = tissue.pixels_per_tile * tissue.grid.span(level)
        share = tissue.share(level)
        for row, col in np.ndindex(*share.shape):
            part = tissue.mask[row * side : (row + 1) * side, col * side : (col + 1) * side]
            assert share[row, col] == pytest.approx(part.mean())


def test_a_slide_smaller_than_a_tile_is_all_tissue_when_all_of_it_is():
    tissue = TissueMap(Grid.of_tiles(650, 743, 224, 2, 3, 1.0), np.ones((24, 21), bool), 7)
    assert tissue.share(2).tolist() == [[1.0]]


@pytest.mark.parametrize(
    ("tile_size", "base_downsample", "per_tile"), [(224, 1, 7), (224, 2, 14), (256, 1, 8), (64, 1, 2), (16, 1, 1)]
)
def test_a_mask_pixel_is_about_32_level_0_pixels_and_divides_a_tile(tile_size, base_downsample, per_tile):
    grid = Grid.of_tiles(10_000, 10_000, tile_size, 2, 3, base_downsample)
    assert mask_pixels_per_tile(grid) == per_tile
    assert mask_downsample(grid) * per_tile == tile_size * base_downsample


def test_the_mask_of_a_slide_covers_all_its_tiles():
    # as the thumbnail makes it: sides rounded up
    grid = Grid.of_tiles(31544, 17602, 224, 2, 3, 25 / 23)
    downsample, q = mask_downsample(grid), mask_pixels_per_tile(grid)
    mask = np.ones((int(np.ceil(17602 / downsample)), int(np.ceil(31544 / downsample))), bool)
    assert (TissueMap(grid, mask, q).counts[0] > 0).all()


def test_areas_are_counted_pixels_times_their_size():
    rng = np.random.default_rng(3)
    mask = rng.random((23, 31)) < 0.4
    positive = np.array([[0, 0], [4, 3], [2, 1]])  # the second reaches beyond the mask
    areas = Areas.measure(mask, 8.0, 7, positive)
    within = sum(int(mask[7 * row : 7 * row + 7, 7 * col : 7 * col + 7].sum()) for col, row in positive)
    assert areas.tissue == pytest.approx(mask.sum() * 64e-6)
    assert areas.positive == pytest.approx(within * 64e-6)
    assert Areas.measure(mask, 8.0, 7, np.empty((0, 2), np.uint32)).positive == 0


@pytest.mark.parametrize("downsample", [1.0, 2.0])
def test_squares_near_tissue_are_those_whose_windows_may_see_it(downsample):
    rng = np.random.default_rng(5)
    levels = stepped_levels(1, 224, 2, (16, 32, 64, 128), under_pyramid=False)
    grid = levels.grid((4000, 3000), (downsample,))
    pixels = mask_pixels_per_tile(grid)
    side = mask_downsample(grid) / downsample  # of a mask pixel, in pixels of the level
    cols, rows = grid.shape(0)
    tissue = TissueMap(grid, rng.random((rows * pixels, cols * pixels)) < 0.001, pixels)
    found = tissue.squares_near
    assert found.shape == (rows * grid.bases, cols * grid.bases)
    for row in range(found.shape[0]):
        for col in range(found.shape[1]):
            # the square and half a window around it, and mask pixels that reach into that
            near = any(
                (r + 1) * side > row * 128 - 112
                and r * side < (row + 1) * 128 + 112
                and (c + 1) * side > col * 128 - 112
                and c * side < (col + 1) * 128 + 112
                for r, c in np.argwhere(tissue.mask).tolist()
            )
            assert found[row, col] == near
    assert (tissue.squares <= found).all()
    assert (found > tissue.squares).any()
