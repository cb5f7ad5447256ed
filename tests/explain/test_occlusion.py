"""Occlusion beside what it is by hand, and in closed form on a linear score."""

from __future__ import annotations

import numpy as np
import pytest

from pyramidai_mpi.explain.cells import edges
from pyramidai_mpi.explain.methods import Fill
from pyramidai_mpi.explain.occlusion import Occlusion
from pyramidai_mpi.explain.perturbation import scores_of
from pyramidai_mpi.explain.replacement import replacement
from tests.explain.conftest import KEY


def test_masks_are_the_tile_and_then_each_place_of_the_square(tile):
    occlusion = Occlusion(63, 9, 2, Fill.MEAN)
    pictures = occlusion.perturbed(tile, range(occlusion.n_masks), KEY)
    assert len(pictures) == 1 + 8 * 8
    assert (pictures[0] == tile).all()
    expected = tile.copy()
    expected[21:35, 42:56] = replacement(tile, Fill.MEAN)[0, 0]
    assert (pictures[1 + 3 * 8 + 6] == expected).all()


@pytest.mark.parametrize("fill", Fill)
def test_on_a_linear_score_a_cell_has_what_its_squares_hold(tile, linear, fill):
    """The score falls by the weights times what was taken away, so the map is a mean of box sums."""
    occlusion = Occlusion(63, 7, 3, fill)
    found = occlusion.map_of(tile, scores_of(occlusion, tile, linear, KEY), KEY)
    weights = np.zeros((63, 63, 3))
    weights[9:27, 9:36] = 1 / (255 * 18 * 27 * 3)
    lost = (weights * (tile.astype(float) - replacement(tile, fill))).sum(axis=2)
    bounds = edges(63, 7)
    for row, col in np.ndindex(7, 7):
        boxes = [
            lost[bounds[r] : bounds[r + 3], bounds[c] : bounds[c + 3]].sum()
            for r in range(max(row - 2, 0), min(row, 4) + 1)
            for c in range(max(col - 2, 0), min(col, 4) + 1)
        ]
        assert found[row, col] == pytest.approx(np.mean(boxes), abs=1e-6)


def test_with_squares_of_one_cell_it_is_complete_on_a_linear_score(tile, linear):
    occlusion = Occlusion(63, 21, 1)
    found = occlusion.map_of(tile, scores_of(occlusion, tile, linear, KEY), KEY)
    difference = linear(tile[None]) - linear(replacement(tile, Fill.BLUR)[None])
    assert found.sum() == pytest.approx(float(difference[0]), abs=1e-5)


def test_a_block_is_a_piece_of_the_whole_and_no_key_matters(tile):
    occlusion = Occlusion(63)
    whole = occlusion.perturbed(tile, range(occlusion.n_masks), KEY)
    assert (occlusion.perturbed(tile, range(64, 128), (9,)) == whole[64:128]).all()


def test_it_has_no_repeatability_and_no_value_where_no_square_was(tile, linear):
    occlusion = Occlusion(63, 7, 3)
    scores = scores_of(occlusion, tile, linear, KEY)
    assert np.isnan(occlusion.repeatability(tile, scores, KEY))
    part = occlusion.map_of(tile, scores[:2], KEY)
    assert np.isfinite(part[:3, :3]).all()
    assert np.isnan(part).sum() == 49 - 9
