from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given

from pyramidai_mpi.base.errors import InputError
from pyramidai_mpi.simulate.forest import TASK, join, plant
from tests.simulate.trees import parents_of_trees, small


@given(parents_of_trees())
def test_planting_renumbers_and_changes_nothing_else(tree):
    level, parent = tree
    forest = plant(level, parent)
    assert sorted(forest.origin.tolist()) == list(range(len(level)))
    for task, row in enumerate(forest.origin.tolist()):
        assert forest.level[task] == level[row]
        up = int(forest.parent[task])
        assert up < task
        assert (-1 if up < 0 else forest.origin[up]) == parent[row]
        children = range(forest.first_child[task], forest.first_child[task] + forest.n_children[task])
        assert [forest.origin[child] for child in children] == [r for r in range(len(level)) if parent[r] == row]
    roots = [row for row in range(len(level)) if parent[row] < 0]
    assert forest.origin[: forest.n_roots].tolist() == roots


@given(parents_of_trees())
def test_what_is_handed_down_comes_from_the_root(tree):
    level, parent = tree
    forest = plant(level, parent)
    handed = forest.handed_down(np.arange(forest.n_roots) * 10)
    roots = [row for row in range(len(level)) if parent[row] < 0]
    for task, row in enumerate(forest.origin.tolist()):
        while parent[row] >= 0:
            row = parent[row]
        assert handed[task] == roots.index(row) * 10


@given(parents_of_trees())
def test_the_longest_path_is_that_of_a_walk_to_every_task(tree):
    level, parent = tree
    forest = plant(level, parent)
    seconds = np.random.default_rng(1).random(len(level))

    def until(row: int) -> float:
        return seconds[row] + (until(parent[row]) if parent[row] >= 0 else 0.0)

    longest = max((until(row) for row in range(len(level))), default=0.0)
    assert forest.longest_path(seconds[forest.origin]) == pytest.approx(longest)


def test_joined_slides_keep_their_trees_and_get_numbers():
    forest = join([small(), plant([0], [-1]), small()])
    assert len(forest) == 17
    assert forest.n_roots == 9
    assert np.bincount(forest.slide).tolist() == [8, 1, 8]
    below = forest.parent >= 0
    assert (forest.slide[below] == forest.slide[forest.parent[below]]).all()
    # a batch holds one slide and level, as in a cohort: 16 * slide + level
    assert sorted(np.unique(forest.tasks()["group"]).tolist()) == [0, 1, 16, 32, 33]


def test_an_opening_is_the_one_root_of_a_slide_and_no_tile():
    forest = join([small(), small()]).with_openings()
    assert (len(forest), forest.n_tiles, forest.n_roots) == (18, 16, 2)
    assert forest.n_children[:2].tolist() == [4, 4]
    assert forest.slide[:2].tolist() == [0, 1]
    assert (forest.opening_level, forest.n_levels) == (2, 2)
    assert forest.origin[~forest.is_tile].tolist() == [-1, -1]
    assert sorted(forest.origin[forest.is_tile].tolist()) == list(range(16))
    assert forest.with_openings() is forest


def test_a_task_is_as_long_as_that_of_a_cohort():
    from pyramidai_mpi.base.types import TILE_DTYPE
    from pyramidai_mpi.run.pool.workload import pool_dtype

    assert TASK.itemsize == pool_dtype(TILE_DTYPE).itemsize


@pytest.mark.parametrize(
    ("level", "parent"),
    [([0, 0], [1, 0]), ([0, 0], [-1, 2]), ([0], [-1, -1]), ([15], [-1]), ([-1], [-1])],
    ids=["a circle", "no such parent", "unequal lengths", "too many levels", "a negative level"],
)
def test_what_is_no_forest_is_refused(level, parent):
    with pytest.raises(InputError):
        plant(level, parent)
