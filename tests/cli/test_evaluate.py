"""`pyramidai evaluate` from result files and outlines to tables, JSON, CSV and pictures."""

from __future__ import annotations

import csv
import json
import re
from typing import TYPE_CHECKING

import numpy as np
import pytest
from PIL import Image
from sklearn import metrics

from pyramidai_mpi.base.types import Mode
from pyramidai_mpi.cli.main import run_command_line
from tests.results import write_file
from tests.scored import Scores, scored_result
from tests.truth.files import geojson

if TYPE_CHECKING:
    from pathlib import Path

SLIDES = [Scores(1, True), Scores(5, True), Scores(2, True), Scores(1, False), Scores(2, False)]


@pytest.fixture
def call(capfd):
    def run(*words: object) -> tuple[int, str, str]:
        code = run_command_line(["evaluate", *[str(word) for word in words]])
        out, err = capfd.readouterr()
        return int(code), out, err

    return run


@pytest.fixture(scope="module")
def folder(tmp_path_factory) -> Path:
    """Exhaustive results and truth of three slides with tumour and two without."""
    folder = tmp_path_factory.mktemp("slides")
    (folder / "truth").mkdir()
    for scores in SLIDES:
        result = scored_result(scores, mpp=1.0, level_s=(6.0, 2.0, 1.0))
        stem = result.slide.name.removesuffix(".tif")
        write_file(folder / f"{stem}.h5", result)
        if scores.has_tumor:
            geojson(folder / "truth" / f"{stem}.geojson", *scores.outlines())
    (folder / "truth" / "negative.txt").write_text("normal_001.tif\nnormal_002\n")
    return folder


@pytest.fixture
def arguments(folder) -> list[object]:
    return [*sorted(folder.glob("*.h5")), "--truth", folder / "truth", "--resamples", 50]


def test_the_figures_are_those_computed_here(call, folder, arguments, tmp_path):
    code, out, err = call(*arguments, "--json", tmp_path / "e.json", "--csv", tmp_path / "e.csv")
    assert (code, err) == (0, "")
    record = json.loads((tmp_path / "e.json").read_text())
    slides = record["slides"]
    assert [one["slide"] for one in slides] == [f"{p.stem}.tif" for p in sorted(folder.glob("*.h5"))]

    # tile ROC of level 0 from the score function itself; every reference tile of these slides lies off the glass corner
    level0 = {scores: scored_result(scores).tree.levels[0] for scores in SLIDES}
    score = np.concatenate([level.probability[:, 1] for level in level0.values()])
    positive = np.concatenate([[s.in_tumor(0, *map(int, tile)) for tile in level.index] for s, level in level0.items()])
    assert record["tile_roc"][0]["auc"]["value"] == pytest.approx(metrics.roc_auc_score(positive, score), abs=1e-9)
    assert (record["tile_roc"][0]["tumor_tiles"], record["tile_roc"][0]["other_tiles"]) == (
        positive.sum(),
        (~positive).sum(),
    )

    with_tumor = [one for one in slides if one["retention"] is not None]
    assert len(with_tumor) == 3
    retention = record["retention"]
    assert retention["mean_of_ratios"]["value"] == pytest.approx(
        np.mean([one["kept"] / one["true_positives"] for one in with_tumor])
    )
    assert retention["ratio_of_means"]["value"] == pytest.approx(
        sum(one["kept"] for one in with_tumor) / sum(one["true_positives"] for one in with_tumor)
    )
    assert retention["mean_of_ratios"]["slides"] == 3
    speedup = record["speedup_tiles"]
    assert speedup["mean_of_ratios"]["value"] == pytest.approx(
        np.mean([one["reference_tiles"] / one["tiles"] for one in slides])
    )
    assert speedup["ratio_of_means"]["value"] == pytest.approx(
        sum(one["reference_tiles"] for one in slides) / sum(one["tiles"] for one in slides)
    )
    seconds = record["speedup_seconds"]
    assert seconds["slides_estimated"] == 5
    assert seconds["ratio_of_means"]["value"] == pytest.approx(
        sum(one["reference_seconds"] for one in slides) / sum(one["seconds"] for one in slides)
    )
    # the scores of tumour and the rest do not overlap at level 0, so every lesion is found before any false place
    assert record["froc"]["reference"]["score"]["value"] == 1.0
    assert record["froc"]["reference"]["lesions"] == 3

    rows = list(csv.DictReader((tmp_path / "e.csv").open()))
    assert [(row["slide"], int(row["tiles"])) for row in rows] == [(one["slide"], one["tiles"]) for one in slides]

    assert "5 slides, 3 with tumour; thresholds 0=0.5 1=0.4 2=0.3" in out
    assert record["detections"] == {"threshold": None, "radius_um": 200.0}
    for name in ("normal_001.tif", "normal_002.tif"):
        assert f"{name}: no tumour tile: not in retention" in out
    for line in ("mean of ratios", "ratio of means", "speedup in seconds (5 estimated)", "tile ROC", "lesion FROC"):
        assert line in out
    assert f"{retention['mean_of_ratios']['value']:.4g} [" in out


def test_equal_seeds_give_equal_files_and_pictures(call, arguments, tmp_path):
    for name in ("a", "b"):
        (tmp_path / name).mkdir()
        words = ["--json", tmp_path / name / "e.json", "--plots", tmp_path / name, "--seed", 3]
        assert call(*arguments, *words)[0] == 0
    names = sorted(path.name for path in (tmp_path / "a").iterdir())
    assert names == ["e.json", "froc.png", "froc.svg", "gain.png", "gain.svg", "roc.png", "roc.svg"]
    for name in names:
        assert (tmp_path / "a" / name).read_bytes() == (tmp_path / "b" / name).read_bytes()
    with Image.open(tmp_path / "a" / "froc.png") as picture:
        assert picture.width > 500
        assert len(np.unique(np.asarray(picture.convert("RGB")).reshape(-1, 3), axis=0)) > 10  # not an empty frame
    assert call(*arguments, "--plots", tmp_path / "a")[0] == 73
    assert call(*arguments, "--plots", tmp_path / "a", "--overwrite")[0] == 0


def test_without_any_tumour_it_is_said_that_there_is_nothing_to_find(call, folder):
    code, out, _ = call(*sorted(folder.glob("normal*.h5")), "--truth", folder / "truth", "--resamples", 20)
    assert code == 0
    assert "2 slides, 0 with tumour" in out
    assert "no FROC" in out
    assert re.search(r"positive retention +- +- +0\n", out)


def test_why_seconds_are_missing_is_said_once_for_all_slides_alike(call, folder, tmp_path):
    for scores in SLIDES:
        result = scored_result(scores, mpp=1.0)  # as of a resumed run: without times
        write_file(tmp_path / result.slide.name.replace(".tif", ".h5"), result)
    words = ["--truth", folder / "truth", "--resamples", 20]
    _, out, _ = call(*sorted(tmp_path.glob("*.h5")), *words, "--json", tmp_path / "e.json")
    assert out.count("not in speedup in seconds") == 1
    assert "all slides: the exhaustive result holds no times, as after --resume: not in speedup in seconds" in out
    (reason,) = {one["seconds_unknown"] for one in json.loads((tmp_path / "e.json").read_text())["slides"]}
    assert "no times" in reason
    timed = sorted(folder.glob("*.h5"))[:1]
    _, out, _ = call(*timed, *sorted(tmp_path.glob("*.h5"))[1:], *words)
    assert re.search(
        r"^normal_002.tif, tumor_001.tif, tumor_002.tif and 1 more: the exhaustive result holds", out, re.M
    )
    assert "not in speedup in seconds" not in call(*sorted(folder.glob("*.h5")), *words)[1]


def test_a_pyramidal_result_alone_tells_what_it_can(call, folder, tmp_path):
    path = write_file(tmp_path / "p.h5", scored_result(SLIDES[0], Mode.PYRAMID, mpp=1.0))
    code, out, _ = call(path, "--truth", folder / "truth")
    assert code == 0
    assert "tumor_001.tif: no reference or exhaustive result: not in retention" in out
    assert "(analysed tiles only)" in out


def test_other_thresholds_change_the_pyramid_and_not_the_reference(call, arguments, tmp_path):
    records = []
    for words in ([], ["--threshold", "2=0.9"], ["--threshold", "2=0", "--threshold", "1=0"]):
        target = tmp_path / f"{len(records)}.json"
        assert call(*arguments, "--json", target, *words)[0] == 0
        records.append(json.loads(target.read_text()))
    own, strict, free = ([one["tiles"] for one in record["slides"]] for record in records)
    assert all(a >= b for a, b in zip(own, strict, strict=True))
    assert sum(strict) < sum(own) < sum(free)
    assert {tuple(one["thresholds"]) for one in records[1]["slides"]} == {(0.5, 0.4, 0.9)}
    assert records[2]["retention"]["mean_of_ratios"]["value"] == 1.0
    assert len({json.dumps(record["froc"]["reference"]) for record in records}) == 1


@pytest.mark.parametrize(
    ("words", "code", "part"),
    [
        (["R"], 64, "--truth"),
        (["--truth", "T"], 64, "RESULT.h5"),
        (["R", "--truth", "missing"], 65, "missing"),
        (["R", "R", "--truth", "T"], 64, "both exhaustive runs"),
        (["R", "--truth", "T", "--json", "old.json"], 73, "old.json"),
        (["R", "--truth", "T", "--plots", "no/folder"], 74, "no/folder"),
        (["R", "--truth", "T", "--threshold", "7=0.1"], 64, "levels 0 to 2"),
        (["R", "--truth", "T", "--threshold", "x"], 64, "--threshold x"),
        (["R", "--truth", "T", "--min-share", "0"], 64, "--min-share"),
        (["R", "--truth", "T", "--tumor-class", "a", "--exclude-class", "A"], 64, "class 'a'"),
        (["R", "--truth", "T", "--tumor-class", "other"], 65, "--tumor-class"),
        (["old.json", "--truth", "T"], 65, "old.json"),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, list) else "",
)
def test_what_cannot_be_done_is_one_line(call, folder, tmp_path, monkeypatch, words, code, part):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "old.json").write_text("{}")
    places = {"R": folder / "tumor_001.h5", "T": folder / "truth"}
    found, out, err = call(*[places.get(word, word) for word in words])
    assert (found, out) == (code, "")
    assert err.startswith("pyramidai: error: ")
    assert err.count("\n") == 1
    assert part in err
    assert [path.name for path in tmp_path.iterdir()] == ["old.json"]
