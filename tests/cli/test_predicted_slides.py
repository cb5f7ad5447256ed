"""`pyramidai evaluate --labels` and `pyramidai classify predict` of results that hold their slides' predictions."""

from __future__ import annotations

import csv
import json
from dataclasses import replace
from typing import TYPE_CHECKING

import h5py
import numpy as np
import pytest
from sklearn import metrics

from pyramidai_mpi.base.types import Mode
from pyramidai_mpi.cli.main import run_command_line
from pyramidai_mpi.store.results.prediction import PredictionRecord, SlidePrediction
from tests.results import result_of, write_file

if TYPE_CHECKING:
    from pathlib import Path

CLASSES = {"binary": ("normal", "tumor"), "share": ("share",), "survival": ("risk",), "classes": ("a", "b", "c")}


def predicted_file(path: Path, name: str, prediction, task="binary", sha256="ab" * 32) -> Path:
    """A result of one level, whose tiles have even attention, with a given prediction."""
    whole = result_of(np.ones((8, 8), bool), mode=Mode.REFERENCE)
    tree = replace(whole.tree, levels={0: whole.tree.levels[0]})
    readable = tree.levels[0].decision != 2
    n_logits = len(prediction) if task == "classes" else 1
    attention = np.where(readable[:, None], np.float32(1 / readable.sum()), np.float32(np.nan))
    contribution = np.where(readable[:, None], np.ones((1, n_logits), np.float32), np.float32(np.nan))
    record = PredictionRecord(
        task,
        "abmil",
        sha256,
        CLASSES[task],
        int(readable.sum()),
        np.asarray(prediction, np.float32),
        np.full(n_logits, float(readable.sum())),
        np.zeros(n_logits, np.float32),
        1,
    )
    made = replace(
        whole,
        slide=replace(whole.slide, name=name),
        model=replace(whole.model, level_sha256=whole.model.level_sha256[:1]),
        levels=whole.levels[:1],
        tree=tree,
        l0_coords=whole.l0_coords[:1],
        failed=whole.failed[whole.failed["level"] == 0],
        prediction=SlidePrediction(record, attention, contribution),
    )
    return write_file(path, made)


@pytest.fixture
def call(capfd):
    def run(*words: object) -> tuple[int, str, str]:
        code = run_command_line([str(word) for word in words])
        out, err = capfd.readouterr()
        return int(code), out, err

    return run


@pytest.fixture(scope="module")
def folder(tmp_path_factory) -> Path:
    """Eight slides of each task, and tables of what is true of them."""
    folder = tmp_path_factory.mktemp("predicted")
    rng = np.random.default_rng(2)
    positive, label = np.round(rng.random(8), 3), np.array([0, 1, 1, 0, 1, 0, 0, 1])
    share, time, event = rng.random(8), rng.random(8) * 10, np.array([1, 0, 1, 1, 0, 1, 1, 0])
    for n in range(8):
        predicted_file(folder / f"binary{n}.h5", f"s{n}.tif", [1 - positive[n], positive[n]])
        predicted_file(folder / f"share{n}.h5", f"s{n}.tif", [positive[n]], "share")
        predicted_file(folder / f"survival{n}.h5", f"s{n}.tif", [3 * positive[n]], "survival")
    lines = ["slide,label,share,time,event"]
    lines += [f"s{n},{CLASSES['binary'][label[n]]},{share[n]:.6f},{time[n]:.6f},{event[n]}" for n in reversed(range(8))]
    (folder / "labels.csv").write_text("\n".join(lines) + "\n")
    np.savez(folder / "known.npz", positive=positive, label=label, share=np.round(share, 6), time=time, event=event)
    return folder


def test_evaluate_tells_what_scikit_learn_finds(call, folder, tmp_path):
    known = np.load(folder / "known.npz")
    results = sorted(folder.glob("binary*.h5"))
    labels = ["--labels", folder / "labels.csv", "--resamples", 100]
    code, out, err = call("evaluate", *results, *labels, "--json", tmp_path / "e.json", "--csv", tmp_path / "e.csv")
    assert (code, err) == (0, "")
    record = json.loads((tmp_path / "e.json").read_text())
    area = record["figures"]["AUC of tumor"]
    positive = known["positive"].astype(np.float32)
    assert area["value"] == pytest.approx(metrics.roc_auc_score(known["label"], positive))
    assert area["low"] <= area["value"] <= area["high"]
    assert f"AUC of tumor  {area['value']:.4g} [{area['low']:.4g}, {area['high']:.4g}]" in out
    assert "8 slides: 4 normal, 4 tumor" in out
    with (tmp_path / "e.csv").open() as file:
        rows = list(csv.DictReader(file))
    assert [row["label"] for row in rows] == [CLASSES["binary"][n] for n in known["label"]]
    assert [np.float32(row["prediction_tumor"]) for row in rows] == positive.tolist()
    assert record["per_slide"][3]["truth"] == rows[3]["label"]

    code, out, _ = call("evaluate", *sorted(folder.glob("share*.h5")), *labels)
    assert code == 0
    error = metrics.mean_absolute_error(known["share"], positive.astype(float))
    assert f"mean absolute error  {error:.4g} [" in out
    assert f"correlation          {np.corrcoef(known['share'], positive.astype(float))[0, 1]:.4g} [" in out
    code, out, _ = call("evaluate", *sorted(folder.glob("survival*.h5")), *labels, "--csv", tmp_path / "s.csv")
    assert code == 0
    assert "concordance" in out
    assert (tmp_path / "s.csv").read_text().startswith("slide,prediction_risk,patient,time,event\n")


def test_classify_reports_predictions_without_a_classifier(call, folder, tmp_path):
    results = sorted(folder.glob("binary*.h5"))
    code, out, err = call("classify", "predict", *results, "--csv", tmp_path / "c.csv")
    assert (code, err) == (0, "")
    positive = np.load(folder / "known.npz")["positive"]
    assert out.splitlines() == [f"tumor {np.float32(p):.4g}  s{n}.tif" for n, p in enumerate(positive)]
    with (tmp_path / "c.csv").open() as file:
        assert [float(row["prediction_tumor"]) for row in csv.DictReader(file)] == pytest.approx(positive, rel=1e-6)
    code, out, _ = call("classify", "predict", *results, "--labels", folder / "labels.csv")
    assert code == 0
    assert "AUC of tumor" in out


def test_what_cannot_be_judged_is_one_line(call, folder, tmp_path):
    labels = ["--labels", folder / "labels.csv"]
    tiles = write_file(tmp_path / "tiles.h5", result_of())
    other = predicted_file(tmp_path / "other.h5", "s9.tif", [0.5, 0.5], sha256="cd" * 32)
    one = folder / "binary0.h5"
    for words, code, said in (
        ([one, *labels, "--truth", folder], 64, "--truth, of tiles, or --labels"),
        ([one], 64, "give --truth, of tiles, or --labels"),
        ([one, *labels, "--threshold", "0=0.5"], 64, "--threshold: is of tiles"),
        ([one, *labels, "--plots", tmp_path], 64, "--plots: is of tiles"),
        ([tiles, *labels], 65, "predicts tiles alone"),
        ([one, other, *labels], 65, "predicted by another aggregator"),
        ([one, one, *labels], 65, "is there already"),
    ):
        found, _, err = call("evaluate", *words)
        assert (found, len(err.splitlines())) == (code, 1), err
        assert said in err
    assert call("classify", "predict", tiles)[0] == 65
    assert call("classify", "predict", one, "--pyramid")[0] == 64
    assert call("classify", "predict", tmp_path / "m.skops")[0] == 64


def test_a_slide_without_prediction_is_named_and_left_out(call, folder, tmp_path):
    source = folder / "binary0.h5"
    with h5py.File(source) as file:
        n_tiles = len(file["levels/0/index"])
    assert n_tiles > 0
    whole = result_of(np.zeros((8, 8), bool), mode=Mode.REFERENCE)
    nothing = np.full(2, np.nan, np.float32)
    record = PredictionRecord(
        "binary", "abmil", "ab" * 32, CLASSES["binary"], 0, nothing, np.full(1, np.nan), np.zeros(1, np.float32), 1
    )
    empty = replace(
        whole,
        slide=replace(whole.slide, name="empty.tif"),
        levels=whole.levels[:1],
        tree=replace(whole.tree, levels={0: whole.tree.levels[0]}),
        l0_coords=whole.l0_coords[:1],
        prediction=SlidePrediction(record, np.empty((0, 1), np.float32), np.empty((0, 1), np.float32)),
    )
    path = write_file(tmp_path / "empty.h5", empty)
    results = sorted(folder.glob("binary*.h5"))
    code, out, err = call("evaluate", path, *results, "--labels", folder / "labels.csv", "--resamples", 10)
    assert code == 0
    assert "empty.tif: no prediction" in err
    assert "8 slides" in out
    assert call("evaluate", path, "--labels", folder / "labels.csv")[0] == 65
