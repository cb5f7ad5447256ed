"""The pictures show this slide and this result, or are not made."""

from __future__ import annotations

import base64
import io
import math
import xml.etree.ElementTree as ElementTree
from dataclasses import replace

import h5py
import numpy as np
import pytest
from PIL import Image, ImageDraw, ImageFont
from scipy import ndimage

from pyramidai_mpi.base.errors import InputError, OutputExistsError, StorageError
from pyramidai_mpi.base.intended_use import claim_of
from pyramidai_mpi.export.contour import CONTOUR, POSITIVE
from pyramidai_mpi.export.deepzoom import write_deepzoom
from pyramidai_mpi.export.layers import score_layer
from pyramidai_mpi.export.overlay import (
    panels_side_by_side,
    scale_bar,
    text_length,
    with_banner,
    write_overlay,
    write_text,
)
from pyramidai_mpi.export.picture import look_colour, open_picture, score_colour
from pyramidai_mpi.slides.identity import quickhash
from tests.colour_vision import least_difference
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
    outlined = (pixels == POSITIVE).all(axis=2)
    assert outlined.any() == (kind == "overlay")
    assert not differs[~mask & ~outlined].any()
    assert differs[mask].mean() > 0.9


def positive_squares(result, downsample):
    """Where the picture shows a positive level-0 tile, pixel by pixel from the file."""
    with h5py.File(result) as file:
        level = file["levels/0"]
        positive = {tuple(index) for index in level["index"][...][level["decision"][...] == 1].tolist()}
        width, height = (math.ceil(extent / downsample) for extent in file["slide"].attrs["dimensions"])
    side = 64
    return np.array(
        [
            [((x + 0.5) * downsample // side, (y + 0.5) * downsample // side) in positive for x in range(width)]
            for y in range(height)
        ]
    )


@pytest.mark.parametrize("downsample", [32, 9, 5])
def test_a_black_line_goes_round_positive_tiles_and_leaves_them_to_be_seen(result, lossless_slide, downsample):
    """The line is what dilation by a pixel adds (scipy), so positive tiles that only scored have none."""
    squares = positive_squares(result, downsample)
    around = ndimage.binary_dilation(squares, np.ones((3, 3))) & ~squares
    with open_picture(result, lossless_slide, downsample=downsample) as picture:
        height = picture.size[1]
        pixels, look = picture.overlay(0, height), picture.look(0, height)
        assert np.array_equal(picture.positive_contour(0, height), around)
    assert around.any()
    assert (pixels[around] == POSITIVE).all()
    assert not (pixels[squares] == POSITIVE).all(axis=1).any()
    assert not (look == POSITIVE).all(axis=2).any()


def test_the_reports_scores_have_the_same_line(result, lossless_slide):
    with open_picture(result, lossless_slide, downsample=8) as picture:
        layer = score_layer(picture)
        expected = picture.positive_contour(0, picture.size[1])
    with Image.open(io.BytesIO(base64.b64decode(layer.uri.partition(",")[2]))) as shown:
        pixels = np.asarray(shown.convert("RGBA"))
    assert np.array_equal((pixels == (*POSITIVE, 255)).all(axis=2), expected)


def test_both_lines_are_told_apart_and_from_the_scores_by_everybody():
    scores = score_colour(np.linspace(0, 1, 5)).round().astype(int).tolist()
    for line in scores:
        assert least_difference([CONTOUR, POSITIVE, line]) > 10
    assert least_difference([CONTOUR, POSITIVE]) > 40


@pytest.mark.parametrize("kind", ["overlay", "look", "slide"])
def test_a_picture_in_bands_is_the_whole_picture(result, lossless_slide, kind):
    with open_picture(result, lossless_slide, downsample=5) as picture:
        draw, height = getattr(picture, kind), picture.size[1]
        whole = draw(0, height)
        bands = [draw(top, min(top + 37, height)) for top in range(0, height, 37)]
    assert np.array_equal(np.concatenate(bands), whole)


def test_without_the_slide_the_tissue_mask_is_drawn(result, mask):
    pixels = drawn(result, None, "overlay")
    outlined = (pixels == POSITIVE).all(axis=2)
    assert (pixels[~mask & ~outlined] == 255).all()
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


def stated(folder, use):
    """A result that says what its model is for, and its picture."""
    made = result_of()
    path = write_file(folder / f"{use}.h5", replace(made, model=replace(made.model, intended_use=use)))
    write_overlay(path, folder / f"{use}.png")
    with Image.open(folder / f"{use}.png") as picture:
        return np.asarray(picture.convert("RGB")).astype(int)


def test_a_banner_as_wide_as_the_picture_says_that_scores_mean_nothing(tmp_path):
    plain, banner = stated(tmp_path, None), stated(tmp_path, "demonstration")
    band = len(banner) - len(plain)
    assert np.array_equal(banner[band:], plain)
    ink = np.flatnonzero((banner[:band].sum(axis=2) < 150).any(axis=0))
    assert ink[-1] - ink[0] > 0.85 * banner.shape[1]
    assert (banner[0] == banner[band - 1]).all()
    assert np.array_equal(stated(tmp_path, "research"), plain)


@pytest.mark.parametrize("width", [300, 480, 900, 1400, 2818, 4000])
def test_no_word_of_the_banner_is_cut_off(width):
    text = claim_of("demonstration")
    whole = np.asarray(with_banner(Image.new("RGB", (width, 50), "white"), text)).astype(int)
    band = len(whole) - 50
    dark = whole[:band].sum(axis=2) < 300
    columns, rows = np.flatnonzero(dark.any(axis=0)), np.flatnonzero(dark.any(axis=1))
    assert columns[0] > 0 and columns[-1] < width - 1
    assert rows[0] > 0 and rows[-1] < band - 1
    assert band >= 18
    lines = np.count_nonzero(np.diff(dark.any(axis=1).astype(int)) == 1)
    assert lines > 1 if width < 500 else lines == 1


def test_tall_panels_stand_beside_each_other():
    assert panels_side_by_side(1000, 2000)
    assert not panels_side_by_side(2000, 1000)


@pytest.mark.parametrize(
    ("um_px", "width", "length", "label"),
    [(0.25, 1000, 200, "50 µm"), (8, 986, 125, "1 mm"), (0.4, 100, 12, "5 µm"), (30, 1000, 167, "5 mm")],
)
def test_the_scale_bar_has_a_round_length_below_a_fifth_of_the_width(um_px, width, length, label):
    assert scale_bar(um_px, width) == (length, label)


@pytest.mark.parametrize("font_px", [12, 18, 40])
def test_a_micrometre_is_written_with_a_letter_that_the_font_lacks(font_px):
    def written(text: str) -> tuple[np.ndarray, float]:
        sheet = Image.new("RGB", (40 * font_px, 3 * font_px), (255, 255, 255))
        draw = ImageDraw.Draw(sheet)
        draw.font = ImageFont.load_default(font_px)
        write_text(draw, (5, 5), text)
        return np.asarray(sheet).min(axis=2) < 128, text_length(draw, text)

    (micro, micro_length), (plain, plain_length) = written("0.25 µm/px"), written("0.25 um/px")
    assert abs(micro_length - plain_length) < 2  # kerning
    only_micro = micro & ~plain
    baseline = np.flatnonzero(written("u")[0].any(axis=1)).max()
    rows, columns = np.nonzero(only_micro)
    assert len(rows) > 0
    assert rows.max() > baseline  # the stroke goes below the line
    assert np.ptp(columns) < font_px / 2  # and is all that differs
    assert (plain & ~micro).sum() < plain.sum() / 4


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
    files = {
        each.relative_to(tmp_path / "zoom/overlay_files").as_posix()
        for each in (tmp_path / "zoom/overlay_files").rglob("*.jpeg")
    }
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
