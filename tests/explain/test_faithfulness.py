"""Deletion and insertion curves where it is known how they run."""

from __future__ import annotations

import numpy as np
import pytest

from pyramidai_mpi.explain.faithfulness import CELLS, Curves, area, curves, random_map
from pyramidai_mpi.explain.methods import Fill
from pyramidai_mpi.explain.replacement import replacement

SIDE = 56
RNG = np.random.default_rng(8)
TILE = RNG.integers(0, 200, (SIDE, SIDE, 3)).astype(np.uint8)


def gone(pictures):
    """Share of pixels that are white, float32 (n,): with glass, what was taken away."""
    return (pictures == 255).all(axis=3).mean(axis=(1, 2)).astype(np.float32)


@pytest.mark.parametrize("shape", [(7, 7), (28, 28), (56, 56), (13, 9)])
def test_they_run_from_the_tile_to_its_replacement_and_back_in_equal_steps(shape):
    found = curves(TILE, RNG.random(shape), gone, 7, Fill.GLASS)
    assert np.allclose(found.deletion, np.arange(8) / 7, atol=1e-6)
    assert np.allclose(found.insertion, 1 - np.arange(8) / 7, atol=1e-6)


def test_the_ends_are_the_scores_of_tile_and_replacement(tile, linear):
    found = curves(tile, RNG.random((5, 5)), linear, 4)
    ends = linear(np.stack([tile, replacement(tile, Fill.BLUR)]))
    assert found.deletion[[0, -1]].tolist() == ends.tolist()
    assert found.insertion[[-1, 0]].tolist() == ends.tolist()


def by_hand(values, score_of, steps):
    """Cell by cell of 2 x 2 pixels, the greatest first, as loops."""
    order = sorted(np.ndindex(CELLS, CELLS), key=lambda at: -values[at])
    down, up, white = [], [], np.full_like(TILE, 255)
    for step in range(steps + 1):
        less, more = TILE.copy(), white.copy()
        for row, col in order[: round(CELLS * CELLS * step / steps)]:
            part = np.s_[2 * row : 2 * row + 2, 2 * col : 2 * col + 2]
            less[part], more[part] = white[part], TILE[part]
        down.append(score_of(less[None])[0])
        up.append(score_of(more[None])[0])
    return Curves(np.array(down), np.array(up))


def test_cells_go_in_the_order_of_the_map():
    values = RNG.permutation(CELLS * CELLS).reshape(CELLS, CELLS).astype(np.float32)
    weights = RNG.normal(size=TILE.shape)

    def score_of(pictures):
        return np.tensordot(pictures, weights, 3).astype(np.float32)

    found, expected = curves(TILE, values, score_of, 20, Fill.GLASS), by_hand(values, score_of, 20)
    assert found.deletion.tolist() == expected.deletion.tolist()
    assert found.insertion.tolist() == expected.insertion.tolist()


def test_the_true_map_of_a_linear_score_is_better_than_any_random_one_and_its_negative_worse(tile, linear):
    weights = np.zeros((63, 63))
    weights[9:27, 9:36] = 1
    true, worst = (curves(tile, m, linear, 16, Fill.GLASS) for m in (-weights, weights))  # white raises this score
    chance = [curves(tile, random_map((9, 9), (seed,)), linear, 16, Fill.GLASS) for seed in range(5)]
    # `linear` grows with brightness: what is dark speaks for its negative
    assert area(worst.deletion) > max(area(one.deletion) for one in chance)
    assert area(true.deletion) < min(area(one.deletion) for one in chance)
    assert area(true.insertion) > max(area(one.insertion) for one in chance)


def test_a_map_that_says_the_same_everywhere_is_a_random_one():
    """Rows from the top down would take the upper half first."""

    def upper_half_gone(pictures):
        return (pictures[:, : SIDE // 2] == 255).all(axis=3).mean(axis=(1, 2)).astype(np.float32)

    found = curves(TILE, np.zeros((7, 7)), upper_half_gone, 8, Fill.GLASS)
    assert np.allclose(found.deletion, np.arange(9) / 8, atol=0.06)


def test_an_area_is_the_mean_score_on_the_way():
    assert area(np.array([1, 0], np.float32)) == 0.5
    assert area(np.array([1, 1, 0], np.float32)) == 0.75
    values = RNG.random(17).astype(np.float32)
    assert area(values) == pytest.approx(np.trapezoid(values.astype(float), np.linspace(0, 1, 17)))


def test_a_map_with_a_gap_has_no_curves():
    broken = np.ones((4, 4))
    broken[1, 2] = np.nan
    found = curves(TILE, broken, gone, 5)
    assert np.isnan(found.deletion).all()
    assert found.insertion.shape == (6,)


def test_a_random_map_follows_from_its_key():
    assert (random_map((9, 4), (1, 2)) == random_map((9, 4), (1, 2))).all()
    assert not (random_map((9, 4), (1, 2)) == random_map((9, 4), (1, 3))).any()
    assert random_map((9, 4), (1, 2)).dtype == np.float32
