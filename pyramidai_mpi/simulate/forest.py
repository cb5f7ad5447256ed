"""Execution trees as flat arrays: what a simulation works on.

Tasks are renumbered breadth first, so that parents come before their children and the children of one task lie side by
side: the children of a batch are then a few slices, and a property handed down from the roots is one indexing a
generation.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from pyramidai_mpi.base.errors import InputError

if TYPE_CHECKING:
    from collections.abc import Sequence

    import numpy.typing as npt

LEVELS = 16
"""Most levels, that of the openings included; a group number is ``16 * slide + level``, as in a cohort's tasks."""

TASK = np.dtype([("group", "<u4"), ("number", "<u8")])
"""A task as the scheduler sees it; as long as a cohort's tile, so that messages have their size."""


@dataclass(frozen=True)
class Forest:
    """Trees of tasks, breadth first.

    Attributes
    ----------
    level
        uint8 (N,), analysis level of each task; that of an opening is one above the highest of all tiles.
    slide
        int64 (N,), number of the slide.
    parent
        int64 (N,), task that this one comes from, -1 for a root.
    first_child, n_children
        int64 (N,): the children of task i are ``first_child[i]`` and the ``n_children[i] - 1`` after it.
    origin
        int64 (N,), row of the task in the arrays that the forest was planted from, -1 for an opening.
    generations
        First task of each generation, and N.
    windows
        float64 (N,): of tasks that are blocks of windows, how many are computed, 1 for a plain tile; None where all are
        plain.
    opening_level
        Level of tasks that open a slide and are no tiles; None when there are none.
    """

    level: npt.NDArray[np.uint8]
    slide: npt.NDArray[np.int64]
    parent: npt.NDArray[np.int64]
    first_child: npt.NDArray[np.int64]
    n_children: npt.NDArray[np.int64]
    origin: npt.NDArray[np.int64]
    generations: tuple[int, ...]
    opening_level: int | None = None
    windows: npt.NDArray[np.float64] | None = None

    def __len__(self) -> int:
        return len(self.level)

    @property
    def n_roots(self) -> int:
        """Tasks of the first generation: numbers 0 to ``n_roots - 1``."""
        return self.generations[1] if len(self.generations) > 1 else 0

    @property
    def n_levels(self) -> int:
        """Levels of tiles."""
        levels = int(self.level.max(initial=0)) + 1
        return levels if self.opening_level is None else levels - 1

    @property
    def is_tile(self) -> npt.NDArray[np.bool_]:
        """Which tasks are tiles, bool (N,)."""
        return np.asarray(self.level != (LEVELS if self.opening_level is None else self.opening_level))

    @property
    def n_tiles(self) -> int:
        """Tasks that are tiles."""
        return int(self.is_tile.sum())

    @property
    def n_windows(self) -> int:
        """Windows that are computed; the number of tiles where each is one."""
        return self.n_tiles if self.windows is None else round(float(self.windows[self.is_tile].sum()))

    def tasks(self) -> npt.NDArray[Any]:
        """All tasks as records of `TASK`, (N,)."""
        records = np.empty(len(self), TASK)
        records["group"] = self.slide * LEVELS + self.level
        records["number"] = np.arange(len(self))
        return records

    def handed_down(self, of_roots: npt.NDArray[np.int64]) -> npt.NDArray[np.int64]:
        """Give each task what its root has in `of_roots` (n_roots,): int64 (N,)."""
        handed = np.empty(len(self), np.int64)
        handed[: self.n_roots] = of_roots
        for start, stop in zip(self.generations[1:-1], self.generations[2:], strict=True):
            handed[start:stop] = handed[self.parent[start:stop]]
        return handed

    def longest_path(self, seconds: npt.NDArray[np.float64]) -> float:
        """Most seconds of a way from a root to a leaf, `seconds` (N,) being those of the tasks."""
        until = seconds.astype(np.float64)
        for start, stop in zip(self.generations[1:-1], self.generations[2:], strict=True):
            until[start:stop] += until[self.parent[start:stop]]
        return float(until.max(initial=0.0))

    def with_openings(self) -> Forest:
        """The same trees with one more task a slide, from which its roots come, as when many slides are one pool."""
        if self.opening_level is not None:
            return self
        level = self.n_levels
        slides = np.unique(self.slide)
        parent = np.concatenate([np.full(len(slides), -1), self.parent + len(slides)])
        roots = slice(len(slides), len(slides) + self.n_roots)
        parent[roots] = np.searchsorted(slides, self.slide[: self.n_roots])
        grown = plant(
            np.concatenate([np.full(len(slides), level, np.uint8), self.level]),
            parent,
            np.concatenate([slides, self.slide]),
            opening_level=level,
            windows=None if self.windows is None else np.concatenate([np.zeros(len(slides)), self.windows]),
        )
        origin = np.concatenate([np.full(len(slides), -1), self.origin])[grown.origin]
        return Forest(**{**vars(grown), "origin": origin})


def plant(
    level: npt.ArrayLike,
    parent: npt.ArrayLike,
    slide: npt.ArrayLike = 0,
    *,
    opening_level: int | None = None,
    windows: npt.ArrayLike | None = None,
) -> Forest:
    """Make a forest of any tree-shaped work.

    Parameters
    ----------
    level
        Whole numbers (N,) from 0 to 14 (15 for openings): costs and batches go by them.
    parent
        Whole numbers (N,): row of the task that this one comes from, -1 for a root.
    slide
        Whole numbers (N,), or one for all: batches hold tasks of one slide.
    opening_level
        See `Forest`.
    windows
        Numbers (N,): see `Forest`.

    Raises
    ------
    InputError
        The arrays do not fit each other, a parent is not among the rows, or parents go round in a circle.
    """
    levels, parents = np.asarray(level), np.asarray(parent, np.int64)
    n = len(parents)
    slides = np.broadcast_to(np.asarray(slide, np.int64), (n,))
    if levels.shape != parents.shape or parents.ndim != 1:
        raise InputError(f"tree of {levels.shape} levels and {parents.shape} parents: expected one of each a task")
    highest = LEVELS - (2 if opening_level is None else 1)
    if n and not (levels.min() >= 0 and levels.max() <= highest and parents.min() >= -1 and parents.max() < n):
        raise InputError(f"tree of {n} tasks: levels must lie in 0 to {highest} and parents in -1 to {n - 1}")

    child_rows = np.flatnonzero(parents >= 0)
    child_rows = child_rows[np.argsort(parents[child_rows], kind="stable")]
    count = np.bincount(parents[child_rows], minlength=n)
    first = np.concatenate([[0], np.cumsum(count)[:-1]]) if n else np.zeros(0, np.int64)
    generation = np.flatnonzero(parents < 0)
    order, generations = [generation], [0]
    while generation.size:
        generations.append(generations[-1] + len(generation))
        generation = child_rows[slices(first[generation], count[generation])]
        order.append(generation)
    origin = np.concatenate(order)
    if len(origin) != n:
        raise InputError(f"tree of {n} tasks: {n - len(origin)} of them are reached from no root")
    number = np.empty(n, np.int64)
    number[origin] = np.arange(n)
    n_children = count[origin]
    return Forest(
        level=levels[origin].astype(np.uint8),
        slide=slides[origin].copy(),
        parent=np.where(parents[origin] < 0, -1, number[parents[origin]]),
        # breadth first, children follow in the order of their parents
        first_child=generations[min(1, len(generations) - 1)] + np.cumsum(n_children) - n_children,
        n_children=n_children,
        origin=origin,
        generations=tuple(generations),
        opening_level=opening_level,
        windows=None if windows is None else np.asarray(windows, np.float64)[origin],
    )


def slices(first: npt.NDArray[np.int64], count: npt.NDArray[np.int64]) -> npt.NDArray[np.int64]:
    """All numbers of the ranges that begin at `first` (n,) and are `count` (n,) long, one range after the other."""
    ends = np.cumsum(count)
    return np.asarray(np.arange(ends[-1] if len(ends) else 0) + np.repeat(first - ends + count, count))


def join(forests: Sequence[Forest]) -> Forest:
    """Many slides as one pool of work: `forests` are numbered from 0 on as slides; openings must not be planted yet."""
    starts = np.cumsum([0, *(len(forest) for forest in forests)])
    empty = np.zeros(0, np.int64)
    return plant(
        np.concatenate([empty, *(forest.level for forest in forests)]),
        np.concatenate(
            [empty, *(np.where(f.parent < 0, -1, f.parent + start) for f, start in zip(forests, starts, strict=False))]
        ),
        np.concatenate([empty, *(np.full(len(forest), slide) for slide, forest in enumerate(forests))]),
        windows=None
        if all(forest.windows is None for forest in forests)
        else np.concatenate([np.ones(len(f)) if f.windows is None else f.windows for f in forests]),
    )
