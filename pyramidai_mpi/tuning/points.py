"""Trees as weighted points: the coordinates of a tile are its score and those of its ancestors."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    import numpy.typing as npt

    from pyramidai_mpi.truth.labelled_tree import LabelledTree
    from pyramidai_mpi.tuning.cohort import Cohort

    Floats = npt.NDArray[np.float64]
    Ints = npt.NDArray[np.int64]

WHOLE = 1 << 60
"""All retention, as whole numbers: sums are exact, and a slide's share is rounded by less than 1e-17."""


@dataclass(frozen=True)
class Points:
    """Weighted points.

    Attributes
    ----------
    scores
        float64 (N, D): coordinate d is the score at level d + 1.
    weight
        int64 (N,).
    """

    scores: Floats
    weight: Ints

    def where(self, chosen: npt.NDArray[np.bool_]) -> Points:
        """Some of them, without their last coordinate."""
        return Points(self.scores[chosen, :-1], self.weight[chosen])


def points_of(cohort: Cohort) -> tuple[Points, Points]:
    """What is needed and what is spent.

    Returns
    -------
    tuple of Points
        Level-1 tiles over true positives, weighted with their share of the mean retention in parts of `WHOLE`; and all
        tiles above level 0 that have children, weighted with their number. Where a level does not matter to a point
        (below its own), and where it could not be read, its coordinate is one that reaches any threshold worth trying.
    """
    needed, spent = [], []
    for tree in cohort.trees:
        paths = path_scores(tree)
        for n in range(1, tree.n_levels):
            children = np.bincount(tree.levels[n - 1].parent, minlength=len(tree.levels[n])).astype(np.int64)
            spent.append(Points(paths[n - 1][children > 0], children[children > 0]))
        wanted = tree.true_positives(cohort.l0_threshold)
        if wanted.any():
            under = np.bincount(tree.levels[0].parent[wanted], minlength=len(tree.levels[1])).astype(np.int64)
            unit = WHOLE // (cohort.n_with_positives * int(wanted.sum()))
            needed.append(Points(paths[0][under > 0], under[under > 0] * unit))
    joined = [
        Points(np.concatenate([part.scores for part in parts]), np.concatenate([part.weight for part in parts]))
        for parts in (needed, spent)
    ]
    # An unreadable tile passes any threshold; so it does as the best of its level, and thresholds stay scores.
    every = np.concatenate([points.scores for points in joined])
    finite = np.where(np.isfinite(every), every, -np.inf)
    cap = finite.max(axis=0)
    cap[np.isneginf(cap)] = 1.0
    return tuple(Points(np.minimum(points.scores, cap), points.weight) for points in joined)  # type: ignore[return-value]


def path_scores(tree: LabelledTree) -> list[Floats]:
    """For each level from 1 up: float64 (N, n_levels - 1), the scores of the tile and its ancestors, +inf below it."""
    n_levels = tree.n_levels
    paths: list[Floats] = []
    for n in range(n_levels - 1, 0, -1):
        level = tree.levels[n]
        path = np.full((len(level), n_levels - 1), np.inf)
        if paths:
            path[:] = paths[-1][level.parent]
        own = level.score.astype(np.float64)
        path[:, n - 1] = np.where(np.isnan(own), np.inf, own)
        paths.append(path)
    return paths[::-1]
