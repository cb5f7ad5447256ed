"""PNG, JPEG and TIFF in strips: pictures without tiles, decoded once and kept in memory.

Photographs from a microscope's camera and the tiles of data sets come so. A picture is read whole or not at all: what
is damaged, too large for memory or no picture in colour is refused when it is opened.
"""

from __future__ import annotations

import io
import math
import os
import warnings
from typing import TYPE_CHECKING

import numpy as np

from pyramidai_mpi.base.damage import DAMAGE, damage_and
from pyramidai_mpi.base.errors import InputError, input_errors
from pyramidai_mpi.slides.readers import tile_codecs
from pyramidai_mpi.slides.readers.base import LEFT_OUT, THERE, SlideInfo, UnreadableRegionError
from pyramidai_mpi.slides.readers.openslide_reader import has_a_format
from pyramidai_mpi.slides.readers.pixel_kinds import larger_page, obstacle, turned_upright
from pyramidai_mpi.slides.readers.stored_tiles import pages_of, zeros_that_are_damage
from pyramidai_mpi.slides.spacing import square_spacing

if TYPE_CHECKING:
    from pathlib import Path

    import numpy.typing as npt
    import tifffile
    from PIL import Image

    from pyramidai_mpi.base.types import RgbArray

MOST_PIXELS = 1 << 27
"""Pixels of a picture: 11585 x 11585, 400 MB in every rank. What a small file claims to unpack to is known before."""
_PNG, _JPEG = b"\x89PNG\r\n\x1a\n", b"\xff\xd8\xff"
_TIFF = (b"II*\0", b"MM\0*", b"II+\0", b"MM\0+")
_GREY = frozenset({"1", "L", "LA", "I", "F", "I;16", "I;16B"})
"""Pillow's names of modes without colours."""
_ORIENTATION = 274
_INCH_UM = 25400.0
_JPEG_IN_TIFF = 7
_RGB = "python -c \"from PIL import Image; Image.open('IN').convert('RGB').save('OUT.png')\""


def is_image(path: Path) -> bool:
    """Whether a file is a picture that this reader takes, by its first bytes; False for what is not there."""
    start = _start_of(path)
    if start.startswith((_PNG, _JPEG)):
        return True
    if not start.startswith(_TIFF):
        return False
    pages = pages_of(path)
    return bool(pages) and not pages[0].is_tiled and not has_a_format(path)  # some slides are TIFFs without tiles


def _start_of(path: Path) -> bytes:
    try:
        with path.open("rb") as file:
            return file.read(len(_PNG))
    except OSError:
        return b""


class ImageReader:
    """A picture in memory. See `SlideReader`.

    Parameters
    ----------
    path
        A PNG, a JPEG, or a TIFF whose first page is not tiled.

    Raises
    ------
    InputError
        When the file is missing, is none of these, is damaged, holds no colours, or has more than `MOST_PIXELS`.
    """

    def __init__(self, path: Path) -> None:
        with input_errors(path), path.open("rb") as file:
            start = file.read(len(_PNG))
        if start.startswith((_PNG, _JPEG)):
            vendor = "png" if start == _PNG else "jpeg"
            pixels, resolution = _read_picture(path, vendor)
        elif start.startswith(_TIFF):
            vendor = "tiff"
            pixels, resolution = _read_tiff(path)
        else:
            raise InputError(f"{path}: is no PNG, JPEG or TIFF; use --reader auto")
        mpp, flaw = _spacing(resolution)
        height, width = pixels.shape[:2]
        self._pixels: RgbArray = np.ascontiguousarray(pixels[..., :3])
        self._left_out: npt.NDArray[np.bool_] | None = None
        if pixels.shape[2] == 4 and (pixels[..., 3] < 255).any():
            self._left_out = pixels[..., 3] == 0
            self._pixels = _on_white(pixels)
        self.info = SlideInfo(
            path=path,
            vendor=vendor,
            l0_size=(width, height),
            stored_sizes=((width, height),),
            stored_downsamples=(1.0,),
            stored_exact=(True,),
            mpp=mpp,
            l0_bounds=(0, 0),
            reader="image",
            mpp_flaw=flaw,
        )

    def read(self, l0_corner: tuple[int, int], stored_level: int, size: tuple[int, int]) -> RgbArray:
        """See `SlideReader.read`."""
        pixels, there = self.read_what_is_there(l0_corner, stored_level, size)
        if there.size and (there == LEFT_OUT).all():
            raise UnreadableRegionError("none of its pixels is in the file")
        return pixels

    def read_what_is_there(
        self, l0_corner: tuple[int, int], stored_level: int, size: tuple[int, int]
    ) -> tuple[RgbArray, npt.NDArray[np.uint8]]:
        """See `SlideReader.read_what_is_there`."""
        pixels = np.full((size[1], size[0], 3), 255, np.uint8)
        there = np.full((size[1], size[0]), THERE, np.uint8)
        (left, top), (width, height) = l0_corner, self.info.l0_size
        xs, ys = (max(left, 0), min(left + size[0], width)), (max(top, 0), min(top + size[1], height))
        if xs[0] < xs[1] and ys[0] < ys[1]:
            source = np.s_[ys[0] : ys[1], xs[0] : xs[1]]
            target = np.s_[ys[0] - top : ys[1] - top, xs[0] - left : xs[1] - left]
            pixels[target] = self._pixels[source]
            if self._left_out is not None:
                there[target][self._left_out[source]] = LEFT_OUT
        return pixels, there

    def expect(self, l0_corner: tuple[int, int], stored_level: int, size: tuple[int, int]) -> None:
        """See `SlideReader.expect`; all is in memory."""

    def close(self) -> None:
        """No file is open."""


def _read_picture(path: Path, vendor: str) -> tuple[npt.NDArray[np.uint8], tuple[float, float] | None]:
    """Pixels of a PNG or JPEG, (height, width, 3 or 4), upright, and pixels per inch across and down."""
    from PIL import Image, ImageOps

    with input_errors(path):
        if path.stat().st_size > 4 * MOST_PIXELS:
            raise InputError(f"{path}: is {_too_large()}")
        data = path.read_bytes()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", Image.DecompressionBombWarning)  # our own limit is below the one that raises
        try:
            with Image.open(io.BytesIO(data), formats=[vendor.upper()]) as picture:
                _check_size(path, picture.size)
                _check_colours(path, picture)
                resolution = picture.info.get("dpi")
                if vendor == "png":
                    has_alpha = picture.mode in {"RGBA", "PA"} or "transparency" in picture.info
                    upright = ImageOps.exif_transpose(picture.convert("RGBA" if has_alpha else "RGB"))
                    return np.asarray(upright), resolution
                # not Pillow, which paints grey what it cannot decode
                orientation = int(picture.getexif().get(_ORIENTATION, 1))
                return turned_upright(tile_codecs.decode_picture(data), orientation), resolution
        except Image.DecompressionBombError as error:
            raise InputError(f"{path}: is {_too_large()}") from error
        except DAMAGE as error:  # Pillow's OSError is what it says of the picture
            raise InputError(f"{path}: damaged picture ({' '.join(str(error).split())}); copy it again") from error


def _check_size(path: Path, size: tuple[int, int]) -> None:
    if size[0] * size[1] > MOST_PIXELS:
        raise InputError(f"{path}: is {_too_large(f' of {size[0]} x {size[1]} pixels')}")


def _too_large(size: str = "") -> str:
    return (
        f"a picture{size} without tiles, too large to be kept in memory (most: {MOST_PIXELS / 1e6:.0f} million "
        "pixels); convert it: vips copy IN 'OUT.tif[tile,pyramid,compression=jpeg,Q=90]'"
    )


def _check_colours(path: Path, picture: Image.Image) -> None:
    if picture.mode in _GREY:
        raise InputError(
            f"{path}: it has grey values and no colours of a stain; use a picture in colour (to analyse the grey all "
            f"the same, convert it: {_RGB})"
        )
    if picture.mode in {"CMYK", "LAB", "HSV"}:
        raise InputError(f"{path}: its colours are {picture.mode}, not RGB; convert it: {_RGB}")


def _read_tiff(path: Path) -> tuple[npt.NDArray[np.uint8], tuple[float, float] | None]:
    """The like of a TIFF in strips."""
    import tifffile

    pages = pages_of(path)
    if not pages:
        raise InputError(f"{path}: damaged TIFF, its directory cannot be read; copy it again")
    _check_size(path, pages[0].size)
    if pages[0].is_tiled:
        raise InputError(f"{path}: is stored in tiles; use --reader auto")
    if wrong := larger_page(pages[0].size, pages) or obstacle(pages[0], pages, may_be_turned=True):
        raise InputError(f"{path}: {wrong}")
    try:
        with input_errors(path), tifffile.TiffFile(path) as tiff:
            page = tiff.pages[0].aspage()
            _check_strips(path, page)
            pixels = _decode_strips(path, page)
            if page.photometric == tifffile.PHOTOMETRIC.PALETTE:
                pixels = (np.asarray(page.colormap) >> 8).astype(np.uint8).T[pixels.reshape(pixels.shape[:2])]
            elif page.planarconfig == tifffile.PLANARCONFIG.SEPARATE:
                pixels = np.moveaxis(pixels, 0, -1)
            unit = {2: 1.0, 3: 2.54}.get(int(page.resolutionunit))
            resolution = (page.resolution[0] * unit, page.resolution[1] * unit) if unit else None
    except damage_and(tifffile.TiffFileError) as error:
        raise InputError(f"{path}: damaged TIFF ({' '.join(str(error).split())}); copy it again") from error
    if pixels.ndim != 3 or pixels.shape[1::-1] != pages[0].size:
        raise InputError(f"{path}: damaged TIFF, its picture is decoded to {pixels.shape}; copy it again")
    return turned_upright(pixels, pages[0].orientation), resolution


def _check_strips(path: Path, page: tifffile.TiffPage) -> None:
    """Refuse a TIFF that lacks parts of strips: decoders fill up with zeros; or whose strips claim any memory."""
    size = path.stat().st_size
    # some of the entries of tiles are enough for tifffile to take them for such
    if page.is_tiled or page.dtype is None or math.prod(page.chunks) * page.dtype.itemsize > 4 * MOST_PIXELS:
        raise InputError(f"{path}: damaged TIFF, its picture is stored in pieces of {page.chunks}; copy it again")
    with path.open("rb") as file:
        for offset, count in zip(page.dataoffsets, page.databytecounts, strict=True):
            zeros = min(zeros_that_are_damage(int(page.compression)), count)
            if (
                count
                and offset + count <= size
                and not (zeros and os.pread(file.fileno(), zeros, offset + count - zeros) == bytes(zeros))
            ):
                continue
            raise InputError(f"{path}: damaged TIFF, a strip of its picture is not whole; copy it again")


def _decode_strips(path: Path, page: tifffile.TiffPage) -> npt.NDArray[np.uint8]:
    if page.compression != _JPEG_IN_TIFF:
        return np.asarray(page.asarray(maxworkers=1))
    width, height, rows = page.imagewidth, page.imagelength, min(page.rowsperstrip, page.imagelength)
    strips = []
    with path.open("rb") as file:
        for n, (offset, count) in enumerate(zip(page.dataoffsets, page.databytecounts, strict=True)):
            decode = tile_codecs.jpeg_decoder(
                (width, min(rows, height - n * rows)), page.jpegtables or b"", is_ycbcr=page.photometric == 6
            )
            strips.append(decode(os.pread(file.fileno(), count, offset)))
    return np.concatenate(strips)


def _spacing(resolution: tuple[float, float] | None) -> tuple[float | None, str]:
    """µm/px from pixels per inch, where a microscope may have such pixels; and what is wrong with them."""
    if resolution is None or min(resolution) <= 0:
        return None, ""
    return square_spacing(*(_INCH_UM / float(one) for one in resolution))


def _on_white(rgba: npt.NDArray[np.uint8]) -> RgbArray:
    alpha = rgba[..., 3:].astype(np.uint16)
    return ((rgba[..., :3] * alpha + 255 * (255 - alpha) + 127) // 255).astype(np.uint8)
