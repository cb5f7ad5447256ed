"""Cells and their windows: exact places, and draws that depend on nothing but seed, slide and place."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pyramidai_mpi.pyramid.cells import CellRule
from pyramidai_mpi.pyramid.draws import draw
from pyramidai_mpi.pyramid.grid import Grid, GridLevel
from pyramidai_mpi.pyramid.tissue import TissueMap, mask_pixels_per_tile

PINNED = [10, 11, 28, 51, 53, 66, 85, 86]


def grid_of(width: int, height: int, stride: int, size: int, downsample: float = 1.0) -> Grid:
    return Grid(width, height, size, (GridLevel(downsample, stride),))


def all_cells(grid: Grid) -> np.ndarray:
    cols, rows = grid.shape(0)
    return np.argwhere(np.ones((rows, cols), bool))[:, ::-1]


def test_fdas_patches_begin_112_pixels_before_their_tile():
    # Li, Mikailov and Chen: (224 col - 112, 224 row - 112), also in the first row and column
    grid = grid_of(1000, 700, 224, 448)
    index = all_cells(grid)
    np.testing.assert_array_equal(grid.l0_corners(0, index), 224 * index - 112)
    np.testing.assert_array_equal(grid.l0_cell_corners(0, index), 224 * index)


def test_every_pixel_of_the_slide_lies_in_one_cell_and_no_cell_lies_off_it():
    grid = grid_of(1000, 700, 224, 448)
    covered = np.zeros((2000, 2000), int)
    for x, y in grid.l0_cell_corners(0, all_cells(grid)):
        covered[y : y + 224, x : x + 224] += 1
        assert x < 1000
        assert y < 700
    assert (covered[:700, :1000] == 1).all()


@given(
    st.integers(1, 300), st.integers(1, 300), st.integers(1, 40), st.integers(0, 30), st.sampled_from([1.0, 2.0, 4.0])
)
def test_the_share_inside_is_that_of_counted_pixels(width, height, stride, margin, downsample):
    grid = grid_of(width, height, stride, stride + 2 * margin, downsample)
    index = all_cells(grid)[:50]
    there = np.zeros((1500, 1500), bool)
    there[500 : 500 + height, 500 : 500 + width] = True
    side = int(grid.window * downsample)
    for (x, y), share in zip(grid.l0_corners(0, index) + 500, grid.inside(0, index), strict=True):
        assert share == pytest.approx(there[y : y + side, x : x + side].sum() / side**2, abs=1e-6)
        assert share > 0


def cells(n: int) -> np.ndarray:
    return np.argwhere(np.ones((n // 10, 10), bool))[:, ::-1]


def test_a_draw_takes_each_cell_once_at_most_and_always_the_same():
    index = cells(1000)
    drawn = draw(index, 300, 7, "a" * 64)
    assert len(set(drawn.tolist())) == 300
    assert (np.diff(drawn) > 0).all()
    np.testing.assert_array_equal(drawn, draw(index, 300, 7, "a" * 64))


def test_which_cells_are_drawn_does_not_change_with_a_version():
    assert draw(cells(100), 8, 0, "0" * 64).tolist() == PINNED


def test_a_draw_does_not_depend_on_the_order_in_which_cells_come():
    index = cells(1000)
    order = np.random.default_rng(0).permutation(len(index))
    one, other = index[draw(index, 100, 1, "s")], index[order][draw(index[order], 100, 1, "s")]
    assert {tuple(cell) for cell in one.tolist()} == {tuple(cell) for cell in other.tolist()}


@pytest.mark.parametrize("others", [(8, "a" * 64), (7, "b" * 64)], ids=["seed", "slide"])
def test_another_seed_and_another_slide_draw_others(others):
    index = cells(1000)
    common = set(draw(index, 300, 7, "a" * 64).tolist()) & set(draw(index, 300, *others).tolist())
    assert 50 < len(common) < 130  # 90 expected, hypergeometric, standard deviation 6.6


def test_all_cells_are_drawn_alike_over_many_seeds():
    index, n_seeds = cells(50), 4000
    counts = np.zeros(50)
    for seed in range(n_seeds):
        counts[draw(index, 10, seed, "slide")] += 1
    expected = n_seeds * 10 / 50
    chi2 = ((counts - expected) ** 2 / (expected * (1 - 10 / 50))).sum() * 49 / 50
    assert chi2 < 85.4  # 0.999 of chi squared with 49 degrees of freedom is below


def test_the_first_of_a_seed_are_among_more_of_it():
    index = cells(1000)
    assert set(draw(index, 100, 3, "s").tolist()) < set(draw(index, 500, 3, "s").tolist())


def test_where_there_are_fewer_cells_all_are_drawn():
    assert draw(cells(50), 1000, 0, "s").tolist() == list(range(50))


def test_cells_are_drawn_from_those_with_enough_tissue_alone():
    grid = Grid.of_tiles(6400, 6400, 64, 2, 1, 1.0)
    pixels = mask_pixels_per_tile(grid)
    mask = np.zeros((100 * pixels, 100 * pixels), bool)
    mask[: 50 * pixels] = True
    rule = CellRule(TissueMap(grid, mask, pixels), 0.5, 200, 0, "s")
    roots = rule.roots()
    assert len(roots) == 200
    assert (roots["row"] < 50).all()
    assert rule.candidates().sum() == 5000
