"""What a TIFF's directory tells of its stored tiles before anything is decoded."""

from __future__ import annotations

import os

import pytest

from pyramidai_mpi.base.errors import InputError
from pyramidai_mpi.slides.readers.choice import open_slide
from pyramidai_mpi.slides.readers.stored_tiles import StoredTiles
from tests.tiffs import STORED_TILE, stored_tile, textured, write_slide, zero_tail

READERS = ["openslide", "tiff"]


def tiles_of(path, vendor="generic-tiff", size=(512, 384)):
    return StoredTiles(path, vendor, [size])


@pytest.fixture
def path(tmp_path):
    """A slide of 4 x 3 JPEG tiles."""
    return write_slide(tmp_path / "slide.tif", [textured(512, 384)])


def replace_tiles(path, change):
    """Rewrite the bytes of every stored tile in place; `change` must not lengthen them."""
    data = bytearray(path.read_bytes())
    for row in range(3):
        for col in range(4):
            offset, count = stored_tile(path, col, row)
            data[offset : offset + count] = change(bytes(data[offset : offset + count])).ljust(count, b"\0")
    path.write_bytes(data)


def test_a_sound_slide_has_no_defect_anywhere(path):
    assert tiles_of(path).defect(0, (-100, -100), (1000, 1000)) is None


def test_a_defect_is_told_of_regions_that_meet_it_and_of_no_other(path):
    zero_tail(path, 2, 1, 20)
    tiles = tiles_of(path)
    left, top = 2 * STORED_TILE, STORED_TILE
    assert "column 2, row 1" in tiles.defect(0, (left - 9, top - 9), (10, 10))
    assert "column 2, row 1" in tiles.defect(0, (left + 127, top + 127), (10, 10))
    assert tiles.defect(0, (left - 10, top), (10, 10)) is None
    assert tiles.defect(0, (left + 128, top), (10, 10)) is None
    assert tiles.defect(0, (left, top - 10), (10, 10)) is None
    assert tiles.defect(0, (left, top + 128), (10, 10)) is None


def test_padding_after_the_end_of_a_tile_is_no_defect(path):
    data = path.read_bytes()
    offset, count = stored_tile(path, 1, 1)
    assert data[offset + count - 2 : offset + count] == b"\xff\xd9"
    replace_tiles(path, lambda tile: tile[:-7].rstrip(b"\xff") + b"\xff\xd9")  # five bytes shorter
    assert tiles_of(path).defect(0, (0, 0), (512, 384)) is None


def test_a_writer_that_never_marks_the_end_is_believed(path):
    replace_tiles(path, lambda tile: tile[:-2])
    assert tiles_of(path).defect(0, (0, 0), (512, 384)) is None


@pytest.mark.parametrize("vendor", ["hamamatsu", "mirax", "leica", "dicom"])
def test_nothing_is_said_of_other_formats(path, vendor):
    zero_tail(path, 2, 1, 20)
    assert tiles_of(path, vendor).defect(0, (0, 0), (512, 384)) is None


def test_a_level_that_is_no_page_is_left_alone(path):
    zero_tail(path, 2, 1, 20)
    assert tiles_of(path, size=(511, 384)).defect(0, (0, 0), (512, 384)) is None


@pytest.mark.parametrize("reader", READERS)
@pytest.mark.parametrize("change", ["append", "touch", "replace"])
def test_a_slide_that_was_written_to_gives_no_more_pixels(path, reader, change):
    slide = open_slide(path, reader)
    slide.read((0, 0), 0, (64, 64))
    if change == "append":
        with path.open("ab") as file:
            file.write(b"x")
    elif change == "touch":
        os.utime(path, ns=(0, 1))
    else:
        other = path.with_name("other.tif")
        write_slide(other, [textured(512, 384, seed=9)])
        other.replace(path)
    for corner in ((0, 0), (300, 200)):
        with pytest.raises(InputError, match="written to"):
            slide.read(corner, 0, (64, 64))
        with pytest.raises(InputError, match="written to"):
            slide.read_what_is_there(corner, 0, (64, 64))


@pytest.mark.parametrize("reader", READERS)
def test_a_tile_without_its_end_is_unreadable_by_every_reader(path, reader):
    zero_tail(path, 0, 0, 8)
    slide = open_slide(path, reader)
    with pytest.raises(Exception, match="lacks its end"):
        slide.read((5, 5), 0, (10, 10))
    _, there = slide.read_what_is_there((0, 0), 0, (10, 10))
    assert not there.any()
    slide.read((STORED_TILE, 0), 0, (10, 10))


@pytest.mark.real
@pytest.mark.parametrize("share", [0.1, 0.5, 0.9])
def test_a_jpeg_2000_tile_whose_tail_is_zeros_is_unreadable(real_slides, tmp_path, share):
    import tifffile

    source = real_slides / "tcga-cr-7395-01a-01-ts1.svs"
    with tifffile.TiffFile(source) as tiff:
        page = tiff.pages[0]
        offset, count = page.dataoffsets[20], page.databytecounts[20]
        side, cols = page.tilewidth, -(-page.imagewidth // page.tilewidth)
    data = bytearray(source.read_bytes())
    zeros = int(count * share)
    data[offset + count - zeros : offset + count] = bytes(zeros)
    path = tmp_path / source.name
    path.write_bytes(data)
    for reader in READERS:
        slide = open_slide(path, reader)
        with pytest.raises(Exception, match=r"end|OpenJPEG"):
            slide.read(((20 % cols) * side, (20 // cols) * side), 0, (side, side))
