"""An overnight cohort: a table of twelve files, four of them odd; in the morning it tells what happened to each."""

from __future__ import annotations

import csv
import json
import os
import re
from typing import TYPE_CHECKING

import h5py
import pytest

from pyramidai_mpi.slides.identity import quickhash
from pyramidai_mpi.store.results.reader import read_digest
from tests.end_to_end.conftest import pyramidai
from tests.end_to_end.test_damage import tissue_slide
from tests.packages import write_package
from tests.tiffs import textured, write_slide

if TYPE_CHECKING:
    from pathlib import Path

pytestmark = pytest.mark.mpi

SOUND = [f"case{number}" for number in range(1, 8)]
EVIL = "evil\n\x1b[2Jname"
FAILED = {"cut": "cut.tif", "notes": "not a whole-slide image", "plain": "--mpp"}


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Twelve files, a model, and the table of the files."""
    folder = tmp_path_factory.mktemp("cohort")
    for number, name in enumerate((*SOUND, EVIL)):
        pixels = textured(640, 512, seed=number)
        write_slide(folder / f"{name}.tif", [pixels], mpp=None if name == "case7" else 0.25)
    tissue_slide(folder / "glass.tif", tissue=False)
    tissue_slide(folder / "cut.tif")
    os.truncate(folder / "cut.tif", 5000)
    (folder / "notes.tif").write_text("no slide")
    write_slide(folder / "plain.tif", [textured(300, 200)], mpp=None)
    write_package(folder / "model", side=64, thresholds=(0.5, 0.3, 0.2))
    with (folder / "list.csv").open("w", newline="") as file:
        table = csv.writer(file)
        table.writerow(["wsi", "mpp", "output"])
        for name in (*SOUND, EVIL, "glass", *FAILED):
            table.writerow([f"{name}.tif", "0.25" if name == "case7" else "", "first" if name == "case1" else ""])
    return folder


def summary_of(results: Path) -> dict[str, dict[str, str]]:
    """Rows of the table by the stem of the slide."""
    with (results / "summary.csv").open(newline="") as file:
        return {os.path.basename(row["slide"]).removesuffix(".tif"): row for row in csv.DictReader(file)}  # noqa: PTH119


def stamps(results: Path) -> dict[str, tuple[int, int]]:
    return {path.name: (path.stat().st_ino, path.stat().st_mtime_ns) for path in results.glob("*.h5")}


def test_of_twelve_files_nine_have_results_and_a_second_start_does_only_what_is_left(folder, tmp_path):
    words = ["--slides", folder / "list.csv", "--model", folder / "model", "--results-dir", tmp_path]
    done = pyramidai(*words, ranks=3)
    assert done.returncode == 4
    assert "3 of 12 slides failed:" in done.stderr
    assert "\x1b" not in done.stderr
    names = sorted([*(f"{stem}.h5" for stem in (*SOUND[1:], EVIL, "glass")), "first.h5"])
    assert sorted(stamps(tmp_path)) == names

    rows = summary_of(tmp_path)
    assert len(rows) == 12
    assert [row["status"] for row in rows.values()] == ["complete"] * 9 + ["failed"] * 3
    for stem, said in FAILED.items():
        assert said in rows[stem]["reason"]
        assert rows[stem]["digest"] == rows[stem]["tiles"] == ""
        assert said in done.stderr
    assert rows["glass"]["reason"] == "no tissue found"
    assert rows["glass"]["tiles"] == "0"
    for stem, name in [("case1", "first"), ("case2", "case2"), ("glass", "glass")]:
        assert rows[stem]["output"] == f"{name}.h5"
        assert rows[stem]["digest"] == read_digest(tmp_path / f"{name}.h5")
        with h5py.File(tmp_path / f"{name}.h5") as file:
            decisions = [file[f"levels/{n}/decision"][...] for n in range(3)]
        assert [int(rows[stem][f"tiles_level_{n}"]) for n in range(3)] == [len(one) for one in decisions]
        assert int(rows[stem]["tiles"]) == sum(map(len, decisions))
        assert int(rows[stem]["positives"]) == (decisions[0] == 1).sum()
        assert int(rows[stem]["unreadable"]) == 0
        assert float(rows[stem]["seconds"]) >= 0
    assert int(rows["case2"]["tiles_level_0"]) > 0
    (evil,) = [stem for stem in rows if stem.startswith("evil")]
    assert evil == r"evil\n\x1b[2Jname"
    assert "\x1b" not in (tmp_path / "summary.csv").read_text()

    before = stamps(tmp_path)
    write_slide(folder / "notes.tif", [textured(300, 200, seed=30)])  # somebody has put the right file there
    again = pyramidai(*words, ranks=2)
    (folder / "notes.tif").write_text("no slide")
    assert again.returncode == 4
    assert "2 of 12 slides failed:" in again.stderr
    assert "(9 finished before)" in again.stderr
    after = stamps(tmp_path)
    assert after.keys() - before.keys() == {"notes.h5"}
    assert {name: after[name] for name in before} == before
    new = summary_of(tmp_path)
    assert {stem: row["status"] for stem, row in new.items()} == {
        **dict.fromkeys((*SOUND, evil, "glass"), "skipped"),
        "cut": "failed",
        "notes": "complete",
        "plain": "failed",
    }
    for stem in (*SOUND, "glass"):
        assert {**new[stem], "status": "", "reason": "", "seconds": ""} == {
            **rows[stem], "status": "", "reason": "", "seconds": ""
        }  # fmt: skip
    _check_metadata(folder, tmp_path, rows)


def _check_metadata(folder: Path, results: Path, rows: dict[str, dict[str, str]]) -> None:
    files = sorted(results.glob("run_metadata_*.json"))
    documents = sorted((json.loads(path.read_text()) for path in files), key=lambda document: document["n_ranks"])
    assert [document["n_ranks"] for document in documents] == [2, 3]
    assert all(re.fullmatch(r"run_metadata_\d{8}T\d{6}Z(_\d+)?\.json", path.name) for path in files)
    first = documents[1]
    assert first["exit_code"] == 4
    assert first["started"] <= first["ended"]
    assert "--slides" in first["command_line"]
    assert sum(first["ranks_of_host"].values()) == 3
    assert first["model"]["name"] == "colour"
    assert first["settings"]["thresholds"] == [0.5, 0.3, 0.2]
    assert first["libraries"].keys() >= {"numpy", "h5py"}
    assert first["busiest_over_ideal"] >= 1
    slides = {os.path.basename(one["slide"]).removesuffix(".tif"): one for one in first["slides"]}  # noqa: PTH119
    assert len(slides) == 12
    for stem in (*SOUND, "glass"):
        assert slides[stem]["quickhash"] == quickhash(folder / f"{stem}.tif")
        assert slides[stem]["digest"] == rows[stem]["digest"]
    assert slides["case7"]["given_mpp"] == 0.25
    assert slides["plain"]["status"] == "failed"


def test_a_folder_is_a_cohort_and_a_finished_result_of_other_settings_is_no_result_of_this_one(folder, tmp_path):
    slides, results = tmp_path / "slides", tmp_path / "results"
    slides.mkdir()
    results.mkdir()
    for name in ("case1", "case2"):
        (slides / f"{name}.tif").symlink_to(folder / f"{name}.tif")
    words = [slides, "--model", folder / "model", "--results-dir", results, "--export", "csv"]
    single = [slides / "case1.tif", "--model", folder / "model", "-o", results / "case1.h5"]
    assert pyramidai(*single).returncode == 0
    assert pyramidai(*words).returncode == 0
    before = stamps(results)
    rows = summary_of(results)
    assert [rows[name]["status"] for name in ("case1", "case2")] == ["skipped", "complete"]
    # a single rank is as busy as the mean; a slide of a cohort has no ranks of its own
    assert [rows[name]["busiest_over_ideal"] for name in ("case1", "case2")] == ["1.0000", ""]
    assert {"case1.csv", "case2.csv"} < {path.name for path in results.iterdir()}
    assert pyramidai(*words).returncode == 0  # the exports are there as well

    other = pyramidai(*words, "--threshold", "1=0.31")
    assert other.returncode == 4
    assert "case1.h5: exists already" in other.stderr
    assert "thresholds" in other.stderr
    assert {row["status"] for row in summary_of(results).values()} == {"failed"}
    assert stamps(results) == before


def test_a_table_of_somebody_else_is_not_replaced(folder, tmp_path):
    (tmp_path / "summary.csv").write_text("dear,to,somebody\n")
    done = pyramidai("--slides", folder / "list.csv", "--model", folder / "model", "--results-dir", tmp_path)
    assert done.returncode == 73
    assert "summary.csv: exists already" in done.stderr
    assert [path.name for path in tmp_path.iterdir()] == ["summary.csv"]
    assert (tmp_path / "summary.csv").read_text() == "dear,to,somebody\n"
