"""Tumour slide or not, as the paper tells: bagged trees on the distribution of tile probabilities."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from pyramidai_mpi.classification.classifier import BINS, SlideFigures, judge_slides
from pyramidai_mpi.classification.features import FeatureKind, histogram_features
from pyramidai_mpi.classification.forest import grow_forest

if TYPE_CHECKING:
    from collections.abc import Sequence

    import numpy.typing as npt

    from pyramidai_mpi.truth.labelled_tree import LabelledTree


def projected_scores(tree: LabelledTree, thresholds: Sequence[float] | None) -> npt.NDArray[np.float32]:
    """Score of each level-0 tile, or of the ancestor at which a pyramidal run stopped, float32 (N,).

    None stands for a reference run.
    """
    score = tree.levels[0].score.copy()
    if thresholds is None:
        return score
    reached = tree.reached(thresholds)
    row, missing = np.arange(len(score)), ~reached[0]
    for n in range(1, tree.n_levels):
        row = tree.levels[n - 1].parent[row]
        here = missing & reached[n][row]
        score[here] = tree.levels[n].score[row[here]]
        missing &= ~here
    return score


def classify_slides(
    train: Sequence[LabelledTree], test: Sequence[LabelledTree], thresholds: Sequence[float] | None
) -> SlideFigures:
    """Fit on one half of a cohort, judge on the other; both as runs of these thresholds see them."""
    features, tumor = (
        [np.array([what(tree) for tree in half]) for half in (train, test)]
        for what in (
            lambda tree: histogram_features(projected_scores(tree, thresholds), BINS),
            lambda tree: bool(tree.levels[0].positive.any()),
        )
    )
    forest = grow_forest(features[0], tumor[0], FeatureKind.HISTOGRAM, seed=0)
    return judge_slides(forest.predict(features[1]), tumor[1])
