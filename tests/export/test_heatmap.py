"""Every pixel of the heatmap shows the last look at its place."""

from __future__ import annotations

import numpy as np
import pytest

from pyramidai_mpi.export.heatmap import paint_heatmap
from pyramidai_mpi.tree import build_tree
from pyramidai_mpi.types import Decision, Mode
from tests.results import decided
from tests.trees import MASK_PER_TILE, played, rule_of


def painted(rule, tree) -> np.ndarray:
    return paint_heatmap(
        tree.levels, rule.tissue.mask.shape, positive_class=1, pixels_per_tile=MASK_PER_TILE, scale_factor=2
    )


@pytest.mark.parametrize("mode", list(Mode))
def test_a_pixel_shows_the_finest_readable_tile_over_it(mode):
    rule = rule_of(np.random.default_rng(3).random((35, 45)) < 0.2)
    tree = build_tree(played(rule, decided, mode), rule, mode)
    heatmap = painted(rule, tree)
    score = {
        (n, int(col), int(row)): level.probability[i, 1]
        for n, level in tree.levels.items()
        for i, (col, row) in enumerate(level.index)
        if level.decision[i] != Decision.UNREADABLE
    }
    for y, x in np.ndindex(*heatmap.shape):
        over = [(n, x // (2 * 2**n), y // (2 * 2**n)) for n in range(3)]
        expected = next((score[tile] for tile in over if tile in score), np.nan)
        assert heatmap[y, x] == expected or (np.isnan(expected) and np.isnan(heatmap[y, x]))
    assert heatmap.dtype == np.float32
    assert np.isfinite(heatmap).any()


def test_nothing_analysed_shows_nothing():
    rule = rule_of(np.zeros((10, 12), bool))
    assert np.isnan(painted(rule, build_tree(played(rule, decided), rule, Mode.PYRAMID))).all()
