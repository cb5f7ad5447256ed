"""Local maxima of tile scores, against a search over all pairs."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pyramidai_mpi.evaluation.detections import find_detections, find_on_map
from pyramidai_mpi.pyramid.dense_map import DenseMap
from pyramidai_mpi.pyramid.grid import stride_margin

SIDE, MPP = 224.0, 0.25  # a tile is 56 µm wide


def found(tiles: dict[tuple[int, int], float], radius: float = 60.0, threshold: float = 0.5):
    return find_detections(
        np.array(list(tiles), np.uint32).reshape(-1, 2),
        np.array(list(tiles.values()), np.float32),
        threshold=threshold,
        l0_tile_side=SIDE,
        mpp=MPP,
        radius_um=radius,
    )


def test_neighbours_of_a_higher_tile_are_dropped_and_the_rest_kept():
    detections = found({(0, 0): 0.7, (1, 0): 0.9, (2, 0): 0.8, (3, 0): 0.6, (9, 9): 0.55, (20, 1): 0.4})
    assert detections.score.tolist() == pytest.approx([0.9, 0.6, 0.55])
    assert detections.l0_xy.tolist() == [[336.0, 112.0], [784.0, 112.0], [2128.0, 2128.0]]


def test_of_equal_scores_the_first_in_row_major_order_stays():
    assert found({(1, 1): 0.9, (1, 0): 0.9, (0, 1): 0.9}).l0_xy.tolist() == [[336.0, 112.0], [112.0, 336.0]]


def test_unreadable_tiles_are_no_candidates_and_nothing_gives_nothing():
    assert len(found({(0, 0): np.nan, (4, 4): 0.1})) == 0
    assert len(found({})) == 0


@given(st.integers(0, 999), st.integers(1, 120), st.sampled_from([0.0, 56.0, 79.3, 150.0, 400.0]))
def test_every_candidate_is_kept_or_near_a_kept_higher_one(seed, n, radius):
    rng = np.random.default_rng(seed)
    places = rng.choice(400, n, replace=False)
    tiles = {(int(p % 20), int(p // 20)): float(s) for p, s in zip(places, rng.integers(0, 9, n) / 8, strict=True)}
    # the plain search: by falling score, then row-major; kept when no kept one is near
    kept: list[tuple[int, int]] = []
    for tile in sorted((t for t in tiles if tiles[t] >= 0.5), key=lambda t: (-tiles[t], t[1], t[0])):
        if all(np.hypot(tile[0] - k[0], tile[1] - k[1]) * SIDE * MPP > radius for k in kept):
            kept.append(tile)
    detections = found(tiles, radius)
    assert detections.l0_xy.tolist() == [[(c + 0.5) * SIDE, (r + 0.5) * SIDE] for c, r in kept]
    assert detections.score.tolist() == [tiles[k] for k in kept]


def mixed_map(seed: int, window: int = 224, downsample: float = 2.0, cell: int = 16) -> tuple[DenseMap, dict]:
    """A map of strides 16, 32 and 64, and its windows: corner in pixels to score."""
    rng = np.random.default_rng(seed)
    rows, cols = 21, 18  # no whole number of coarse cells
    score, stride = np.full((rows, cols), np.nan, np.float32), np.zeros((rows, cols), np.uint16)
    windows: dict[tuple[int, int], float] = {}

    def look(row: int, col: int, times: int) -> None:
        side = times * cell
        corner = tuple(place // times * side - stride_margin(side, window) for place in (col, row))
        value = windows.setdefault(corner, float(np.float32(rng.integers(0, 17) / 16)))  # a window has one score
        score[row : row + times, col : col + times] = value
        stride[row : row + times, col : col + times] = side
        if times > 1 and rng.random() < 0.6:
            for r in range(row, min(row + times, rows), times // 2):
                for c in range(col, min(col + times, cols), times // 2):
                    look(r, c, times // 2)

    for row in range(0, rows, 4):
        for col in range(0, cols, 4):
            if rng.random() < 0.8:
                look(row, col, 4)
    # what was looked at closer shows none of a window whose middle is off the slide
    at = [(r, c, int(stride[r, c])) for r in range(rows) for c in range(cols) if stride[r, c]]
    shown = {tuple(place * cell // side * side - stride_margin(side, window) for place in (c, r)) for r, c, side in at}
    windows = {corner: value for corner, value in windows.items() if corner in shown}
    return DenseMap(score, stride, cell, window, stride_margin(cell, window), downsample, 0.25, 0.5), windows


@pytest.mark.parametrize("seed", range(4))
@pytest.mark.parametrize("radius", [0.0, 8.0, 25.0, 90.0])
def test_on_a_map_of_several_strides_each_window_counts_once_where_it_was_looked_at(seed, radius):
    dense, windows = mixed_map(seed)
    assert set(np.unique(dense.stride)) == {0, 16, 32, 64}
    l0 = {((x + 112) * 2.0, (y + 112) * 2.0): value for (x, y), value in windows.items() if value >= 0.5}
    kept: list[tuple[float, float]] = []
    for x, y in sorted(l0, key=lambda at: (-l0[at], at[1], at[0])):
        if all(np.hypot(x - a, y - b) * 0.25 > radius for a, b in kept):
            kept.append((x, y))
    detections = find_on_map(dense, radius_um=radius)
    assert detections.l0_xy.tolist() == [list(at) for at in kept]
    assert detections.score.tolist() == [l0[at] for at in kept]


def test_on_a_map_of_one_stride_they_are_those_of_its_cells_as_tiles():
    rng = np.random.default_rng(5)
    score = rng.random((40, 30)).astype(np.float32)
    score[rng.random(score.shape) < 0.2] = np.nan
    stride = np.where(np.isnan(score), 0, 224).astype(np.uint16)
    dense = DenseMap(score, stride, 224, 224, stride_margin(224, 224), 1.0, MPP, 0.4)
    row, col = np.indices(score.shape).reshape(2, -1)
    tiles = find_detections(
        np.stack([col, row], axis=1), score.ravel(), threshold=0.4, l0_tile_side=SIDE, mpp=MPP, radius_um=150
    )
    on_map = find_on_map(dense, radius_um=150)
    assert len(on_map) > 20
    np.testing.assert_array_equal(on_map.l0_xy, tiles.l0_xy)
    np.testing.assert_array_equal(on_map.score, tiles.score)
    assert find_on_map(dense, threshold=0.9).score.min() >= 0.9


def test_a_stride_that_is_no_whole_number_of_cells_is_refused():
    dense, _ = mixed_map(0)
    dense.stride[0, 0] = 24
    with pytest.raises(ValueError, match="stride 24"):
        find_on_map(dense)
