"""What thresholds would have done, counted by hand."""

from __future__ import annotations

import numpy as np
import pytest

from pyramidai_mpi.truth.labelled_tree import PASS_THROUGH, LabelledLevel, LabelledTree


def level(scores, positive, parent, columns):
    n = len(scores)
    return LabelledLevel(
        np.array([[i % columns, i // columns] for i in range(n)], np.uint32).reshape(n, 2),
        np.array(scores, np.float32),
        np.array(positive, bool),
        np.array(parent, np.int64),
    )


@pytest.fixture
def two_roots() -> LabelledTree:
    """Two roots side by side, four children each: the left root is tumour, the right one holds one tumour tile."""
    level1 = level([0.9, 0.2], [True, False], [-1, -1], 2)
    level0 = level(
        [0.9, 0.8, 0.6, 0.1, 0.7, 0.4, 0.9, 0.3],
        [True, True, True, False, True, False, False, False],
        [0, 0, 1, 1, 0, 0, 1, 1],
        4,
    )
    return LabelledTree("two roots", (level0, level1))


def test_zooming_into_the_left_root_alone_keeps_what_lies_under_it(two_roots) -> None:
    cost = two_roots.cost_of([0.5, 0.5])
    assert cost.analysed == (4, 2)
    assert (cost.true_positives, cost.kept) == (4, 3)
    assert cost.retention == 0.75
    assert cost.speedup == 8 / 6


def test_a_threshold_that_stops_nothing_keeps_everything(two_roots) -> None:
    cost = two_roots.cost_of([0.5, PASS_THROUGH])
    assert cost.retention == 1.0
    assert cost.analysed == (8, 2)


def test_what_the_reference_run_itself_misses_is_not_held_against_the_pyramid(two_roots) -> None:
    assert two_roots.cost_of([0.75, 0.5]).true_positives == 2


def test_an_unreadable_tile_does_not_hide_what_lies_below(two_roots) -> None:
    level0, level1 = two_roots.levels
    unreadable = level([0.9, np.nan], level1.positive, level1.parent, 2)
    assert LabelledTree("x", (level0, unreadable)).cost_of([0.5, 0.5]).analysed == (8, 2)


def test_a_slide_without_tumour_has_no_retention(two_roots) -> None:
    assert np.isnan(two_roots.cost_of([2.0, 0.5]).retention)


def test_labelled_from_below_a_tile_is_positive_where_any_descendant_is() -> None:
    level2 = level([0.5, 0.5], [True, False], [-1, -1], 2)
    level1 = level([0.5] * 4, [True, False, False, True], [0, 0, 1, 1], 2)
    level0 = level([0.5] * 5, [False, False, True, False, True], [0, 1, 2, 3, 2], 5)
    found = LabelledTree("x", (level0, level1, level2)).labelled_from_below()
    assert [one.positive.tolist() for one in found.levels] == [
        [False, False, True, False, True],
        [False, False, True, False],
        [False, True],
    ]
    assert found.levels[1].score is level1.score


@pytest.mark.parametrize("n_levels", [1, 2, 3, 4])
def test_a_full_grid_passed_through_costs_the_geometric_sum(n_levels: int) -> None:
    side = 2 ** (n_levels - 1)
    levels = []
    for n in range(n_levels):
        cols = side * 4 // 2**n
        index = np.array([[c, r] for r in range(cols) for c in range(cols)], np.uint32)
        parent = np.full(len(index), -1) if n == n_levels - 1 else (index[:, 1] // 2) * (cols // 2) + index[:, 0] // 2
        levels.append(LabelledLevel(index, np.zeros(len(index), np.float32), np.zeros(len(index), bool), parent))
    cost = LabelledTree("full", tuple(levels)).cost_of([PASS_THROUGH] * n_levels)
    assert cost.n_analysed / cost.n_reference_tiles == sum(0.25**n for n in range(n_levels))
