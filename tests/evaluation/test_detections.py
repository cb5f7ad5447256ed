"""Local maxima of tile scores, against a search over all pairs."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pyramidai_mpi.evaluation.detections import find_detections

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
