"""``pyramidai tissue``, and what of it a run, its exports and its tables show."""

from __future__ import annotations

import csv

import numpy as np
import pytest
from PIL import Image

import pyramidai_mpi
from pyramidai_mpi.export.contour import CONTOUR, draw_contour, outline
from pyramidai_mpi.store.results.reader import read_digest
from tests.end_to_end.conftest import pyramidai
from tests.packages import write_package
from tests.slides.test_segmentation import GLASS, stained
from tests.tiffs import halved, write_slide

SIDE, UM_PX = 1024, 1.0


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """A slide of 1 µm per pixel with tissue in its upper left quarter, and a model."""
    folder = tmp_path_factory.mktemp("tissue")
    image = np.empty((SIDE, SIDE, 3), np.uint8)
    image[:] = GLASS
    image[: SIDE // 2, : SIDE // 2] = stained((SIDE // 16, SIDE // 16)).repeat(8, axis=0).repeat(8, axis=1)
    write_slide(folder / "quarter.tif", [image, halved(image)], mpp=UM_PX, compression="zlib")
    write_package(folder / "model", base_mpp=UM_PX)
    return folder


@pytest.fixture(scope="module")
def shown(folder):
    """What the command says of it."""
    return pyramidai("tissue", "quarter.tif", "-o", "picture.png", "--mask", "mask.png", cwd=folder)


def test_it_tells_the_area(shown):
    assert shown.returncode == 0
    area = float(shown.stdout.split(" mm²")[0].split()[-1])
    assert area == pytest.approx((SIDE / 2 * UM_PX / 1000) ** 2, rel=0.06)


def test_the_mask_is_where_the_tissue_is(folder, shown):
    mask = np.asarray(Image.open(folder / "mask.png"))
    assert mask.shape == (SIDE // 8, SIDE // 8)
    assert set(np.unique(mask)) == {0, 255}
    assert (mask[:62, :62] == 255).all()
    assert not mask[68:].any()
    assert not mask[:, 68:].any()


def test_the_picture_has_its_outline(folder, shown):
    picture = np.asarray(Image.open(folder / "picture.png"))
    drawn = (picture == CONTOUR).all(axis=-1)
    np.testing.assert_array_equal(drawn, outline(np.asarray(Image.open(folder / "mask.png")) > 0))


def test_an_outline_lies_within_the_mask_and_leaves_the_edge_of_the_picture_open():
    mask = np.zeros((5, 6), bool)
    mask[:4, 1:5] = True
    expected = np.zeros((5, 6), bool)
    expected[:4, [1, 4]] = expected[3, 1:5] = True
    np.testing.assert_array_equal(outline(mask), expected)
    white = np.full((5, 6, 3), 255, np.uint8)
    np.testing.assert_array_equal((draw_contour(white, mask) == CONTOUR).all(axis=-1), expected)


def test_a_run_takes_the_mask_and_measures_the_tissue(folder, shown):
    all_positive = [word for level in range(3) for word in ("--threshold", f"{level}=0")]
    for name, options in {"given": ["--tissue", "mask.png"], "found": []}.items():
        words = ["quarter.tif", "--model", "model", "--min-tissue", "0", *options, *all_positive, "-o", f"{name}.h5"]
        assert pyramidai(*words, cwd=folder).returncode == 0
    given, found = (pyramidai_mpi.open_result(folder / f"{name}.h5") for name in ("given", "found"))
    assert given.areas.tissue == pytest.approx(found.areas.tissue, rel=0.03)
    assert found.areas.positive == pytest.approx(found.areas.tissue)
    none = pyramidai("quarter.tif", "--model", "model", "--threshold", "0=1", "-o", "none.h5", cwd=folder)
    assert none.returncode == 0
    assert pyramidai_mpi.open_result(folder / "none.h5").areas.positive == 0


def test_the_first_method_stays_and_is_named_in_the_result(folder):
    runs = {"od": [], "hsv-otsu": ["--tissue", "hsv-otsu"], "strict": ["--tissue-limit", "0.1"]}
    for name, options in runs.items():
        assert pyramidai("quarter.tif", "--model", "model", "-o", f"{name}.h5", *options, cwd=folder).returncode == 0
    methods = {name: pyramidai_mpi.open_result(folder / f"{name}.h5").header.tissue_method for name in runs}
    assert methods == {"od": "od-1", "hsv-otsu": "otsu-hsv-1", "strict": "od-1 with limit 0.1"}
    # another way to find tissue is another run
    refused = pyramidai(
        "quarter.tif", "--model", "model", "-o", "od.h5", "--tissue", "hsv-otsu", "--resume", cwd=folder
    )
    assert refused.returncode == 65
    assert "tissue (od-1, now otsu-hsv-1)" in refused.stderr


def test_python_finds_it_likewise(folder):
    assert (
        pyramidai("quarter.tif", "--model", "model", "--tissue-limit", "0.05", "-o", "limit.h5", cwd=folder).returncode
        == 0
    )
    result = pyramidai_mpi.analyse(folder / "quarter.tif", folder / "model", tissue_limit=0.05)
    assert result.digest == read_digest(folder / "limit.h5")


def test_areas_stand_in_the_table_and_in_the_report(folder, tmp_path):
    run = ["--model", str(folder / "model"), "--results-dir", str(tmp_path), "--export", "report"]
    (tmp_path / "slides").mkdir()
    (tmp_path / "slides" / "quarter.tif").symlink_to(folder / "quarter.tif")
    assert pyramidai("slides", *run, cwd=tmp_path).returncode == 0
    (row,) = csv.DictReader((tmp_path / "summary.csv").read_text().splitlines())
    areas = pyramidai_mpi.open_result(tmp_path / "quarter.h5").areas
    assert float(row["tissue_mm2"]) == pytest.approx(areas.tissue, abs=1e-4)
    assert float(row["positive_mm2"]) == pytest.approx(areas.positive, abs=1e-4)
    page = (tmp_path / "quarter.html").read_text()
    assert f"{areas.tissue:.4g} mm²" in page
    assert "Tissue outline" in page


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (["--tissue-limit", "0"], "--tissue-limit 0: expected an optical density above 0, up to 1"),
        (["--tissue", "hsv-otsu", "--tissue-limit", "0.1"], "only where tissue is found by optical density"),
        (["-o", "same.png", "--mask", "same.png"], "same.png: is named for the picture and for the mask"),
    ],
    ids=["limit", "limit of the other method", "one name"],
)
def test_what_means_nothing_is_refused(folder, options, said):
    refused = pyramidai("tissue", "quarter.tif", *options, cwd=folder)
    assert refused.returncode == 64
    assert said in refused.stderr


def test_files_are_not_replaced_unasked(folder, shown):
    refused = pyramidai("tissue", "quarter.tif", "-o", "picture.png", cwd=folder)
    assert refused.returncode == 73
    assert pyramidai("tissue", "quarter.tif", "-o", "quarter.tif", "--overwrite", cwd=folder).returncode == 64
