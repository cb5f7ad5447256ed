"""Fitting and judging on slides whose tumour is known."""

from __future__ import annotations

from dataclasses import replace
from itertools import combinations

import numpy as np
import pytest
from sklearn import metrics

from pyramidai_mpi.base.errors import InputError, UsageError
from pyramidai_mpi.classification.classifier import (
    cross_validate,
    describe,
    fit_classifier,
    judge_slides,
)
from pyramidai_mpi.classification.features import FeatureKind
from pyramidai_mpi.classification.forest import grow_forest
from pyramidai_mpi.classification.score_map import ScoreMap


def map_of(seed: int, has_tumor: bool, *, hard: bool = False) -> ScoreMap:
    rng = np.random.default_rng(seed)
    score = (0.6 * rng.random((12, 15)) ** 2).astype(np.float32)
    if has_tumor and not (hard and seed % 3 == 0):
        score[4:8, 5:9] = rng.uniform(0.6, 1, (4, 4))
    return ScoreMap(f"{seed}.tif", f"{seed:016x}", (100, 100), "exhaustive", ("01", "23"), score)


def cohort(n: int, *, hard: bool = False) -> tuple[list[ScoreMap], np.ndarray]:
    tumor = np.arange(n) % 2 == 0
    return [map_of(seed, bool(label), hard=hard) for seed, label in enumerate(tumor)], tumor


@pytest.mark.parametrize("kind", FeatureKind)
def test_slides_that_differ_are_told_apart(kind):
    maps, tumor = cohort(16)
    others = [map_of(seed, seed % 2 == 0) for seed in range(100, 110)]
    classifier = fit_classifier(maps, tumor, kind, n_trees=40)
    assert (classifier.n_tumor, classifier.n_normal) == (8, 8)
    assert ((classifier.predict(others) >= 0.5) == (np.arange(100, 110) % 2 == 0)).all()


def test_a_slide_is_never_judged_by_a_classifier_that_saw_it():
    # scores without any meaning: fitted on all, the trees know each slide by heart; held out, they know nothing
    maps, _ = cohort(24)
    maps = [
        replace(one, score=np.random.default_rng(i).random((12, 15)).astype(np.float32)) for i, one in enumerate(maps)
    ]
    tumor = np.random.default_rng(3).permutation(np.arange(24) % 2 == 0)
    by_heart = fit_classifier(maps, tumor, FeatureKind.HISTOGRAM, n_trees=60).predict(maps)
    held_out = cross_validate(maps, tumor, FeatureKind.HISTOGRAM, n_trees=60)
    assert metrics.roc_auc_score(tumor, by_heart) == 1.0
    assert metrics.roc_auc_score(tumor, held_out) < 0.8


def test_held_out_probabilities_are_those_of_fits_on_the_other_folds():
    maps, tumor = cohort(8, hard=True)
    held_out = cross_validate(maps, tumor, FeatureKind.HEATMAP, folds=2, seed=1, n_trees=4)
    features = describe(maps, FeatureKind.HEATMAP, 20)
    # whichever halves of 2 + 2 slides were drawn, each is judged by the trees of the other one
    explained = 0
    for some in combinations(np.flatnonzero(tumor), 2):
        for others in combinations(np.flatnonzero(~tumor), 2):
            half = np.zeros(8, bool)
            half[[*some, *others]] = True
            expected = np.empty(8)
            for fit in (half, ~half):
                forest = grow_forest(features[fit], tumor[fit], FeatureKind.HEATMAP, 1, 4)
                expected[~fit] = forest.predict(features[~fit])
            explained += bool((expected == held_out).all())
    assert 2 <= explained < 36  # a split and its mirror image; not every split would do


def test_figures_are_those_of_scikit_learn():
    rng = np.random.default_rng(5)
    tumor = rng.random(50) < 0.4
    probability = np.round(np.clip(rng.normal(0.35 + 0.3 * tumor, 0.25), 0, 1), 2)
    figures = judge_slides(probability, tumor)
    called = probability >= 0.5
    (true_negative, false_positive), (missed, found) = metrics.confusion_matrix(tumor, called)
    assert figures.auc.value == pytest.approx(metrics.roc_auc_score(tumor, probability), abs=1e-9)
    assert (figures.found, figures.n_tumor) == (found, found + missed)
    assert (figures.false_positives, figures.n_normal) == (false_positive, false_positive + true_negative)
    assert figures.accuracy == metrics.accuracy_score(tumor, called)
    # the interval against a bootstrap that draws slides one by one
    drawn = []
    for _ in range(4000):
        slides = rng.integers(50, size=50)
        high, low = probability[slides][tumor[slides]][:, None], probability[slides][~tumor[slides]]
        drawn.append(((high > low) + 0.5 * (high == low)).mean())
    assert (figures.auc.low, figures.auc.high) == pytest.approx(tuple(np.quantile(drawn, [0.025, 0.975])), abs=0.015)
    assert f"{found} of {found + missed} tumour slides found" in str(figures)


def test_what_cannot_be_fitted_is_refused():
    maps, tumor = cohort(6)
    with pytest.raises(UsageError, match="at least 2"):
        fit_classifier(maps[:3], np.array([True, False, True]), FeatureKind.HEATMAP)
    with pytest.raises(UsageError, match="same slide"):
        fit_classifier([*maps[:5], maps[0]], tumor, FeatureKind.HEATMAP)
    with pytest.raises(InputError, match="different models"):
        fit_classifier([*maps[:5], replace(maps[5], level_sha256=("99",))], tumor, FeatureKind.HEATMAP)


def test_scores_of_other_networks_are_not_judged():
    maps, tumor = cohort(6)
    classifier = fit_classifier(maps, tumor, FeatureKind.HEATMAP, n_trees=3)
    with pytest.raises(InputError, match="other networks"):
        classifier.predict([replace(maps[0], level_sha256=("99", "98"))])
