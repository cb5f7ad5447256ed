"""Tile grids nest exactly and cover the slide."""

from __future__ import annotations

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from pyramidai_mpi.pyramid.grid import Grid

grids = st.builds(
    Grid,
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
        side = grid.tile_size * grid.base_downsample * grid.scale_factor**level
        for tiles, extent in zip(grid.shape(level), (grid.l0_width, grid.l0_height), strict=True):
            assert tiles * side >= extent
            assert (tiles - 1) * side < extent


@given(grids)
def test_children_are_the_f_by_f_tiles_of_the_finer_level_that_meet_the_slide(grid):
    f = grid.scale_factor
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
    grid = Grid(31544, 17602, 224, 2, 3, 0.25 / 0.23)
    index = np.array([[5, 7], [17, 3]])
    assert (grid.l0_corner(2, index) == grid.l0_corner(1, index * 2)).all()
    assert (grid.l0_corner(2, index) == grid.l0_corner(0, index * 4)).all()


def test_corners_are_whole_level_0_pixels_nearest_to_the_exact_ones():
    grid = Grid(31544, 17602, 224, 2, 3, 0.25 / 0.23)
    assert grid.l0_corner(1, np.array([[3, 10]])).tolist() == [[round(3 * 448 * 25 / 23), round(10 * 448 * 25 / 23)]]
    assert grid.l0_corner(1, np.array([[3, 10]])).dtype == np.int64


def test_far_corners_do_not_overflow():
    grid = Grid(2**40, 2**40, 8192, 2, 3, 1.0)
    assert grid.l0_corner(0, np.array([[2**26, 1]], np.uint32)).tolist() == [[2**39, 8192]]


def test_sizes_in_pixels_count_the_last_partial_pixel():
    grid = Grid(1001, 999, 64, 2, 3, 1.0)
    assert [grid.level_dimensions(n) for n in range(3)] == [(1001, 999), (501, 500), (251, 250)]
