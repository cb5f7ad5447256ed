"""``pyramidai segment``: masks of slides from the command line, and tissue that a network finds."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, ClassVar

import h5py
import numpy as np
import pytest
import shapely
import shapely.geometry
import tifffile
from PIL import Image

import pyramidai_mpi
from pyramidai_mpi.cli.main import run_command_line
from pyramidai_mpi.models.segmentation_package import load_segmentation_package
from pyramidai_mpi.patches.database import open_patches
from tests.end_to_end.conftest import pyramidai
from tests.packages import write_package
from tests.segmenting import DARK, dark_network, strided_network, write_network
from tests.tiffs import drop_tile, halved, textured, write_slide

if TYPE_CHECKING:
    from pyramidai_mpi.run.progress import RunProgress

WIDTH, HEIGHT = 1024, 640
DARKNESS = np.full((HEIGHT, WIDTH, 3), 240, np.uint8)
DARKNESS[64:320, 128:640] = textured(512, 256) // 2
DARKNESS[128:192, 256:384] = 240
DARKNESS[500:530, 800:900] = 90


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """A slide of 1 µm per pixel, dark here and there, and models."""
    folder = tmp_path_factory.mktemp("segment")
    write_slide(folder / "slide.tif", [DARKNESS, halved(DARKNESS)], mpp=1.0, compression="zlib")
    write_network(folder / "dark", dark_network())
    write_network(folder / "coarse", dark_network(), mpp=2.0, intended_use="demonstration")
    write_network(folder / "anywhere", dark_network(), mpp=None)
    write_network(folder / "global", strided_network(is_global=True), total_stride=4, halo=12)
    write_package(folder / "model", base_mpp=1.0)
    return folder


@pytest.fixture(scope="module")
def made(folder):
    """What the command says of it."""
    words = ["--probability", "--polygons", "slide.geojson", "--block", "256"]
    return pyramidai("segment", "slide.tif", "--model", "dark", "-o", "slide_mask.tif", *words, cwd=folder)


def mask_of(path):
    return tifffile.imread(path)


def tissue_in(path):
    with h5py.File(path) as file:
        return file["tissue/mask"][()] > 0


EXPECTED = DARKNESS.mean(axis=2) <= DARK


def test_the_mask_is_what_the_network_says(folder, made):
    assert made.returncode == 0
    np.testing.assert_array_equal(mask_of(folder / "slide_mask.tif"), EXPECTED)
    share, area = 100 * EXPECTED.mean(), EXPECTED.sum() / 1e6
    assert f"slide.tif: {share:.1f} % tissue, {area:.2f} mm², in 12 blocks: slide_mask.tif" in made.stderr
    expected = 255 / (1 + np.exp(0.1 * (DARKNESS.mean(axis=2) - DARK)))
    assert np.abs(mask_of(folder / "slide_probability.tif") - expected).max() < 0.51


def test_how_far_it_is_is_shown(folder, monkeypatch):
    class View:
        seen: ClassVar[list[RunProgress]] = []
        said: ClassVar[list[str]] = []

        def show(self, progress):
            self.seen.append(progress)

        def say(self, line, _level=0):
            self.said.append(line)

        def close(self):
            self.said.append("closed")

    monkeypatch.setattr("pyramidai_mpi.cli.progress.choose_view", lambda *, bar_wanted: View())
    words = ["--model", folder / "dark", "-o", folder / "shown.tif", "--block", "256"]
    assert run_command_line(["segment", *map(str, [folder / "slide.tif", *words])]) == 0
    assert {one.unit for one in View.seen if not one.phase} == {"block"}
    assert (View.seen[-1].tiles.done, View.seen[-1].tiles.total) == (12, 12)
    assert "in 12 blocks" in View.said[0]
    assert View.said[1:] == ["closed"]


def test_outlines_hold_what_the_mask_holds(folder, made):
    features = json.loads((folder / "slide.geojson").read_text())["features"]
    assert [feature["properties"]["measurements"]["area_um2"] for feature in features] == [512 * 256 - 128 * 64, 3000]
    large, small = (shapely.geometry.shape(feature["geometry"]) for feature in features)
    assert large.is_valid
    assert len(large.interiors) == 1
    assert large.bounds == (128, 64, 640, 320)
    assert small.bounds == (800, 500, 900, 530)
    assert large.area == pytest.approx(512 * 256 - 128 * 64, rel=1e-3)


def test_it_is_the_tissue_of_a_run_found_or_given(folder, made):
    ways = {"found": ["--tissue", "dark"], "given": ["--tissue", "slide_mask.tif"]}
    for name, options in ways.items():
        run = pyramidai("slide.tif", "--model", "model", "-o", f"{name}.h5", *options, cwd=folder)
        assert run.returncode == 0, run.stderr
    found, given = (pyramidai_mpi.open_result(folder / f"{name}.h5") for name in ways)
    assert found.digest == given.digest
    np.testing.assert_array_equal(tissue_in(folder / "found.h5"), tissue_in(folder / "given.h5"))
    assert found.areas.tissue == pytest.approx(EXPECTED.sum() / 1e6, rel=0.05)
    package = load_segmentation_package(folder / "dark")
    method = f"network dark (sha256 {package.sha256}) at 1 µm/px, threshold 0.5, halo 0, stride 1"
    assert found.header.tissue_method == method
    refused = pyramidai("slide.tif", "--model", "model", "-o", "found.h5", "--resume", cwd=folder)
    assert refused.returncode == 65
    assert "a run with other tissue" in refused.stderr
    assert pyramidai_mpi.analyse(folder / "slide.tif", folder / "model", tissue=folder / "dark").digest == found.digest


@pytest.mark.mpi
def test_all_ranks_get_the_tissue_that_one_has_found(folder, made):
    run = pyramidai("slide.tif", "--model", "model", "-o", "three.h5", "--tissue", "dark", ranks=3, cwd=folder)
    assert run.returncode == 0
    alone = pyramidai("slide.tif", "--model", "model", "-o", "one.h5", "--tissue", "dark", cwd=folder)
    assert alone.returncode == 0
    three, one = (pyramidai_mpi.open_result(folder / f"{name}.h5") for name in ("three", "one"))
    assert three.digest == one.digest


def test_patches_and_the_picture_take_such_tissue_too(folder, made):
    words = ["patches", "extract", "slide.tif", "--size", "32", "--level", "0", "-o", ".", "--min-tissue", "1"]
    assert pyramidai(*words, "--tissue", "dark", cwd=folder).returncode == 0
    with open_patches(folder / "slide.patches.h5") as patches:
        taken = {tuple(place) for place in patches.table[["col", "row"]].tolist()}
    cells = EXPECTED.reshape(20, 32, 32, 32).mean(axis=(1, 3)) >= 0.5
    assert taken == {(col, row) for row, col in np.argwhere(cells).tolist()}
    shown = pyramidai("tissue", "slide.tif", "--tissue", "dark", "--mask", "tissue.png", cwd=folder)
    assert shown.returncode == 0
    eighths = EXPECTED.reshape(80, 8, 128, 8).mean(axis=(1, 3)) >= 0.5
    np.testing.assert_array_equal(np.asarray(Image.open(folder / "tissue.png")) > 0, eighths)


def test_the_slide_is_read_at_the_spacing_of_the_network(folder, tmp_path):
    coarse = pyramidai("segment", folder / "slide.tif", "--model", folder / "coarse", cwd=tmp_path)
    assert coarse.returncode == 0
    assert "network coarse: demonstration model: scores mean nothing" in coarse.stderr
    coarse = mask_of(tmp_path / "slide_mask.tif")
    np.testing.assert_array_equal(coarse, halved(DARKNESS).mean(axis=2) <= DARK)
    with tifffile.TiffFile(tmp_path / "slide_mask.tif") as tiff:
        across = tiff.pages[0].tags["XResolution"].value
    assert across[0] / across[1] == 5000  # a centimetre, at 2 µm
    words = ["--model", folder / "dark", "--downsample", "4", "-o", "quarter.tif"]
    assert pyramidai("segment", folder / "slide.tif", *words, cwd=tmp_path).returncode == 0
    quarter = EXPECTED.reshape(160, 4, 256, 4).mean(axis=(1, 3)) >= 0.5
    np.testing.assert_array_equal(mask_of(tmp_path / "quarter.tif"), quarter)


def test_what_cannot_be_read_is_no_background_and_is_told(folder, tmp_path):
    write_slide(tmp_path / "damaged.tif", [DARKNESS], mpp=1.0, compression="zlib")
    drop_tile(tmp_path / "damaged.tif", 7, 0)
    found = pyramidai("segment", "damaged.tif", "--model", folder / "dark", cwd=tmp_path)
    assert found.returncode == 3
    assert "2.5 % is unknown (255), as it cannot be read" in found.stderr
    assert (
        "unreadable: block at level-0 pixel (0, 0): 16640 of 655360 mask pixels: 16384 of 655360 pixels are"
        in found.stderr
    )
    mask = mask_of(tmp_path / "damaged_mask.tif")
    assert (mask[:128, 896:] == 255).all()
    assert np.count_nonzero(mask == 255) == 128 * 130  # looked at in quarters of 1024 x 640 pixels
    # in a run it is tissue, by the mask and by the network
    for number, tissue in enumerate(("damaged_mask.tif", folder / "dark")):
        words = ["--model", folder / "model", "-o", f"{number}.h5", "--tissue", tissue]
        assert pyramidai("damaged.tif", *words, cwd=tmp_path).returncode == 3
        assert tissue_in(tmp_path / f"{number}.h5")[:4, 28:].all()


def test_several_slides_get_masks_that_a_folder_of_masks_takes(folder, tmp_path):
    (tmp_path / "slides").mkdir()
    for name in "ab":
        (tmp_path / "slides" / f"{name}.tif").write_bytes((folder / "slide.tif").read_bytes())
    words = ["segment", "slides", "--model", folder / "dark", "--results-dir", "masks"]
    assert pyramidai(*words, cwd=tmp_path).returncode == 0
    assert sorted(path.name for path in (tmp_path / "masks").iterdir()) == ["a_mask.tif", "b_mask.tif"]
    again = pyramidai(*words, cwd=tmp_path)
    assert again.returncode == 0
    assert again.stderr.count("is there already, complete") == 2
    run = ["slides", "--model", folder / "model", "--results-dir", ".", "--tissue-mask", "masks"]
    assert pyramidai(*run, cwd=tmp_path).returncode == 0


def test_files_are_not_replaced_unasked(folder, made):
    words = ["segment", "slide.tif", "--model", "dark", "-o", "slide_mask.tif", "--block", "256"]
    assert pyramidai(*words, cwd=folder).returncode == 73
    assert pyramidai(*words, "--probability", "--resume", cwd=folder).returncode == 0
    other = pyramidai(*words, "--resume", "--downsample", "2", cwd=folder)
    assert other.returncode == 65
    assert "other --downsample (1, now 2)" in other.stderr
    assert pyramidai("segment", "slide.tif", "--model", "dark", "-o", "slide.tif", cwd=folder).returncode == 64


@pytest.mark.parametrize(
    ("words", "code", "said"),
    [
        (["slide.tif", "--model", "dark", "--downsample", "0"], 64, "--downsample 0: expected 1 to 256"),
        (["slide.tif", "--model", "dark", "--block", "1"], 64, "--block 1: expected 16 to"),
        (["slide.tif", "slide.tif", "--model", "dark", "--polygons", "x.geojson"], 64, "--polygons names"),
        (["slide.tif", "--model", "model"], 65, "expected 'pyramidai-segmentation/1'"),
        (["slide.tif", "--model", "nowhere"], 65, "nowhere"),
        (["slide.tif", "--model", "global"], 65, "a layer over the whole image (global pooling, attention)"),
        (["nothing.tif", "--model", "dark"], 65, "nothing.tif: no such slide"),
        (["slide.tif", "--model", "dark", "--mpp", "4"], 65, "coarser than the 1 µm"),
    ],
    ids=["downsample", "block", "polygons", "tile model", "no model", "global", "no slide", "too coarse"],
)
def test_what_cannot_be_is_one_line(folder, words, code, said):
    refused = pyramidai("segment", *words, "-o" if len(words) < 5 else "--results-dir", "refused", cwd=folder)
    assert refused.returncode == code
    assert said in refused.stderr
    assert len(refused.stderr.splitlines()) == 1
    assert not (folder / "refused").is_file()


def test_another_network_under_the_name_is_refused(folder, tmp_path):
    package = write_network(tmp_path / "changed", dark_network())
    package.onnx_path.write_bytes(dark_network(gain=0.2))
    for words in (
        ["segment", folder / "slide.tif", "--model", "changed"],
        [folder / "slide.tif", "--model", folder / "model", "--tissue", "changed"],
    ):
        refused = pyramidai(*words, "-o", "x", cwd=tmp_path)
        assert refused.returncode == 65
        assert "its SHA-256 is" in refused.stderr


@pytest.mark.parametrize(
    ("words", "code", "said"),
    [
        (["--tissue", "anywhere"], 65, "does not say at how many µm/px it was trained"),
        (["--tissue", "model"], 65, "expected 'pyramidai-segmentation/1'"),
        (["--tissue", "dark", "--no-tissue"], 64, "--tissue dark: finds tissue"),
        (["--tissue", "dark", "--tissue-limit", "0.1"], 64, "only where tissue is found by optical density"),
        (["--tissue", "anywher"], 64, "is neither od, hsv-otsu nor a file or folder"),
    ],
    ids=["no spacing", "tile model", "no tissue", "limit", "mistyped"],
)
def test_tissue_that_cannot_be_found_so_is_refused_in_one_line(folder, words, code, said):
    refused = pyramidai("slide.tif", "--model", "model", "-o", "refused.h5", "--overwrite", *words, cwd=folder)
    assert refused.returncode == code
    assert said in refused.stderr


def test_a_network_that_knows_no_spacing_takes_the_slides_own_pixels(folder, tmp_path):
    picture = tmp_path / "picture.png"
    Image.fromarray(DARKNESS).save(picture)
    assert pyramidai("segment", picture, "--model", folder / "anywhere", cwd=tmp_path).returncode == 0
    np.testing.assert_array_equal(mask_of(tmp_path / "picture_mask.tif"), EXPECTED)
    refused = pyramidai("segment", picture, "--model", folder / "dark", "-o", "x.tif", cwd=tmp_path)
    assert refused.returncode == 65
    assert "does not say how large its pixels are" in refused.stderr
