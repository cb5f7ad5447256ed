"""The joint search is exact: no thresholds of all that there are keep as much with fewer tiles."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from pyramidai_mpi.base.errors import InputError
from pyramidai_mpi.truth.labelled_tree import LabelledLevel, LabelledTree
from pyramidai_mpi.tuning.cohort import Cohort
from pyramidai_mpi.tuning.fbeta import BETAS
from pyramidai_mpi.tuning.optimal import choose_optimal
from pyramidai_mpi.tuning.strategies import choose_empirical, choose_metric_based, tabulate_betas
from tests.tuning.trees import random_cohort, random_tree


def fewest_by_trying(cohort: Cohort, objective: float) -> int:
    """All combinations of all scores of each level, played one by one."""
    levels = range(1, cohort.n_levels)
    scores = [
        sorted({float(s) for tree in cohort.trees for s in tree.levels[n].score.astype(np.float64) if s == s} or {1.0})
        for n in levels
    ]
    best = None
    for chosen in itertools.product(*scores):
        thresholds = (cohort.l0_threshold, *chosen)
        costs = [tree.cost_of(thresholds) for tree in cohort.trees]
        kept = np.mean([cost.kept / cost.true_positives for cost in costs if cost.true_positives])
        tiles = sum(cost.n_analysed for cost in costs)
        if kept >= objective - 1e-9 and (best is None or tiles < best):
            best = tiles
    assert best is not None
    return best


@settings(max_examples=40)
@given(st.integers(0, 10**6), st.sampled_from([0.3, 0.5, 0.75, 0.9, 1.0]), st.sampled_from([2, 3, 4]))
def test_no_thresholds_at_all_analyse_fewer_tiles(seed, objective, n_levels) -> None:
    cohort = Cohort(tuple(random_cohort(seed, n_levels=n_levels, side=[4, 3, 2][n_levels - 2])), 0.5)
    assume(cohort.n_with_positives)
    choice = choose_optimal(cohort, objective)
    assert choice.measured.retention >= objective - 1e-9
    assert choice.measured.n_analysed == fewest_by_trying(cohort, objective)


@settings(max_examples=25)
@given(st.integers(0, 10**6), st.sampled_from([0.5, 0.8, 0.9, 0.95]))
def test_on_the_training_slides_it_is_never_worse_than_either_strategy_of_the_paper(seed, objective) -> None:
    cohort = Cohort(tuple(random_cohort(seed, n_slides=4, side=6, digits=3)), 0.5)
    optimal = choose_optimal(cohort, objective)
    table = tabulate_betas(cohort, BETAS)
    for choose in (lambda: choose_metric_based(cohort, table, objective), lambda: choose_empirical(table, objective)):
        try:
            other = choose()
        except InputError:
            continue
        if other.measured.retention >= objective:
            assert optimal.measured.n_analysed <= other.measured.n_analysed


def test_slides_without_tumour_count_for_the_tiles_and_not_for_the_retention() -> None:
    rng = np.random.default_rng(5)
    with_tumor = [random_tree(rng, side=5, digits=2) for _ in range(3)]
    without = [
        LabelledTree(
            "negative",
            tuple(LabelledLevel(x.index, x.score, np.zeros(len(x), bool), x.parent) for x in random_tree(rng).levels),
        )
        for _ in range(2)
    ]
    alone, both = Cohort(tuple(with_tumor), 0.5), Cohort((*with_tumor, *without), 0.5)
    for objective in (0.6, 0.9):
        choice = choose_optimal(both, objective)
        assert both.n_with_positives == 3
        assert choice.measured.retention == alone.measure(choice.thresholds).retention
        assert choice.measured.n_analysed == fewest_by_trying(both, objective)


def test_without_any_true_positive_there_is_nothing_to_keep() -> None:
    cohort = Cohort(tuple(random_cohort(1)), 2.0)
    with pytest.raises(InputError, match="no slide has a true positive"):
        choose_optimal(cohort, 0.9)


def test_a_model_of_one_level_has_nothing_to_tune() -> None:
    cohort = Cohort((random_tree(np.random.default_rng(0), n_levels=1),), 0.5)
    with pytest.raises(InputError, match="one level"):
        choose_optimal(cohort, 0.9)
