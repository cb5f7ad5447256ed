"""`pyramidai classify` from result files to probabilities of new slides."""

from __future__ import annotations

import csv
from typing import TYPE_CHECKING

import numpy as np
import pytest
from sklearn import metrics

from pyramidai_mpi.base.types import Mode
from pyramidai_mpi.cli.main import run_command_line
from tests.scored import write_slides
from tests.truth.files import SQUARE, feature, geojson

if TYPE_CHECKING:
    from pathlib import Path


@pytest.fixture
def call(capfd):
    def run(*words: object) -> tuple[int, str, str]:
        code = run_command_line(["classify", *[str(word) for word in words]])
        out, err = capfd.readouterr()
        return int(code), out, err

    return run


@pytest.fixture(scope="module")
def folder(tmp_path_factory) -> Path:
    """Results of 6 tumour and 6 normal slides, their labels, and pyramidal ones of 3 and 3 others."""
    folder = tmp_path_factory.mktemp("slides")
    write_slides(folder / "known", 6)
    write_slides(folder / "new", 3, Mode.PYRAMID, first=20)
    names = [path.stem for path in (*(folder / "known").iterdir(), *(folder / "new").iterdir())]
    (folder / "labels.csv").write_text(
        "slide,label\n" + "".join(f"{name}.tif,{name.split('_')[0]}\n" for name in names)
    )
    return folder


def rows(path: Path) -> dict[str, dict[str, str]]:
    with path.open() as file:
        return {row["slide"]: row for row in csv.DictReader(file)}


@pytest.mark.parametrize("features", ["histogram", "heatmap"])
def test_a_classifier_fitted_on_some_slides_tells_others_apart(call, folder, tmp_path, features):
    model, known, new = tmp_path / "m.skops", sorted((folder / "known").iterdir()), sorted((folder / "new").iterdir())
    labels = ["--labels", folder / "labels.csv"]
    # a histogram is that of the mode: fitted on what it will be asked of
    fit = ["fit", *known, *labels, "--features", features, "-o", model, "--trees", 40, "--pyramid"]
    code, out, err = call(*fit, "--csv", tmp_path / "cv.csv")
    assert (code, err) == (0, "")
    assert "6 tumour and 6 normal slides" in out
    assert "tiles of: pyramid, thresholds 0=0.5, 1=0.4, 2=0.3" in out
    held_out = rows(tmp_path / "cv.csv")
    assert len(held_out) == 12
    probability = np.array([float(row["probability"]) for row in held_out.values()])
    tumor = np.array([row["tumor"] == "true" for row in held_out.values()])
    assert [name.startswith("tumor") for name in held_out] == tumor.tolist()
    area = metrics.roc_auc_score(tumor, probability)
    assert area > 0.9
    assert f"cross-validated: AUC {area:.4g} [" in out
    assert f"{(probability[tumor] >= 0.5).sum()} of 6 tumour slides found" in out

    code, out, err = call("predict", model, *new, "--csv", tmp_path / "new.csv", *labels)
    assert (code, err) == (0, "")
    called = dict(reversed(line.split("  ")[1:]) for line in out.splitlines()[:6])
    assert called == {name: "tumour" if "tumor" in name else "normal" for name in rows(tmp_path / "new.csv")}
    assert "AUC 1 [1, 1]; 3 of 3 tumour slides found, 0 of 3 normal slides called tumour" in out


def test_annotations_say_as_well_which_slides_hold_tumour(call, folder, tmp_path):
    truth, new = tmp_path / "truth", sorted((folder / "new").iterdir())
    truth.mkdir()
    for path in new:
        if "tumor" in path.stem:
            geojson(truth / f"{path.stem}.geojson", feature([SQUARE]))
    (truth / "negative.txt").write_text("".join(f"{path.stem}\n" for path in new if "normal" in path.stem))
    code, out, _ = call("fit", *new, "--truth", truth, "-o", tmp_path / "m.skops", "--trees", 5)
    assert code == 0
    assert "3 tumour and 3 normal slides" in out


def test_slides_of_another_kind_of_run_are_judged_and_it_is_said(call, folder, tmp_path):
    model, new = tmp_path / "m.skops", sorted((folder / "new").iterdir())
    known = (folder / "known").iterdir()
    assert call("fit", *known, "--labels", folder / "labels.csv", "-o", model, "--trees", 5)[0] == 0
    code, out, err = call("predict", model, *new)
    assert code == 0
    assert len(out.splitlines()) == 6
    assert "fitted on tiles of: exhaustive" in err


@pytest.mark.parametrize(
    ("words", "code", "part"),
    [
        (["fit", "KNOWN", "-o", "m.skops"], 64, "--labels or --truth"),
        (["fit", "KNOWN", "-o", "m.skops", "--labels", "L", "--truth", "."], 64, "--labels or --truth"),
        (["fit", "KNOWN", "-o", "m.skops", "--labels", "other.csv"], 65, "does not name slide"),
        (["fit", "KNOWN", "-o", "m.skops", "--labels", "missing.csv"], 65, "missing.csv"),
        (["fit", "KNOWN", "-o", "old.skops", "--labels", "L"], 73, "--overwrite"),
        (["fit", "missing.h5", "-o", "m.skops", "--labels", "L"], 65, "missing.h5"),
        (["fit", "KNOWN", "-o", "m.skops", "--labels", "L", "--threshold", "half"], 64, "half"),
        (["fit", "KNOWN", "-o", "no/folder/m.skops", "--labels", "L"], 74, "no/folder"),
        (["fit", "-o", "m.skops", "--labels", "L"], 64, "RESULT.h5"),
        (["predict", "old.skops", "NEW"], 65, "old.skops"),
        (["predict", "missing.skops", "NEW"], 65, "missing.skops"),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, list) else "",
)
def test_what_cannot_be_done_is_one_line(call, folder, tmp_path, monkeypatch, words, code, part):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "other.csv").write_text("a,tumor\nb,normal\n")
    (tmp_path / "old.skops").write_bytes(b"not a classifier")
    placeholders = {
        "KNOWN": sorted((folder / "known").iterdir()),
        "NEW": sorted((folder / "new").iterdir()),
        "L": [folder / "labels.csv"],
    }
    found, out, err = call(*[one for word in words for one in placeholders.get(word, [word])])
    assert (found, out) == (code, "")
    assert err.startswith("pyramidai: error: ")
    assert err.count("\n") == 1
    assert part in err
    assert sorted(one.name for one in tmp_path.iterdir()) == ["old.skops", "other.csv"]
    assert (tmp_path / "old.skops").read_bytes() == b"not a classifier"


def test_help_names_both_commands(call):
    code, out, _ = call("--help")
    assert code == 0
    assert "fit" in out
    assert "predict" in out
