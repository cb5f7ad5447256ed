"""What is shown of the slide are its pixels, at every zoom; what cannot be read is never white."""

from __future__ import annotations

import io
from dataclasses import replace

import numpy as np
import openslide
import pytest
from PIL import Image

from pyramidai_mpi.slides.identity import quickhash
from pyramidai_mpi.view.colours import UNREADABLE_DARK, UNREADABLE_LIGHT
from pyramidai_mpi.view.opening import open_view
from pyramidai_mpi.view.readers import SlideReaders
from pyramidai_mpi.view.tiles import TILE, Part
from tests.results import result_of, write_file
from tests.tiffs import write_slide, zero_tile


def block_means(image: np.ndarray, n: int) -> np.ndarray:
    height, width = image.shape[0] // n * n, image.shape[1] // n * n
    return image[:height, :width].reshape(height // n, n, width // n, n, 3).mean(axis=(1, 3))


def seen(body: bytes, kind: str) -> np.ndarray:
    with Image.open(io.BytesIO(body)) as picture:
        assert picture.format == kind
        return np.asarray(picture)


def all_parts(tiles, zoom):
    found = []
    for row in range(100):
        line = [tiles.part(zoom, col, row) for col in range(100)]
        if line[0] is None:
            break
        found.append([part for part in line if part is not None])
    return found


@pytest.mark.parametrize("zoom", [0, 1])
def test_view_tiles_side_by_side_are_the_stored_image(view, stored_images, zoom):
    lines = [np.hstack([view.tiles.slide_pixels(part) for part in line]) for line in all_parts(view.tiles, zoom)]
    assert np.array_equal(np.vstack(lines), stored_images[zoom])


def test_a_zoom_between_stored_levels_is_the_block_mean_of_the_finer_one(tmp_path, stored_images, made):
    slide = write_slide(tmp_path / "two-levels.tif", stored_images[::2], compression="zlib")  # 1 and 1/4
    named = replace(made, slide=replace(made.slide, quickhash=quickhash(slide)))
    with open_view(write_file(tmp_path / "out.h5", named), slide) as view:
        found = view.tiles.slide_pixels(view.tiles.part(1, 0, 0))
    assert np.abs(found - block_means(stored_images[0], 2)).max() <= 1


def test_what_is_served_is_those_pixels_but_for_the_loss_of_jpeg(view, stored_images):
    served = seen(view.tiles.slide(view.tiles.part(0, 1, 0)), "JPEG").astype(int)
    expected = stored_images[0][:TILE, TILE : 2 * TILE]
    assert served.shape == expected.shape
    assert np.abs(served - expected).mean() < 5  # every pixel has a colour of its own
    means = np.abs(block_means(served, 32) - block_means(expected, 32))
    assert means.max() < 2


def test_the_last_zoom_is_one_view_tile_and_beyond_there_is_none(view):
    assert (view.tiles.n_zooms, len(all_parts(view.tiles, 1)[0])) == (2, 1)
    assert view.tiles.part(2, 0, 0) is None
    assert view.tiles.part(0, 2, 0) is None
    assert view.tiles.part(0, 0, 2) is None


def test_a_thumbnail_of_a_tile_shows_that_tile(view, stored_images, made):
    level = made.tree.levels[0]
    col, row = (int(n) for n in level.index[len(level) // 2])
    served = seen(view.tiles.thumbnail(0, col, row), "JPEG").astype(float)
    tile = stored_images[0][row * 64 : (row + 1) * 64, col * 64 : (col + 1) * 64]
    assert np.abs(served.mean(axis=(0, 1)) - tile.mean(axis=(0, 1))).max() < 3
    assert view.tiles.thumbnail(0, 31, 0) is None  # nothing was analysed there


def test_what_cannot_be_read_is_striped_and_the_rest_is_shown(tmp_path, made, slide, stored_images):
    zero_tile(slide, 1, 1)  # 128 x 128 pixels from (128, 128) on
    named = replace(made, slide=replace(made.slide, quickhash=quickhash(slide)))
    with open_view(write_file(tmp_path / "out.h5", named), slide) as view:
        pixels = view.tiles.slide_pixels(view.tiles.part(0, 0, 0))
    hole = np.s_[128:256, 128:256]
    colours = {tuple(colour) for colour in np.unique(pixels[hole].reshape(-1, 3), axis=0).tolist()}
    assert colours == {UNREADABLE_DARK, UNREADABLE_LIGHT}
    pixels[hole] = stored_images[0][hole]
    assert np.abs(pixels - stored_images[0][:TILE, :TILE].astype(int)).mean() < 5  # of JPEG
    assert not (pixels == 255).all(axis=2).any()


def test_without_its_slide_the_tissue_mask_is_shown(tmp_path):
    mask = np.zeros((24, 32), bool)
    mask[8:16, 8:24] = True
    with open_view(write_file(tmp_path / "out.h5", result_of(mask))) as view:
        assert view.tiles.readers is None
        assert "not beside its result" in view.note
        picture = seen(view.tiles.slide(Part(32, 0, 0, 32, 24)), "PNG")
        assert view.tiles.thumbnail(0, 8, 8) is None
    assert np.array_equal((picture != 255).any(axis=2), mask)


@pytest.mark.real
@pytest.mark.parametrize("name", ["CMU-1-Small-Region.svs", "tcga-cr-7395-01a-01-ts1.svs"])
def test_pictures_of_label_and_glass_are_never_asked_for(tmp_path, real_slides, monkeypatch, name):
    """Names of patients are written there."""
    slide = real_slides / name
    with openslide.OpenSlide(slide) as opened:
        assert len(opened.associated_images) > 0
        size = opened.dimensions

    def asked(*arguments):
        raise AssertionError("an associated image was asked for")

    monkeypatch.setattr(openslide.OpenSlide, "associated_images", property(asked))
    monkeypatch.setattr(openslide.lowlevel, "read_associated_image", asked)
    with open_view(write_file(tmp_path / "out.h5", result_of(np.ones((10, 10), bool)))) as view:
        header = replace(view.tiles.header, slide=replace(view.tiles.header.slide, l0_size=size))
    readers = SlideReaders(slide)
    tiles = replace(view.tiles, header=header, readers=readers)
    served = [tiles.slide(part) for zoom in range(tiles.n_zooms) for line in all_parts(tiles, zoom) for part in line]
    readers.close()
    assert len(served) > 10


@pytest.mark.real
@pytest.mark.parametrize("zoom", [0, 3, 5])
def test_a_real_slide_is_shown_as_openslide_reads_it(lymph_node, zoom):
    result, slide = lymph_node
    with open_view(result, slide) as view, openslide.OpenSlide(slide) as opened:
        col, row = 7 >> zoom, 14 >> zoom
        part = view.tiles.part(zoom, col, row)
        found = view.tiles.slide_pixels(part)
        size = (part.right - part.left, part.bottom - part.top)
        assert round(opened.level_downsamples[zoom]) == 1 << zoom
        region = opened.read_region((part.left << zoom, part.top << zoom), zoom, size)
    difference = np.abs(found.astype(int) - np.asarray(region)[..., :3])
    # OpenSlide places reduced levels whose size was rounded at fractions of a pixel
    assert difference.max() == 0 if zoom == 0 else difference.mean() < 3
