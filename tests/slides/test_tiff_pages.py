"""Which pages of a TIFF are the slide: others are no levels, and damage is looked for in the right one."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import openslide
import pytest
import tifffile

from pyramidai_mpi.base.errors import InputError
from pyramidai_mpi.slides.pyramid import read_thumbnail
from pyramidai_mpi.slides.readers import true_levels
from pyramidai_mpi.slides.readers.base import UnreadableRegionError
from pyramidai_mpi.slides.readers.choice import open_slide
from tests.tiffs import halved, textured, write_slide

if TYPE_CHECKING:
    from pathlib import Path

READERS = ["openslide", "tiff"]
SIDE = 1024


@pytest.fixture(scope="module")
def levels() -> list[np.ndarray]:
    """Tissue of many colours on glass, at three sizes."""
    image = np.full((SIDE, SIDE, 3), 244, np.uint8)
    image[256:768, 128:640] = textured(512, 512)
    found = [image]
    for _ in range(2):
        found.append(halved(found[-1]))
    return found


def write(path: Path, pages, *, reduced=None, compression="zlib", aperio=False, **options) -> Path:
    """Tiled pages in this order; all but the first are said to be reduced unless `reduced` says it of each."""
    with tifffile.TiffWriter(path) as tiff:
        for n, page in enumerate(pages):
            text = "Aperio Image Library v10.0.51\r\n1024x1024|AppMag = 20|MPP = 0.5" if aperio and not n else None
            is_reduced = n > 0 if reduced is None else reduced[n]
            tiff.write(
                page,
                tile=(128, 128),
                photometric="rgb",
                compression=compression,
                subfiletype=int(is_reduced),
                description=text,
                metadata=None,
                **options,
            )
    return path


def macro(width: int, height: int, colour: int = 250) -> np.ndarray:
    return np.full((height, width, 3), colour, np.uint8)


@pytest.mark.parametrize("reader", READERS)
@pytest.mark.parametrize("compression", ["zlib", "jpeg", None])
@pytest.mark.parametrize("place", [1, 2, 3])
@pytest.mark.parametrize(
    "page",
    [
        macro(200, 150),
        macro(200, 300),
        macro(128, 128),
        macro(384, 384),
        macro(64, 64, 30),
        255 - textured(128, 128, 7),
    ],
    ids=["wide", "high", "as square as the slide", "between two levels", "dark", "of other colours"],
)
def test_a_picture_of_the_glass_is_no_level_whatever_its_place(tmp_path, levels, page, place, compression, reader):
    plain = write(tmp_path / "plain.tif", levels, compression=compression)
    path = write(tmp_path / "slide.tif", [*levels[:place], page, *levels[place:]], compression=compression)
    with openslide.OpenSlide(path) as found:
        assert found.level_count == 4
        numbers = [found.level_dimensions.index((SIDE >> n, SIDE >> n)) for n in range(3)]
        slide, expected = open_slide(path, reader), open_slide(plain, reader)
        assert slide.info.stored_sizes == expected.info.stored_sizes
        assert slide.info.stored_downsamples == (1, 2, 4)
        assert slide.info.no_levels == (page.shape[1::-1],)
        for level in range(3):
            size = slide.info.stored_sizes[level]
            pixels = slide.read((0, 0), level, size)
            assert (pixels == expected.read((0, 0), level, size)).all()
            # the number that results give for who reads the slide with OpenSlide
            assert slide.info.level_in_file(level) == numbers[level]
            assert (np.asarray(found.read_region((0, 0), numbers[level], size))[..., :3] == pixels).all()
    for downsample in (4, 16):
        assert (read_thumbnail(slide, downsample)[0] == read_thumbnail(expected, downsample)[0]).all()


def test_a_label_in_tiles_is_no_level_of_an_aperio_slide(tmp_path, levels):
    path = write(tmp_path / "slide.svs", [*levels, macro(150, 140)], aperio=True)
    info = open_slide(path).info
    assert (info.vendor, info.stored_downsamples, info.no_levels) == ("aperio", (1, 2, 4), ((150, 140),))


@pytest.mark.parametrize("reader", READERS)
def test_it_is_said_what_is_left_out(tmp_path, levels, reader):
    said = []
    open_slide(write(tmp_path / "slide.tif", [*levels, macro(200, 150)]), reader, said.append)
    assert len(said) == 1
    assert "200 x 150" in said[0]


@pytest.mark.parametrize(
    "make",
    [
        lambda a: [a[: 663 >> n, : 1001 >> n] for n, a in enumerate([a, a[::2, ::2], a[::4, ::4], a[::32, ::32]])],
        lambda a: [a, a[::4, ::4], a[::32, ::32]],
        lambda a: [a, np.clip(a[::4, ::4].astype(int) + 25, 0, 255).astype(np.uint8)],
        lambda a: [np.full_like(a, 240), np.full_like(a[::4, ::4], 243)],
        lambda a: [a[:, :40], a[::2, :40:2], a[::4, :40:4], a[::8, :40:8]],
    ],
    ids=["rounded sizes", "large steps", "brighter by 25", "nothing but glass", "narrow"],
)
def test_levels_of_sound_slides_stay(tmp_path, make):
    pages = make(textured(1001, 663))
    assert len(open_slide(write(tmp_path / "slide.tif", pages)).info.stored_sizes) == len(pages)


def test_a_level_that_cannot_be_read_is_damaged_and_not_left_out(tmp_path, levels):
    path = write(tmp_path / "slide.tif", levels)
    with tifffile.TiffFile(path) as tiff:
        places = list(zip(tiff.pages[1].dataoffsets, tiff.pages[1].databytecounts, strict=True))
    with path.open("r+b") as file:
        for offset, count in places:
            file.seek(offset)
            file.write(bytes(count))
    slide = open_slide(path)
    assert slide.info.no_levels == ()
    with pytest.raises(UnreadableRegionError):
        slide.read((0, 0), 1, (64, 64))


@pytest.mark.parametrize("reader", READERS)
@pytest.mark.parametrize("is_reduced", [True, False], ids=["said to be reduced", "said to be an image"])
@pytest.mark.parametrize("damaged", [0, 1])
def test_of_two_pages_of_one_size_the_right_one_is_looked_at(tmp_path, levels, damaged, is_reduced, reader):
    reduced = [False, is_reduced, True, True]
    pages = [levels[0], 255 - levels[0], *levels[1:]]
    path = write(tmp_path / "slide.tif", pages, compression="jpeg", reduced=reduced)
    with tifffile.TiffFile(path) as tiff:
        page = tiff.pages[damaged]
        number = 3 * 8 + 2  # row 3, column 2
        offset, count = page.dataoffsets[number], page.databytecounts[number]
    with path.open("r+b") as file:
        file.seek(offset + count - 30)
        file.write(bytes(30))
    slide = open_slide(path, reader)
    assert slide.info.stored_downsamples == (1, 2, 4)
    if damaged == 0:
        with pytest.raises(UnreadableRegionError):
            slide.read((2 * 128, 3 * 128), 0, (128, 128))
    else:
        assert slide.read((2 * 128, 3 * 128), 0, (128, 128)).std() > 5


@pytest.mark.parametrize("plane", [0, 1, 2])
def test_damage_of_any_plane_is_seen(tmp_path, levels, plane):
    path = tmp_path / "slide.tif"
    planes = np.ascontiguousarray(levels[0].transpose(2, 0, 1))
    tifffile.imwrite(path, planes, planarconfig="separate", photometric="rgb", tile=(128, 128), compression="zlib")
    with tifffile.TiffFile(path) as tiff:
        number = plane * 64 + 3 * 8 + 2
        offset, count = tiff.pages[0].dataoffsets[number], tiff.pages[0].databytecounts[number]
    with path.open("r+b") as file:
        file.seek(offset + count - 5)
        file.write(bytes(5))
    with pytest.raises(UnreadableRegionError, match="ends in zeros"):
        open_slide(path).read((2 * 128, 3 * 128), 0, (128, 128))


@pytest.mark.parametrize(
    ("pages", "reduced"),
    [
        ([macro(300, 200), textured(512, 512)], [False, False]),
        ([textured(200, 900), macro(300, 200)], [False, True]),
        ([textured(1024, 1024), textured(512, 512), macro(300, 200), textured(256, 256)], [False, True, True, True]),
    ],
    ids=["the slide comes second", "the picture of the glass is wider", "which level comes next cannot be said"],
)
@pytest.mark.parametrize("reader", READERS)
def test_a_file_whose_slide_openslide_does_not_find_is_refused(tmp_path, pages, reduced, reader):
    with pytest.raises(InputError, match=r"slide\.tif.*300 x 200") as caught:
        open_slide(write(tmp_path / "slide.tif", pages, reduced=reduced), reader)
    assert "\n" not in str(caught.value)


def test_another_rank_is_spared_the_comparison(tmp_path, levels, monkeypatch):
    path = write(tmp_path / "slide.tif", [levels[0], macro(400, 400), *levels[1:]])
    known = open_slide(path).info
    monkeypatch.setattr(true_levels, "_looks_alike", lambda *_: pytest.fail("compared again"))
    assert open_slide(path, known=known).info == known


@pytest.mark.parametrize("tile", [(240, 368), (16, 16), (48, 48)], ids=str)
def test_raw_tiles_that_libtiff_does_not_read_are_read_or_refused(tmp_path, levels, tile):
    path = tmp_path / "slide.tif"
    with tifffile.TiffWriter(path) as tiff:
        for n, level in enumerate(levels):
            tiff.write(level, tile=tile, photometric="rgb", subfiletype=int(n > 0), metadata=None)
    slide = open_slide(path)
    for n, level in enumerate(levels):
        assert (slide.read((0, 0), n, level.shape[1::-1]) == level).all()
    with pytest.raises(InputError, match="--reader tiff"):
        open_slide(path, "openslide")
    odd = tmp_path / "odd.tif"
    with tifffile.TiffWriter(odd) as tiff:  # the second level's size is rounded, so OpenSlide interpolates
        for n, level in enumerate([levels[0][:, :1001], levels[1][:, :500]]):
            tiff.write(level, tile=tile, photometric="rgb", subfiletype=int(n > 0), metadata=None)
    assert (open_slide(odd).read((0, 0), 1, (500, len(levels[1]))) == levels[1][:, :500]).all()
    with pytest.raises(InputError, match=r"odd\.tif.*convert it: python"):
        open_slide(odd, odd_levels="interpolated")


@pytest.mark.parametrize("share", [0.3, 0.6])
@pytest.mark.parametrize("reader", READERS)
def test_a_file_that_is_cut_short_is_called_so(tmp_path, levels, share, reader):
    whole = write_slide(tmp_path / "whole.tif", levels)
    open_slide(whole, reader).close()
    cut = tmp_path / "cut.tif"
    cut.write_bytes(whole.read_bytes()[: int(share * whole.stat().st_size)])
    with pytest.raises(InputError, match="cut short; copy it again"):
        open_slide(cut, reader)
