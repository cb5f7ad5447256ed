"""The two means and their intervals, against counts by hand and scipy's bootstrap."""

from __future__ import annotations

import numpy as np
import pytest
from scipy import stats

from pyramidai_mpi.evaluation.bootstrap import draw_slides, estimate
from pyramidai_mpi.evaluation.ratios import both_means


def test_the_two_means_differ_as_counted_by_hand():
    means = both_means(np.array([100.0, 300.0]), np.array([50.0, 100.0]), draw_slides(2, 10, 0))
    assert means.mean_of_ratios.value == 2.5
    assert means.ratio_of_means.value == 400 / 150


def test_a_slide_without_tumour_enters_neither_mean():
    means = both_means(np.array([3.0, 0.0]), np.array([4.0, 0.0]), draw_slides(2, 10, 0))
    assert (means.mean_of_ratios.value, means.ratio_of_means.value) == (0.75, 0.75)
    assert means.mean_of_ratios.n_slides == 1
    assert np.isnan(means.mean_of_ratios.low)


def test_without_any_ratio_there_is_no_mean():
    means = both_means(np.array([0.0]), np.array([0.0]), draw_slides(1, 10, 0))
    assert np.isnan(means.mean_of_ratios.value)
    assert str(means.ratio_of_means) == "-"


def test_intervals_are_those_of_scipys_percentile_bootstrap():
    rng = np.random.default_rng(2)
    top, bottom = rng.uniform(1, 9, 30), rng.uniform(1, 9, 30)
    ours = both_means(top, bottom, draw_slides(30, 20_000, seed=1))
    for mean, statistic in (
        (ours.mean_of_ratios, lambda a, b, axis: (a / b).mean(axis=axis)),
        (ours.ratio_of_means, lambda a, b, axis: a.sum(axis=axis) / b.sum(axis=axis)),
    ):
        theirs = stats.bootstrap(
            (top, bottom), statistic, paired=True, vectorized=True, method="percentile", n_resamples=20_000, rng=3
        ).confidence_interval
        # both are random; 20000 draws leave under 1 % of the width
        assert mean.low == pytest.approx(theirs.low, abs=0.03 * (theirs.high - theirs.low))
        assert mean.high == pytest.approx(theirs.high, abs=0.03 * (theirs.high - theirs.low))


def test_drawn_cohorts_have_the_size_of_the_whole_and_follow_the_seed():
    counts = draw_slides(7, 50, seed=4)
    assert (counts.sum(axis=1) == 7).all()
    np.testing.assert_array_equal(counts, draw_slides(7, 50, seed=4))
    assert (counts != draw_slides(7, 50, seed=5)).any()


def test_one_slide_has_no_interval():
    alone = estimate(0.5, np.full(10, 0.5), 1)
    assert np.isnan(alone.low)
    assert str(alone) == "0.5"
