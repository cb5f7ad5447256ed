"""The pictures show this slide and this result, or are not made."""

from __future__ import annotations

import io
import xml.etree.ElementTree as ElementTree
from dataclasses import replace

import h5py
import numpy as np
import pytest
from PIL import Image

from pyramidai_mpi.base.errors import InputError, OutputExistsError, StorageError
from pyramidai_mpi.export.deepzoom import write_deepzoom
from pyramidai_mpi.export.overlay import panels_side_by_side, scale_bar, write_overlay
from pyramidai_mpi.export.picture import look_colour, open_picture, score_colour
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


def through_jpeg(picture):
    """What a picture looks like after the loss of JPEG, which is large where every pixel has another colour."""
    stream = io.BytesIO()
    picture.save(stream, format="JPEG", quality=85)
    with Image.open(stream) as seen:
        return np.asarray(seen)


def drawn(result, slide, kind):
    with open_picture(result, slide) as picture:
        assert picture.size == (32, 24)
        return getattr(picture, kind)(0, 24).astype(int)


@pytest.mark.parametrize("kind", ["overlay", "look"])
def test_what_is_no_tissue_is_shown_as_it_is_and_tissue_is_tinted(result, lossless_slide, stored_images, mask, kind):
    pixels = drawn(result, lossless_slide, kind)
    thumbnail = stored_images[0].reshape(24, 32, 32, 32, 3).mean(axis=(1, 3))
    differs = np.abs(pixels - thumbnail).max(axis=2) > 2
    assert not differs[~mask].any()
    assert differs[mask].mean() > 0.9


@pytest.mark.parametrize("kind", ["overlay", "look", "slide"])
def test_a_picture_in_bands_is_the_whole_picture(result, lossless_slide, kind):
    with open_picture(result, lossless_slide, downsample=5) as picture:
        draw, height = getattr(picture, kind), picture.size[1]
        whole = draw(0, height)
        bands = [draw(top, min(top + 37, height)) for top in range(0, height, 37)]
    assert np.array_equal(np.concatenate(bands), whole)


def test_without_the_slide_the_tissue_mask_is_drawn(result, mask):
    pixels = drawn(result, None, "overlay")
    assert (pixels[~mask] == 255).all()
    assert (pixels[mask] != 255).any(axis=1).all()


def test_colours_go_from_blue_over_yellow_to_red():
    low, middle, high = score_colour(np.array([0, 0.5, 1]))
    assert low[2] > low[0] + 50
    assert high[0] > high[2] + 50
    assert min(middle[0], middle[1]) > middle[2] + 50


def test_every_level_has_a_colour_of_its_own():
    colours = look_colour(np.arange(5), 5)
    apart = np.abs(colours[:, None] - colours[None]).sum(axis=2)
    assert apart[~np.eye(5, dtype=bool)].min() > 60


def test_the_png_holds_both_panels_and_nothing_else_is_left(result, lossless_slide, tmp_path):
    write_overlay(result, tmp_path / "overlay.png", lossless_slide)
    with Image.open(tmp_path / "overlay.png") as picture:
        assert picture.format == "PNG"
        pixels = np.asarray(picture.convert("RGB")).astype(int)
    # a slide of 1024 x 768 is shown pixel by pixel; wide panels stand below each other
    assert pixels.shape[1] == 1024
    assert pixels.shape[0] > 2 * 768
    with open_picture(result, lossless_slide, downsample=1) as shown:
        assert np.array_equal(pixels[:768], shown.overlay(0, 768))
        second = pixels.shape[0] // 2
        assert np.array_equal(pixels[second : second + 768], shown.look(0, 768))
    assert sorted(path.name for path in tmp_path.iterdir()) == ["out.h5", "overlay.png"]


def test_tall_panels_stand_beside_each_other():
    assert panels_side_by_side(1000, 2000)
    assert not panels_side_by_side(2000, 1000)


@pytest.mark.parametrize(
    ("um_px", "width", "length", "label"),
    [(0.25, 1000, 200, "50 um"), (8, 986, 125, "1 mm"), (0.4, 100, 12, "5 um"), (30, 1000, 167, "5 mm")],
)
def test_the_scale_bar_has_a_round_length_below_a_fifth_of_the_width(um_px, width, length, label):
    assert scale_bar(um_px, width) == (length, label)


def test_deep_zoom_tiles_make_up_the_picture_at_every_level(result, lossless_slide, tmp_path):
    write_deepzoom(result, tmp_path / "zoom", lossless_slide)
    root = ElementTree.parse(tmp_path / "zoom" / "overlay.dzi").getroot()
    size = root.find("{http://schemas.microsoft.com/deepzoom/2008}Size")
    assert (root.get("TileSize"), root.get("Overlap"), root.get("Format")) == ("256", "0", "jpeg")
    assert (size.get("Width"), size.get("Height")) == ("128", "96")
    with open_picture(result, lossless_slide, downsample=8) as picture:
        whole = Image.fromarray(picture.overlay(0, 96))
    folders = {int(folder.name): folder for folder in (tmp_path / "zoom" / "overlay_files").iterdir()}
    assert sorted(folders) == list(range(8))
    for level, folder in folders.items():
        expected = whole.resize((max(1, 128 >> 7 - level), max(1, 96 >> 7 - level)), Image.Resampling.BOX)
        with Image.open(folder / "0_0.jpeg") as tile:
            assert tile.size == (max(1, 128 >> 7 - level), -(-96 // 2 ** (7 - level)))
            if level >= 5:
                difference = np.asarray(tile).astype(int) - through_jpeg(expected).astype(int)
                assert np.abs(difference).mean() < 4


def test_deep_zoom_of_a_large_picture_is_cut_into_tiles(tmp_path):
    path = write_file(tmp_path / "out.h5", result_of(np.random.default_rng(0).random((300, 700)) < 0.1))
    write_deepzoom(path, tmp_path / "zoom")
    files = {each.relative_to(tmp_path / "zoom/overlay_files").as_posix() for each in tmp_path.rglob("*.jpeg")}
    assert {name for name in files if name.startswith("10/")} == {
        f"10/{c}_{r}.jpeg" for c in range(3) for r in range(2)
    }
    assert {name for name in files if name.startswith("9/")} == {"9/0_0.jpeg", "9/1_0.jpeg"}
    with Image.open(tmp_path / "zoom/overlay_files/10/2_1.jpeg") as corner:
        assert corner.size == (700 - 512, 300 - 256)


def test_a_deep_zoom_folder_is_replaced_on_request_and_another_folder_never(result, tmp_path):
    write_deepzoom(result, tmp_path / "zoom")
    with pytest.raises(OutputExistsError, match="--overwrite"):
        write_deepzoom(result, tmp_path / "zoom")
    write_deepzoom(result, tmp_path / "zoom", overwrite=True)
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "thesis.txt").write_text("long")
    with pytest.raises(OutputExistsError, match="something else"):
        write_deepzoom(result, tmp_path / "mine", overwrite=True)
    assert (tmp_path / "mine" / "thesis.txt").read_text() == "long"
    assert sorted(path.name for path in tmp_path.iterdir()) == ["mine", "out.h5", "zoom"]


def test_the_slide_of_another_result_is_refused(result, slide, tmp_path):
    with pytest.raises(InputError, match=r"slide\.tif.*out\.h5") as caught:
        write_overlay(result, tmp_path / "overlay.png", slide)
    assert "\n" not in str(caught.value)
    assert not (tmp_path / "overlay.png").exists()


def test_a_missing_slide_is_refused(result, tmp_path):
    with pytest.raises(InputError, match="gone"):
        write_overlay(result, tmp_path / "overlay.png", tmp_path / "gone.tif")


def test_an_existing_picture_is_kept_unless_told_otherwise(result, tmp_path):
    target = tmp_path / "overlay.png"
    target.write_text("mine")
    with pytest.raises(OutputExistsError, match=r"overlay\.png"):
        write_overlay(result, target)
    assert target.read_text() == "mine"
    write_overlay(result, target, overwrite=True)
    with Image.open(target) as picture:
        assert picture.format == "PNG"


@pytest.mark.parametrize("write", [write_overlay, write_deepzoom])
def test_a_failed_write_leaves_nothing(result, tmp_path, monkeypatch, write):
    def full(*_args, **_kwargs):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(Image.Image, "save", full)
    with pytest.raises(StorageError, match="No space left") as caught:
        write(result, tmp_path / "picture")
    assert caught.value.exit_code == 74
    assert [path.name for path in tmp_path.iterdir()] == ["out.h5"]


@pytest.mark.parametrize("write", [write_overlay, write_deepzoom])
def test_a_result_that_lacks_its_mask_is_refused(result, tmp_path, write):
    with h5py.File(result, "r+") as file:
        del file["tissue/mask"]
    with pytest.raises(InputError, match=r"out\.h5"):
        write(result, tmp_path / "picture")
    assert [path.name for path in tmp_path.iterdir()] == ["out.h5"]


def test_a_missing_folder_is_named(result, tmp_path):
    with pytest.raises(StorageError, match="nowhere"):
        write_overlay(result, tmp_path / "nowhere" / "overlay.png")
    with pytest.raises(StorageError, match="nowhere"):
        write_deepzoom(result, tmp_path / "nowhere" / "zoom")
