"""Playing strides in steps on a full map: against a loop over blocks and cells, and against the run's own rule."""

from __future__ import annotations

from collections import Counter

import numpy as np
import pytest
from scipy.ndimage import gaussian_filter

from pyramidai_mpi.base.types import Mode, WindowState
from pyramidai_mpi.pyramid.blocks import BlockRule
from pyramidai_mpi.pyramid.dense_map import DenseMap
from pyramidai_mpi.pyramid.grid import stride_margin
from pyramidai_mpi.pyramid.refined_map import refine
from pyramidai_mpi.pyramid.refining import Band
from pyramidai_mpi.pyramid.rule import TileRule
from pyramidai_mpi.pyramid.run_levels import stepped_levels
from pyramidai_mpi.pyramid.tissue import TissueMap, mask_pixels_per_tile

WINDOW = 224
FAMILIES = [(16, 32, 64, 128), (16, 112), (16, 224), (16, 48, 96), (28, 56), (32,)]
BANDS = [Band(0.2, 0.8, 0.3), Band(0.0, 1.0, 1.0), Band(0.5, 0.5, 2.0)]


def slide(strides, shape, seed=0, unreadable=0.002):
    """A map of blobs, some of it unreadable and some without tissue, and the squares that have tissue."""
    rng = np.random.default_rng(seed)
    times = strides[-1] // strides[0]
    rows, cols = (extent * times for extent in shape)
    noise = gaussian_filter(rng.normal(size=(rows, cols)), 3)
    score = (1 / (1 + np.exp(-30 * noise / noise.std() / 4))).astype(np.float32)
    tissue = rng.random(shape) < 0.8
    score[(rng.random(score.shape) < unreadable) | ~np.kron(tissue, np.ones((times, times), bool))] = np.nan
    stride = np.where(np.isnan(score), 0, strides[0]).astype(np.uint16)
    margin = stride_margin(strides[0], WINDOW)
    return DenseMap(score, stride, strides[0], WINDOW, margin, 1.0, 0.25, 0.55), tissue


def by_window(full):
    """Scores by the corner of their window."""
    rows, cols = full.score.shape
    step = full.cell
    return {
        (c * step - full.margin, r * step - full.margin): float(full.score[r, c])
        for r in range(rows)
        for c in range(cols)
    }


def played_by_a_loop(full, tissue, levels, band):
    """Map and number of windows by stride, block after block and cell after cell, with dictionaries."""
    score_at, each, base = by_window(full), levels.each, levels.base
    looked, best = Counter(), {}

    def exists(cell, stride):
        row, col = (place * stride // base for place in cell)
        return 0 <= row < tissue.shape[0] and 0 <= col < tissue.shape[1] and min(cell) >= 0 and tissue[row, col]

    def look(cell, n):
        looked[each[n].cell] += 1
        return score_at[cell[1] * each[n].cell - each[n].margin, cell[0] * each[n].cell - each[n].margin]

    def sides(n):
        """Which neighbours count."""
        if n == 0:
            return range(1)
        own = (each[n - 1].margin - each[n].margin) // each[n - 1].cell
        return range(-int(own > 0), 1 + int(own < each[n].cell // each[n - 1].cell - 1))

    def do(n, corner, above):
        """One block: `above` has of each coarser cell its score and whether it is refined."""
        side, stride, around = each[n].block, each[n].cell, sides(n)
        known, open_ = {}, {}
        for row in range(corner[0] + around[0], corner[0] + side + around[-1]):
            for col in range(corner[1] + around[0], corner[1] + side + around[-1]):
                cell = (row, col)
                inside = 0 <= row - corner[0] < side and 0 <= col - corner[1] < side
                if not exists(cell, stride):
                    continue
                if above is None:
                    known[cell], open_[cell] = look(cell, n), inside
                    continue
                times = each[n + 1].cell // stride
                score, refined = above.get((row // times, col // times), (np.nan, False))
                own = (each[n].margin - each[n + 1].margin) // stride
                if not (inside and refined):
                    known[cell], open_[cell] = score, False
                elif (row % times, col % times) == (own, own) and not np.isnan(score):
                    known[cell], open_[cell] = score, True
                else:
                    known[cell], open_[cell] = look(cell, n), True
                if inside and refined:
                    known_stride = stride if not np.isnan(known[cell]) else 0
                    paint(cell, stride, known[cell], known_stride)
        if above is None:
            for cell, score in known.items():
                if open_[cell]:
                    paint(cell, stride, score, 0 if np.isnan(score) else stride)
        if n == 0:
            return
        refined = {}
        for cell in known:
            own = known[cell]
            near = [
                known.get((cell[0] + down, cell[1] + right), np.nan)
                for down in around
                for right in around
                if (down, right) != (0, 0)
            ]
            doubt = np.isnan(own) or band.low <= own <= band.high or any(abs(one - own) > band.step for one in near)
            refined[cell] = bool(open_[cell] and doubt)
        given = {cell: (known[cell], refined[cell]) for cell in known}
        times, parts = stride // each[n - 1].cell, each[n].side // each[n - 1].side
        for down in range(parts):
            for right in range(parts):
                block = each[n - 1].block
                first = (corner[0] * times + down * block, corner[1] * times + right * block)
                rows, cols = (range(k // times, -(-(k + block) // times)) for k in first)
                if any(refined.get((row, col)) for row in rows for col in cols):
                    do(n - 1, first, given)

    def paint(cell, stride, score, said):
        times = stride // full.cell
        for row in range(cell[0] * times, (cell[0] + 1) * times):
            for col in range(cell[1] * times, (cell[1] + 1) * times):
                best[row, col] = (score, said)

    top = len(each) - 1
    squares = each[top].side // base
    for row in range(-(-tissue.shape[0] // squares)):
        for col in range(-(-tissue.shape[1] // squares)):
            if tissue[row * squares : (row + 1) * squares, col * squares : (col + 1) * squares].any():
                do(top, (row * each[top].block, col * each[top].block), None)
    score, stride = np.full(full.score.shape, np.nan, np.float32), np.zeros(full.score.shape, np.uint16)
    for (row, col), (value, said) in best.items():
        score[row, col], stride[row, col] = value, said
    return score, stride, tuple(looked[one.cell] for one in each)


@pytest.mark.parametrize("strides", FAMILIES)
@pytest.mark.parametrize("band", BANDS)
def test_it_gives_what_a_loop_over_blocks_and_cells_gives(strides, band):
    full, tissue = slide(strides, (11, 9), seed=len(strides))
    levels = stepped_levels(1, WINDOW, 2, strides, under_pyramid=False, cells=4)
    found = refine(full, tissue, levels, band)
    score, stride, windows = played_by_a_loop(full, tissue, levels, band)
    assert found.windows == windows
    np.testing.assert_array_equal(found.map.score, score)
    np.testing.assert_array_equal(found.map.stride, stride)


@pytest.mark.parametrize("strides", FAMILIES[:5])
def test_it_gives_what_the_rule_of_a_run_gives(strides):
    full, tissue = slide(strides, (19, 21), seed=7)
    levels = stepped_levels(1, WINDOW, 2, strides, under_pyramid=False)
    band = BANDS[0]
    grid = levels.grid((tissue.shape[1] * levels.base, tissue.shape[0] * levels.base), (1.0,))
    pixels = mask_pixels_per_tile(grid)
    mask = np.kron(tissue, np.ones((pixels // grid.bases,) * 2, bool))
    tiles, blocks = TileRule(TissueMap(grid, mask, pixels), 0.0), BlockRule(levels, 2, 1, Mode.REFERENCE, band)
    squares = tiles.tissue.squares_near[: tissue.shape[0], : tissue.shape[1]]
    found = refine(full, squares, levels, band)
    score_at, looked = by_window(full), Counter()
    score, stride = np.full(full.score.shape, np.nan, np.float32), np.zeros(full.score.shape, np.uint16)
    tasks = blocks.first(tiles)
    while len(tasks):
        records = np.zeros(len(tasks), blocks.record)
        for task, record in zip(tasks, records, strict=True):
            level = int(task["level"])
            one, known, ring = levels.each[level], blocks.known(tiles, task), blocks.ring(level)
            for row, col in np.argwhere(known.state == WindowState.LOOKED).tolist():
                cell = [int(task[name]) * one.block + k - ring.before for name, k in (("row", row), ("col", col))]
                known.score[row, col] = score_at[cell[1] * one.cell - one.margin, cell[0] * one.cell - one.margin]
                looked[one.cell] += 1
                if np.isnan(known.score[row, col]):
                    known.state[row, col] = WindowState.UNREADABLE
            side = blocks.side(level)
            for name in ("level", "col", "row"):
                record[name] = task[name]
            record["score"][:side, :side], record["state"][:side, :side] = known.score, known.state
            times, inner = one.cell // full.cell, ring.inner(one.block)
            own = np.isin(known.state[inner, inner], (WindowState.LOOKED, WindowState.SAME, WindowState.UNREADABLE))
            wide, values = (
                part.repeat(times, axis=0).repeat(times, axis=1) for part in (own, known.score[inner, inner])
            )
            top, left = (int(task[name]) * one.block * times for name in ("row", "col"))
            place = np.s_[top : top + len(wide), left : left + len(wide)]
            rows, cols = score[place].shape
            inside, values = wide[:rows, :cols], values[:rows, :cols]
            score[place][inside] = values[inside]
            stride[place][inside] = np.where(np.isnan(values[inside]), 0, one.cell)
        each_level = (records[records["level"] == n] for n in np.unique(records["level"]))
        tasks = np.concatenate([blocks.closer(tiles, some) for some in each_level])
    assert found.windows == tuple(looked[one.cell] for one in levels.each)
    np.testing.assert_array_equal(found.map.score, score)
    np.testing.assert_array_equal(found.map.stride, stride)


def test_everything_in_doubt_gives_the_full_map_and_looks_at_every_window_once():
    strides = (16, 32, 64, 128)
    full, tissue = slide(strides, (16, 24), unreadable=0.0)
    found = refine(full, tissue, stepped_levels(1, WINDOW, 2, strides, under_pyramid=False), Band(0.0, 1.0, 1.0))
    np.testing.assert_array_equal(found.map.score, full.score)
    n_squares = int(tissue.sum())
    assert found.windows[:3] == (64 * n_squares * 3 // 4, 16 * n_squares * 3 // 4, 4 * n_squares * 3 // 4)
    assert found.windows[3] >= n_squares  # and the rings


def test_windows_off_the_slide_are_taken_as_the_caller_says():
    # the slide ends one cell after a square of 2 x 2: the last coarse cells' windows stand for cells beyond it
    score, stride = np.zeros((7, 7), np.float32), np.full((7, 7), 16, np.uint16)
    cut = DenseMap(score, stride, 16, WINDOW, stride_margin(16, WINDOW), 1.0, 0.25, 0.55)
    levels = stepped_levels(1, WINDOW, 2, (16, 32), under_pyramid=False)
    everywhere = np.ones((4, 4), bool)
    band = Band(0.5, 0.6, 0.9)
    refined = refine(cut, everywhere, levels, band)
    assert refined.windows[0] == 7 + 6  # the cells of the last column and row, unreadable at the coarser stride
    taken = refine(cut, everywhere, levels, band, beyond=0.0)
    assert taken.windows == (0, refined.windows[1])


def test_a_map_of_another_stride_or_slide_is_refused():
    full, tissue = slide((16, 32), (8, 8))
    with pytest.raises(ValueError, match="stride 16"):
        refine(full, tissue, stepped_levels(1, WINDOW, 2, (32, 64), under_pyramid=False), Band())
    with pytest.raises(ValueError, match="squares"):
        refine(full, tissue[:-1], stepped_levels(1, WINDOW, 2, (16, 32), under_pyramid=False), Band())


def test_a_map_of_a_million_cells_is_played_level_by_level():
    # a loop over cells takes half a minute; here no number of cells is in any Python loop
    full, tissue = slide((16, 32, 64, 128), (125, 128))
    levels = stepped_levels(1, WINDOW, 2, (16, 32, 64, 128), under_pyramid=False)
    found = refine(full, tissue, levels, BANDS[0])
    assert full.score.size == 1_024_000
    assert 0 < found.n_windows < np.isfinite(full.score).sum()
