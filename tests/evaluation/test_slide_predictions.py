"""Figures of predicted slides are scikit-learn's and numpy's; intervals draw patients."""

from __future__ import annotations

from itertools import permutations

import numpy as np
import pytest
from sklearn import metrics

from pyramidai_mpi.base.errors import InputError
from pyramidai_mpi.evaluation.bootstrap import draw_slides
from pyramidai_mpi.evaluation.slide_predictions import judge_predictions
from pyramidai_mpi.truth.slide_table import SlideTruth, read_slide_table

RNG = np.random.default_rng(8)
N = 40


def truths(*columns, patients=None):
    named = [f"p{n}" for n in range(N)] if patients is None else patients
    return [SlideTruth(who, tuple(map(float, row))) for who, row in zip(named, zip(*columns, strict=True), strict=True)]


def figure(found, name):
    (one,) = [each.estimate for each in found.figures if each.name == name]
    return one


@pytest.fixture(scope="module")
def binary():
    label = RNG.integers(0, 2, N)
    positive = np.round(np.clip(0.35 + 0.3 * label + RNG.normal(0, 0.25, N), 0, 1), 1)  # with ties
    return label, np.stack([1 - positive, positive], axis=1)


def test_binary_predictions_have_the_area_of_scikit_learn_and_an_interval_over_slides(binary):
    label, predictions = binary
    found = judge_predictions("binary", ("normal", "tumor"), predictions, truths(label), n_resamples=300, seed=4)
    area = figure(found, "AUC of tumor")
    assert area.value == pytest.approx(metrics.roc_auc_score(label, predictions[:, 1]), abs=1e-12)
    resampled = [
        metrics.roc_auc_score(np.repeat(label, times), np.repeat(predictions[:, 1], times))
        for times in draw_slides(N, 300, 4)
    ]
    np.testing.assert_allclose([area.low, area.high], np.quantile(resampled, [0.025, 0.975]), atol=1e-12)
    right = figure(found, "called right")
    assert right.value == pytest.approx(metrics.accuracy_score(label, predictions[:, 1] >= 0.5))
    assert found.counts == {"normal": int((label == 0).sum()), "tumor": int(label.sum())}


def test_intervals_draw_patients_with_all_their_slides(binary):
    label, predictions = binary
    patients = [f"p{n // 4}" for n in range(N)]
    found = judge_predictions("binary", ("n", "t"), predictions, truths(label, patients=patients), n_resamples=200)
    area = figure(found, "AUC of t")
    assert (found.n_slides, found.n_patients) == (N, 10)
    unit = np.array([list(dict.fromkeys(patients)).index(one) for one in patients])
    resampled = []
    for times in draw_slides(10, 200, 0):
        each = times[unit]
        resampled.append(metrics.roc_auc_score(np.repeat(label, each), np.repeat(predictions[:, 1], each)))
    np.testing.assert_allclose([area.low, area.high], np.quantile(resampled, [0.025, 0.975]), atol=1e-12)
    assert "of 10 patients" in found.lines()[0]


def test_each_of_several_classes_is_judged_against_the_others():
    label = RNG.integers(0, 3, N)
    predictions = RNG.dirichlet([1, 1, 1], N) * 0.6 + 0.4 * np.eye(3)[label] * RNG.random((N, 1))
    predictions /= predictions.sum(axis=1, keepdims=True)
    found = judge_predictions("classes", ("a", "b", "c"), predictions, truths(label), n_resamples=20)
    each = [figure(found, f"AUC of {name} against the others").value for name in "abc"]
    expected = [metrics.roc_auc_score(label == n, predictions[:, n]) for n in range(3)]
    np.testing.assert_allclose(each, expected, atol=1e-12)
    mean = metrics.roc_auc_score(label, predictions, multi_class="ovr")
    assert figure(found, "mean AUC").value == pytest.approx(mean, abs=1e-12)
    assert figure(found, "called right").value == pytest.approx(
        metrics.accuracy_score(label, predictions.argmax(axis=1))
    )


def test_shares_have_the_mean_absolute_error_and_the_correlation():
    share = RNG.random(N)
    predicted = np.clip(share + RNG.normal(0, 0.2, N), 0, 1)
    found = judge_predictions("share", ("tumor",), predicted[:, None], truths(share), n_resamples=100, seed=1)
    error, correlation = figure(found, "mean absolute error"), figure(found, "correlation")
    assert error.value == pytest.approx(metrics.mean_absolute_error(share, predicted))
    assert correlation.value == pytest.approx(np.corrcoef(share, predicted)[0, 1])
    drawn = [
        np.corrcoef(np.repeat(share, times), np.repeat(predicted, times))[0, 1] for times in draw_slides(N, 100, 1)
    ]
    np.testing.assert_allclose([correlation.low, correlation.high], np.quantile(drawn, [0.025, 0.975]), atol=1e-9)
    constant = judge_predictions("share", ("tumor",), np.full((N, 1), 0.4), truths(share), n_resamples=10)
    assert np.isnan(figure(constant, "correlation").value)


def test_survival_is_judged_by_the_pairs_whose_order_is_known():
    time, event = RNG.integers(1, 15, N).astype(float), RNG.integers(0, 2, N)
    risk = np.round(-time / 5 + RNG.normal(0, 1, N), 1)
    right, judged = 0.0, 0
    for i, j in permutations(range(N), 2):
        if event[i] and time[i] < time[j]:
            judged += 1
            right += 1.0 if risk[i] > risk[j] else 0.5 if risk[i] == risk[j] else 0.0
    found = judge_predictions("survival", ("risk",), risk[:, None], truths(time, event), n_resamples=50)
    one = figure(found, "concordance")
    assert one.value == pytest.approx(right / judged, abs=1e-12)
    assert one.low < one.value < one.high
    assert found.counts == {"with event": int(event.sum()), "without": int((1 - event).sum())}


def test_tables_say_labels_shares_and_events_of_the_slides_asked_for(tmp_path):
    table = tmp_path / "t.csv"

    def read(text, task, classes=("normal", "tumor"), slides=("A.tif", "b.svs")):
        table.write_text(text)
        return [(one.patient, one.values) for one in read_slide_table(table, task, classes, slides)]

    assert read("slide,label,more\nb,tumor,1\na.tif,Normal,2\nc,bone,3\n", "binary") == [("a", (0.0,)), ("b", (1.0,))]
    assert read("wsi;label;patient\nb;0;P\na;1;P\n", "binary") == [("P", (1.0,)), ("P", (0.0,))]
    assert read("slide,share\na,0.25\nb,1\n", "share") == [("a", (0.25,)), ("b", (1.0,))]
    assert read("slide,label\na,0.25\nb,1\n", "share") == [("a", (0.25,)), ("b", (1.0,))]
    assert read("slide,time,event\na,3.5,1\nb,7,no\n", "survival") == [("a", (3.5, 1.0)), ("b", (7.0, 0.0))]
    for text, task, words in (
        ("slide,label\na,bone\nb,tumor\n", "binary", "line 2: label is 'bone', expected one of normal, tumor"),
        ("slide,label\na,tumor\n", "binary", r"has no row for slide b\.svs"),
        ("slide,label\na,tumor\nA.tif,tumor\nb,0\n", "binary", "line 3: slide A.tif has a row already"),
        ("slide,time\na,1\nb,2\n", "survival", "has no column event"),
        ("label\ntumor\n", "binary", "has no column slide"),
        ("slide,share\na,1.5\nb,1\n", "share", "expected a number from 0 to 1"),
        ("slide,time,event\na,x,1\nb,7,1\n", "survival", "expected a number from 0 on, and 1 or 0"),
        ("slide,label,patient\na,tumor,\nb,tumor,P\n", "binary", "names no patient"),
    ):
        with pytest.raises(InputError, match=words) as caught:
            read(text, task)
        assert "\n" not in str(caught.value)
