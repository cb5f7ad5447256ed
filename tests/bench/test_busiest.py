"""Trees as work to share, counted by hand."""

from __future__ import annotations

import numpy as np
from pytest import approx

from bench.paper.busiest import Ordering, played_run, read_ordering
from bench.paper.slide_geometry import TissueModel, build_geometry
from bench.paper.tile_scores import Noise, draw_tree, fit_to_accuracy
from pyramidai_mpi.simulate.dealing import Dealing
from pyramidai_mpi.simulate.forest import plant
from pyramidai_mpi.simulate.study import Balancing, Row


def test_the_work_is_what_the_thresholds_reach_each_tile_under_its_parent() -> None:
    lesion = {"positive": [[[60000, 60000], [64000, 60000], [62000, 65000]]]}
    slide = build_geometry("lesion", lesion, TissueModel(mean_tiles=900))
    tree = draw_tree(slide, fit_to_accuracy([slide], full_at=None, noise=Noise()))
    thresholds = (0.5, 0.3, 0.4)
    forest = plant(*played_run(tree, thresholds))
    assert np.bincount(forest.level).tolist() == list(tree.cost_of(thresholds).analysed)
    children = forest.parent >= 0
    assert (forest.level[forest.parent[children]] == forest.level[children] + 1).all()
    zoomed = [int((level.passes(t) & mask).sum()) for level, t, mask in zip(
        tree.levels, thresholds, tree.reached(thresholds), strict=True)][1:]  # fmt: skip
    assert [int((forest.n_children[forest.level == n] > 0).sum()) for n in (1, 2)] == zoomed


def test_the_papers_claims_are_read_off_tiles_above_an_equal_share() -> None:
    block, even, dealt = Dealing.BLOCK, Dealing.ROUND_ROBIN, Dealing.RANDOM
    tiles = {
        # workers: ideal; without balancing even, random, block; stealing
        2: (500, 500, 550, 600, 500),
        4: (250, 275, 300, 500, 255),
        64: (16, 16, 99, 50, 99),  # too few tiles to say anything
    }
    rows = []
    for workers, (ideal, *found, stolen) in tiles.items():
        counts = [(Balancing.ORACLE, how, ideal) for how in (even, dealt, block)]
        counts += [(Balancing.NONE, how, n) for how, n in zip((even, dealt, block), found, strict=True)]
        counts += [(Balancing.STEAL_ONE, how, stolen) for how in (even, dealt, block)]
        rows += [Row(workers, balancing, how, n, 1.0, 1.0) for balancing, how, n in counts]
    assert read_ordering(rows) == Ordering(
        1.0,
        {even: approx((0.05, 0.1)), dealt: approx((0.15, 0.2)), block: approx((0.6, 1.0))},
        approx(0.02),
        4,
    )
