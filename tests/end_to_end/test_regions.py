"""Runs that are told where to look: which tiles they analyse, on any number of ranks, one slide or many."""

from __future__ import annotations

import hashlib
import json
from typing import TYPE_CHECKING

import h5py
import numpy as np
import pytest
import shapely
from PIL import Image

from pyramidai_mpi.slides.segmentation import Segmentation
from pyramidai_mpi.store.results.reader import read_digest
from tests.end_to_end.conftest import Finished, pyramidai
from tests.packages import write_package
from tests.tiffs import halved, write_slide
from tests.truth.files import feature, geojson

if TYPE_CHECKING:
    from pathlib import Path

pytestmark = pytest.mark.mpi

SIDE, WIDTH, HEIGHT = 64, 1024, 768
LAKE = [[130, 70], [700, 130], [640, 700], [200, 520]]
PEN = [[400, 300], [520, 310], [500, 460], [390, 420]]
MIN_SHARE = 0.05


def landscape(seed: int) -> np.ndarray:
    """Fields in green, brown and blue, as no stain has them; not a pixel of glass."""
    rng = np.random.default_rng(seed)
    colours = np.array([[70, 110, 60], [120, 90, 60], [50, 80, 130]])
    fields = colours[rng.integers(0, 3, (24, 32))].repeat(32, axis=0).repeat(32, axis=1)
    return (fields + rng.integers(-8, 9, (HEIGHT, WIDTH, 3))).astype(np.uint8)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two satellite-like images without µm/px, a model, and for each image its outlines."""
    folder = tmp_path_factory.mktemp("regions")
    for name, seed in (("east.tif", 1), ("west.tif", 2)):
        image = landscape(seed)
        write_slide(folder / name, [image, halved(image)], mpp=None, compression="zlib", bigtiff=True)
    (folder / "roi").mkdir()
    geojson(folder / "roi" / "east.geojson", feature([LAKE], "Lake"))
    geojson(folder / "roi" / "west.geojson", feature([[[x + 200, y] for x, y in LAKE]]))
    geojson(folder / "pen.geojson", feature([PEN]))
    write_package(folder / "model", side=SIDE, thresholds=(0.5, 0.5, 0.5))
    return folder


def run(
    folder: Path, *words: str | Path, slides: tuple[str, ...] = ("east.tif",), ranks: int | None = None
) -> Finished:
    given = [*(folder / slide for slide in slides), "--model", folder / "model", "--mode", "exhaustive", *words]
    return pyramidai(*given, ranks=ranks)


def tiles_of(path: Path) -> list[set[tuple[int, int]]]:
    with h5py.File(path) as file:
        return [{(int(c), int(r)) for c, r in file[f"levels/{n}/index"][...]} for n in range(3)]


def expected_tiles(roi: list, pen: list | None = None) -> list[set[tuple[int, int]]]:
    """Tile by tile with shapely: a mask pixel is 32 px; a root has 5 % of them, a tile below it any."""
    inside, outside = shapely.Polygon(roi), shapely.Polygon(pen or [])

    def cell(col: int, row: int) -> bool:
        box = shapely.box(col * 32, row * 32, col * 32 + 32, row * 32 + 32)
        return box.intersection(inside).area > 0 and box.intersection(outside).area == 0

    cells = {(c, r) for c in range(WIDTH // 32) for r in range(HEIGHT // 32) if cell(c, r)}

    def share(level: int, col: int, row: int) -> float:
        n = 2 << level
        return sum((col * n + i, row * n + j) in cells for i in range(n) for j in range(n)) / n**2

    shapes = [(16, 12), (8, 6), (4, 3)]
    roots = {(c, r) for c in range(4) for r in range(3) if share(2, c, r) >= MIN_SHARE}
    return [
        {
            (c, r)
            for c in range(shapes[n][0])
            for r in range(shapes[n][1])
            if share(n, c, r) > 0 and (c >> (2 - n), r >> (2 - n)) in roots
        }
        for n in range(3)
    ]


def test_a_run_within_a_region_looks_at_the_tiles_that_hold_some_of_it(folder: Path, tmp_path: Path) -> None:
    words = (
        "--no-tissue",
        "--mpp",
        "0.25",
        "--roi",
        folder / "roi" / "east.geojson",
        "--exclude",
        folder / "pen.geojson",
    )
    for ranks in (1, 3):
        assert run(folder, *words, "-o", tmp_path / f"{ranks}.h5", ranks=ranks).returncode == 0
    found = tiles_of(tmp_path / "1.h5")
    assert found == expected_tiles(LAKE, PEN)
    assert expected_tiles(LAKE, PEN) != expected_tiles(LAKE)
    assert len(found[0]) < 16 * 12
    assert read_digest(tmp_path / "1.h5") == read_digest(tmp_path / "3.h5")
    with h5py.File(tmp_path / "3.h5") as file:
        assert file["tissue/mask"].attrs["method"] == "none, within roi, without excluded"
        facts = file["execution"].attrs
        assert facts["roi_file"] == "east.geojson"
        assert facts["roi_file_sha256"] == hashlib.sha256((folder / "roi" / "east.geojson").read_bytes()).hexdigest()
        assert facts["exclude_file"] == "pen.geojson"


def test_of_several_slides_each_has_the_region_of_its_name(folder: Path, tmp_path: Path) -> None:
    words = ("--no-tissue", "--mpp", "0.25", "--roi", folder / "roi", "--results-dir", tmp_path)
    assert run(folder, *words, slides=("east.tif", "west.tif"), ranks=3).returncode == 0
    assert tiles_of(tmp_path / "east.h5") == expected_tiles(LAKE)
    assert tiles_of(tmp_path / "west.h5") == expected_tiles([[x + 200, y] for x, y in LAKE])
    assert tiles_of(tmp_path / "east.h5") != tiles_of(tmp_path / "west.h5")
    with h5py.File(tmp_path / "west.h5") as file:
        assert file["execution"].attrs["roi_file"] == "west.geojson"
        assert file["tissue/mask"].attrs["method"] == "none, within roi"


def test_a_slide_whose_region_is_missing_fails_and_the_others_finish(folder: Path, tmp_path: Path) -> None:
    (tmp_path / "roi").mkdir()
    geojson(tmp_path / "roi" / "west.geojson", feature([LAKE]))
    words = ("--levels", "scale", "--no-tissue", "--roi", tmp_path / "roi", "--results-dir", tmp_path)
    done = run(folder, *words, slides=("east.tif", "west.tif"), ranks=2)
    assert done.returncode == 4
    assert "has no file for east.tif" in done.stderr
    assert tiles_of(tmp_path / "west.h5") == expected_tiles(LAKE)
    assert not (tmp_path / "east.h5").exists()


def test_a_satellite_image_is_analysed_as_a_whole(folder: Path, tmp_path: Path) -> None:
    without = run(folder, "--no-tissue", "-o", tmp_path / "out.h5")
    assert without.returncode == 65
    assert "--levels scale" in without.stderr
    assert run(folder, "--no-tissue", "--mpp", "0.25", "-o", tmp_path / "mpp.h5").returncode == 0
    assert run(folder, "--no-tissue", "--levels", "scale", "-o", tmp_path / "scale.h5").returncode == 0
    whole = [{(c, r) for c in range(cols) for r in range(rows)} for cols, rows in ((16, 12), (8, 6), (4, 3))]
    assert tiles_of(tmp_path / "mpp.h5") == whole
    assert read_digest(tmp_path / "scale.h5") == read_digest(tmp_path / "mpp.h5")
    # green and brown are no stains: looking for tissue would lose most of it
    assert Segmentation("hsv-otsu").segment(landscape(1)[16::32, 16::32], np.ones((24, 32), bool)).mean() < 0.5


def test_a_given_mask_stands_for_the_tissue(folder: Path, tmp_path: Path) -> None:
    mask = np.zeros((HEIGHT // 16, WIDTH // 16), np.uint8)
    mask[8:20, 12:32] = 7  # level-0 pixels 192..512 by 128..320: columns 3..7, rows 2..4 of tiles of 64
    Image.fromarray(mask).save(tmp_path / "mask.png")
    words = ("--tissue-mask", tmp_path / "mask.png", "--levels", "scale", "-o", tmp_path / "out.h5")
    assert run(folder, *words, ranks=2).returncode == 0
    assert tiles_of(tmp_path / "out.h5")[0] == {(c, r) for c in range(3, 8) for r in range(2, 5)}
    with h5py.File(tmp_path / "out.h5") as file:
        assert file["tissue/mask"].attrs["method"] == "given"
        assert file["execution"].attrs["levels"] == "scale"


def test_a_finished_result_of_another_region_is_not_taken_for_this_one(folder: Path, tmp_path: Path) -> None:
    roi = geojson(tmp_path / "roi.geojson", feature([LAKE]))
    words = ("--no-tissue", "--levels", "scale", "--roi", roi, "-o", tmp_path / "out.h5")
    assert run(folder, *words).returncode == 0
    before = (tmp_path / "out.h5").read_bytes()
    again = run(folder, *words, "--resume")
    assert again.returncode == 0
    assert "is there already, complete" in again.stderr
    geojson(roi, feature([[[x + 1, y] for x, y in LAKE]]))
    moved = run(folder, *words, "--resume")
    assert moved.returncode == 65
    assert "is the finished result of a run with other --roi;" in moved.stderr
    without = run(folder, "--levels", "scale", "-o", tmp_path / "out.h5", "--resume")
    assert without.returncode == 65
    assert "with other tissue (none, within roi, now od-1); --roi;" in without.stderr
    assert (tmp_path / "out.h5").read_bytes() == before


def test_bad_regions_end_all_ranks_with_one_line_and_one_code(folder: Path, tmp_path: Path) -> None:
    off = geojson(tmp_path / "off.geojson", feature([[[x + 5000, y] for x, y in LAKE]]))
    stained = write_package(
        tmp_path / "stained",
        yaml_changes={"stain": {"method": "reinhard", "target": {"mean": [8.6, -0.1, 0.0], "std": [0.6, 0.1, 0.1]}}},
    )
    both = ("east.tif", "west.tif")
    table = [
        # the first two are seen by all ranks together
        (65, "off.geojson: 100 % of the outlined area lies outside", ("--roi", off, "--mpp", "0.25"), ("east.tif",)),
        (64, "use a model without stain", ("--no-tissue", "--mpp", "0.25", "--model", stained), ("east.tif",)),
        (64, "no folder, for 2 slides", ("--roi", off, "--results-dir", tmp_path, "--mpp", "0.25"), both),
        (64, "is an input of this command", ("--roi", off, "-o", off, "--overwrite", "--mpp", "0.25"), ("east.tif",)),
    ]
    for (code, message, words, slides), ranks in zip(table, (2, 2, None, None), strict=True):
        target = () if {"-o", "--results-dir"} & set(words) else ("-o", tmp_path / "out.h5")
        done = run(folder, *words, *target, slides=slides, ranks=ranks)
        assert done.returncode == code, message
        lines = [line for line in done.stderr.splitlines() if "error:" in line]
        assert len(lines) == 1
        assert message in lines[0]
        assert not list(tmp_path.glob("*.h5"))
    assert json.loads(off.read_text())["type"] == "FeatureCollection"
