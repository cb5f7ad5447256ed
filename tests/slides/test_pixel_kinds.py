"""What holds no colours of a stain as we read them is refused, and the line's own command makes a slide of it."""

from __future__ import annotations

import os
import re
import shlex
import subprocess
import sys
from typing import TYPE_CHECKING

import numpy as np
import pytest
import tifffile
from PIL import Image, ImageOps

from pyramidai_mpi.base.errors import InputError
from pyramidai_mpi.slides.readers.base import LEFT_OUT
from pyramidai_mpi.slides.readers.choice import open_slide
from pyramidai_mpi.slides.readers.pixel_kinds import turned_upright
from pyramidai_mpi.testing.launch import REPOSITORY
from tests.tiffs import textured

if TYPE_CHECKING:
    from pathlib import Path

IMAGE = textured(400, 300)
PLANES = np.ascontiguousarray(IMAGE.transpose(2, 0, 1))
EXTRA = np.random.default_rng(0).integers(0, 255, IMAGE.shape[:2]).astype(np.uint8)
GREY = IMAGE[..., 1]
TURNED = {2: IMAGE[:, ::-1], 3: IMAGE[::-1, ::-1], 6: np.rot90(IMAGE), 8: np.rot90(IMAGE, -1)}


def write(path: Path, data: np.ndarray, photometric: str = "rgb", *, tile=(128, 128), **options) -> Path:
    options = {"metadata": None, "resolution": (40000, 40000), "resolutionunit": "CENTIMETER"} | options
    tifffile.imwrite(path, np.ascontiguousarray(data), photometric=photometric, tile=tile, **options)
    return path


def orientation(value: int) -> dict:
    return {"extratags": [(274, 3, 1, value, True)]}


# what is written, words of the line, and what its command makes of the file (None: what cannot be converted)
REFUSED = {
    "grey": (GREY, {"photometric": "minisblack"}, "grey values", np.dstack([GREY] * 3)),
    "grey, white is zero": (255 - GREY, {"photometric": "miniswhite"}, "grey values", np.dstack([GREY] * 3)),
    "grey, JPEG": (GREY, {"photometric": "minisblack", "compression": "jpeg"}, "grey values", ...),
    "channels as pages": (PLANES, {"photometric": "minisblack", "metadata": {"axes": "CYX"}}, "3 pages of grey", IMAGE),
    "channels that nobody named": (
        PLANES,
        {"photometric": "minisblack", "planarconfig": "separate"},
        "3 channels that are not said to be red",
        IMAGE,
    ),
    "five channels": (
        np.dstack([IMAGE, EXTRA, EXTRA]),
        {"photometric": "minisblack", "planarconfig": "contig"},
        "5 channels that are not said to be red",
        IMAGE,
    ),
    "a fourth channel": (np.dstack([IMAGE, EXTRA]), {"extrasamples": ["unspecified"]}, "4 channels", IMAGE),
    "fourth and fifth": (
        np.dstack([IMAGE, EXTRA, EXTRA]),
        {"extrasamples": ["unassalpha", "unspecified"]},
        "5 channels",
        IMAGE,
    ),
    "a fourth plane": (
        np.concatenate([PLANES, EXTRA[None]]),
        {"planarconfig": "separate", "extrasamples": ["unspecified"]},
        "4 channels",
        IMAGE,
    ),
    "16 bits": (IMAGE.astype(np.uint16) * 257, {}, "16 bits", np.rint(IMAGE * (255 / IMAGE.max()))),
    "12 bits in 16": (IMAGE.astype(np.uint16) * 16, {}, "16 bits", np.rint(IMAGE * (255 / IMAGE.max()))),
    "float": ((IMAGE / IMAGE.max()).astype(np.float32), {}, "floating-point", np.rint(IMAGE * (255 / IMAGE.max()))),
    "float of 64 bits": ((IMAGE / 255).astype(np.float64), {}, "64 bits", np.rint(IMAGE * (255 / IMAGE.max()))),
    "fluorescence": (
        PLANES.astype(np.uint16) * 7,
        {"photometric": "minisblack"},
        "3 pages of grey values.*16 bits",
        np.rint(IMAGE * (255 / IMAGE.max())),
    ),
    "one bit": (IMAGE[..., 0] > 100, {"photometric": "minisblack"}, "one bit", None),
    "CMYK": (np.dstack([IMAGE, EXTRA]), {"photometric": "separated"}, "CMYK", None),
    "CIELab": (IMAGE, {"photometric": "cielab"}, "CIELab", None),
    **{
        f"orientation {value}": (stored, orientation(value), f"orientation {value}", IMAGE)
        for value, stored in TURNED.items()
    },
    **{
        f"compressed with {name}": (IMAGE, {"compression": name}, f"{name.upper()} .*OpenSlide cannot read", made)
        for name, made in (("webp", ...), ("jpeg2000", ...), ("jpegxl", ...), ("lzma", IMAGE), ("png", IMAGE))
    },
    "LZMA with a fourth channel": (
        np.dstack([IMAGE, EXTRA]),
        {"compression": "lzma", "extrasamples": ["unspecified"]},
        "LZMA.*4 channels",
        IMAGE,
    ),
}


@pytest.mark.parametrize("reader", ["auto", "openslide", "tiff"])
@pytest.mark.parametrize("kind", REFUSED)
def test_it_is_refused_in_one_line_that_says_what_it_is(tmp_path, kind, reader):
    data, options, words, _ = REFUSED[kind]
    path = write(tmp_path / "slide.tif", data, **options)
    with pytest.raises(InputError, match=rf"slide\.tif: .*{words}") as caught:
        open_slide(path, reader)
    assert caught.value.exit_code == 65
    assert not re.search(r"damaged|copy it|\n", str(caught.value))


@pytest.mark.parametrize("kind", [kind for kind, (*_, made) in REFUSED.items() if made is not None])
def test_the_command_of_the_line_makes_a_slide_of_it(tmp_path, kind):
    data, options, _, made = REFUSED[kind]
    path = write(tmp_path / "IN.tif", data, **options)
    with pytest.raises(InputError) as caught:
        open_slide(path)
    command = re.search(r'python -c "[^"]*"', str(caught.value))[0]
    subprocess.run([sys.executable, *shlex.split(command)[1:]], cwd=tmp_path, check=True, env=dict(os.environ))
    slide = open_slide(tmp_path / "OUT.tif")
    assert slide.info.mpp == pytest.approx(0.25)
    assert slide.info.l0_size == (400, 300)
    pixels = slide.read((0, 0), 0, (400, 300))
    if made is ...:  # lossy
        assert np.abs(pixels - (np.dstack([GREY] * 3) if "grey" in kind else IMAGE).astype(int)).mean() < 8
    else:
        assert np.abs(pixels - made).max() <= (1 if "float" in kind or "bits" in kind or "fluo" in kind else 0)


@pytest.mark.parametrize("compression", ["webp", "lzma"])
def test_the_script_for_large_pages_makes_a_slide_tile_by_tile(tmp_path, compression):
    page = (REPOSITORY / "docs" / "slides.md").read_text()
    script = re.search(r"```python\n(.*?)```", page, re.DOTALL)[1]
    source = write(tmp_path / "in.tif", IMAGE, compression=compression)
    subprocess.run([sys.executable, "-c", script, source, tmp_path / "out.tif"], check=True)
    slide = open_slide(tmp_path / "out.tif")
    assert slide.info.mpp == pytest.approx(0.25)
    assert np.abs(slide.read((0, 0), 0, (400, 300)) - IMAGE.astype(int)).mean() < 8


READ = {
    "planes": (PLANES, {"planarconfig": "separate"}),
    "planes, deflate": (PLANES, {"planarconfig": "separate", "compression": "zlib"}),
    "OME-TIFF, planes": (PLANES, {"planarconfig": "separate", "metadata": {"axes": "CYX"}}),
    "alpha, associated": (np.dstack([IMAGE, np.full_like(GREY, 255)]), {"extrasamples": ["assocalpha"]}),
    "alpha": (np.dstack([IMAGE, np.full_like(GREY, 255)]), {"extrasamples": ["unassalpha"]}),
    "LZW": (IMAGE, {"compression": "lzw"}),
    "Zstandard": (IMAGE, {"compression": "zstd"}),
    "packed": (IMAGE, {"compression": "packbits"}),
    "orientation 1": (IMAGE, orientation(1)),
    "big-endian": (IMAGE, {"byteorder": ">", "bigtiff": True}),
}


@pytest.mark.parametrize("reader", ["auto", "openslide"])
@pytest.mark.parametrize("kind", READ)
def test_other_ways_to_store_the_same_colours_are_read_rightly(tmp_path, kind, reader):
    data, options = READ[kind]
    slide = open_slide(write(tmp_path / "slide.tif", data, **options), reader)
    assert (slide.read((0, 0), 0, (400, 300)) == IMAGE).all()


def test_what_openslide_does_not_know_though_it_is_sound_is_not_called_damaged(tmp_path):
    path = write(tmp_path / "slide.tif", IMAGE, byteorder=">")  # seen with OpenSlide 4.0.1: classic, not BigTIFF
    try:
        pixels = open_slide(path).read((0, 0), 0, (400, 300))
    except InputError as error:
        assert "save it anew: python" in str(error)
    else:
        assert (pixels == IMAGE).all()


def test_a_palette_is_read_as_its_colours(tmp_path):
    colours = np.random.default_rng(1).integers(0, 256, (3, 256)).astype(np.uint16)
    slide = open_slide(write(tmp_path / "slide.tif", GREY, "palette", colormap=colours * 257))
    assert (slide.read((0, 0), 0, (400, 300)) == colours.T[GREY]).all()


def test_what_alpha_says_is_transparent_is_left_out_and_not_lost(tmp_path):
    alpha = np.full_like(GREY, 255)
    alpha[:, 200:] = 0
    slide = open_slide(write(tmp_path / "slide.tif", np.dstack([IMAGE, alpha]), extrasamples=["unassalpha"]))
    pixels, there = slide.read_what_is_there((0, 0), 0, (400, 300))
    assert (there == np.where(alpha, 1, LEFT_OUT)).all()
    assert (pixels[:, 200:] == 255).all()
    assert (slide.read((0, 0), 0, (300, 300))[:, :200] == IMAGE[:, :200]).all()


def test_a_page_of_another_kind_is_no_level(tmp_path):
    path = tmp_path / "slide.tif"
    with tifffile.TiffWriter(path) as tiff:
        tiff.write(IMAGE, photometric="rgb", tile=(128, 128), metadata=None)
        tiff.write(GREY[::2, ::2], photometric="minisblack", tile=(128, 128), subfiletype=1, metadata=None)
    assert open_slide(path).info.no_levels == ((200, 150),)


@pytest.mark.parametrize("value", range(1, 9))
def test_turning_upright_is_what_pillow_does(value):
    picture = Image.fromarray(IMAGE)
    picture.getexif()[274] = value
    assert (turned_upright(IMAGE, value) == np.asarray(ImageOps.exif_transpose(picture))).all()
