"""``pyramidai patches folds``: what it writes, says and refuses."""

from __future__ import annotations

import csv
import io
import shutil

import pytest

from pyramidai_mpi.base.errors import ExitCode
from pyramidai_mpi.cli.main import run_command_line
from pyramidai_mpi.patches.folds import read_folds
from pyramidai_mpi.patches.lookup import patch_files
from tests.patch_files import labelled, order_of, write_patches_of
from tests.tiffs import textured, write_slide


def run(*arguments: object) -> int:
    return run_command_line(["patches", "folds", *map(str, arguments)])


def made(folder, name, seed, change=lambda content: content):
    """A file of 12 patches of a slide of its own."""
    slide = write_slide(folder / name, [textured(256, 192, seed=seed)])
    made = write_patches_of(slide, folder / f"{slide.stem}.patches.h5", order_of(64, 64, pixels="none"), change=change)
    slide.unlink()
    return made


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """Six slides of three patients; the third patient has tumour."""
    folder = tmp_path_factory.mktemp("patches")
    for patient in (20, 21, 40):
        for node in (0, 3):
            label = [0, 0, 1] if patient == 40 else [1]
            change = labelled(("tumor", "normal"), label)
            made(folder, f"patient_{patient:03}_node_{node}.tif", patient + node, change)
    return folder


def test_the_table_names_every_file_and_no_patient_is_in_two_folds(folder, tmp_path, capsys):
    assert run(folder, "--folds", 3, "-o", tmp_path / "folds.csv") == 0
    said = capsys.readouterr().out.splitlines()
    assert sorted(line.partition(": ")[2] for line in said) == [
        "2 files of 1 patient, 24 patches (0 tumor, 2 normal, 22 unknown)",
        "2 files of 1 patient, 24 patches (0 tumor, 2 normal, 22 unknown)",
        "2 files of 1 patient, 24 patches (4 tumor, 2 normal, 18 unknown)",
    ]
    rows = list(csv.DictReader((tmp_path / "folds.csv").open(encoding="utf-8")))
    assert list(rows[0]) == [
        "file",
        "slide",
        "patient",
        "fold",
        "n_patches",
        "n_of_tumor",
        "n_of_normal",
        "n_of_unknown",
    ]
    assert [row["file"] for row in rows] == [path.name for path in patch_files(folder)]
    assert [(row["slide"], row["patient"]) for row in rows[:2]] == [
        ("patient_020_node_0.tif", "20"), ("patient_020_node_3.tif", "20"),
    ]  # fmt: skip
    assert {(row["patient"], row["fold"]) for row in rows} == {
        (row["patient"], row["fold"]) for row in rows[::2]
    }  # one a patient
    assert [(row["n_patches"], row["n_of_tumor"], row["n_of_normal"], row["n_of_unknown"]) for row in rows] == [
        ("12", "0", "1", "11")] * 4 + [("12", "2", "1", "9")] * 2  # fmt: skip
    folds = read_folds(tmp_path / "folds.csv")
    assert [folds.fold_of(path) for path in patch_files(folder)] == [int(row["fold"]) for row in rows]
    assert run(folder, "--folds", 3) == 0
    assert capsys.readouterr().out == (tmp_path / "folds.csv").read_text(encoding="utf-8")


def test_a_table_is_not_replaced_unasked(folder, tmp_path):
    table = tmp_path / "folds.csv"
    table.write_text("mine")
    assert run(folder, "--folds", 2, "-o", table) == ExitCode.OUTPUT_EXISTS
    assert table.read_text() == "mine"
    assert run(folder, "--folds", 2, "-o", table, "--overwrite") == 0
    assert read_folds(table).n_folds == 2
    file = patch_files(folder)[0]
    before = file.read_bytes()
    assert run(folder, "--folds", 2, "-o", file, "--overwrite") == ExitCode.USAGE
    assert file.read_bytes() == before


@pytest.mark.parametrize(("n", "said"), [(4, "of 3 patients only; use --folds 3 or less"), (1, "at least 2")])
def test_more_folds_than_patients_are_refused_in_one_line(folder, capsys, n, said):
    assert run(folder, "--folds", n) == ExitCode.USAGE
    line = capsys.readouterr().err.strip()
    assert said in line
    assert "\n" not in line


def test_no_patient_is_guessed(folder, tmp_path, capsys):
    for path in patch_files(folder)[:4]:
        shutil.copyfile(path, tmp_path / path.name)
    made(tmp_path, "tumor_001.tif", 1)
    made(tmp_path, "tumor_002.tif", 2)
    shutil.copyfile(tmp_path / "tumor_001.patches.h5", tmp_path / "test_049.patches.h5")
    assert run(tmp_path, "--folds", 4) == ExitCode.BAD_INPUT
    line = capsys.readouterr().err
    assert "of which patient the slides of test_049.patches.h5, tumor_001.patches.h5, tumor_002.patches.h5 are;" in line
    assert "extract them with --origin TABLE, or with --by slide" in line
    assert run(tmp_path, "--folds", 4, "--by", "slide") == 0
    rows = list(csv.DictReader(io.StringIO(capsys.readouterr().out)))
    fold = {row["file"].partition(".")[0]: row["fold"] for row in rows}
    assert fold["test_049"] == fold["tumor_001"]  # one slide, two names
    assert fold["patient_020_node_0"] == fold["patient_020_node_3"]
    assert len(set(fold.values())) == 4
    assert run(tmp_path, "--folds", 5, "--by", "slide") == ExitCode.USAGE


def test_one_slide_of_two_patients_is_refused(tmp_path, capsys):
    for patient in ("7", "8"):
        made(tmp_path, f"of_{patient}.tif", 3, labelled((), (), origin={"patient": patient}))
    made(tmp_path, "patient_030_node_0.tif", 4)
    for way in ("patient", "slide"):
        assert run(tmp_path, "--folds", 2, "--by", way) == ExitCode.BAD_INPUT
        assert "are of one slide, and say that it is of patients 8 and 7" in capsys.readouterr().err


def test_a_hostile_name_is_text_in_the_table_and_found_again(tmp_path, capsys):
    made(tmp_path, "=cmd|x.tif", 1, labelled((), (), origin={"patient": "=1+1"}))
    made(tmp_path, "b\n.tif", 2, labelled((), (), origin={"patient": "@2"}))
    assert run(tmp_path, "--folds", 2, "-o", tmp_path / "folds.csv") == 0
    folds = read_folds(tmp_path / "folds.csv")
    assert {folds.fold_of(path) for path in patch_files(tmp_path)} == {0, 1}
    rows = list(csv.DictReader((tmp_path / "folds.csv").open(encoding="utf-8")))
    assert [(row["file"], row["patient"]) for row in rows] == [
        ("'=cmd|x.patches.h5", "'=1+1"), ("b\\n.patches.h5", "'@2"),
    ]  # fmt: skip
