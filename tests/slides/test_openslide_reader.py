"""Pixels are the file's own; what cannot be read is said, never painted over, and costs nothing else."""

from __future__ import annotations

import os
import subprocess
import sys

import numpy as np
import openslide
import pytest
import tifffile

from pyramidai_mpi.base.errors import InputError
from pyramidai_mpi.slides.readers.base import UnreadableRegionError
from pyramidai_mpi.slides.readers.openslide_reader import OpenSlideReader
from tests.tiffs import cut_tile, drop_tile, move_tile_to_the_end, textured, write_slide, zero_tile

DAMAGES = [zero_tile, cut_tile, drop_tile]


@pytest.fixture
def damaged(slide):
    """The slide, its stored tile (3, 2) of level 0 made unreadable in the way that the test gives."""

    def damage(way) -> OpenSlideReader:
        way(slide, 3, 2)
        return OpenSlideReader(slide)

    return damage


def test_pixels_are_those_that_tifffile_decodes(slide):
    reader = OpenSlideReader(slide)
    with tifffile.TiffFile(slide) as tiff:
        for level, page in enumerate(tiff.pages):
            decoded = page.asarray()
            width, height = reader.info.stored_sizes[level]
            assert (reader.read((0, 0), level, (width, height)) == decoded).all()
    assert (reader.read((300, 150), 0, (77, 41)) == tifffile.imread(slide, key=0)[150:191, 300:377]).all()


def test_the_description_is_the_files_own(slide):
    info = OpenSlideReader(slide).info
    assert (info.name, info.vendor, info.l0_size) == ("slide.tif", "generic-tiff", (1024, 768))
    assert info.stored_sizes == ((1024, 768), (512, 384), (256, 192))
    assert info.stored_downsamples == (1, 2, 4)
    assert info.mpp == pytest.approx(0.25)
    assert info.l0_bounds == (0, 0)


def test_rounded_level_sizes_stand_for_whole_downsamples(tmp_path):
    image = textured(1001, 663)
    path = write_slide(tmp_path / "odd.tif", [image, image[::2, ::2][:331, :500], image[::4, ::4][:165, :250]])
    assert OpenSlideReader(path).info.stored_downsamples == (1, 2, 4)


@pytest.mark.parametrize("corner", [(-64, 10), (10, -64), (1000, 10), (10, 700), (-5, -5), (980, 740)], ids=str)
def test_what_lies_outside_the_slide_is_white_and_what_lies_inside_is_not(lossless_slide, stored_images, corner):
    size = 100
    padded = np.full((768 + 400, 1024 + 400, 3), 255, np.uint8)
    padded[200:968, 200:1224] = stored_images[0]
    x, y = corner[0] + 200, corner[1] + 200
    expected = padded[y : y + size, x : x + size]
    assert (OpenSlideReader(lossless_slide).read(corner, 0, (size, size)) == expected).all()


@pytest.mark.parametrize("corner", [(5000, 0), (0, 5000), (-500, -500), (1024, 768)], ids=str)
@pytest.mark.parametrize("level", [0, 1, 2])
def test_a_region_wholly_outside_is_white(slide, corner, level):
    assert (OpenSlideReader(slide).read(corner, level, (50, 50)) == 255).all()


@pytest.mark.parametrize("way", DAMAGES)
def test_a_damaged_tile_is_unreadable_and_the_next_good_one_still_reads(damaged, way):
    reader = damaged(way)
    with pytest.raises(UnreadableRegionError):
        reader.read((3 * 128, 2 * 128), 0, (128, 128))
    decoded = tifffile.TiffFile(reader.info.path).pages[1].asarray()
    assert (reader.read((0, 0), 1, (512, 384)) == decoded).all()
    assert reader.read((4 * 128, 2 * 128), 0, (128, 128)).std() > 5


@pytest.mark.parametrize("way", DAMAGES)
@pytest.mark.parametrize(
    ("corner", "size"),
    [
        ((3 * 128, 2 * 128), (1, 1)),
        ((4 * 128 - 1, 3 * 128 - 1), (1, 1)),
        ((3 * 128 - 99, 2 * 128 - 99), (100, 100)),
        ((0, 0), (1024, 768)),
    ],
    ids=["its first pixel", "its last pixel", "one pixel of it", "the whole slide"],
)
def test_any_region_that_touches_damage_is_unreadable(damaged, way, corner, size):
    with pytest.raises(UnreadableRegionError):
        damaged(way).read(corner, 0, size)


@pytest.mark.parametrize("way", DAMAGES)
@pytest.mark.parametrize(
    ("corner", "size"),
    [((2 * 128, 2 * 128), (128, 128)), ((4 * 128, 0), (512, 768)), ((0, 0), (1024, 256)), ((0, 384), (1024, 384))],
    ids=["left of it", "right of it", "above it", "below it"],
)
def test_a_region_beside_damage_reads_as_if_nothing_were_wrong(damaged, slide, stored_images, way, corner, size):
    reader = damaged(way)
    undamaged = write_slide(slide.with_name("undamaged.tif"), stored_images)
    expected = OpenSlideReader(undamaged).read(corner, 0, size)
    assert (reader.read(corner, 0, size) == expected).all()


@pytest.mark.parametrize("way", [zero_tile, drop_tile])
@pytest.mark.parametrize("page", [1, 2])
def test_damage_of_a_reduced_level_is_seen_there_and_only_there(slide, way, page):
    way(slide, 1, 1, page)
    reader = OpenSlideReader(slide)
    side = 128 * 2**page
    with pytest.raises(UnreadableRegionError):
        reader.read((side, side), page, (60, 60))
    assert reader.read((side, side), 0, (128, 128)).std() > 5
    assert reader.read((0, 0), page, (128, 128)).std() > 5


def test_reading_goes_on_through_many_damaged_tiles(slide):
    bad = [(0, 0), (3, 1), (5, 5), (7, 0)]
    for col, row in bad:
        zero_tile(slide, col, row)
    reader = OpenSlideReader(slide)
    unreadable = []
    for row in range(6):
        for col in range(8):
            try:
                assert reader.read((col * 128, row * 128), 0, (128, 128)).std() > 5
            except UnreadableRegionError:
                unreadable.append((col, row))
    assert sorted(unreadable) == sorted(bad)


def test_a_slide_that_vanishes_under_the_run_is_unreadable_tile_by_tile(slide):
    zero_tile(slide, 3, 2)
    reader = OpenSlideReader(slide)
    slide.unlink()
    for _ in range(3):
        with pytest.raises(UnreadableRegionError):
            reader.read((3 * 128, 2 * 128), 0, (128, 128))
    assert not reader.read_what_is_there((3 * 128, 2 * 128), 0, (128, 128))[1].any()


@pytest.mark.parametrize("way", DAMAGES)
def test_what_is_there_tells_damage_from_the_outside(damaged, way):
    reader = damaged(way)
    pixels, there = reader.read_what_is_there((3 * 128, 2 * 128), 0, (128, 128))
    assert not there.any()
    assert pixels.shape == (128, 128, 3)
    _, there = reader.read_what_is_there((1024 - 64, 768 - 64), 0, (128, 128))
    assert there.all()
    _, there = reader.read_what_is_there((512, 256), 0, (128, 128))
    assert there.all()


def test_what_is_there_is_known_to_the_pixel_where_the_file_knows_it(slide):
    drop_tile(slide, 3, 2)
    _, there = OpenSlideReader(slide).read_what_is_there((3 * 128 - 20, 2 * 128 - 10), 0, (200, 200))
    expected = np.ones((200, 200), bool)
    expected[10:138, 20:148] = False
    assert (there == expected).all()


@pytest.mark.parametrize("rounding", ["down", "up"])
def test_the_edge_of_a_rounded_level_is_readable(tmp_path, rounding):
    image = textured(1001, 663)
    levels = [image, image[::2, ::2], image[::4, ::4]]
    if rounding == "down":
        levels = [level[: 663 >> n, : 1001 >> n] for n, level in enumerate(levels)]
    reader = OpenSlideReader(write_slide(tmp_path / "odd.tif", levels))
    for level, (width, height) in enumerate(reader.info.stored_sizes):
        downsample = int(reader.info.stored_downsamples[level])
        for side in (100, 128):
            for col in range(0, width, side):
                for row in range(0, height, side):
                    reader.read((col * downsample, row * downsample), level, (side, side))


def test_a_missing_last_column_of_one_pixel_is_unreadable(tmp_path):
    path = write_slide(tmp_path / "narrow.tif", [textured(8 * 128 + 1, 300)])
    drop_tile(path, 8, 1)
    reader = OpenSlideReader(path)
    reader.read((8 * 128 - 28, 128), 0, (28, 128))
    reader.read((8 * 128 - 28, 0), 0, (128, 128))
    with pytest.raises(UnreadableRegionError):
        reader.read((8 * 128 - 28, 128), 0, (128, 128))


def test_a_pixel_that_is_half_made_of_missing_ones_is_unreadable(tmp_path):
    # OpenSlide places levels of rounded size at fractions of a pixel and mixes neighbours
    image = textured(1001, 663)
    path = write_slide(tmp_path / "odd.tif", [image, image[:660:2, :996:2]])
    drop_tile(path, 2, 1, page=1)
    reader = OpenSlideReader(path)
    mixed = []
    with openslide.OpenSlide(path) as plain:
        for l0_x in range(2 * 2 * 128 - 8, 2 * 2 * 128 + 8):
            alpha = np.asarray(plain.read_region((l0_x, 300), 1, (1, 1)))[0, 0, 3]
            if 0 < alpha < 200:
                mixed.append(l0_x)
    assert mixed
    for l0_x in mixed:
        with pytest.raises(UnreadableRegionError):
            reader.read((l0_x, 300), 1, (1, 1))


def test_a_slide_that_does_not_say_its_spacing_has_none(tmp_path):
    assert OpenSlideReader(write_slide(tmp_path / "a.tif", [textured(300, 200)], mpp=None)).info.mpp is None


def test_pixels_that_are_not_square_are_no_spacing_and_it_is_said_why(tmp_path):
    info = OpenSlideReader(write_slide(tmp_path / "oblong.tif", [textured(300, 200)], mpp=(0.25, 0.30))).info
    assert info.mpp is None
    assert "not square (0.25 x 0.3 µm)" in info.mpp_flaw


def test_a_percent_of_anisotropy_is_taken_as_the_mean(tmp_path):
    path = write_slide(tmp_path / "a.tif", [textured(300, 200)], mpp=(0.2500, 0.2520))
    assert OpenSlideReader(path).info.mpp == pytest.approx(0.2510, rel=1e-3)


def garbage(path):
    path.write_bytes(np.random.default_rng(0).bytes(50_000))


def text(path):
    path.write_text("slide,label\na,1\n")


def empty(path):
    path.touch()


def a_folder(path):
    path.mkdir()


def nothing(path):
    assert not path.exists()


def a_jpeg_without_tiles(path):
    tifffile.imwrite(path, textured(64, 64))


@pytest.mark.parametrize("make", [garbage, text, empty, a_folder, nothing, a_jpeg_without_tiles])
def test_what_is_no_slide_is_refused_with_its_name(tmp_path, make):
    path = tmp_path / "patient-7.tif"
    make(path)
    with pytest.raises(InputError, match=r"patient-7\.tif") as caught:
        OpenSlideReader(path)
    assert caught.value.exit_code == 65
    assert "\n" not in str(caught.value)


def test_a_slide_cut_before_its_directories_is_refused(slide):
    data = slide.read_bytes()
    slide.write_bytes(data[: len(data) // 2])
    with pytest.raises(InputError, match=r"slide\.tif"):
        OpenSlideReader(slide)


def test_a_slide_cut_within_its_tiles_opens_and_lacks_them(slide):
    move_tile_to_the_end(slide, 3, 2)
    slide.write_bytes(slide.read_bytes()[:-200])
    reader = OpenSlideReader(slide)
    with pytest.raises(UnreadableRegionError):
        reader.read((3 * 128, 2 * 128), 0, (128, 128))
    assert reader.read((4 * 128, 2 * 128), 0, (128, 128)).std() > 5


@pytest.mark.real
@pytest.mark.parametrize(
    ("name", "size", "n_levels", "mpp"),
    [
        ("insidious-lymph-node-metastasis-HE.tif", (31544, 17602), 7, None),
        ("BS9-HE2.tif", (14486, 16783), 6, 0.2528),
        ("CMU-1-Small-Region.svs", (2220, 2967), 1, 0.499),
        ("tcga-cr-7395-01a-01-ts1.svs", (4443, 3567), 2, None),
        ("BRACS_1640_N_3_cropped.tiff", (650, 743), 3, None),  # says 1000, as no microscope's are
    ],
)
def test_real_slides_are_what_their_list_says(real_slides, name, size, n_levels, mpp):
    reader = OpenSlideReader(real_slides / name)
    assert reader.info.l0_size == size
    assert reader.info.stored_downsamples == tuple(2.0**n for n in range(n_levels))
    assert reader.info.mpp == (mpp if mpp is None else pytest.approx(mpp, rel=1e-3))
    for level, (width, height) in enumerate(reader.info.stored_sizes):
        step = max(width, height) // 3
        for col in range(0, width, step):
            for row in range(0, height, step):
                reader.read((col << level, row << level), level, (224, 224))
        # OpenSlide leaves the very edge of a rounded level half transparent: no damage
        right, bottom = max(width - 100, 0), max(height - 100, 0)
        for col, row in ((right, 0), (0, bottom), (right, bottom)):
            reader.read((col << level, row << level), level, (224, 224))


@pytest.mark.parametrize("failure", ["ModuleNotFoundError('no openslide')", "OSError('no libopenslide.so.1')"])
def test_without_openslide_the_user_gets_one_line(tmp_path, slide, failure):
    (tmp_path / "openslide.py").write_text(f"raise {failure}\n")
    done = subprocess.run(
        [sys.executable, "-m", "pyramidai_mpi", "info", str(slide)],
        capture_output=True,
        text=True,
        env={**os.environ, "PYTHONPATH": f"{tmp_path}:{os.environ.get('PYTHONPATH', '')}"},
        check=False,
    )
    assert done.returncode == 70
    assert done.stderr.startswith("pyramidai: error: OpenSlide cannot be loaded (no ")
    assert done.stderr.count("\n") == 1
