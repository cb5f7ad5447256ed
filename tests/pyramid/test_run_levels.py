"""Levels of runs with strides: they nest, whatever the stride, and what is looked at is what a plain rule says."""

from __future__ import annotations

import numpy as np
import pytest

from pyramidai_mpi.base.types import Mode, WindowState, tiles_at
from pyramidai_mpi.pyramid.blocks import BlockRule
from pyramidai_mpi.pyramid.refining import Band
from pyramidai_mpi.pyramid.rule import TileRule
from pyramidai_mpi.pyramid.run_levels import (
    RunLevels,
    doubling_strides,
    nest,
    plain_levels,
    stepped_levels,
    uniform_levels,
)
from pyramidai_mpi.pyramid.tissue import TissueMap, mask_pixels_per_tile

WINDOW = 224
SIZE = (3100, 2300)


def grids(levels: RunLevels) -> None:
    """Lay the levels over a slide, which checks that tiles nest, and see that windows lie on their lattice."""
    grid = levels.grid(SIZE, [1.0, 2.0, 4.0])
    assert levels.each[0].side % levels.base == 0
    assert grid.n_levels <= 15
    for n, one in enumerate(levels.each):
        corner = grid.corners(n, np.array([[0, 0], [3, 2]]))
        assert (corner % one.cell == 0).all()
        # the middle of a cell's window lies in the cell
        assert 0 <= WINDOW // 2 - one.margin < one.cell
    for n in range(1, grid.n_levels):
        assert grid.factor(n) >= 1


@pytest.mark.parametrize("stride", range(1, WINDOW + 1))
def test_every_stride_nests_alone_and_below_a_pyramid(stride: int) -> None:
    for together in (False, True):
        levels = uniform_levels(3, WINDOW, 2, stride, together=together)
        grids(levels)
        assert levels.each[0].cell == stride
        assert levels.base % stride == 0
        assert levels.base <= WINDOW
    strides = doubling_strides(stride, WINDOW)
    assert nest(strides)
    assert strides[-1] <= WINDOW
    for under in (False, True):
        for cells in (8, 16):
            levels = stepped_levels(3, WINDOW, 2, strides, under_pyramid=under, cells=cells)
            grids(levels)
            assert [one.cell for one in levels.each[: len(strides)]] == list(strides)


def test_the_fdas_strides_have_a_tile_for_a_block() -> None:
    for stride, cells in ((16, 14), (32, 7), (56, 4), (112, 2)):
        levels = uniform_levels(3, WINDOW, 2, stride, together=False)
        assert (levels.each[0].block, levels.base) == (cells, WINDOW)
    assert plain_levels(3, WINDOW).is_plain
    assert uniform_levels(3, WINDOW, 2, WINDOW, together=False).is_plain


def test_strides_need_not_double() -> None:
    levels = stepped_levels(3, WINDOW, 2, (16, 224), under_pyramid=False, cells=16)
    assert [(one.cell, one.block) for one in levels.each] == [(16, 28), (224, 8)]
    grids(levels)
    assert not nest((16, 40))
    assert not nest((16, 16))


@pytest.mark.parametrize("stride", [16, 50, 100])
def test_cells_exist_where_their_square_has_tissue_and_they_meet_the_slide(stride: int) -> None:
    levels = uniform_levels(3, WINDOW, 2, stride, together=False)
    grid = levels.grid(SIZE, [1.0, 2.0, 4.0])
    pixels = mask_pixels_per_tile(grid)
    um = grid.l0_side(0) / pixels
    mask = np.random.default_rng(stride).random([int(np.ceil(extent / um)) for extent in SIZE[::-1]]) < 0.01
    rule = TileRule(TissueMap(grid, mask, pixels), 0.0)
    blocks = BlockRule(levels, 2, 1, Mode.REFERENCE)
    tiles = tiles_at(0, np.argwhere(np.ones(grid.shape(0)[::-1]))[:, ::-1])
    found = blocks.cells(rule, 0, tiles)
    for tile, cells in zip(tiles[::7], found[::7], strict=True):
        for (row, col), exists in np.ndenumerate(cells):
            x, y = (
                (int(tile["col"]) * cells.shape[0] + col) * stride,
                (int(tile["row"]) * cells.shape[0] + row) * stride,
            )
            left, top = x // levels.base * levels.base, y // levels.base * levels.base
            square = mask[
                round(top / um) : round((top + levels.base) / um), round(left / um) : round((left + levels.base) / um)
            ]
            assert exists == (x < SIZE[0] and y < SIZE[1] and bool(square.any()))


def test_what_a_task_says_is_what_the_coarser_block_knew() -> None:
    """Every cell of every child, by looking up the coarser cell over it."""
    levels = stepped_levels(1, WINDOW, 2, (16, 32, 64, 128), under_pyramid=False)
    grid = levels.grid(SIZE, [1.0])
    mask = np.ones((int(np.ceil(SIZE[1] / 32)), int(np.ceil(SIZE[0] / 32))), bool)
    rule = TileRule(TissueMap(grid, mask, mask_pixels_per_tile(grid)), 0.0)
    blocks = BlockRule(levels, 2, 1, Mode.REFERENCE, Band())
    rng = np.random.default_rng(5)
    for level in (3, 2, 1):
        side, ring = blocks.side(level), blocks.ring(level)
        one, finer = levels.each[level], levels.each[level - 1]
        records = np.zeros(1, blocks.record)
        records["level"], records["col"], records["row"] = level, 1, 1
        score = rng.random((side, side)).astype(np.float32)
        state = rng.choice([1, 1, 1, 2, 3, 4], (side, side))
        state = state.astype(np.uint8)
        score[state == WindowState.UNREADABLE] = np.nan
        records["score"][0, :side, :side], records["state"][0, :side, :side] = score, state
        tasks = blocks.closer(rule, records)
        assert len(tasks)
        times = one.cell // finer.cell
        for task in tasks:
            known = blocks.known(rule, task)
            inner = blocks.ring(level - 1)
            for (row, col), kind in np.ndenumerate(known.state):
                # the coarser cell over it, in the coarser block with its ring
                at = [
                    (int(task[name]) * finer.block + place - inner.before) // times - one.block + ring.before
                    for name, place in (("row", row), ("col", col))
                ]
                in_ring = row < inner.before or col < inner.before
                if min(at) < 0 or max(at) >= side:
                    assert kind == WindowState.NOTHING
                    continue
                above = int(state[tuple(at)])
                if in_ring:
                    expected = WindowState.NOTHING if above == WindowState.UNREADABLE else WindowState.COARSER
                    assert kind == expected
                if kind in {WindowState.COARSER, WindowState.SAME}:
                    assert known.score[row, col] == score[tuple(at)]
                if kind == WindowState.SAME:
                    fine = [
                        int(task[name]) * finer.block + place - inner.before
                        for name, place in (("row", row), ("col", col))
                    ]
                    corners = [(k * finer.cell - finer.margin, k // times * one.cell - one.margin) for k in fine]
                    assert all(own == coarser for own, coarser in corners)
