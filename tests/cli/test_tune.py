"""``pyramidai tune`` from result files to a package and figures, and what it says when it cannot."""

from __future__ import annotations

import re
from dataclasses import replace
from datetime import date

import numpy as np
import pytest
import yaml

from pyramidai_mpi.base.errors import ExitCode
from pyramidai_mpi.base.types import Mode
from pyramidai_mpi.cli.main import run_command_line
from pyramidai_mpi.models.package import load_package
from pyramidai_mpi.store.results.result import SlideRecord
from pyramidai_mpi.truth.labels import label_result
from tests.dense import dense_result, uniform
from tests.packages import write_package
from tests.results import result_of, write_file
from tests.tuning.files import make_clinic, write_case


@pytest.fixture(scope="module")
def clinic(tmp_path_factory):
    return make_clinic(tmp_path_factory.mktemp("clinic"))


def tune(clinic, *arguments) -> int:
    return run_command_line(["tune", *map(str, clinic.results), "--truth", str(clinic.truth), *map(str, arguments)])


def replayed(clinic, thresholds):
    """Mean retention and all tiles of these thresholds, from the files alone."""
    costs = [label_result(path, clinic.truth).cost_of(thresholds) for path in clinic.results]
    return np.mean([cost.retention for cost in costs if cost.true_positives]), sum(cost.n_analysed for cost in costs)


@pytest.mark.parametrize("form", ["folder", "model.yaml"])
def test_the_package_written_keeps_the_objective_and_says_how(clinic, tmp_path, capsys, form) -> None:
    folder = tmp_path / "tuned"
    output = folder if form == "folder" else folder / "model.yaml"
    assert tune(clinic, "--model", clinic.model, "--objective", "0.9", "-o", output) == ExitCode.OK
    package = load_package(folder)
    thresholds = package.thresholds({})
    retention, tiles = replayed(clinic, thresholds)
    assert thresholds[0] == 0.5
    assert retention >= 0.9
    assert [level.sha256 for level in package.levels] == [level.sha256 for level in load_package(clinic.model).levels]
    block = yaml.safe_load((folder / "model.yaml").read_text())["tuning"]
    assert (block["strategy"], block["objective"], block["positive_from_tumor_share"]) == ("optimal", 0.9, 0.5)
    assert block["training_retention"] == pytest.approx(retention, abs=1e-6)
    assert [slide["quickhash"] for slide in block["slides"]] == [f"{k:02d}" * 32 for k in range(4)]
    said = capsys.readouterr().out
    assert "1 of them have no true positive tile: they count for the speedup, not for the retention" in said
    assert f"pooled {replayed(clinic, (0.5, 0, 0))[1] * 16 / 21 / tiles:.2f}" in said


def info_line(folder, capsys) -> str:
    """What ``info`` says of the tuning of a package; empty for nothing."""
    capsys.readouterr()
    assert run_command_line(["info", str(folder)]) == ExitCode.OK
    return "".join(line for line in capsys.readouterr().out.splitlines() if line.startswith("tuning "))


def test_info_says_how_a_package_was_tuned(clinic, tmp_path, capsys) -> None:
    assert info_line(clinic.model, capsys) == ""
    assert tune(clinic, "--model", clinic.model, "--objective", "0.9", "-o", tmp_path / "tuned") == ExitCode.OK
    retention, _ = replayed(clinic, load_package(tmp_path / "tuned").thresholds({}))
    line = info_line(tmp_path / "tuned", capsys)
    assert line.startswith("tuning     optimal; mean retention of at least 0.9 wanted; chosen on 4 slides; ")
    assert f"retention there {retention:.4g}, speedup in tiles " in line
    assert tune(clinic, "--model", clinic.model, "--guarantee", "0.5", "-o", tmp_path / "safe") == ExitCode.OK
    line = info_line(tmp_path / "safe", capsys)
    promise = "at most 0.5 of a new slide's positive tiles missed in expectation, calibrated on 2 slides"
    assert line.startswith(f"tuning     guarantee; {promise}; chosen on 4 slides; ")


@pytest.mark.parametrize(
    ("block", "said"),
    [
        ({"by": "hand"}, "by a method that it does not name"),
        ({"strategy": 3, "objective": "high", "slides": "many", "guaranteed_miss_rate": True}, "3"),
        ({"strategy": "mine", "slides": ["one"], "created": date(2026, 11, 29)}, "mine; chosen on 1 slide; 2026-11-29"),
    ],
)
def test_info_takes_from_a_block_written_by_hand_what_it_understands(tmp_path, capsys, block, said) -> None:
    folder = write_package(tmp_path / "model", yaml_changes={"tuning": block})
    assert info_line(folder, capsys) == f"tuning     {said}"


def test_from_below_the_best_f_beta_is_that_of_labels_from_below(clinic, tmp_path) -> None:
    arguments = ("--from-below", "--strategy", "empirical", "--objective", "0.5", "--model", clinic.model)
    assert tune(clinic, *arguments, "-o", tmp_path / "tuned") == ExitCode.OK
    trees = [label_result(path, clinic.truth).labelled_from_below() for path in clinic.results]

    def best(level: int, beta: int) -> float:
        score = np.concatenate([tree.levels[level].score for tree in trees]).astype(float)
        positive = np.concatenate([tree.levels[level].positive for tree in trees])
        values = {}
        for threshold in np.unique(score[np.isfinite(score)]):
            hit = score >= threshold
            found, missed, false = (hit & positive).sum(), (~hit & positive).sum(), (hit & ~positive).sum()
            values[threshold] = (1 + beta**2) * found / ((1 + beta**2) * found + beta**2 * missed + false)
        return min(t for t, value in values.items() if value == max(values.values()))

    for beta in range(1, 15):
        wanted = (0.5, best(1, beta), best(2, beta))
        if replayed(clinic, wanted)[0] >= 0.5:
            break
    assert load_package(tmp_path / "tuned").thresholds({}) == pytest.approx(wanted, abs=1e-6)
    assert yaml.safe_load((tmp_path / "tuned" / "model.yaml").read_text())["tuning"]["positive_where_any_descendant_is"]


def test_a_package_in_place_is_tuned_on_request_only(clinic, tmp_path, capsys) -> None:
    assert tune(clinic, "--model", clinic.model, "-o", tmp_path / "tuned") == ExitCode.OK
    again = ("--model", clinic.model, "--strategy", "empirical", "--objective", "0.5", "-o", tmp_path / "tuned")
    assert tune(clinic, *again) == ExitCode.OUTPUT_EXISTS
    before = (tmp_path / "tuned" / "level1.onnx").stat().st_mtime_ns
    assert tune(clinic, *again, "--overwrite") == ExitCode.OK
    assert yaml.safe_load((tmp_path / "tuned" / "model.yaml").read_text())["tuning"]["strategy"] == "empirical"
    assert (tmp_path / "tuned" / "level1.onnx").stat().st_mtime_ns == before


def test_every_strategy_stands_in_the_table_with_its_test_figures(clinic, capsys) -> None:
    train = replace(clinic, results=clinic.results[:2])
    assert tune(train, "--test", clinic.results[2], "--test", clinic.results[3], "--objective", "0.8") == ExitCode.OK
    said = capsys.readouterr().out
    rows = {name: re.search(rf"^  {name} .*\|.*\|.*$", said, re.MULTILINE) for name in ("optimal", "no pruning")}
    assert all(rows.values()), said
    kept = label_result(clinic.results[2], clinic.truth)
    thresholds = [float(t) for t in re.search(r"level 1: (\S+), level 2: (\S+) ", said).groups()]
    retention = kept.cost_of((0.5, *thresholds)).retention
    assert f"test slides: retention {retention:.4f}" in said
    assert re.search(r"no pruning +- +pass +pass \| +1\.0000 +0\.76 +0\.76 \| +1\.0000 +0\.76 +0\.76", said)


def test_a_guarantee_says_what_it_promises_and_on_which_slides(clinic, tmp_path, capsys) -> None:
    output = tmp_path / "safe"
    assert tune(clinic, "--guarantee", "0.5", "--model", clinic.model, "-o", output) == ExitCode.OK
    said = capsys.readouterr().out
    assert "expected miss rate at most 0.5 on a new slide with tumour (slides without do not count)" in said
    block = yaml.safe_load((output / "model.yaml").read_text())["tuning"]
    assert block["guaranteed_miss_rate"] == 0.5
    assert "objective" not in block
    assert len(block["calibration_slides"]) == 2
    assert tune(clinic, "--guarantee", "0.5", "--count-negative-slides") == ExitCode.OK
    assert "slides without count, with nothing to miss" in capsys.readouterr().out


def test_too_few_slides_promise_nothing(clinic, capsys) -> None:
    assert tune(clinic, "--guarantee", "0.1") == ExitCode.BAD_INPUT
    assert "takes at least 9 calibration slides" in capsys.readouterr().err


def test_figures_are_written_as_png_and_svg(clinic, tmp_path) -> None:
    assert tune(clinic, "--test", clinic.results[0], "--plots", tmp_path) == ExitCode.BAD_INPUT  # a training slide
    train = replace(clinic, results=clinic.results[1:])
    assert tune(train, "--test", clinic.results[0], "--plots", tmp_path) == ExitCode.OK
    for stem in ("betas", "objectives", "tradeoff"):
        assert (tmp_path / f"{stem}.png").read_bytes().startswith(b"\x89PNG")
        assert "<svg" in (tmp_path / f"{stem}.svg").read_text()[:600]
    assert tune(train, "--plots", tmp_path) == ExitCode.OUTPUT_EXISTS


@pytest.mark.parametrize(
    ("arguments", "code", "message"),
    [
        (["--objective", "0"], ExitCode.USAGE, "'--objective': 0"),
        (["--objective", "1.5"], ExitCode.USAGE, "'--objective': 1.5"),
        (["--min-share", "0"], ExitCode.USAGE, "'--min-share': 0"),
        (["--guarantee", "1"], ExitCode.USAGE, "'--guarantee': 1"),
        (["--guarantee", "0.5", "--strategy", "optimal"], ExitCode.USAGE, "leave --strategy away"),
        (["--plots", "nowhere"], ExitCode.IO, "no such folder"),
        (["-o", "thresholds.yaml"], ExitCode.USAGE, "called model.yaml"),
        (["-o", "nowhere/tuned"], ExitCode.IO, "nowhere: no such folder"),
        (["--model", "nowhere", "-o", "tuned"], ExitCode.BAD_INPUT, "nowhere"),
        (["-o", "tuned"], ExitCode.BAD_INPUT, "other networks than those that made the results"),
        (["--objective", "0.9999", "--strategy", "metric-based"], ExitCode.BAD_INPUT, "no beta from 1 to 14"),
    ],
)
def test_what_cannot_be_is_one_line(clinic, tmp_path, monkeypatch, capsys, arguments, code, message) -> None:
    monkeypatch.chdir(tmp_path)
    assert tune(clinic, *arguments) == code
    said = capsys.readouterr().err
    assert message in said
    assert said.count("\n") == 1
    assert not list(tmp_path.iterdir())


def of_slide(name: str, quickhash: str = "ff" * 32) -> SlideRecord:
    return SlideRecord(name, quickhash, "generic-tiff", (1280, 1280), 0.25, (0, 0))


@pytest.mark.parametrize(
    ("case", "message"),
    [
        ("networks", "made with other networks"),
        ("threshold", r"threshold 0\.4 at level 0"),
        ("twice", "is there twice"),
        ("mode", "run the slide with --mode exhaustive"),
        ("truth", "no truth for slide 'other'"),
    ],
)
def test_results_that_do_not_go_together_are_refused(clinic, tmp_path, capsys, case, message) -> None:
    plain = result_of(np.ones((40, 40), bool), mode=Mode.EXHAUSTIVE)
    known = {"slide": of_slide("case0.tif")}
    changes = {
        "networks": known | {"model": replace(plain.model, level_sha256=("00" * 32,) * 3)},
        "threshold": known | {"levels": (replace(plain.levels[0], threshold=0.4), *plain.levels[1:])},
        "twice": {},
        "mode": known | {"mode": Mode.PYRAMID},
        "truth": {"slide": of_slide("other.tif")},
    }[case]
    odd = write_case(tmp_path / "odd.h5", clinic.model, 0, 500, **changes)
    assert tune(replace(clinic, results=[*clinic.results, odd])) == ExitCode.BAD_INPUT
    assert re.search(message, capsys.readouterr().err)


def test_results_of_strides_have_other_levels_than_the_model(clinic, tmp_path, capsys) -> None:
    strided = write_file(tmp_path / "strided.h5", dense_result(uniform(16, Mode.EXHAUSTIVE)))
    assert tune(replace(clinic, results=[*clinic.results, strided])) == ExitCode.BAD_INPUT
    assert "strided.h5: is of a run with --stride" in capsys.readouterr().err


def test_a_folder_of_results_is_all_of_them(clinic, capsys) -> None:
    assert tune(replace(clinic, results=[clinic.results[0].parent])) == ExitCode.OK
    assert "training: 4 slides" in capsys.readouterr().out
    assert tune(replace(clinic, results=[clinic.truth])) == ExitCode.BAD_INPUT
