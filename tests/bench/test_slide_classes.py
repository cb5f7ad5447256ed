"""Scores of what a pyramidal run has not looked at."""

from __future__ import annotations

import numpy as np

from bench.paper.slide_classes import projected_scores
from pyramidai_mpi.truth.labelled_tree import LabelledLevel, LabelledTree


def level(scores, parent) -> LabelledLevel:
    index = np.stack([np.arange(len(scores)), np.zeros(len(scores))], axis=1).astype(np.uint32)
    return LabelledLevel(index, np.array(scores, np.float32), np.zeros(len(scores), bool), np.array(parent))


def test_a_pruned_tiles_score_stands_for_its_level_0_descendants() -> None:
    tree = LabelledTree(
        "three levels",
        (level([0.5, 0.625, 0.75, 0.875, 1.0], [0, 0, 1, 2, 2]), level([0.25, 0.0, 0.375], [0, 0, 1]),
         level([0.5, 0.125], [-1, -1])),
    )  # fmt: skip
    assert projected_scores(tree, None).tolist() == [0.5, 0.625, 0.75, 0.875, 1.0]
    # the first root is zoomed into, its second child is not; the other root is not
    assert projected_scores(tree, (0.5, 0.25, 0.5)).tolist() == [0.5, 0.625, 0.0, 0.125, 0.125]
