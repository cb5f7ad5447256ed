"""``pyramidai concepts`` from slides to figures: the same on any number of ranks, and true to what was measured."""

from __future__ import annotations

import csv
import json
import math

import numpy as np
import pytest

from pyramidai_mpi.base.errors import ExitCode
from pyramidai_mpi.explain.concepts.measures import measure
from pyramidai_mpi.models.backward.engine import GradientEngine
from pyramidai_mpi.models.package import load_package
from pyramidai_mpi.patches.database import open_patches
from pyramidai_mpi.synth import SynthSpec, write_slide
from pyramidai_mpi.truth.nuclei import read_outlined_nuclei
from tests.end_to_end.conftest import pyramidai

NAMES = ("concepts.csv", "concepts.json", "patches.csv", "br.png", "br.svg", "r2.png", "r2.svg")
FEW = ("--folds", 3, "--draws", 20, "--random", 20)
LAYERS = ("--layers", "maps3,pooled")


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """Four slides with their nuclei, one of them stored finer, and patches of them at 0.5 µm/px."""
    folder = tmp_path_factory.mktemp("slides")
    slides = [
        write_slide(
            SynthSpec(round(350 / mpp), round(300 / mpp), seed, mpp, tumor_share=0.4),
            folder / f"s{seed}.tif",
            nuclei=True,
        ).path
        for seed, mpp in ((1, 0.25), (2, 0.5), (3, 0.5), (4, 0.5))
    ]
    assert run("patches", "extract", *slides, "--size", 224, "--mpp", 0.5, "-o", folder).returncode == 0
    return folder


def run(*words, **others):
    return pyramidai(*map(str, words), **others)


def concepts(folder, out, *options, ranks=None):
    words = ("concepts", "small", "--patches", folder, "--nuclei", folder, *LAYERS, *FEW, *options, "-o", out)
    return run(*words, ranks=ranks)


@pytest.fixture(scope="module")
def one(folder, tmp_path_factory):
    """What one rank has made."""
    out = tmp_path_factory.mktemp("one") / "out"
    done = concepts(folder, out, ranks=1)
    assert done.returncode == 0
    assert "speaks for" in done.stdout
    return out


def table(path):
    with path.open(newline="") as file:
        return list(csv.DictReader(file))


@pytest.mark.mpi
def test_three_ranks_make_the_very_files(folder, one, tmp_path):
    assert concepts(folder, tmp_path / "out", ranks=3).returncode == 0
    assert sorted(path.name for path in (tmp_path / "out").iterdir()) == sorted(NAMES)
    for name in NAMES:
        assert (tmp_path / "out" / name).read_bytes() == (one / name).read_bytes(), name


def test_values_of_patches_are_those_that_measuring_gives(folder, one, model):
    package = load_package(model)
    engine = GradientEngine(package.levels[1], package)
    rows = table(one / "patches.csv")
    for row in rows[:: len(rows) // 4]:
        with open_patches(folder / row["file"]) as patches:
            number = int(row["patch"])
            pixels, place = patches.patch(number), patches.table[number]
        downsample = 2.0 if row["slide"] == "s1.tif" else 1.0
        nuclei = read_outlined_nuclei(folder / row["slide"].replace(".tif", ".nuclei.geojson"))
        found = measure(pixels, nuclei.window((place["l0_x"], place["l0_y"]), downsample, 224), 0.5)
        for name in ("area", "asm", "count", "colourfulness"):
            assert float(row[name] or "nan") == pytest.approx(found[name], rel=1e-6, nan_ok=True)
        probability = engine.look(pixels[np.newaxis], package.score_column).probabilities[0, package.score_column]
        assert float(row["probability"]) == pytest.approx(float(probability), rel=1e-6)


def test_patients_lie_in_one_fold(one):
    folds = {(row["patient"], row["fold"]) for row in table(one / "patches.csv")}
    assert len(folds) == len({patient for patient, _ in folds}) == 4
    assert {fold for _, fold in folds} == {"0", "1", "2"}


def test_the_document_and_the_table_say_the_same_and_nothing_of_what_was_not_learnt(one):
    document = json.loads((one / "concepts.json").read_text())
    rows = table(one / "concepts.csv")
    assert len(rows) == len(document["findings"]) == 2 * 7
    assert document["model"]["layers"] == {"maps3": [40, 28, 28], "pooled": [128, 1, 1]}
    not_learnt = 0
    for row, found in zip(rows, document["findings"], strict=True):
        assert (row["layer"], row["concept"], row["verdict"]) == (found["layer"], found["concept"], found["verdict"])
        assert float(row["r2"]) == pytest.approx(found["r2"]["value"], rel=1e-5)
        assert len(found["direction"]) == document["model"]["layers"][row["layer"]][0]
        assert math.hypot(*found["direction"]) == pytest.approx(1)
        assert len(found["random"]["tcav"]) == 20
        if found["r2"]["value"] <= 0:
            not_learnt += 1
            assert row["verdict"] == "not learnt"
            assert row["tcav"] == row["br"] == ""
            assert found["tcav"] is found["br"] is None
        else:
            assert row["verdict"] != "not learnt"
            assert 0 <= float(row["tcav"]) <= 1
    assert 0 < not_learnt < len(rows)


def test_a_table_of_ones_own_is_a_concept_like_any_other(folder, one, tmp_path):
    """The network's own answer, which no layer can fail to foretell; and areas, measured above."""
    rows = table(one / "patches.csv")
    lines = ["file,patch,logit,area of mine,nothing"]
    for row in rows:
        share = min(max(float(row["probability"]), 1e-6), 1 - 1e-6)
        lines.append(f"{row['file']},{row['patch']},{math.log(share / (1 - share))},{row['area']},1")
    (tmp_path / "mine.csv").write_text("\n".join(lines) + "\n")
    done = concepts(folder, tmp_path / "out", "--concepts", f"count,{tmp_path / 'mine.csv'}", "--no-plots")
    assert done.returncode == 0
    assert "nothing       not measured" in done.stdout
    found = {(row["layer"], row["concept"]): row for row in table(tmp_path / "out" / "concepts.csv")}
    assert float(found["pooled", "logit"]["r2"]) > 0.9
    assert found["pooled", "logit"]["verdict"] == "speaks for"
    theirs = {(row["layer"], row["concept"]): row for row in table(one / "concepts.csv")}
    for layer in ("maps3", "pooled"):
        assert float(found[layer, "area of mine"]["r2"]) == pytest.approx(float(theirs[layer, "area"]["r2"]), rel=1e-4)
        assert float(found[layer, "count"]["r2"]) == pytest.approx(float(theirs[layer, "count"]["r2"]), rel=1e-4)
    assert not list((tmp_path / "out").glob("*.png"))


def test_nuclei_are_found_where_nobody_has_outlined_them(folder, tmp_path):
    words = (
        "concepts",
        "small",
        "--patches",
        folder,
        "--concepts",
        "area,perimeter",
        "--most",
        24,
        "--layers",
        "pooled",
    )
    done = run(*words, *FEW, "--no-plots", "-q", "-o", tmp_path / "out")
    assert (done.returncode, done.stdout) == (0, "")
    rows = table(tmp_path / "out" / "patches.csv")
    assert len(rows) == 24
    patients = [row["patient"] for row in rows]
    assert max(map(patients.count, patients)) == min(map(patients.count, patients)) == 6
    areas = [float(row["area"]) for row in rows if row["area"]]
    assert 15 < np.median(areas) < 120  # µm²


def test_what_is_there_is_replaced_on_request_alone(folder, one, tmp_path):
    again = concepts(folder, one)
    assert again.returncode == ExitCode.OUTPUT_EXISTS
    assert "--overwrite" in again.stderr
    (tmp_path / "mine.txt").write_text("mine")
    done = concepts(folder, tmp_path, "--overwrite")
    assert done.returncode == ExitCode.OUTPUT_EXISTS
    assert "holds something else" in done.stderr
    before = (one / "concepts.csv").read_text()
    assert concepts(folder, one, "--overwrite", "--concepts", "count", "--no-plots").returncode == 0
    assert (one / "concepts.csv").read_text() != before
    assert sorted(path.name for path in one.iterdir()) == ["concepts.csv", "concepts.json", "patches.csv"]


@pytest.mark.parametrize(
    ("options", "code", "said"),
    [
        (("--concepts", "size"), ExitCode.USAGE, "expected some of area, perimeter"),
        (("--concepts", "area,area"), ExitCode.USAGE, "'area': is there twice"),
        (("--concepts", "nowhere.csv"), ExitCode.BAD_INPUT, "nowhere.csv"),
        (("--layers", "conv9"), ExitCode.USAGE, "model small has maps1, maps2"),
        (("--layers", "maps1,maps1"), ExitCode.USAGE, "--layers maps1: is there twice"),
        (("--class", "benign"), ExitCode.USAGE, "has no class 'benign'; give --class with"),
        (("--level", 7), ExitCode.USAGE, "has levels 0..2"),
        (("--folds", 9), ExitCode.USAGE, "there are patches of 4 patients only"),
        (("--nuclei", "nowhere"), ExitCode.BAD_INPUT, "nowhere"),
        (("--nuclei", "."), ExitCode.BAD_INPUT, "holds no nuclei of s1.tif"),
        (("--patches", "nowhere.h5"), ExitCode.BAD_INPUT, "nowhere.h5"),
    ],
    ids=lambda value: " ".join(map(str, value)) if isinstance(value, tuple) else "",
)
def test_what_cannot_be_is_said_in_one_line(folder, tmp_path, options, code, said):
    words = ("concepts", "small", "--patches", folder, "--nuclei", folder, *FEW, *options, "--no-plots")
    done = run(*words, "-o", tmp_path / "out", cwd=tmp_path)
    assert done.returncode == code
    assert said in done.stderr
    assert len(done.stderr.strip().splitlines()) == 1
    assert not (tmp_path / "out").exists()


def test_patches_of_another_kind_are_refused(folder, tmp_path):
    for size, mpp, said in (
        (128, 0.5, "extract patches with --size 224"),
        (224, 0.7, "levels of model small 0.25, 0.5, 1"),
    ):
        place = tmp_path / f"{size}-{mpp}"
        place.mkdir()
        words = ("patches", "extract", folder / "s1.tif", "--size", size, "--mpp", mpp, "-o", place)
        assert run(*words).returncode == 0
        done = run("concepts", "small", "--patches", place, "--nuclei", folder, "-o", tmp_path / "out", "--folds", 2)
        assert done.returncode == ExitCode.USAGE
        assert said in done.stderr
