"""The overlay is a picture of this slide and this result, or none."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from PIL import Image

from pyramidai_mpi.errors import InputError, OutputExistsError, StorageError
from pyramidai_mpi.export.overlay import blend, write_overlay
from pyramidai_mpi.slides.identity import quickhash
from tests.results import result_of, write_file


@pytest.fixture(scope="module")
def mask():
    """Tissue in the middle of a slide of 1024 x 768."""
    drawn = np.zeros((24, 32), bool)
    drawn[8:16, 8:24] = True
    return drawn


@pytest.fixture
def result(tmp_path, lossless_slide, mask):
    """A result file of the lossless slide."""
    made = result_of(mask)
    return write_file(
        tmp_path / "out.h5", replace(made, slide=replace(made.slide, quickhash=quickhash(lossless_slide)))
    )


def test_it_is_a_png_of_the_thumbnails_size_and_a_legend(result, lossless_slide, tmp_path):
    write_overlay(result, lossless_slide, tmp_path / "overlay.png")
    with Image.open(tmp_path / "overlay.png") as picture:
        assert picture.format == "PNG"
        assert picture.width >= 32
        assert picture.height > 24
    assert sorted(path.name for path in tmp_path.iterdir()) == ["out.h5", "overlay.png"]


def test_what_is_no_tissue_is_shown_as_it_is_and_tissue_is_tinted(
    result, lossless_slide, stored_images, tmp_path, mask
):
    write_overlay(result, lossless_slide, tmp_path / "overlay.png")
    with Image.open(tmp_path / "overlay.png") as picture:
        pixels = np.asarray(picture.convert("RGB"))[:24, :32].astype(int)
    thumbnail = stored_images[0].reshape(24, 32, 32, 32, 3).mean(axis=(1, 3))
    differs = np.abs(pixels - thumbnail).max(axis=2) > 2
    assert not differs[~mask].any()
    assert differs[mask].mean() > 0.9


def test_colours_go_from_blue_over_yellow_to_red():
    grey = np.full((1, 3, 3), 128, np.uint8)
    shown = blend(grey, np.array([[0.0, 0.5, 1.0]], np.float32), np.ones((1, 3), bool))[0].astype(int)
    low, middle, high = shown
    assert low[2] > low[0] + 20
    assert high[0] > high[2] + 20
    assert min(middle[0], middle[1]) > max(128, middle[2])


def test_only_tissue_with_a_score_is_tinted():
    image = np.random.default_rng(0).integers(0, 256, (4, 4, 3), dtype=np.uint8)
    heatmap = np.full((4, 4), np.nan, np.float32)
    heatmap[0] = 1
    mask = np.zeros((4, 4), bool)
    mask[:, 0] = True
    shown = blend(image, heatmap, mask)
    same = (shown == image).all(axis=2)
    assert not same[0, 0]
    assert same.sum() == 15


def test_the_slide_of_another_result_is_refused(result, slide, tmp_path):
    with pytest.raises(InputError, match=r"slide\.tif.*out\.h5") as caught:
        write_overlay(result, slide, tmp_path / "overlay.png")
    assert caught.value.exit_code == 65
    assert not (tmp_path / "overlay.png").exists()


def test_a_missing_slide_is_refused(result, tmp_path):
    with pytest.raises(InputError, match=r"gone\.tif"):
        write_overlay(result, tmp_path / "gone.tif", tmp_path / "overlay.png")


def test_an_existing_picture_is_left_untouched_unless_overwriting(result, lossless_slide, tmp_path):
    target = tmp_path / "overlay.png"
    target.write_bytes(b"mine")
    with pytest.raises(OutputExistsError) as caught:
        write_overlay(result, lossless_slide, target)
    assert caught.value.exit_code == 73
    assert target.read_bytes() == b"mine"
    write_overlay(result, lossless_slide, target, overwrite=True)
    assert target.read_bytes().startswith(b"\x89PNG")


def test_a_failed_write_leaves_nothing(result, lossless_slide, tmp_path, monkeypatch):
    def full(*_args, **_kwargs):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(Image.Image, "save", full)
    with pytest.raises(StorageError, match="No space left"):
        write_overlay(result, lossless_slide, tmp_path / "overlay.png")
    assert [path.name for path in tmp_path.iterdir()] == ["out.h5"]


def test_a_result_that_lacks_its_mask_is_refused(result, lossless_slide, tmp_path):
    import h5py

    with h5py.File(result, "r+") as file:
        del file["tissue/mask"]
    with pytest.raises(InputError, match=r"out\.h5"):
        write_overlay(result, lossless_slide, tmp_path / "overlay.png")
