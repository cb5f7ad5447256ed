"""``run --export`` leaves the files beside the result, and the result whatever becomes of them."""

from __future__ import annotations

import csv
from typing import TYPE_CHECKING

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
    assert names(tmp_path) == ["a.csv", "a.geojson", "a.h5", "a.overlay.png"]
    written = {path.name: path.stat().st_mtime_ns for path in tmp_path.iterdir()}
    (tmp_path / "a.csv").unlink()
    assert pyramidai(*words, "--resume", ranks=2).returncode == 0
    assert names(tmp_path) == sorted(written)
    kept = {path.name: path.stat().st_mtime_ns for path in tmp_path.iterdir() if path.name != "a.csv"}
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
    assert names(tmp_path) == ["a.csv", "a.deepzoom", "a.h5"]
    assert len(digest_of(tmp_path / "a.h5")) == 64


def test_every_slide_of_a_pool_gets_its_files(folder, tmp_path):
    done = pyramidai(
        folder / "a.tif", folder / "b.tif", "--model", folder / "model", "--results-dir", tmp_path, "--export", "csv",
        ranks=2,
    )  # fmt: skip
    assert done.returncode == 0
    made = [name for name in names(tmp_path) if not name.startswith("run_metadata_")]
    assert made == ["a.csv", "a.h5", "b.csv", "b.h5", "summary.csv"]
    with (tmp_path / "b.csv").open(newline="") as file:
        assert len(list(csv.DictReader(file))) > 10


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
