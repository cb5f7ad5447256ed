"""Tiles of analysis levels and thumbnails, against the images that the slide was made of."""

from __future__ import annotations

import numpy as np
import pytest

from pyramidai_mpi.base.errors import InputError
from pyramidai_mpi.slides.pyramid import SlidePyramid, read_thumbnail
from pyramidai_mpi.slides.readers.base import UnreadableRegionError
from pyramidai_mpi.slides.readers.openslide_reader import OpenSlideReader
from tests.tiffs import drop_tile, write_slide, zero_tile


def lay(path, *, mpp=0.25, tile_size=64, n_levels=3, **options) -> SlidePyramid:
    return SlidePyramid.build(
        OpenSlideReader(path), mpp, tile_size=tile_size, base_mpp=0.25, scale_factor=2, n_levels=n_levels, **options
    )


def whole_level(pyramid: SlidePyramid, level: int) -> np.ndarray:
    cols, rows = pyramid.grid.shape(level)
    return np.vstack([np.hstack([pyramid.read_tile(level, col, row) for col in range(cols)]) for row in range(rows)])


def covered(n_out: int, ratio: float, n_in: int) -> np.ndarray:
    """(n_out, n_in) share of each source pixel in the area of each output pixel."""
    edges = np.arange(n_in + 1)
    return np.array([np.diff(np.clip(edges, i * ratio, (i + 1) * ratio)) for i in range(n_out)]) / ratio


def area_means(image: np.ndarray, ratio: float) -> np.ndarray:
    height, width = int(image.shape[0] / ratio), int(image.shape[1] / ratio)
    down, across = covered(height, ratio, image.shape[0]), covered(width, ratio, image.shape[1])
    return np.einsum("jr,ic,rck->jik", down, across, image.astype(float), optimize=True)


@pytest.mark.parametrize("level", [0, 1, 2])
def test_levels_of_a_snapped_slide_are_the_stored_images_on_white(lossless_slide, stored_images, level):
    found = whole_level(lay(lossless_slide, tile_size=100), level)
    image = stored_images[level]
    assert (found[: image.shape[0], : image.shape[1]] == image).all()
    assert (found[image.shape[0] :] == 255).all()
    assert (found[:, image.shape[1] :] == 255).all()


@pytest.mark.parametrize(("mpp", "levels"), [(0.23, 3), (0.2, 3), (0.17, 2)])
def test_levels_of_any_other_slide_are_area_means_of_the_nearest_finer_stored_image(
    lossless_slide, stored_images, mpp, levels
):
    pyramid = lay(lossless_slide, mpp=mpp, n_levels=levels)
    for level in range(levels):
        expected = area_means(stored_images[level], 0.25 / mpp)
        found = whole_level(pyramid, level)[: expected.shape[0], : expected.shape[1]]
        assert np.abs(found - expected).max() <= 1


def test_a_level_between_stored_ones_is_the_block_mean(tmp_path, stored_images):
    path = write_slide(tmp_path / "aperio-like.tif", stored_images[::2], compression="zlib")
    found = whole_level(lay(path), 1)
    blocks = stored_images[0].reshape(384, 2, 512, 2, 3).astype(int).sum(axis=(1, 3))
    assert (found[:384, :512] == (blocks + 2) // 4).all()


@pytest.mark.parametrize("mpp", [0.125, 0.17, 0.2, 0.23, 0.25, 0.27])
def test_one_large_tile_and_four_small_ones_hold_identical_bytes(lossless_slide, mpp):
    large, small = lay(lossless_slide, mpp=mpp, tile_size=64), lay(lossless_slide, mpp=mpp, tile_size=32)
    for level in range(3):
        cols, rows = large.grid.shape(level)
        for col, row in {(0, 0), (cols // 2, rows // 2), (cols - 1, rows - 1), (cols - 1, 0)}:
            four = [[small.read_tile(level, 2 * col + i, 2 * row + j) for i in (0, 1)] for j in (0, 1)]
            assert large.read_tile(level, col, row).tobytes() == np.vstack([np.hstack(pair) for pair in four]).tobytes()


def test_upsampling_needs_leave_and_then_keeps_the_picture(lossless_slide, stored_images):
    with pytest.raises(InputError, match=r"lossless\.tif.*--allow-upsampling"):
        lay(lossless_slide, mpp=0.499)
    enlarged = lay(lossless_slide, mpp=0.499, allow_upsampling=True)
    assert (whole_level(enlarged, 1)[:768, :1024] == stored_images[0]).all()
    twice = whole_level(enlarged, 0)[: 768 * 2, : 1024 * 2]
    means = twice.reshape(768, 2, 1024, 2, 3).mean(axis=(1, 3))
    # the mean of a pixel's four copies is a blur of [1 6 1] / 8 a way
    image = stored_images[0].astype(float)
    across = (image[:, :-2] + 6 * image[:, 1:-1] + image[:, 2:]) / 8
    blurred = (across[:-2] + 6 * across[1:-1] + across[2:]) / 8
    assert np.abs(means[1:-1, 1:-1] - blurred).max() <= 1


@pytest.mark.parametrize("mpp", [0.25, 0.23])
@pytest.mark.parametrize("way", [zero_tile, drop_tile])
def test_a_tile_over_damage_is_unreadable_at_the_level_that_is_read_from_it(slide, way, mpp):
    way(slide, 3, 2)
    pyramid = lay(slide, mpp=mpp)
    ratio = 0.25 / mpp
    unreadable, touching = set(), set()
    cols, rows = pyramid.grid.shape(0)
    for row in range(rows):
        for col in range(cols):
            left, top = col * 64 * ratio, row * 64 * ratio
            if left < 512 and left + 64 * ratio > 384 and top < 384 and top + 64 * ratio > 256:
                touching.add((col, row))
            try:
                pyramid.read_tile(0, col, row)
            except UnreadableRegionError:
                unreadable.add((col, row))
    assert unreadable == touching
    whole_level(pyramid, 1)


@pytest.mark.parametrize("downsample", [4, 8, 16, 32])
def test_a_thumbnail_is_the_block_mean_of_the_slide(lossless_slide, stored_images, downsample):
    rgb, readable, _ = read_thumbnail(OpenSlideReader(lossless_slide), downsample)
    assert readable.all()
    image = stored_images[0]
    expected = image.reshape(768 // downsample, downsample, 1024 // downsample, downsample, 3).mean(axis=(1, 3))
    assert rgb.shape == expected.shape
    # the stored levels in between are rounded themselves
    assert np.abs(rgb - expected).max() <= 1.5


def test_a_thumbnail_covers_the_last_partial_pixel(lossless_slide):
    rgb, readable, _ = read_thumbnail(OpenSlideReader(lossless_slide), 30.5)
    assert rgb.shape == (26, 34, 3)
    assert readable.shape == (26, 34)
    assert readable.all()


@pytest.mark.parametrize("way", [zero_tile, drop_tile])
def test_a_thumbnail_says_what_could_not_be_read_and_little_more(tmp_path, stored_images, way):
    path = write_slide(tmp_path / "one-level.tif", stored_images[:1])
    way(path, 3, 2)
    _, readable, _ = read_thumbnail(OpenSlideReader(path), 16)
    assert not readable[16:24, 24:32].any()
    assert readable[:12].all()
    assert readable[28:].all()
    assert readable[:, :20].all()
    assert readable[:, 36:].all()


@pytest.mark.parametrize("way", [zero_tile, drop_tile])
def test_a_thumbnail_pixel_of_which_a_part_could_not_be_read_is_not_readable(tmp_path, stored_images, way):
    path = write_slide(tmp_path / "one-level.tif", stored_images[:1])
    way(path, 3, 2)
    _, readable, _ = read_thumbnail(OpenSlideReader(path), 20)
    # the stored tile spans pixels 384..511 and 256..383
    assert not readable[12:20, 19:26].any()


@pytest.mark.real
def test_a_reduced_thumbnail_of_a_real_slide_resembles_pillows(real_slides):
    from PIL import Image

    reader = OpenSlideReader(real_slides / "CMU-1-Small-Region.svs")
    rgb, *_ = read_thumbnail(reader, 16)
    full = Image.fromarray(reader.read((0, 0), 0, (2208, 2960)))
    expected = np.asarray(full.resize((138, 185), Image.Resampling.BOX)).astype(int)
    assert np.abs(rgb[:185, :138] - expected).max() <= 1


@pytest.mark.parametrize("mpp", [0.25, 0.23, 0.17, 0.26], ids=["as stored", "shrunk", "shrunk more", "enlarged"])
def test_a_window_holds_the_very_bytes_of_the_tiles_that_it_lies_over(lossless_slide, mpp):
    pyramid = lay(lossless_slide, mpp=mpp, tile_size=64, n_levels=2, allow_upsampling=True)
    for level in (0, 1):
        whole = whole_level(pyramid, level)
        for left, top, width, height in ((0, 0, 64, 64), (64, 128, 64, 64), (37, 11, 150, 90), (60, 3, 5, 200)):
            found = pyramid.read_window(level, (left, top), (width, height))
            np.testing.assert_array_equal(found, whole[top : top + height, left : left + width])


def test_a_window_is_white_where_it_reaches_beyond_the_slide(lossless_slide, stored_images):
    found = lay(lossless_slide).read_window(0, (-20, -30), (100, 120))
    assert (found[:30] == 255).all()
    assert (found[:, :20] == 255).all()
    np.testing.assert_array_equal(found[30:, 20:], stored_images[0][:90, :80])
