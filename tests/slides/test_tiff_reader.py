"""The fast reader gives OpenSlide's pixels and OpenSlide's refusals, everywhere; OpenSlide itself is the reference."""

from __future__ import annotations

import os
import sys

import imagecodecs
import numpy as np
import openslide
import pytest
import tifffile

from pyramidai_mpi.base.errors import InputError
from pyramidai_mpi.slides.readers import openslide_reader
from pyramidai_mpi.slides.readers.base import UnreadableRegionError
from pyramidai_mpi.slides.readers.choice import open_slide
from pyramidai_mpi.slides.readers.openslide_reader import OpenSlideReader
from pyramidai_mpi.slides.readers.tiff_levels import find_levels
from pyramidai_mpi.slides.readers.tiff_reader import TiffReader
from pyramidai_mpi.slides.readers.trial import try_opening
from tests.tiffs import STORED_TILE, cut_tile, drop_tile, halved, stored_tile, textured, write_slide, zero_tile

FORMATS = {
    "JPEG, YCbCr, full chroma": {"compression": "jpeg", "photometric": "ycbcr", "subsampling": (1, 1)},
    "JPEG, YCbCr, half chroma": {"compression": "jpeg", "photometric": "ycbcr", "subsampling": (2, 2)},
    "JPEG, YCbCr, half chroma across": {"compression": "jpeg", "photometric": "ycbcr", "subsampling": (2, 1)},
    "JPEG, RGB": {"compression": "jpeg", "photometric": "rgb"},
    "deflate": {"compression": "zlib", "photometric": "rgb"},
    "deflate of differences": {"compression": "zlib", "photometric": "rgb", "predictor": True},
    "uncompressed": {"compression": None, "photometric": "rgb"},
}


def write_format(path, images, **how):
    with tifffile.TiffWriter(path) as tiff:
        for n, image in enumerate(images):
            options = {"tile": (STORED_TILE, STORED_TILE), "metadata": None, "subfiletype": 1 if n else 0}
            tiff.write(image, **options, **how)
    return path


def as_aperio(path, image, **how):
    with tifffile.TiffWriter(path) as tiff:
        tiff.write(
            image,
            tile=(STORED_TILE, STORED_TILE),
            metadata=None,
            description="Aperio Image Library v10.0.51\r\n1024x768|AppMag = 20|MPP = 0.5",
            **how,
        )
    return path


def regions(level_size, seed=0, count=25):
    """Corners and sizes in pixels of a level: at random, across each edge, beyond, a pixel, all of it or much."""
    width, height = level_size
    rng = np.random.default_rng(seed)
    some = [
        (int(rng.integers(-90, width)), int(rng.integers(-90, height)), *rng.integers(1, 300, 2).tolist())
        for _ in range(count)
    ]
    return [
        *some,
        (0, 0, min(width, 1500), min(height, 1500)),
        (-40, -30, min(width, 1500) + 80, min(height, 1500) + 60),
        (width - 1, height - 1, 1, 1),
        (width, 0, 20, 20),
        (width + 500, height + 500, 20, 20),
        (-200, -200, 20, 20),
    ]


def fast_reader(path, **options):
    slide = OpenSlideReader(path)
    return TiffReader(slide, find_levels(path, slide.info, slide.stored_tiles.levels)[0], **options)


def fast_levels(path):
    """Stored levels that are read without OpenSlide."""
    slide = OpenSlideReader(path)
    levels, _ = find_levels(path, slide.info, slide.stored_tiles.levels)
    return tuple(n for n, level in enumerate(levels) if level is not None)


def same_as_openslide(path, expected_levels):
    """Compare all regions of the levels that are read without OpenSlide."""
    fast, slow = fast_reader(path), OpenSlideReader(path)
    assert fast_levels(path) == expected_levels
    assert fast.info.reader == "tiff"
    for level in expected_levels:
        downsample = int(slow.info.stored_downsamples[level])
        for x, y, width, height in regions(slow.info.stored_sizes[level], seed=level):
            where = ((x * downsample, y * downsample), level, (width, height))
            pixels, there = fast.read_what_is_there(*where)
            assert (fast.read(*where) == slow.read(*where)).all(), where
            assert (pixels == slow.read_what_is_there(*where)[0]).all(), where
            assert there.all()
    fast.close()
    slow.close()


@pytest.fixture
def no_openslide(monkeypatch):
    """From now on no pixel comes from OpenSlide."""

    def refuse(*_):
        raise AssertionError("OpenSlide was asked for pixels")

    def forbid():
        monkeypatch.setattr(openslide.OpenSlide, "read_region", refuse)

    return forbid


@pytest.mark.parametrize("how", FORMATS.values(), ids=FORMATS)
def test_every_region_is_bit_for_bit_what_openslide_reads(tmp_path, stored_images, how):
    same_as_openslide(write_format(tmp_path / "slide.tif", stored_images, **how), (0, 1, 2))


def test_tables_shared_by_all_tiles_are_honoured(tmp_path):
    image = textured(500, 300)
    tables, streams = b"\xff\xd8", []
    for top in range(0, 300, STORED_TILE):
        for left in range(0, 500, STORED_TILE):
            tile = np.zeros((STORED_TILE, STORED_TILE, 3), np.uint8)
            part = image[top : top + STORED_TILE, left : left + STORED_TILE]
            tile[: part.shape[0], : part.shape[1]] = part
            whole = imagecodecs.jpeg8_encode(tile, level=80)
            stream, shared, place = b"\xff\xd8", b"", 2
            while whole[place + 1] != 0xDA:
                segment = whole[place : place + 2 + int.from_bytes(whole[place + 2 : place + 4], "big")]
                if segment[1] in {0xDB, 0xC4}:
                    shared += segment
                elif segment[1] == 0xC0:  # leaves out JFIF, as scanners do: the stream no longer says its colours
                    stream += segment
                place += len(segment)
            streams.append(stream + whole[place:])
            tables = b"\xff\xd8" + shared + b"\xff\xd9"
    for photometric in ("ycbcr", "rgb"):  # the same streams in other colours: the file's word counts
        path = tmp_path / f"{photometric}.tif"
        with tifffile.TiffWriter(path) as tiff:
            options = {"subsampling": (2, 2)} if photometric == "ycbcr" else {}
            tiff.write(
                iter(streams),
                shape=image.shape,
                dtype=np.uint8,
                tile=(STORED_TILE, STORED_TILE),
                compression="jpeg",
                photometric=photometric,
                jpegtables=tables,
                metadata=None,
                **options,
            )
        same_as_openslide(path, (0,))


def test_aperio_slides_with_jpeg_and_jpeg_2000_are_read_alike(tmp_path):
    image = textured(700, 500)
    same_as_openslide(as_aperio(tmp_path / "jpeg.svs", image, compression="jpeg", photometric="rgb"), (0,))
    how = {"compression": "aperio_jp2000_rgb", "compressionargs": {"codecformat": "J2K", "level": 40, "mct": False}}
    same_as_openslide(as_aperio(tmp_path / "jpeg2000.svs", image, photometric="rgb", **how), (0,))


def test_levels_of_rounded_size_are_left_to_openslide(tmp_path):
    image = textured(1001, 663)
    path = write_slide(tmp_path / "odd.tif", [image, halved(image)])
    fast, slow = fast_reader(path), OpenSlideReader(path)
    assert fast_levels(path) == (0,)
    for corner in [(0, 0), (256, 128), (700, 500)]:
        assert (fast.read(corner, 1, (100, 100)) == slow.read(corner, 1, (100, 100))).all()


def test_corners_between_pixels_are_left_to_openslide(slide):
    fast, slow = fast_reader(slide), OpenSlideReader(slide)
    for corner in [(301, 150), (302, 151), (-3, -3), (1021, 767)]:
        assert (fast.read(corner, 2, (60, 60)) == slow.read(corner, 2, (60, 60))).all()


@pytest.mark.parametrize(
    "how",
    [
        {"compression": "lzw", "photometric": "rgb"},
        {"compression": "zlib", "photometric": "rgb", "planarconfig": "separate"},
    ],
    ids=["LZW", "planes"],
)
def test_a_format_without_a_proven_fast_way_is_left_to_openslide(tmp_path, how):
    image = textured(400, 300)
    if "planarconfig" in how:
        image = np.ascontiguousarray(image.transpose(2, 0, 1))
    path = write_format(tmp_path / "slide.tif", [image], **how)
    reader = open_slide(path)
    assert reader.info.reader == "openslide"
    assert (reader.read((10, 10), 0, (300, 200)) == OpenSlideReader(path).read((10, 10), 0, (300, 200))).all()
    with pytest.raises(InputError, match=r"slide\.tif.*--reader auto"):
        open_slide(path, "tiff")


def test_the_choice_of_a_reader_is_obeyed(slide, no_openslide):
    assert open_slide(slide, "openslide").info.reader == "openslide"
    assert open_slide(slide, "tiff").info.reader == open_slide(slide).info.reader == "tiff"
    reader = open_slide(slide)
    no_openslide()
    assert reader.read((0, 0), 0, (1024, 768)).std() > 5


@pytest.mark.parametrize("compression", ["jpeg", "lzw"], ids=["read fast", "left to OpenSlide"])
def test_a_slide_is_opened_once_whoever_reads_it(tmp_path, monkeypatch, compression):
    path = write_format(tmp_path / "slide.tif", [textured(300, 200)], compression=compression, photometric="rgb")
    opened = []
    plain_open = openslide.OpenSlide
    monkeypatch.setattr(openslide_reader.openslide, "OpenSlide", lambda path: opened.append(path) or plain_open(path))
    open_slide(path)
    assert opened == [path]


@pytest.mark.parametrize("way", [zero_tile, cut_tile, drop_tile])
def test_damage_is_unreadable_and_nothing_else_is(slide, way):
    undamaged = OpenSlideReader(slide).read((0, 0), 0, (1024, 768))
    way(slide, 3, 2)
    fast, slow = fast_reader(slide), OpenSlideReader(slide)
    for row in range(6):
        for col in range(8):
            corner = (col * 128, row * 128)
            if (col, row) == (3, 2):
                with pytest.raises(UnreadableRegionError) as said:
                    fast.read(corner, 0, (128, 128))
                with pytest.raises(UnreadableRegionError) as expected:
                    slow.read(corner, 0, (128, 128))
                assert str(said.value) == str(expected.value)
                assert not fast.read_what_is_there(corner, 0, (128, 128))[1].any()
            else:
                found = fast.read(corner, 0, (128, 128))
                assert (found == undamaged[row * 128 :, col * 128 :][:128, :128]).all()


@pytest.mark.parametrize("how", FORMATS.values(), ids=FORMATS)
def test_whatever_happens_to_a_tiles_bytes_openslide_has_the_last_word(tmp_path, how):
    path = write_format(tmp_path / "slide.tif", [textured(300, 200)], **how)
    offset, count = stored_tile(path, 1, 0)
    sound = path.read_bytes()
    rng = np.random.default_rng(5)
    refused = 0
    for trial in range(60):
        data = bytearray(sound)
        place = offset + int(rng.integers(0, min(count, 650) if trial % 3 else count))  # markers are at the start
        length = min(int(rng.integers(1, 20)), offset + count - place)
        data[place : place + length] = rng.bytes(length) if trial % 2 else bytes(length)
        path.write_bytes(data)
        found, expected = (pixels_or_none(reader(path)) for reader in (fast_reader, OpenSlideReader))
        assert (found is None) == (expected is None), trial
        if expected is None:
            refused += 1
        else:
            assert (found == expected).all(), trial
    assert refused or how["compression"] is None


def pixels_or_none(reader):
    try:
        return reader.read((128, 0), 0, (128, 128))
    except UnreadableRegionError:
        return None
    finally:
        reader.close()


def test_a_tile_that_claims_to_be_huge_costs_no_memory(slide):
    offset, _ = stored_tile(slide, 0, 0)
    data = bytearray(slide.read_bytes())
    frame = data.index(b"\xff\xc0", offset)
    data[frame + 5 : frame + 9] = b"\xff\xff\xff\xff"  # 65535 x 65535 pixels: 12 GB
    slide.write_bytes(data)
    reader = fast_reader(slide)
    with pytest.raises(UnreadableRegionError):
        reader.read((0, 0), 0, (128, 128))


def test_a_missing_tile_of_an_aperio_slide_leaves_the_slide_to_openslide(tmp_path):
    path = as_aperio(tmp_path / "slide.svs", textured(700, 500), compression="jpeg", photometric="rgb")
    drop_tile(path, 2, 1)
    assert open_slide(path).info.reader == "openslide"


def test_neighbours_decode_a_stored_tile_once(slide, monkeypatch):
    reads = []
    plain_read = os.pread
    monkeypatch.setattr(os, "pread", lambda *arguments: reads.append(arguments[:0:-1]) or plain_read(*arguments))
    tiles = {stored_tile(slide, col, row) for col in range(8) for row in range(6)}
    reader = fast_reader(slide)
    for row in range(0, 768, 48):
        for col in range(0, 1024, 48):
            reader.read((col, row), 0, (48, 48))
    whole_tiles = [read for read in reads if read in tiles]
    assert len(whole_tiles) == len(tiles) == 8 * 6


def test_the_cache_of_tiles_is_bounded_and_changes_no_pixel(slide):
    tile_bytes = STORED_TILE * STORED_TILE * 3
    small, large = fast_reader(slide, cache_bytes=2 * tile_bytes), fast_reader(slide)
    for x, y, width, height in regions((1024, 768), seed=3):
        assert (small.read((x, y), 0, (width, height)) == large.read((x, y), 0, (width, height))).all()
    assert small._cache.n_bytes <= 2 * tile_bytes


def test_a_slide_that_shrinks_under_the_run_gives_no_more_pixels(slide):
    reader = fast_reader(slide)
    offset, _ = stored_tile(slide, 7, 5)
    os.truncate(slide, offset + 10)
    for corner in ((0, 0), (7 * 128, 5 * 128)):
        with pytest.raises(InputError, match="written to"):
            reader.read(corner, 0, (128, 128))


def test_without_simplejpeg_openslide_reads_jpeg_and_says_why(slide, monkeypatch):
    monkeypatch.setitem(sys.modules, "simplejpeg", None)
    said = []
    assert open_slide(slide, report=said.append).info.reader == "openslide"
    (line,) = said
    assert "slide.tif" in line
    assert "simplejpeg" in line


@pytest.fixture
def strange_tables(tmp_path):
    """A slide that OpenSlide reads, with a comment among its shared JPEG tables."""
    path = tmp_path / "strange.tif"
    tile = imagecodecs.jpeg8_encode(textured(STORED_TILE, STORED_TILE), level=80)
    with tifffile.TiffWriter(path) as tiff:
        tiff.write(
            iter([tile]),
            shape=(STORED_TILE, STORED_TILE, 3),
            dtype=np.uint8,
            tile=(STORED_TILE, STORED_TILE),
            compression="jpeg",
            photometric="ycbcr",
            subsampling=(2, 2),
            jpegtables=b"\xff\xd8\xff\xfe\x00\x04hi\xff\xd9",
            metadata=None,
        )
    return path


def test_tables_that_cannot_be_read_are_told_with_file_and_reason(strange_tables):
    said = []
    assert open_slide(strange_tables, report=said.append).info.reader == "openslide"
    (line,) = said
    assert "strange.tif" in line
    assert "JPEGTables" in line
    with pytest.raises(InputError, match="JPEGTables"):
        open_slide(strange_tables, "tiff")


def test_the_user_is_warned_once_by_the_trial_before_the_ranks_open_the_slide(strange_tables, slide, caplog):
    for path in (strange_tables, slide):
        with try_opening(path, "auto") as trial:
            trial.check()
        open_slide(path)
    (record,) = caplog.records
    assert record.levelname == "WARNING"
    assert "JPEGTables" in record.message


REAL = {
    "insidious-lymph-node-metastasis-HE.tif": (0, 1),
    "BS9-HE2.tif": (0,),
    "CAMELYON16_Tumor_001_level5.tif": (0,),
    "CMU-1-Small-Region.svs": (0,),
    "tcga-cr-7395-01a-01-ts1.svs": (0,),
    "BRACS_1640_N_3_cropped.tiff": (0,),
}


@pytest.mark.real
@pytest.mark.parametrize(("name", "levels"), REAL.items(), ids=REAL)
def test_real_slides_are_bit_for_bit_what_openslide_reads(real_slides, name, levels):
    same_as_openslide(real_slides / name, levels)
