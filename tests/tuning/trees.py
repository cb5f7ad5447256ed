"""Labelled trees drawn at random, small enough to try every threshold."""

from __future__ import annotations

import numpy as np

from pyramidai_mpi.truth.labelled_tree import LabelledLevel, LabelledTree


def random_tree(
    rng: np.random.Generator, n_levels: int = 3, side: int = 2, digits: int = 1, unreadable: float = 0.05
) -> LabelledTree:
    """A tree over side x side roots, some children missing; scores of few digits, so that many are equal."""
    levels: list[LabelledLevel] = []
    index = np.argwhere(np.ones((side, side), bool))[:, ::-1].astype(np.uint32)
    parent = np.full(len(index), -1, np.int64)
    tumor = rng.random(len(index)) < 0.5
    for n in range(n_levels - 1, -1, -1):
        score = np.round(np.clip(0.3 + 0.3 * tumor + rng.normal(0, 0.3, len(index)), 0, 1), digits).astype(np.float32)
        score[rng.random(len(index)) < unreadable] = np.nan
        levels.append(LabelledLevel(index, score, tumor & (rng.random(len(index)) < 0.9), parent))
        if n:
            children = (index[:, None, :] * 2 + np.array([[0, 0], [1, 0], [0, 1], [1, 1]], np.uint32)).reshape(-1, 2)
            parent = np.repeat(np.arange(len(index)), 4)
            there = rng.random(len(children)) < 0.7
            children, parent = children[there], parent[there]
            order = np.lexsort((children[:, 0], children[:, 1]))
            index, parent = children[order], parent[order].astype(np.int64)
            tumor = tumor[parent] & (rng.random(len(parent)) < 0.8)
    return LabelledTree("drawn", tuple(reversed(levels)))


def random_cohort(seed: int, n_slides: int = 3, **options) -> list[LabelledTree]:
    rng = np.random.default_rng(seed)
    return [random_tree(rng, **options) for _ in range(n_slides)]
