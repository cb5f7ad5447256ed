"""Trees for simulations: drawn at random, and one that is small enough for a sheet of paper."""

from __future__ import annotations

import numpy as np
from hypothesis import strategies as st

from pyramidai_mpi.simulate.forest import Forest, plant


def small() -> Forest:
    """Four roots of level 1; the first has four children of level 0. Eight tiles."""
    return plant([1, 1, 1, 1, 0, 0, 0, 0], [-1, -1, -1, -1, 0, 0, 0, 0])


def lopsided(roots: int, seed: int = 0) -> Forest:
    """Three levels; the first tenth of the roots is zoomed into down to level 0, the others nearly never."""
    chance = np.where(np.arange(roots) < roots / 10, 0.9, 0.02)
    rng = np.random.default_rng(seed)
    levels, parents, here, first = [np.full(roots, 2)], [np.full(roots, -1)], chance, 0
    for level in (1, 0):
        zoomed = np.flatnonzero(rng.random(len(here)) < here)
        parents.append(first + np.repeat(zoomed, 4))
        levels.append(np.full(4 * len(zoomed), level))
        first += len(here)
        here = np.repeat(here[zoomed], 4)
    return plant(np.concatenate(levels), np.concatenate(parents))


@st.composite
def parents_of_trees(draw: st.DrawFn, most: int = 60) -> tuple[list[int], list[int]]:
    """Levels and parents of up to `most` tasks in any order; children lie one level below."""
    n = draw(st.integers(0, most))
    level, parent = [], []
    for row in range(n):
        above = [other for other in range(row) if level[other] > 0]
        if above and draw(st.integers(0, 3)):
            parent.append(draw(st.sampled_from(above)))
            level.append(level[parent[-1]] - 1)
        else:
            parent.append(-1)
            level.append(3)
    order = draw(st.permutations(range(n)))
    place = {old: new for new, old in enumerate(order)}
    return [level[old] for old in order], [-1 if parent[old] < 0 else place[parent[old]] for old in order]
