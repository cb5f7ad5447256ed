"""ROC figures against scikit-learn, and resampled ones against resampling the tiles themselves."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from sklearn import metrics

from pyramidai_mpi.evaluation.bootstrap import draw_slides
from pyramidai_mpi.evaluation.roc import auc, auc_table, roc_curve


def scored(seed: int, n: int, *, ties: bool = True) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(seed)
    positive = rng.random(n) < 0.3
    score = (rng.normal(positive * 1.0)).astype(np.float32)
    return (np.round(score, 1) if ties else score), positive


@given(st.integers(0, 10_000), st.integers(5, 300), st.booleans())
def test_area_and_curve_are_those_of_scikit_learn(seed, n, ties):
    score, positive = scored(seed, n, ties=ties)
    if positive.all() or not positive.any():
        assert np.isnan(auc(score, positive))
        return
    assert auc(score, positive) == pytest.approx(metrics.roc_auc_score(positive, score), abs=1e-9)
    curve = roc_curve(score, positive)
    false, true, threshold = metrics.roc_curve(positive, score, drop_intermediate=False)
    np.testing.assert_allclose(curve.false_positive_rate, false, atol=1e-9)
    np.testing.assert_allclose(curve.true_positive_rate, true, atol=1e-9)
    np.testing.assert_array_equal(curve.threshold, threshold)
    assert np.trapezoid(curve.true_positive_rate, curve.false_positive_rate) == pytest.approx(auc(score, positive))


def test_equal_scores_count_half():
    assert auc(np.array([0.5, 0.5]), np.array([True, False])) == 0.5


def test_unreadable_tiles_are_left_out():
    score = np.array([np.nan, 0.9, 0.2, np.nan], np.float32)
    assert auc(score, np.array([True, True, False, False])) == 1.0


def test_the_area_of_a_drawn_cohort_is_that_of_its_tiles_repeated():
    slides = [scored(seed, 40 + 30 * seed) for seed in range(4)]
    slides.append((slides[0][0], np.zeros(len(slides[0][0]), bool)))  # no tumour on it
    table = auc_table(*zip(*slides, strict=True))
    counts = draw_slides(len(slides), 20, seed=7)
    expected = []
    for drawn in counts:
        score = np.concatenate([slides[s][0] for s in np.repeat(np.arange(5), drawn)])
        positive = np.concatenate([slides[s][1] for s in np.repeat(np.arange(5), drawn)])
        expected.append(metrics.roc_auc_score(positive, score))
    np.testing.assert_allclose(table.of(counts), expected, atol=1e-9)
    assert np.isnan(table.per_slide()[4])
    whole = table.pooled(counts)
    assert whole.low < whole.value < whole.high


def test_a_curve_of_nothing_is_one_point():
    assert len(roc_curve(np.empty(0), np.empty(0, bool)).threshold) == 1
