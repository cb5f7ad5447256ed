"""Levels of odd size: their own pixels, as another library decodes them, whatever the cut and the reader."""

from __future__ import annotations

import numpy as np
import openslide
import pytest
import tifffile
from hypothesis import given, settings
from hypothesis import strategies as st

from pyramidai_mpi.base.errors import InputError
from pyramidai_mpi.slides.pyramid import SlidePyramid, read_thumbnail
from pyramidai_mpi.slides.readers import tile_codecs
from pyramidai_mpi.slides.readers.base import MISSING, THERE, UnreadableRegionError
from pyramidai_mpi.slides.readers.choice import open_slide
from pyramidai_mpi.slides.readers.trial import try_opening
from pyramidai_mpi.testing.contracts import check_reader, check_reader_on_damage
from tests.patch_files import order_of, write_patches_of
from tests.slides.test_tiff_reader import FORMATS, as_aperio, regions, write_format
from tests.tiffs import STORED_TILE, drop_tile, halved, textured, write_slide, zero_tile

READERS = ("auto", "tiff", "openslide")
SIZE = (1001, 663)


def filled_up(image):
    """2 x 2 block means, rounded; an odd last row or column counts twice."""
    height, width = image.shape[:2]
    return halved(np.pad(image, ((0, height % 2), (0, width % 2), (0, 0)), mode="edge"))


def reduced(width, height, steps, seed=0):
    """A slide's levels, finest first; each step says how the next one is made."""
    images = [textured(width, height, seed)]
    for step in steps:
        images.append(step(images[-1]))
    return images


def part_of(image, corner, size):
    """A region of an array, white outside."""
    (left, top), (width, height) = corner, size
    out = np.full((height, width, 3), 255, np.uint8)
    rows, cols = np.arange(top, top + height), np.arange(left, left + width)
    inside_y, inside_x = (rows >= 0) & (rows < image.shape[0]), (cols >= 0) & (cols < image.shape[1])
    out[np.ix_(inside_y, inside_x)] = image[np.ix_(rows[inside_y], cols[inside_x])]
    return out


def decoded(path):
    """All pages, as tifffile decodes them."""
    with tifffile.TiffFile(path) as tiff:
        return [page.asarray() for page in tiff.pages]


@pytest.fixture(scope="module")
def odd_slide(tmp_path_factory):
    """Levels of 1001 x 663, 500 x 331 and 250 x 165 pixels, without loss; no test changes it."""
    images = reduced(*SIZE, [halved, halved])
    return write_slide(tmp_path_factory.mktemp("odd") / "odd.tif", images, compression="zlib")


@pytest.mark.parametrize("reader", READERS)
@pytest.mark.parametrize("how", FORMATS.values(), ids=FORMATS)
def test_every_region_is_bit_for_bit_what_tifffile_decodes(tmp_path, how, reader):
    path = write_format(tmp_path / "slide.tif", reduced(*SIZE, [halved, filled_up]), **how)
    slide = open_slide(path, reader)
    assert (slide.info.odd_levels, slide.info.stored_exact) == ("own", (True, True, True))
    assert slide.info.reader == {"auto": "tiff"}.get(reader, reader)
    for level, image in list(enumerate(decoded(path)))[1:]:
        for x, y, width, height in regions(slide.info.stored_sizes[level], seed=level):
            where = ((x * 2**level, y * 2**level), level, (width, height))
            expected = part_of(image, (x, y), (width, height))
            pixels, there = slide.read_what_is_there(*where)
            assert (slide.read(*where) == expected).all(), where
            assert (pixels == expected).all()
            assert (there == THERE).all()


@pytest.mark.real
@pytest.mark.parametrize("name", ["tcga-cr-7395-01a-01-ts1.svs", "BRACS_1640_N_3_cropped.tiff", "BS9-HE2.tif"])
def test_of_real_slides_the_levels_are_what_tifffile_decodes(real_slides, name):
    path = real_slides / name
    slide = open_slide(path)
    assert slide.info.odd_levels == "own"
    with tifffile.TiffFile(path) as tiff:
        pages = {(page.imagewidth, page.imagelength): page for page in tiff.pages if page.is_tiled}
        for level, size in list(enumerate(slide.info.stored_sizes))[1:]:
            if size[0] * size[1] < 5_000_000:
                assert (slide.read((0, 0), level, size) == pages[size].asarray()).all()


@settings(max_examples=40, deadline=None)
@given(
    width=st.integers(801, 1201),
    height=st.integers(801, 1201),
    steps=st.lists(st.sampled_from([halved, filled_up]), min_size=1, max_size=2),
    tile=st.integers(17, 600),
    reader=st.sampled_from(READERS),
    stored=st.sampled_from([64, 128, 208]),
)
def test_a_tile_is_its_square_of_the_level_for_any_size_and_cut(
    tmp_path_factory, width, height, steps, tile, reader, stored
):
    path = tmp_path_factory.mktemp("any") / "slide.tif"
    images = reduced(width, height, steps, seed=width)
    with tifffile.TiffWriter(path) as tiff:
        for n, image in enumerate(images):
            tiff.write(image, tile=(stored, stored), photometric="rgb", compression="zlib", subfiletype=int(n > 0),
                       metadata=None)  # fmt: skip
    slide = open_slide(path, reader)
    pyramid = SlidePyramid.build(slide, 1.0, tile_size=tile, base_mpp=1.0, scale_factor=2, n_levels=len(images))
    assert [plan.ratio for plan in pyramid.plans] == [1.0] * len(images)
    for level, image in enumerate(images):
        cols, rows = pyramid.grid.shape(level)
        assert cols * tile * 2**level >= width > (cols - 1) * tile * 2**level  # the nominal grid, as of exact levels
        for col in {0, cols // 2, cols - 1}:
            for row in {0, rows - 1}:
                expected = part_of(image, (col * tile, row * tile), (tile, tile))
                assert (pyramid.read_tile(level, col, row) == expected).all()
    slide.close()


@pytest.mark.parametrize("reader", READERS)
def test_interpolated_is_what_openslide_reads_at_those_corners(odd_slide, reader):
    slide = open_slide(odd_slide, reader, odd_levels="interpolated")
    assert (slide.info.odd_levels, slide.info.stored_exact) == ("", (True, False, False))
    own = open_slide(odd_slide, reader)
    differ = 0
    with openslide.OpenSlide(odd_slide) as reference:
        for level in (1, 2):
            for x, y in [(0, 0), (64, 32), (100, 90)]:
                corner = (x * 2**level, y * 2**level)
                expected = np.asarray(reference.read_region(corner, level, (60, 50)))[..., :3]
                assert (slide.read(corner, level, (60, 50)) == expected).all()
                differ += int((own.read(corner, level, (60, 50)) != expected).any())
    assert differ > 0


@pytest.mark.parametrize("reader", READERS)
def test_it_keeps_the_contract_and_survives_the_trial(odd_slide, reader):
    check_reader(lambda: open_slide(odd_slide, reader))
    for odd_levels in ("own", "interpolated"):
        with try_opening(odd_slide, reader, odd_levels) as trial:
            assert trial.check() == ""


@pytest.mark.parametrize("reader", READERS)
@pytest.mark.parametrize(("hurt", "reason"), [(zero_tile, "ends in zeros"), (drop_tile, "is not in the file")])
def test_a_damaged_tile_is_unreadable_with_its_place_and_no_other_is(tmp_path, hurt, reason, reader):
    path = write_slide(tmp_path / "slide.tif", reduced(*SIZE, [halved]), compression="zlib")
    image = decoded(path)[1]
    hurt(path, 2, 1, page=1)
    corner, side = (2 * STORED_TILE * 2, STORED_TILE * 2), STORED_TILE
    damaged, sound = (corner, 1, (64, 64)), ((0, 0), 1, (64, 64))
    check_reader_on_damage(lambda: open_slide(path, reader), damaged, sound)
    slide = open_slide(path, reader)
    with pytest.raises(UnreadableRegionError, match=rf"column 2, row 1 of stored level 1 {reason}"):
        slide.read(*damaged)
    pixels, there = slide.read_what_is_there((0, 0), 1, image.shape[1::-1])
    hole = np.zeros(image.shape[:2], bool)
    hole[side : 2 * side, 2 * side : 3 * side] = True
    assert ((there == MISSING) == hole).all()
    assert (pixels == np.where(hole[..., None], 255, image)).all()


def test_bytes_that_no_decoder_takes_are_unreadable(tmp_path):
    path = write_slide(tmp_path / "slide.tif", reduced(*SIZE, [halved]))
    with tifffile.TiffFile(path) as tiff:
        offset, count = tiff.pages[1].dataoffsets[5], tiff.pages[1].databytecounts[5]
    with path.open("r+b") as file:  # the end stays: nothing is known to be wrong before it is decoded
        file.seek(offset + count // 2)
        file.write(b"\xff\xd0" * (count // 8))
    with pytest.raises(UnreadableRegionError, match=r"column 1, row 1 of stored level 1 is damaged"):
        open_slide(path).read((2 * STORED_TILE, 2 * STORED_TILE), 1, (9, 9))


def write_with_alpha(path):
    images = reduced(*SIZE, [halved])
    with tifffile.TiffWriter(path) as tiff:
        for n, image in enumerate(images):
            rgba = np.dstack([image, np.full(image.shape[:2], 255, np.uint8)])
            tiff.write(rgba, tile=(STORED_TILE, STORED_TILE), photometric="rgb", extrasamples=["unassalpha"],
                       compression="zlib", subfiletype=int(n > 0), metadata=None)  # fmt: skip
    return path


def write_lzw(path):
    return write_format(path, reduced(*SIZE, [halved]), compression="lzw", photometric="rgb")


def write_squeezed(path):
    image = textured(*SIZE)
    columns = np.rint(np.linspace(0, 1000, 498)).astype(int)  # 2.5 pixels less than half
    return write_slide(path, [image, image[::2][:331, columns]], compression="zlib")


@pytest.mark.parametrize("write", [write_with_alpha, write_lzw, write_squeezed], ids=lambda one: one.__name__)
def test_levels_whose_own_pixels_cannot_be_had_stay_interpolated_with_every_reader(tmp_path, write):
    path = write(tmp_path / "slide.tif")
    found = []
    for reader in ("auto", "openslide"):
        slide = open_slide(path, reader)
        assert slide.info.odd_levels == ""
        assert slide.info.stored_exact == (True, False)
        found.append(slide.read((128, 64), 1, (99, 77)))
    with openslide.OpenSlide(path) as reference:
        expected = np.asarray(reference.read_region((128, 64), 1, (99, 77)))[..., :3]
    assert (found[0] == expected).all()
    assert (found[1] == expected).all()


def test_an_aperio_slide_that_lacks_tiles_stays_interpolated(tmp_path):
    images = reduced(*SIZE, [halved])
    path = as_aperio(tmp_path / "slide.svs", images[0], compression="jpeg", photometric="rgb")
    with tifffile.TiffWriter(path, append=True) as tiff:
        tiff.write(images[1], tile=(STORED_TILE, STORED_TILE), compression="jpeg", photometric="rgb", metadata=None,
                   description="Aperio Image Library v10.0.51\r\n1024x768")  # fmt: skip
    assert open_slide(path).info.odd_levels == "own"
    drop_tile(path, 1, 1, page=1)
    assert open_slide(path).info.odd_levels == ""


def test_levels_that_are_resampled_come_from_odd_ones_and_the_cut_does_not_show(odd_slide):
    slide = open_slide(odd_slide)
    pyramid = SlidePyramid.build(slide, 1.0, tile_size=30, base_mpp=6.0, scale_factor=2, n_levels=1)
    (plan,) = pyramid.plans
    assert (plan.stored_level, plan.ratio) == (2, 1.5)
    whole = pyramid.read_window(0, (10, 20), (90, 60))
    for x in range(0, 90, 30):
        for y in range(0, 60, 20):
            assert (pyramid.read_window(0, (10 + x, 20 + y), (30, 20)) == whole[y : y + 20, x : x + 30]).all()
    twice = SlidePyramid.build(slide, 1.0, tile_size=30, base_mpp=12.0, scale_factor=3, n_levels=1)
    assert (twice.plans[0].stored_level, twice.plans[0].ratio) == (2, 3.0)
    image = decoded(odd_slide)[2][:165, :249].astype(int).reshape(55, 3, 83, 3, 3)
    means = (2 * image.sum(axis=(1, 3)) + 9) // 18
    assert (twice.read_window(0, (0, 0), (83, 55)) == means).all()


def test_thumbnails_do_not_depend_on_the_blocks_that_are_read(odd_slide):
    slide = open_slide(odd_slide)
    large, small = (read_thumbnail(slide, 5.0, block=block) for block in (64, 13))
    assert all((one == other).all() for one, other in zip(large, small, strict=True))
    assert large[1].all()


def test_a_missing_decoder_is_an_error_and_no_other_pixels(odd_slide, monkeypatch):
    def missing(*_, **__):
        raise ImportError("No module named 'deflate'")

    monkeypatch.setattr(tile_codecs, "deflate_decoder", missing)
    for reader in READERS:
        with pytest.raises(InputError, match=r"odd\.tif: has levels of odd size, .*--odd-levels interpolated"):
            open_slide(odd_slide, reader)
    assert open_slide(odd_slide, odd_levels="interpolated").info.reader == "openslide"


def test_a_file_of_patches_keeps_tiles_of_an_odd_level(odd_slide, tmp_path):
    path = write_patches_of(odd_slide, tmp_path / "a.patches.h5", order_of(64, 64, level=1))
    kept = open_slide(path)
    assert (kept.info.odd_levels, kept.info.stored_exact) == ("own", (True,))
    assert (kept.read((0, 0), 0, (500, 331)) == decoded(odd_slide)[1]).all()
    with pytest.raises(InputError, match="leave out --odd-levels interpolated"):
        open_slide(path, odd_levels="interpolated")
