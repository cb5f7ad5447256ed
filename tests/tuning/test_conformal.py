"""The guarantee of conformal risk control: its formula by hand, its premises, and that it holds."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pyramidai_mpi.base.errors import InputError
from pyramidai_mpi.tuning.cohort import Cohort
from pyramidai_mpi.tuning.conformal import calibrate, draw_path, fewest_slides, first_safe_step
from tests.tuning.trees import random_cohort, random_tree


@pytest.mark.parametrize(("alpha", "n"), [(0.5, 1), (0.1, 9), (0.05, 19), (0.01, 99), (0.3, 3)])
def test_fewer_slides_than_one_over_alpha_less_one_promise_nothing(alpha, n) -> None:
    assert fewest_slides(alpha) == n
    losses = np.zeros((n, 3))
    assert first_safe_step(losses, alpha) == (0, 0.0)
    if n > 1:
        with pytest.raises(InputError, match=f"from {n - 1} calibration slides: it takes {n} or more"):
            first_safe_step(losses[1:], alpha)


def test_the_step_is_the_first_whose_corrected_mean_loss_is_at_most_alpha() -> None:
    losses = np.repeat([[0.5, 0.2, 0.12, 0.1, 0.0]], 19, axis=0)
    # 19 / 20 * 0.12 + 1 / 20 = 0.164; 19 / 20 * 0.1 + 0.05 = 0.145
    assert first_safe_step(losses, 0.164) == (2, pytest.approx(0.12))
    assert first_safe_step(losses, 0.1639) == (3, pytest.approx(0.1))
    assert first_safe_step(losses, 0.05) == (4, 0.0)


@given(st.integers(0, 10**6), st.sampled_from([2, 3, 4]))
def test_along_the_path_each_slides_retention_is_what_playing_the_thresholds_gives(seed, n_levels) -> None:
    cohort = Cohort(tuple(random_cohort(seed, n_levels=n_levels, side=4, digits=2)), 0.4)
    if not cohort.n_with_positives:
        return
    path = draw_path(cohort, 0.2)
    assert (np.diff(path.thresholds, axis=0) <= 0).all()
    for tree in cohort.trees:
        along = path.retention(tree, 0.4)
        assert (np.diff(along) >= 0).all()
        assert along[-1] == 1
        for step in range(0, len(along), 29):
            played = tree.cost_of((0.4, *path.thresholds[step])).retention
            assert along[step] == pytest.approx(1.0 if np.isnan(played) else played, abs=1e-12)


def test_the_mean_miss_rate_on_new_slides_is_at_most_alpha_over_many_drawings() -> None:
    alpha, n_calibration, n_drawings = 0.2, 12, 400
    rng = np.random.default_rng(7)
    population = [random_tree(rng, side=5, digits=4) for _ in range(120)]
    population = [tree for tree in population if tree.true_positives(0.4).sum() > 3]
    path = draw_path(Cohort(tuple(population[:10]), 0.4), alpha)
    losses = np.stack([1 - path.retention(tree, 0.4) for tree in population[10:]])
    missed, naive = [], []
    for _ in range(n_drawings):
        order = rng.permutation(len(losses))
        calibration, fresh = losses[order[:n_calibration]], losses[order[n_calibration]]
        missed.append(fresh[first_safe_step(calibration, alpha)[0]])
        naive.append(fresh[int(np.flatnonzero(calibration.mean(axis=0) <= alpha)[0])])
    error = np.std(missed) / np.sqrt(n_drawings)
    assert np.mean(missed) <= alpha + 3 * error
    # and it is no empty guarantee: within 2 / (n + 1) of alpha, as the theorem's lower bound for smooth losses says
    assert np.mean(missed) >= alpha - 2 / (n_calibration + 1) - 3 * error - 0.05
    assert np.mean(naive) > np.mean(missed)


def test_a_slide_without_tumour_counts_as_nothing_missed() -> None:
    rng = np.random.default_rng(3)
    cohort = Cohort(tuple(random_tree(rng, side=5) for _ in range(9)), 0.4)
    path = draw_path(cohort, 0.3)
    assert (path.retention(cohort.trees[0], 2.0) == 1).all()
    guarantee = calibrate(path, cohort, 0.3)
    assert guarantee.bound <= 0.3
    assert guarantee.thresholds[0] == 0.4
    played = [tree.cost_of(guarantee.thresholds).retention for tree in cohort.trees]
    assert guarantee.calibration_loss == pytest.approx(1 - np.mean(played))
