"""Figures of slides against other libraries, and against counting pairs."""

from __future__ import annotations

import math

import numpy as np
import pytest

from pyramidai_mpi.training.slides.metrics import auc, concordance, mean_auc

RNG = np.random.default_rng(7)
SCORES = np.round(RNG.random(60), 1)  # with ties
CLASSES = RNG.integers(0, 3, 60)


def test_areas_are_scikit_learns() -> None:
    metrics = pytest.importorskip("sklearn.metrics")
    positive = CLASSES > 0
    assert auc(SCORES, positive) == pytest.approx(metrics.roc_auc_score(positive, SCORES), abs=1e-12)
    rows = RNG.random((60, 3))
    rows /= rows.sum(1, keepdims=True)
    expected = metrics.roc_auc_score(CLASSES, rows, multi_class="ovr", average="macro")
    assert mean_auc(rows, CLASSES) == pytest.approx(expected, abs=1e-12)


def test_concordance_is_the_share_of_pairs_in_the_right_order() -> None:
    time, event = np.round(RNG.random(60) * 20), RNG.random(60) < 0.6
    won, pairs = 0.0, 0
    for i in range(60):
        for j in range(60):
            if event[i] and time[i] < time[j]:
                pairs += 1
                won += 1.0 if SCORES[i] > SCORES[j] else 0.5 if SCORES[i] == SCORES[j] else 0.0
    assert concordance(SCORES, time, event) == pytest.approx(won / pairs, abs=1e-12)
    assert concordance(-time, time, event) == 1.0


def test_what_cannot_be_judged_is_no_number() -> None:
    assert math.isnan(auc(SCORES, np.ones(60, bool)))
    assert math.isnan(mean_auc(SCORES[:, None], np.zeros(60, int)))
    assert math.isnan(concordance(SCORES, np.ones(60), np.ones(60, bool)))
