"""Pictures without tiles: their own pixels, upright, or one line; Pillow and tifffile are the reference."""

from __future__ import annotations

import struct
import zlib

import numpy as np
import pytest
import tifffile
from PIL import Image, ImageOps

from pyramidai_mpi.base.errors import InputError
from pyramidai_mpi.slides.readers import image_reader
from pyramidai_mpi.slides.readers.base import LEFT_OUT, UnreadableRegionError
from pyramidai_mpi.slides.readers.choice import open_slide
from pyramidai_mpi.testing.contracts import check_reader
from tests.tiffs import textured, write_slide

IMAGE = textured(300, 200)
SIZE = (300, 200)
STRIPS = {
    "none": {},
    "one strip": {"rowsperstrip": 200},
    "strips that do not divide it": {"rowsperstrip": 37},
    "LZW": {"compression": "lzw", "rowsperstrip": 16},
    "deflate of differences": {"compression": "zlib", "predictor": True},
    "WebP": {"compression": "webp", "compressionargs": {"lossless": True}},
    "LZMA": {"compression": "lzma"},
    "BigTIFF": {"bigtiff": True},
    "big-endian": {"byteorder": ">"},
}


def write_strips(path, image=IMAGE, **options):
    options = {"photometric": "rgb", "metadata": None, "rowsperstrip": 64} | options
    tifffile.imwrite(path, image, **options)
    return path


def write_picture(path, image=IMAGE, mode=None, **options):
    Image.fromarray(image, mode=mode).save(path, **options)
    return path


@pytest.fixture(params=["a.png", "a.jpg", "a.tif", "strips.tif", "photograph"])
def path(request, tmp_path):
    name = tmp_path / request.param
    if name.name == "strips.tif":
        return write_strips(name)
    if name.name == "photograph":  # what a file is, its first bytes say
        return write_picture(name, format="PNG")
    return write_picture(name)


def test_it_keeps_the_contract(path):
    check_reader(lambda: open_slide(path))
    assert open_slide(path).info.reader == "image"
    assert open_slide(path, "image").info == open_slide(path).info


def test_its_pixels_are_pillows(path):
    slide = open_slide(path)
    with Image.open(path) as picture:
        expected = np.asarray(picture.convert("RGB"))
    assert (slide.read((0, 0), 0, SIZE) == expected).all()
    assert (slide.read((31, 17), 0, (100, 50)) == expected[17:67, 31:131]).all()


@pytest.mark.parametrize("how", STRIPS)
def test_strips_are_what_tifffile_decodes(tmp_path, how):
    slide = open_slide(write_strips(tmp_path / "a.tif", **STRIPS[how]))
    assert slide.info.vendor == "tiff"
    assert (slide.read((0, 0), 0, SIZE) == IMAGE).all()


def test_strips_of_jpeg_are_what_tifffile_decodes(tmp_path):
    for rows in (48, 64):
        path = write_strips(tmp_path / "a.tif", compression="jpeg", rowsperstrip=rows)
        assert (open_slide(path).read((0, 0), 0, SIZE) == tifffile.imread(path)).all()


def test_strips_in_planes_and_with_other_channels(tmp_path):
    planes = np.ascontiguousarray(IMAGE.transpose(2, 0, 1))
    assert (
        open_slide(write_strips(tmp_path / "p.tif", planes, planarconfig="separate")).read((0, 0), 0, SIZE) == IMAGE
    ).all()
    extra = np.dstack([IMAGE, IMAGE[..., :1]])
    with pytest.raises(InputError, match="4 channels"):
        open_slide(write_strips(tmp_path / "e.tif", extra, extrasamples=["unspecified"]))
    colours = np.random.default_rng(1).integers(0, 256, (3, 256)).astype(np.uint16)
    palette = write_strips(tmp_path / "c.tif", IMAGE[..., 0], photometric="palette", colormap=colours * 257)
    assert (open_slide(palette).read((0, 0), 0, SIZE) == colours.T[IMAGE[..., 0]]).all()


@pytest.mark.parametrize("value", range(1, 9))
@pytest.mark.parametrize("ending", ["jpg", "png", "tif"])
def test_photographs_are_turned_upright(tmp_path, ending, value):
    path = tmp_path / f"a.{ending}"
    if ending == "tif":
        write_strips(path, extratags=[(274, 3, 1, value, True)])
    else:
        exif = Image.Exif()
        exif[274] = value
        write_picture(path, exif=exif)
    with Image.open(path) as picture:
        expected = np.asarray(ImageOps.exif_transpose(picture))
    slide = open_slide(path)
    assert slide.info.l0_size == expected.shape[1::-1]
    assert (slide.read((0, 0), 0, slide.info.l0_size) == expected).all()


@pytest.mark.parametrize("ending", ["png", "tif"])
def test_what_is_transparent_was_left_out(tmp_path, ending):
    alpha = np.full(IMAGE.shape[:2], 255, np.uint8)
    alpha[:, 200:] = 0
    rgba = np.dstack([IMAGE, alpha])
    path = tmp_path / f"a.{ending}"
    slide = open_slide(
        write_picture(path, rgba) if ending == "png" else write_strips(path, rgba, extrasamples=["unassalpha"])
    )
    pixels, there = slide.read_what_is_there((0, 0), 0, SIZE)
    assert (there == np.where(alpha, 1, LEFT_OUT)).all()
    assert (pixels == np.where(alpha[..., None], IMAGE, 255)).all()
    with pytest.raises(UnreadableRegionError):
        slide.read((200, 0), 0, (100, 200))


def test_the_spacing_is_the_files_where_a_microscope_may_have_it(tmp_path):
    assert open_slide(write_picture(tmp_path / "a.png", dpi=(101600, 101600))).info.mpp == pytest.approx(0.25, rel=1e-3)
    strips = write_strips(tmp_path / "b.tif", resolution=(20000, 20000), resolutionunit="CENTIMETER")
    assert open_slide(strips).info.mpp == pytest.approx(0.5)
    for path in (
        write_picture(tmp_path / "c.jpg", dpi=(96, 96)),
        write_picture(tmp_path / "d.png", dpi=(300, 300)),
        write_strips(tmp_path / "e.tif", resolution=(72, 72), resolutionunit="INCH"),
    ):
        info = open_slide(path).info
        assert info.mpp is None
        assert "as no microscope's are" in info.mpp_flaw
    assert open_slide(write_picture(tmp_path / "f.png")).info.mpp_flaw == ""
    oblong = write_strips(tmp_path / "g.tif", resolution=(40000, 1), resolutionunit="CENTIMETER")
    assert "not square" in open_slide(oblong).info.mpp_flaw


GREY = IMAGE[..., 0]
REFUSED = {
    "grey PNG": (lambda path: write_picture(path, GREY, format="PNG"), "grey"),
    "grey JPEG": (lambda path: write_picture(path, GREY, format="JPEG"), "grey"),
    "PNG of 16 bits": (lambda path: write_picture(path, GREY.astype(np.uint16), format="PNG"), "grey"),
    "PNG of one bit": (lambda path: Image.fromarray(GREY > 99).save(path, format="PNG"), "grey"),
    "CMYK JPEG": (lambda path: Image.fromarray(IMAGE).convert("CMYK").save(path, format="JPEG"), "CMYK"),
    "grey strips": (lambda path: write_strips(path, GREY, photometric="minisblack"), "grey"),
    "strips of floats": (lambda path: write_strips(path, IMAGE.astype(np.float32)), "floating-point"),
    "strips of 16 bits": (lambda path: write_strips(path, IMAGE.astype(np.uint16)), "16 bits"),
    "strips of one bit": (lambda path: write_strips(path, GREY > 99, photometric="minisblack"), "one bit"),
}


@pytest.mark.parametrize("kind", REFUSED)
def test_what_has_no_colours_is_refused_and_not_called_damaged(tmp_path, kind):
    make, words = REFUSED[kind]
    path = tmp_path / "a"
    make(path)
    with pytest.raises(InputError, match=rf"/a: .*{words}") as caught:
        open_slide(path)
    assert "damaged" not in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("share", [0.2, 0.6, 0.99])
def test_a_picture_cut_short_is_damaged(path, share):
    data = path.read_bytes()
    path.write_bytes(data[: int(share * len(data))])
    with pytest.raises(InputError, match="damaged"):
        open_slide(path)


@pytest.mark.parametrize("how", ["none", "LZW", "deflate of differences"])
def test_strips_whose_end_is_missing_are_damaged(tmp_path, how):
    path = write_strips(tmp_path / "a.tif", **({"rowsperstrip": 64} | STRIPS[how]))
    with tifffile.TiffFile(path) as tiff:
        offset, count = tiff.pages[0].dataoffsets[1], tiff.pages[0].databytecounts[1]
    data = bytearray(path.read_bytes())
    if how == "none":
        del data[-10:]
    else:
        data[offset + count - 5 : offset + count] = bytes(5)
    path.write_bytes(data)
    with pytest.raises(InputError, match="damaged"):
        open_slide(path)


def test_flipped_bits_of_a_png_are_damage(tmp_path):
    path = write_picture(tmp_path / "a.png")
    data = path.read_bytes()
    rng = np.random.default_rng(0)
    for place in rng.integers(60, len(data) - 20, 25).tolist():
        changed = bytearray(data)
        changed[place] ^= 1 << int(rng.integers(0, 8))
        path.write_bytes(changed)
        with pytest.raises(InputError, match="damaged"):
            open_slide(path)


def png_that_claims(width: int, height: int) -> bytes:
    """A PNG of a few bytes that says that it is as large."""

    def chunk(kind: bytes, body: bytes) -> bytes:
        return struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))

    head = chunk(b"IHDR", struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0))
    return b"\x89PNG\r\n\x1a\n" + head + chunk(b"IDAT", zlib.compress(bytes(1000))) + chunk(b"IEND", b"")


@pytest.mark.parametrize("size", [(12000, 12000), (60000, 60000), (2**31 - 1, 2**31 - 1)], ids=str)
def test_a_small_file_that_claims_to_be_huge_costs_nothing(tmp_path, size):
    path = tmp_path / "bomb.png"
    path.write_bytes(png_that_claims(*size))
    with pytest.raises(InputError, match="too large to be kept in memory"):
        open_slide(path)


def test_the_most_pixels_hold_for_all_kinds(path, monkeypatch):
    monkeypatch.setattr(image_reader, "MOST_PIXELS", 300 * 200 - 1)
    with pytest.raises(InputError, match=r"vips copy IN 'OUT.tif\[tile,pyramid"):
        open_slide(path)
    monkeypatch.setattr(image_reader, "MOST_PIXELS", 300 * 200)
    open_slide(path)


def test_a_thumbnail_before_the_slide_is_not_taken_for_it(tmp_path):
    path = tmp_path / "a.tif"
    with tifffile.TiffWriter(path) as tiff:
        tiff.write(IMAGE[::4, ::4], photometric="rgb", metadata=None)
        tiff.write(IMAGE, photometric="rgb", tile=(128, 128), metadata=None)
    with pytest.raises(InputError, match="page 1 has 300 x 200"):
        open_slide(path)


def test_tiles_are_left_to_the_other_readers(tmp_path):
    path = write_slide(tmp_path / "a.tif", [IMAGE])
    assert open_slide(path).info.reader == "tiff"
    with pytest.raises(InputError, match="--reader auto"):
        open_slide(path, "image")
    (tmp_path / "notes").write_text("no picture")
    with pytest.raises(InputError, match="no PNG, JPEG or TIFF"):
        open_slide(tmp_path / "notes", "image")
    with pytest.raises(InputError, match="nothing"):
        open_slide(tmp_path / "nothing", "image")
