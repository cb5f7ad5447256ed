"""``pyramidai patches report``: what it writes where, says and refuses; and the page of a folder."""

from __future__ import annotations

import re
import shutil

import pytest

from pyramidai_mpi.base.errors import ExitCode
from pyramidai_mpi.cli.main import run_command_line
from pyramidai_mpi.patches.folds import read_folds
from tests.html_pages import Page
from tests.patch_files import labelled, order_of, write_patches_of
from tests.tiffs import textured, write_slide


def run(*arguments: object) -> int:
    return run_command_line(["patches", "report", *map(str, arguments)])


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """Slides of patients 20 and 40, one of them twice, and one of an unknown patient."""
    folder = tmp_path_factory.mktemp("patches")
    for seed, name in enumerate(("patient_020_node_0", "patient_020_node_1", "patient_040_node_0", "tumor_001")):
        slide = write_slide(folder / f"{name}.tif", [textured(256, 192, seed=seed)])
        change = labelled(("tumor", "normal"), [0] * seed + [1], tumor=[1.0] * seed)
        write_patches_of(slide, folder / f"{name}.patches.h5", order_of(64, 64), change=change)
    shutil.copyfile(folder / "tumor_001.patches.h5", folder / "test_049.patches.h5")
    return folder


def page(path):
    return Page(path.read_text(encoding="utf-8")).text


def rows(path, title):
    """Cells of a section's table."""
    section = re.search(rf"<h2>{title}</h2>.*?</section>", path.read_text(encoding="utf-8"), re.DOTALL)[0]
    lines = [re.findall(r"<td[^>]*>(.*?)</td>", line, re.DOTALL) for line in section.split("<tr>")[2:]]
    return [[" ".join(re.sub(r"<[^>]+>", "", cell).split()) for cell in line] for line in lines]


def test_the_page_of_a_file_lies_beside_it_or_where_it_is_asked_for(folder, tmp_path, capsys):
    file = shutil.copyfile(folder / "tumor_001.patches.h5", tmp_path / "a.patches.h5")
    assert run(file) == 0
    assert capsys.readouterr().out == f"{tmp_path}/a.patches.html: written\n"
    assert run(file) == ExitCode.OUTPUT_EXISTS
    assert run(file, "--overwrite", "--slide", folder / "tumor_001.tif", "-o", tmp_path / "b.html") == 0
    assert "The picture is the slide, reduced." in page(tmp_path / "b.html")
    assert run(file, "-o", file, "--overwrite") == ExitCode.USAGE
    assert run(tmp_path / "gone.patches.h5") == ExitCode.BAD_INPUT
    assert run(file, "-o", tmp_path / "no" / "page.html") == ExitCode.IO
    assert sorted(path.name for path in tmp_path.iterdir()) == ["a.patches.h5", "a.patches.html", "b.html"]


def test_another_slide_and_options_of_one_file_for_a_folder_are_refused(folder, tmp_path, capsys):
    for arguments, code, said in (
        ((folder / "tumor_001.patches.h5", "--slide", folder / "patient_020_node_0.tif"), 65, "is not the slide that"),
        ((folder, "--slide", folder / "tumor_001.tif"), 64, "--slide goes with one file of patches"),
        ((folder, "--seed", 1), 64, "--seed goes with one file of patches"),
        ((folder, "--per-label", 3), 64, "--per-label goes with one file of patches"),
        ((folder / "tumor_001.patches.h5", "--per-label", 0), 64, "--per-label"),
        ((tmp_path,), 65, "holds no file of patches"),
    ):
        assert run(*arguments, "-o", tmp_path / "page.html") == code
        line = capsys.readouterr().err.strip()
        assert said in line
        assert "\n" not in line
    assert list(tmp_path.iterdir()) == []


def test_the_page_of_a_folder_has_a_row_a_slide_and_sums_by_label_patient_and_fold(folder, tmp_path, capsys):
    table = tmp_path / "folds.csv"
    assert run_command_line(["patches", "folds", str(folder), "--folds", "3", "--by", "slide", "-o", str(table)]) == 0
    assert run(folder, "--folds", table, "-o", tmp_path / "page.html") == 0
    found = tmp_path / "page.html"
    fold = {name: read_folds(table).fold_of(folder / f"{name}.patches.h5") for name in
            ("patient_020_node_0", "patient_020_node_1", "patient_040_node_0", "test_049", "tumor_001")}  # fmt: skip
    # file, slide, patient, node, centre, fold, patches, tumor, normal, unknown, unreadable
    assert rows(found, "By slide") == [
        [f"{name}.patches.h5{note}", f"{slide}.tif", *origin, str(fold[name]), "12", *map(str, counts), "0"]
        for name, slide, origin, counts, note in (
            ("patient_020_node_0", "patient_020_node_0", ("20", "0", "1"), (0, 1, 11), ""),
            ("patient_020_node_1", "patient_020_node_1", ("20", "1", "1"), (1, 1, 10), ""),
            ("patient_040_node_0", "patient_040_node_0", ("40", "0", "2"), (2, 1, 9), ""),
            ("test_049", "tumor_001", ("not known",) * 3, (3, 1, 8), ""),
            ("tumor_001", "tumor_001", ("not known",) * 3, (3, 1, 8), " the same slide as test_049.patches.h5"),
        )
    ]
    assert rows(found, "By patient") == [
        ["20", "2", "24", "1", "2", "21"], ["40", "1", "12", "2", "1", "9"], ["not known", "2", "24", "6", "2", "16"],
    ]  # fmt: skip
    assert len(set(fold.values())) == 3
    assert fold["test_049"] == fold["tumor_001"]
    assert [(row[0], int(row[1])) for row in rows(found, "By fold")] == [
        (str(n), list(fold.values()).count(n)) for n in range(3)
    ]
    labels = rows(found, "Labels and shares")
    assert [row[:2] for row in labels] == [["tumor", "9"], ["normal", "5"], ["unknown", "46"]]
    assert labels[0][3] == "100.0 %"
    assert labels[1][2:] == ["100.0 %", "not measured", "not measured", "not measured"]
    words = page(found)
    assert "60 patches 5 files of 4 slides 2 patients, and 2 slides of patients not known" in words
    assert "64 px, stride 64, 0.25 µm/px, dense" in words


def test_the_fold_of_a_file_stands_on_its_page(folder, tmp_path):
    table = tmp_path / "folds.csv"
    table.write_text("file,fold\ntumor_001.patches.h5,1\n")
    file = folder / "tumor_001.patches.h5"
    assert run(file, "--folds", table, "-o", tmp_path / "a.html") == 0
    assert "fold 1 of 2 (folds.csv)" in page(tmp_path / "a.html")
    assert run(folder, "--folds", table, "-o", tmp_path / "b.html") == ExitCode.BAD_INPUT


def test_info_counts_labels_and_says_means(folder, capsys):
    assert run_command_line(["patches", "info", str(folder / "patient_040_node_0.patches.h5")]) == 0
    said = capsys.readouterr().out
    assert "counts     2 tumor, 1 normal, 9 unknown\n" in said
    assert "means      tissue 100.0 %, tumor 100.0 % (of 2), white not measured, black not measured\n" in said
