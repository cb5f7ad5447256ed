"""``run --export`` leaves the files beside the result, and the result whatever becomes of them."""

from __future__ import annotations

import csv
from typing import TYPE_CHECKING

import h5py
import pytest
from PIL import Image

from tests.browser import browser
from tests.end_to_end.conftest import digest_of, pyramidai
from tests.end_to_end.test_damage import tissue_slide
from tests.packages import write_package

if TYPE_CHECKING:
    from pathlib import Path

pytestmark = pytest.mark.mpi


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two slides and a model."""
    folder = tmp_path_factory.mktemp("exports")
    tissue_slide(folder / "a.tif")
    tissue_slide(folder / "b.tif", reduced_level=True)
    write_package(folder / "model", side=64, thresholds=(0.5, 0.45, 0.3))
    return folder


def names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def test_two_ranks_write_each_file_once_and_a_second_start_finds_them(folder, tmp_path):
    words = [folder / "a.tif", "--model", folder / "model", "-o", tmp_path / "a.h5", "--export", "csv,geojson,overlay"]
    done = pyramidai(*words, ranks=2)
    assert done.returncode == 0
    assert names(tmp_path) == ["a.csv", "a.exports.json", "a.geojson", "a.h5", "a.overlay.png"]
    written = {path.name: path.stat().st_mtime_ns for path in tmp_path.iterdir()}
    (tmp_path / "a.csv").unlink()
    assert pyramidai(*words, "--resume", ranks=2).returncode == 0
    assert names(tmp_path) == sorted(written)
    anew = {"a.csv", "a.exports.json"}
    kept = {path.name: path.stat().st_mtime_ns for path in tmp_path.iterdir() if path.name not in anew}
    assert len(kept) == 3
    assert kept.items() <= written.items()


@pytest.mark.parametrize("taken", ["a.csv", "a.deepzoom/mine", "a.clam/level0/a.h5"])
def test_what_is_in_the_way_is_found_before_the_work(folder, tmp_path, taken):
    (tmp_path / taken).parent.mkdir(parents=True, exist_ok=True)
    (tmp_path / taken).write_text("mine")
    words = [folder / "a.tif", "--model", folder / "model", "-o", tmp_path / "a.h5", "--export", "csv,deepzoom,clam"]
    done = pyramidai(*words, ranks=2)
    assert done.returncode == 73
    assert names(tmp_path) == [taken.partition("/")[0]]
    assert (tmp_path / taken).read_text() == "mine"


def test_an_export_that_fails_gives_its_code_and_the_result_stays(folder, tmp_path):
    (tmp_path / "a.deepzoom").symlink_to("nowhere")
    words = [folder / "a.tif", "--model", folder / "model", "-o", tmp_path / "a.h5", "--export", "deepzoom,csv"]
    done = pyramidai(*words, "--resume", ranks=2)
    assert done.returncode == 73
    assert "a.deepzoom" in done.stderr
    assert names(tmp_path) == ["a.csv", "a.deepzoom", "a.exports.json", "a.h5"]
    assert len(digest_of(tmp_path / "a.h5")) == 64


def test_every_slide_of_a_pool_gets_its_files(folder, tmp_path):
    done = pyramidai(
        folder / "a.tif", folder / "b.tif", "--model", folder / "model", "--results-dir", tmp_path, "--export", "csv",
        ranks=2,
    )  # fmt: skip
    assert done.returncode == 0
    made = [name for name in names(tmp_path) if not name.startswith("run_metadata_")]
    assert made == ["a.csv", "a.exports.json", "a.h5", "b.csv", "b.exports.json", "b.h5", "summary.csv"]
    with (tmp_path / "b.csv").open(newline="") as file:
        assert len(list(csv.DictReader(file))) > 10


@pytest.mark.parametrize("way", ["replaced without its export", "removed by hand", "killed before its export"])
def test_an_export_of_another_result_is_made_anew(folder, tmp_path, way):
    words = [folder / "a.tif", "--model", folder / "model", "-o", tmp_path / "a.h5"]
    other = ["--mode", "exhaustive"]
    assert pyramidai(*words, "--export", "csv", ranks=2).returncode == 0
    old = (tmp_path / "a.csv").read_text()
    if way == "removed by hand":
        (tmp_path / "a.h5").unlink()
    else:  # killed: as if the run had been asked for the export, and had not come to it
        assert pyramidai(*words, *other, "--overwrite", ranks=2).returncode == 0
    assert pyramidai(*words, *other, "--export", "csv", "--resume", ranks=2).returncode == 0
    with h5py.File(tmp_path / "a.h5") as file:
        n_tiles = sum(len(level["index"]) for level in file["levels"].values())
    new = (tmp_path / "a.csv").read_text()
    assert len(new.splitlines()) == n_tiles + 1 > len(old.splitlines())


def test_an_export_that_is_not_ours_is_neither_taken_for_ours_nor_replaced(folder, tmp_path):
    words = [folder / "a.tif", "--model", folder / "model", "-o", tmp_path / "a.h5", "--export", "csv"]
    assert pyramidai(*words).returncode == 0
    (tmp_path / "a.csv").write_text("mine\n")
    done = pyramidai(*words, "--resume")
    assert done.returncode == 73
    assert "a.csv: nothing says of which result it is" in done.stderr
    assert (tmp_path / "a.csv").read_text() == "mine\n"
    assert pyramidai("export", tmp_path / "a.h5", "--csv", tmp_path / "a.csv", "--overwrite").returncode == 0
    assert pyramidai(*words, "--resume").returncode == 0


@pytest.mark.real
@pytest.mark.slow
def test_the_report_of_the_real_lymph_nodes_is_complete_and_without_complaints(real_slides, tmp_path):
    slide = real_slides / "insidious-lymph-node-metastasis-HE.tif"
    assert pyramidai(slide, "--mpp", "0.25", "-o", tmp_path / "nodes.h5", "--export", "report", ranks=2).returncode == 0
    with browser(tmp_path / "profile") as page:
        page.resize(1440, 900)
        page.open(tmp_path / "nodes.html")
        for layer in ("look", "level2", "level1", "level0", "none", "scores"):
            page.click(f"label:has(input[value={layer}])")
        complete = "return [...document.images].every(image => image.complete && image.naturalWidth > 0)"
        assert page.run(complete)
        assert page.run("return document.querySelectorAll('.gantt img').length") == 1
        page.screenshot(tmp_path / "nodes.png")
        assert page.log() == []
    with Image.open(tmp_path / "nodes.png") as picture:
        assert picture.size == (1440, 900)
        assert len(picture.convert("RGB").getcolors(2**24)) > 10000
