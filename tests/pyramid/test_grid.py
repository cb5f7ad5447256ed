"""Tile grids nest exactly and cover the slide."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pyramidai_mpi.pyramid.grid import Grid, GridLevel

grids = st.builds(
    Grid.of_tiles,
    l0_width=st.integers(1, 3000),
    l0_height=st.integers(1, 3000),
    tile_size=st.sampled_from([64, 100, 224]),
    scale_factor=st.integers(2, 4),
    n_levels=st.integers(2, 4),
    base_downsample=st.sampled_from([0.5, 1.0, 1.0869565217391304, 2.0, 3.7]),
)


@given(grids)
def test_tiles_cover_the_slide_and_none_lies_wholly_outside(grid):
    for level in range(grid.n_levels):
        side = grid.window * grid.downsample(level)
        for tiles, extent in zip(grid.shape(level), (grid.l0_width, grid.l0_height), strict=True):
            assert tiles * side >= extent
            assert (tiles - 1) * side < extent


@given(grids)
def test_children_are_the_f_by_f_tiles_of_the_finer_level_that_meet_the_slide(grid):
    f = grid.factor(1)
    for level in range(1, grid.n_levels):
        cols, rows = grid.shape(level - 1)
        parents = np.stack(np.meshgrid(*map(np.arange, grid.shape(level))), axis=-1).reshape(-1, 2)[:50]
        expected = [
            (f * c + i, f * r + j)
            for c, r in parents.tolist()
            for j in range(f)
            for i in range(f)
            if f * c + i < cols and f * r + j < rows
        ]
        assert grid.t_children(level, parents).tolist() == [list(child) for child in expected]


@given(grids)
def test_every_finer_tile_has_exactly_one_parent(grid):
    for level in range(1, grid.n_levels):
        cols, rows = grid.shape(level)
        parents = np.stack(np.meshgrid(np.arange(cols), np.arange(rows)), axis=-1).reshape(-1, 2)
        children = grid.t_children(level, parents)
        finer_cols, finer_rows = grid.shape(level - 1)
        assert len(np.unique(children, axis=0)) == len(children) == finer_cols * finer_rows


def test_a_parent_and_its_first_child_share_their_corner():
    grid = Grid.of_tiles(31544, 17602, 224, 2, 3, 0.25 / 0.23)
    index = np.array([[5, 7], [17, 3]])
    assert (grid.l0_cell_corners(2, index) == grid.l0_cell_corners(1, index * 2)).all()
    assert (grid.l0_cell_corners(2, index) == grid.l0_cell_corners(0, index * 4)).all()


def test_corners_are_whole_level_0_pixels_nearest_to_the_exact_ones():
    grid = Grid.of_tiles(31544, 17602, 224, 2, 3, 0.25 / 0.23)
    corners = grid.l0_cell_corners(1, np.array([[3, 10]]))
    assert corners.tolist() == [[round(3 * 448 * 25 / 23), round(10 * 448 * 25 / 23)]]
    assert corners.dtype == np.int64


def test_far_corners_do_not_overflow():
    grid = Grid.of_tiles(2**40, 2**40, 8192, 2, 3, 1.0)
    assert grid.l0_cell_corners(0, np.array([[2**26, 1]], np.uint32)).tolist() == [[2**39, 8192]]


def test_sizes_in_pixels_count_the_last_partial_pixel():
    grid = Grid.of_tiles(1001, 999, 64, 2, 3, 1.0)
    assert [grid.level_dimensions(n) for n in range(3)] == [(1001, 999), (501, 500), (251, 250)]


STRIDES = Grid(1000, 700, 224, (GridLevel(1.0, 16), GridLevel(1.0, 48), GridLevel(2.0, 48), GridLevel(4.0, 96)))
"""Windows of 224 pixels around smaller cells: two strides at one spacing, and two coarser levels."""


def test_levels_may_differ_in_spacing_in_cells_or_in_both():
    assert [STRIDES.factor(level) for level in (1, 2, 3)] == [3, 2, 4]
    assert [STRIDES.span(level) for level in range(4)] == [1, 3, 6, 24]
    assert [STRIDES.l0_side(level) for level in range(4)] == [16, 48, 96, 384]
    assert STRIDES.shape(0) == (63, 44)
    for level in (1, 2, 3):
        cols, rows = STRIDES.shape(level)
        everywhere = np.stack(np.meshgrid(np.arange(cols), np.arange(rows)), axis=-1).reshape(-1, 2)
        assert len(np.unique(STRIDES.t_children(level, everywhere), axis=0)) == np.prod(STRIDES.shape(level - 1))


def test_a_window_lies_around_the_middle_of_its_cell():
    index = np.array([[0, 0], [5, 3]])
    for level in range(4):
        downsample, cell = STRIDES.downsample(level), STRIDES.levels[level].cell
        middle = (STRIDES.corners(level, index) + 224 / 2) * downsample
        np.testing.assert_array_equal(middle, STRIDES.l0_cell_corners(level, index) + cell * downsample / 2)
        np.testing.assert_array_equal(STRIDES.corners(level, index) * downsample, STRIDES.l0_corners(level, index))


@given(grids, st.integers(0, 3), st.integers(0, 100_000), st.integers(0, 100_000), st.integers(0, 31))
def test_one_cell_has_the_corners_of_many(grid, level, col, row, smaller):
    level = min(level, grid.n_levels - 1)
    cells = Grid(grid.l0_width, grid.l0_height, grid.window + smaller, grid.levels)
    index = np.array([[col, row]])
    assert cells.corners(level, index).tolist() == [list(cells.corner(level, col, row))]
    assert cells.l0_corners(level, index).tolist() == [list(cells.l0_corner(level, col, row))]


def test_an_odd_margin_is_shorter_to_the_left_and_above():
    grid = Grid(1000, 700, 224, (GridLevel(1.0, 25),))
    assert grid.corners(0, np.array([[0, 2]])).tolist() == [[-99, -49]]


def test_cells_that_do_not_nest_are_refused():
    with pytest.raises(ValueError, match=r"tiles of 224\.0 level-0 pixels do not hold tiles of 50\.0"):
        Grid(1000, 700, 224, (GridLevel(1.0, 50), GridLevel(1.0, 224)))
