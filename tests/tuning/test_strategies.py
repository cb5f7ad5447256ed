"""F_beta thresholds and the paper's two strategies: small cases by hand, rules that always hold."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.metrics import fbeta_score

from pyramidai_mpi.base.errors import InputError
from pyramidai_mpi.truth.labelled_tree import PASS_THROUGH, LabelledLevel, LabelledTree
from pyramidai_mpi.tuning.cohort import Cohort
from pyramidai_mpi.tuning.fbeta import best_thresholds
from pyramidai_mpi.tuning.strategies import choose_empirical, choose_metric_based, tabulate_betas
from tests.tuning.trees import random_cohort


def level(scores, positive, parent=None):
    n = len(scores)
    return LabelledLevel(
        np.array([[i, 0] for i in range(n)], np.uint32),
        np.array(scores, np.float32),
        np.array(positive, bool),
        np.array([-1] * n if parent is None else parent, np.int64),
    )


@pytest.fixture
def by_hand() -> Cohort:
    """One slide: 4 roots with two children each, 16 level-0 tiles of which 6 are true positives."""
    roots = level([0.9, 0.6, 0.5, 0.2], [True, True, False, False])
    middle = level(
        [0.9, 0.8, 0.75, 0.25, 0.625, 0.125, 0.0, 0.5],
        [True, True, True, False, False, True, False, False],
        [0, 0, 1, 1, 2, 2, 3, 3],
    )
    tumor = [1, 1, 1, 0, 1, 1, 0, 0, 0, 0, 1, 0, 0, 0, 0, 0]
    finest = level([0.9] * 16, tumor, np.repeat(np.arange(8), 2))
    return Cohort((LabelledTree("by hand", (finest, middle, roots)),), 0.5)


def test_f_beta_by_hand() -> None:
    score, positive = np.array([0.9, 0.7, 0.5, 0.3]), np.array([True, False, True, False])
    # F1: 2/3, 1/2, 4/5, 2/3; F at beta 0.5: 1.25 / (0.5 + 1) = 0.83, ..., 2.5 / (0.5 + 3) = 0.71
    assert best_thresholds(score, positive, [1, 0.5]) == (0.5, 0.9)


def test_of_equally_good_thresholds_the_lowest_is_taken() -> None:
    # F1 at 0.8: 2 * 1 / (2 + 1) = 2/3; at 0.2: 2 * 2 / (2 + 4) = 2/3
    score, positive = np.array([0.8, 0.6, 0.4, 0.2]), np.array([True, False, False, True])
    assert best_thresholds(score, positive, [1]) == (0.2,)


@settings(max_examples=10)
@given(st.integers(0, 10**6), st.sampled_from([1, 2, 3]))
def test_no_score_gives_a_higher_f_beta_by_scikit_learn(seed, digits) -> None:
    rng = np.random.default_rng(seed)
    positive = rng.random(30) < 0.3
    positive[0] = True
    score = np.round(rng.random(30) * 0.6 + 0.4 * positive, digits)
    betas = (1, 3, 14)
    for beta, found in zip(betas, best_thresholds(score, positive, betas), strict=True):
        every = {t: fbeta_score(positive, score >= t, beta=beta) for t in np.unique(score)}
        assert every[found] == pytest.approx(max(every.values()), abs=1e-12)
        assert found == min(t for t, f in every.items() if f >= max(every.values()) - 1e-12)


@given(st.integers(0, 10**6))
def test_a_larger_beta_never_raises_the_threshold(seed) -> None:
    rng = np.random.default_rng(seed)
    positive = rng.random(200) < 0.2
    positive[0] = True
    assert (np.diff(best_thresholds(rng.random(200), positive)) <= 0).all()


def test_tiles_without_a_score_do_not_count() -> None:
    assert best_thresholds(np.array([0.9, np.nan, 0.1]), np.array([True, True, False]), [1]) == (0.9,)
    with pytest.raises(InputError, match="no readable tile of this level is positive"):
        best_thresholds(np.array([np.nan, 0.1]), np.array([True, False]))


def test_the_isolated_effect_by_hand(by_hand) -> None:
    table = tabulate_betas(by_hand, [1, 6])
    # level 2: F1 is best at 0.6 (2 of 2, none wrong), for any beta
    assert [row.threshold for row in table.isolated[1]] == [pytest.approx(0.6), pytest.approx(0.6)]
    assert table.isolated[1][0].measured.retention == 5 / 6
    assert table.isolated[1][0].measured.n_analysed == 4 + 4 + 8
    # level 1: three of four positives at 0.75 (F1 6/7); all four at 0.125 with three others: F6 = 148 / 151
    assert [row.threshold for row in table.isolated[0]] == [0.75, 0.125]
    assert [row.measured.retention for row in table.isolated[0]] == [5 / 6, 1.0]
    assert [row.measured.n_analysed for row in table.isolated[0]] == [4 + 8 + 6, 4 + 8 + 14]


def test_metric_based_takes_per_level_the_smallest_beta_that_alone_keeps_the_root_of_the_objective(by_hand) -> None:
    table = tabulate_betas(by_hand, [1, 6])
    # sqrt(0.69) = 0.831 < 5 / 6 = 0.833 < sqrt(0.7) = 0.837
    chosen = choose_metric_based(by_hand, table, 0.69)
    assert (chosen.betas, chosen.thresholds[1]) == ((1, 1), 0.75)
    assert chosen.measured.retention == 5 / 6
    assert chosen.measured.n_analysed == 4 + 4 + 6
    with pytest.raises(InputError, match=r"level 2 alone: no beta from 1 to 6 keeps 0\.8367 .*beta 1 keeps 0\.8333"):
        choose_metric_based(by_hand, table, 0.70)


def test_empirical_takes_the_smallest_beta_for_all_levels(by_hand) -> None:
    table = tabulate_betas(by_hand, [1, 6])
    assert choose_empirical(table, 0.8).betas == (1, 1)
    assert choose_empirical(table, 0.8).measured.n_analysed == 4 + 4 + 6
    with pytest.raises(InputError, match="all levels: no beta"):
        choose_empirical(table, 0.9)


def test_passing_through_keeps_exactly_everything_and_costs_every_tile(by_hand) -> None:
    measured = by_hand.measure(by_hand.pass_through())
    assert measured.retention == 1.0
    assert measured.n_analysed == 4 + 8 + 16
    assert measured.speedup == measured.pooled_speedup == 16 / 28


@given(st.integers(0, 10**6), st.integers(1, 2), st.floats(0, 1), st.floats(0, 1))
def test_retention_and_tiles_never_rise_with_a_threshold(seed, which, low, high) -> None:
    cohort = Cohort(tuple(random_cohort(seed, side=3, digits=2)), 0.4)
    low, high = min(low, high), max(low, high)
    other = float(np.random.default_rng(seed).random())
    thresholds = [[0.4, other, other] for _ in range(2)]
    thresholds[0][which], thresholds[1][which] = low, high
    loose, strict = (cohort.measure(t) for t in thresholds)
    assert strict.n_analysed <= loose.n_analysed
    assert all(s.kept <= w.kept for s, w in zip(strict.costs, loose.costs, strict=True))
    if cohort.n_with_positives:
        assert strict.retention <= loose.retention
        assert cohort.measure((0.4, PASS_THROUGH, PASS_THROUGH)).retention == 1.0


def test_a_mean_over_slides_is_no_pooled_share() -> None:
    small = LabelledTree("small", (level([0.9], [True], [0]), level([0.9], [True])))
    large = LabelledTree("large", (level([0.9] * 4, [True] * 4, [0, 0, 1, 1]), level([0.9, 0.1], [True, True])))
    none = LabelledTree("none", (level([0.1], [False], [0]), level([0.1], [False])))
    measured = Cohort((small, large, none), 0.5).measure((0.5, 0.5))
    assert measured.retention == (1 + 0.5) / 2
    assert measured.pooled_retention == 3 / 5
    assert measured.speedup == pytest.approx((1 / 2 + 4 / 4 + 1) / 3)
    assert measured.pooled_speedup == 6 / 7


def test_slides_of_different_models_do_not_mix() -> None:
    trees = (random_cohort(0)[0], random_cohort(0, n_levels=2)[0])
    with pytest.raises(InputError, match="different numbers of levels"):
        Cohort(trees, 0.5)
