"""Patches that are kept decoded: the slide's pixels to the bit, or a JPEG of them; never a picture of damage."""

from __future__ import annotations

import io

import numpy as np
import openslide
import pytest
from PIL import Image

from pyramidai_mpi.analyses.base import FAILED_DTYPE
from pyramidai_mpi.analyses.extract import RECORD, Extract
from pyramidai_mpi.base.patch_order import PatchLimits, PatchOrder
from pyramidai_mpi.base.settings import Regions, SlideInput
from pyramidai_mpi.patches.database import open_patches
from pyramidai_mpi.pyramid.tissue import TissueSource
from pyramidai_mpi.run.cells import describe_cells, known_cells, obstacle_to_keeping, open_cells, settings_of
from pyramidai_mpi.run.pool.messages import SlideDescription
from pyramidai_mpi.slides.readers.tile_codecs import encode_jpeg
from tests.patch_files import order_of, read_by_openslide, write_patches_of
from tests.tiffs import drop_tile, textured, write_slide, zero_tail

CODINGS = ["jpeg", "zlib", "lzw", None]
"""Compressions of a slide; no decoder of ours takes LZW."""


@pytest.fixture(scope="module", params=CODINGS, ids=str)
def pair(request, tmp_path_factory, stored_images):
    """A slide of one coding, and all its patches of 96 px around cells of 64, kept raw."""
    folder = tmp_path_factory.mktemp("raw")
    slide = write_slide(folder / "slide.tif", stored_images, compression=request.param)
    return slide, write_patches_of(slide, folder / "slide.patches.h5", order_of(pixels="raw"))


def test_raw_patches_are_what_openslide_reads_also_over_the_edges(pair):
    slide_path, path = pair
    with open_patches(path) as patches, openslide.OpenSlide(slide_path) as slide:
        assert len(patches) == 16 * 12
        assert patches.header.image_bytes == 16 * 12 * 3 * 96 * 96
        for (l0_x, l0_y), pixels in zip(patches.coords.tolist(), patches, strict=True):
            np.testing.assert_array_equal(pixels, read_by_openslide(slide, (l0_x, l0_y), 0, 96))


def test_outside_the_slide_it_is_white(pair):
    with open_patches(pair[1]) as patches:
        assert patches.table["inside"][0] == pytest.approx((80 / 96) ** 2)
        assert (patches[0][:16] == 255).all()
        assert (patches[0][:, :16] == 255).all()
        assert not (patches[0][16:, 16:] == 255).all(axis=-1).any()


@pytest.mark.parametrize("mpp", [0.3, 0.7, 1.0])
def test_at_any_spacing_raw_patches_are_those_that_stored_tiles_give(tmp_path, stored_images, mpp):
    slide = write_slide(tmp_path / "slide.tif", stored_images)
    found = {}
    for pixels in ("stored", "raw"):
        order = order_of(48, 32, mpp=mpp, pixels=pixels, limits=PatchLimits(measure=True))
        path = write_patches_of(slide, tmp_path / f"{pixels}.patches.h5", order)
        with open_patches(path) as patches:
            found[pixels] = np.stack(list(patches)), patches.table.tobytes()
    np.testing.assert_array_equal(found["raw"][0], found["stored"][0])
    assert found["raw"][1] == found["stored"][1]


@pytest.mark.parametrize("sample", [None, 4, 20], ids=["dense", "drawn in chains", "drawn of all"])
def test_of_refused_cells_no_picture_is_kept_and_each_other_has_its_own(tmp_path, stored_images, sample):
    image = stored_images[0].copy()
    image[:, 512:] = 255
    slide = write_slide(tmp_path / "slide.tif", [image], compression="zlib")
    order = order_of(64, 64, pixels="raw", n_random=sample, limits=PatchLimits(max_white=0.5))
    with open_patches(write_patches_of(slide, tmp_path / "a.patches.h5", order)) as patches:
        assert len(patches) == (8 * 12 if sample is None else sample)
        assert patches.header.n_refused > 0
        assert patches.header.image_bytes == len(patches) * 3 * 64**2
        for (x, y), pixels in zip(patches.coords.tolist(), patches, strict=True):
            np.testing.assert_array_equal(pixels, image[y : y + 64, x : x + 64])
        assert patches.check() == []


@pytest.mark.parametrize("quality", [30, 90, 100])
def test_jpeg_patches_are_a_jpeg_of_their_pixels_with_whole_colours(tmp_path, stored_images, quality):
    slide = write_slide(tmp_path / "slide.tif", stored_images, compression="zlib")
    order = order_of(pixels="jpeg", jpeg_quality=quality)
    path = write_patches_of(slide, tmp_path / "a.patches.h5", order)
    with open_patches(path) as patches, openslide.OpenSlide(slide) as opened:
        header = patches.header
        assert (header.images.coding, header.images.quality, header.settings.jpeg_quality) == ("jpeg", quality, quality)
        for number in range(0, len(patches), 7):
            exact = read_by_openslide(opened, tuple(patches.coords[number].tolist()), 0, 96)
            theirs = io.BytesIO()
            Image.fromarray(exact).save(theirs, "JPEG", quality=quality, subsampling=0)
            independent = np.asarray(Image.open(theirs)).astype(int)
            ours = patches[number].astype(int)
            # another encoder at this quality, and decoder, errs by as much
            assert np.abs(ours - exact).mean() < np.abs(independent - exact).mean() + 0.1
            assert np.abs(ours - independent).mean() < 0.1
            stream = Image.open(io.BytesIO(patches._file.picture(number)))
            assert [layer[1:3] for layer in stream.layer] == [(1, 1)] * 3  # 4:4:4
            assert (stream.info.get("progressive"), stream.mode) == (None, "RGB")


def test_better_quality_takes_more_bytes_and_errs_less(tmp_path, stored_images):
    slide = write_slide(tmp_path / "slide.tif", stored_images)
    raw = write_patches_of(slide, tmp_path / "raw.patches.h5", order_of(pixels="raw"))
    with open_patches(raw) as patches:
        exact = np.stack(list(patches)).astype(int)
    found = []
    for quality in (20, 60, 95):
        path = tmp_path / f"{quality}.patches.h5"
        with open_patches(write_patches_of(slide, path, order_of(pixels="jpeg", jpeg_quality=quality))) as patches:
            found.append((patches.header.image_bytes, -np.abs(np.stack(list(patches)) - exact).mean()))
    assert found == sorted(found)
    assert found[-1][0] < exact.size / 3
    assert found[-1][1] > -4


def test_equal_pixels_give_equal_jpegs_whatever_their_place_in_memory():
    pixels = textured(96, 96)
    wide = np.zeros((96, 200, 3), np.uint8)
    wide[:, 50:146] = pixels
    assert encode_jpeg(pixels, 80) == encode_jpeg(wide[:, 50:146], 80) == encode_jpeg(np.asfortranarray(pixels), 80)


@pytest.mark.parametrize("way", [drop_tile, lambda path, col, row: zero_tail(path, col, row, 40)], ids=["gone", "cut"])
def test_patches_over_damage_are_listed_with_the_reason_and_all_others_sound(tmp_path, stored_images, way):
    slide = write_slide(tmp_path / "slide.tif", stored_images)
    sound = write_patches_of(slide, tmp_path / "sound.patches.h5", order_of(pixels="raw"))
    way(slide, 3, 2)
    stored = write_patches_of(slide, tmp_path / "stored.patches.h5", order_of())
    path = write_patches_of(slide, tmp_path / "damaged.patches.h5", order_of(pixels="raw"))
    with open_patches(sound) as before, open_patches(path) as after, open_patches(stored) as kept:
        over = after.failed[["level", "col", "row"]].tolist()
        assert over == kept.failed[["level", "col", "row"]].tolist() != []
        assert all(len(reason) > 10 for reason in after.failed["reason"].tolist())
        number = {cell: n for n, cell in enumerate(before.table[["col", "row"]].tolist())}
        assert len(after) + len(over) == len(before)
        for record, pixels in zip(after.table, after, strict=True):
            np.testing.assert_array_equal(pixels, before[number[record["col"], record["row"]]])


def test_damage_that_only_a_decoder_sees_is_met_while_patches_are_extracted(tmp_path, stored_images):
    from tests.tiffs import stored_tile

    slide = write_slide(tmp_path / "slide.tif", stored_images)
    offset, count = stored_tile(slide, 3, 2)
    with slide.open("r+b") as file:
        file.seek(offset + count // 2)
        file.write(b"\xff\xd0" * (count // 8))
    with open_patches(write_patches_of(slide, tmp_path / "a.patches.h5", order_of(pixels="raw"))) as patches:
        assert 0 < len(patches.failed) < 20  # with stored tiles they would be patches that cannot be read
        assert patches.check() == []


def test_pictures_of_a_size_that_none_has_contradict():
    records = np.zeros(4, RECORD)
    records["tissue"] = 0.5
    records["kept_bytes"] = 0, 3 * 96 * 96, 3 * 96 * 96 - 1, 7
    wrong = {
        pixels: Extract(order_of(pixels=pixels, jpeg_quality=90 if pixels == "jpeg" else 0))
        .contradictions(records)
        .tolist()
        for pixels in ("stored", "raw", "jpeg", "none")
    }
    assert wrong["raw"] == wrong["stored"] == [False, False, True, True]
    assert wrong["jpeg"] == [False] * 4
    assert wrong["none"] == [False, True, True, True]


def source_of(path):
    return SlideInput(path, regions=Regions(no_tissue=True))


@pytest.mark.parametrize(("compression", "why"), [("lzw", "only OpenSlide"), ("jpeg", "")])
def test_what_the_first_rank_finds_of_a_slides_tiles_all_ranks_follow(tmp_path, stored_images, compression, why):
    slide = write_slide(tmp_path / "slide.tif", stored_images, compression=compression)
    order = order_of()
    opened, rule, description = describe_cells(source_of(slide), order)
    assert why in opened.raw_because
    assert bool(opened.raw_because) == bool(why)
    arrived = SlideDescription.from_bytes(description.to_bytes())
    known, _ = known_cells(source_of(slide), order, arrived)
    assert known.raw_because == opened.raw_because
    for one in (opened, known):
        assert settings_of(one, order, TissueSource()).pixels == ("raw" if why else "stored")
    look = Extract(order).on(opened, rule).look(rule.roots()[:5])
    assert len(look.kept) == (5 * 3 * 96 * 96 if why else 0)
    assert look.failed.dtype == FAILED_DTYPE
    opened.pyramid.reader.close()


def test_where_tiles_cannot_be_kept_it_is_seen_from_the_cells_too(tmp_path, stored_images):
    slide = write_slide(tmp_path / "slide.tif", stored_images, compression="zstd")
    opened = open_cells(source_of(slide), order_of())
    assert "only OpenSlide" in obstacle_to_keeping(opened, order_of(), np.array([[0, 0]]))
    opened.pyramid.reader.close()


def test_as_many_cells_are_taken_at_a_time_as_there_is_memory_for():
    def of(size, **others):
        return PatchOrder(size, size, level=0, **others).batch_size

    assert of(448, pixels="none") == 1024
    assert of(448, pixels="raw") * 3 * 448 * 448 <= 8 << 20 < (of(448, pixels="raw") + 1) * 3 * 448 * 448
    assert of(448, pixels="jpeg", jpeg_quality=90) == of(448, pixels="raw")
    assert of(16384, pixels="raw") == of(16384) == 1
    assert of(8) == 1024
    assert of(448) * 3 * 448 * 448 <= 64 << 20
