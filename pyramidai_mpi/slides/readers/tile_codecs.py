"""Decoding the stored tiles of TIFF files: strict, so that damage is an error and never a picture.

OpenSlide takes every warning of libjpeg for damage. imagecodecs and Pillow swallow them and paint the rest of the tile
grey, so JPEG goes through simplejpeg, which stops at warnings too. What any decoder here refuses is left to OpenSlide:
being too strict costs time and no pixel.
"""

from __future__ import annotations

import struct
import zlib
from dataclasses import dataclass
from typing import TYPE_CHECKING, TypeAlias

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Callable

    from pyramidai_mpi.base.types import RgbArray

Decoder: TypeAlias = "Callable[[bytes], RgbArray]"
"""From a stored tile's bytes to its pixels, uint8 (tile height, tile width, 3).

Raises `ValueError` when they are anything but a whole, sound tile of that size.
"""

CODINGS = ("jpeg", "jpeg2000", "deflate", "raw")
"""What `TileCoding` can name."""

_SOI = b"\xff\xd8"
_STANDALONE = {0x01, *range(0xD0, 0xD8)}  # markers without a length
_START_OF_FRAME = {0xC0, 0xC1, 0xC2}
_TABLES = {0xDB, 0xC4}  # quantisation, Huffman
_APP0, _APP14, _START_OF_SCAN, _END = 0xE0, 0xEE, 0xDA, 0xD9
_ADOBE = b"\xff\xee\x00\x0eAdobe\x00\x64\x00\x00\x00\x00%c"
_J2K_START = b"\xff\x4f\xff\x51"  # start of codestream, size marker


@dataclass(frozen=True)
class TileCoding:
    """How the tiles of a stored level are encoded: all that their decoder has to be told.

    Attributes
    ----------
    name
        One of `CODINGS`.
    tile_size
        Width and height.
    tables
        JPEGTables of the TIFF, b"" where there are none.
    is_ycbcr
        Of JPEG: whether the TIFF says YCbCr, else RGB.
    differences
        Of deflate: whether each pixel is stored as its difference from the one to its left.
    """

    name: str
    tile_size: tuple[int, int]
    tables: bytes = b""
    is_ycbcr: bool = False
    differences: bool = False

    def decoder(self) -> Decoder:
        """A strict decoder of such tiles.

        Raises
        ------
        ValueError
            When there is none of that name, or the tables are none.
        ImportError
            When its library is not installed.
        """
        if self.name == "jpeg":
            return jpeg_decoder(self.tile_size, self.tables, is_ycbcr=self.is_ycbcr)
        if self.name == "jpeg2000":
            return jpeg2000_decoder(self.tile_size)
        if self.name == "deflate":
            return deflate_decoder(self.tile_size, differences=self.differences)
        if self.name == "raw":
            return raw_decoder(self.tile_size)
        raise ValueError(f"tiles encoded as {self.name!r:.80}")


def jpeg_decoder(tile_size: tuple[int, int], tables: bytes, *, is_ycbcr: bool) -> Decoder:
    """Decoder of baseline or progressive JPEG tiles.

    The TIFF says whether the components are YCbCr or RGB, the stream need not: where it does not, an Adobe marker is
    put in, since libjpeg would guess. Where it says something else than the TIFF, the tile is refused.

    Parameters
    ----------
    tile_size
        Width and height.
    tables
        The TIFF's JPEGTables, b"" where there are none: shared by all tiles, set before each.
    is_ycbcr
        Photometric interpretation of the TIFF: YCbCr, else RGB.

    Raises
    ------
    ValueError
        When the tables hold anything but tables.
    ImportError
        When simplejpeg is not installed.
    """
    from simplejpeg import decode_jpeg

    shared = b""
    if tables:
        if any(code not in _TABLES for code, _ in _segments(tables)):
            raise ValueError("JPEGTables with more than tables")
        shared = tables[2:-2] if tables.endswith(b"\xff\xd9") else tables[2:]
    colour = _ADOBE % int(is_ycbcr)

    def decode(data: bytes) -> RgbArray:
        says_its_colour = _check_jpeg(data, tile_size, is_ycbcr=is_ycbcr)
        if shared or not says_its_colour:
            data = b"".join((_SOI, shared, b"" if says_its_colour else colour, data[2:]))
        return _checked(decode_jpeg(data, strict=True), tile_size)

    return decode


def encode_jpeg(pixels: RgbArray, quality: int) -> bytes:
    """A JPEG (JFIF) of pixels (H, W, 3), baseline, colours as fine as brightness (4:4:4).

    With the exact transform of libjpeg, so equal pixels give equal bytes on any processor. Not simplejpeg, which takes
    the fast one below quality 96: seen with version 1.9.0, its errors are larger and its bytes other than Pillow's.
    """
    from imagecodecs import jpeg8_encode

    return bytes(jpeg8_encode(np.ascontiguousarray(pixels), level=quality, subsampling="444"))


def decode_picture(data: bytes) -> RgbArray:
    """Pixels of a JPEG file in colour, uint8 (height, width, 3).

    Raises
    ------
    ValueError
        When it is damaged in any way that libjpeg notices.
    """
    from simplejpeg import decode_jpeg

    return np.asarray(decode_jpeg(data, strict=True))


def _check_jpeg(data: bytes, tile_size: tuple[int, int], *, is_ycbcr: bool) -> bool:
    """Check size and components against the TIFF; return whether the stream itself settles its colour space."""
    has_jfif, adobe, frame = False, None, b""
    for code, body in _segments(data):
        if code == _APP0 and body[:5] == b"JFIF\0":
            has_jfif = True
        elif code == _APP14 and body[:5] == b"Adobe" and len(body) >= 12:
            adobe = body[11]
        elif code in _START_OF_FRAME:
            frame = body
    if len(frame) < 6 or frame[5] != 3 or struct.unpack(">HH", frame[1:5]) != tile_size[::-1]:
        raise ValueError("a JPEG of another size or kind")
    # libjpeg asks JFIF first, then Adobe
    if (has_jfif and not is_ycbcr) or (not has_jfif and adobe not in {None, int(is_ycbcr)}):
        raise ValueError("a JPEG of another colour space than the TIFF says")
    return has_jfif or adobe is not None


def _segments(data: bytes) -> list[tuple[int, bytes]]:
    """Marker codes and bodies of a JPEG up to its first scan or its end."""
    if data[:2] != _SOI:
        raise ValueError("no JPEG")
    found = []
    place = 2
    while place + 4 <= len(data):
        if data[place] != 0xFF:
            raise ValueError("no JPEG marker where one belongs")
        code = data[place + 1]
        if code in {_START_OF_SCAN, _END}:
            break
        if code in _STANDALONE or code == 0xFF:
            raise ValueError("an unusual JPEG")
        length = int.from_bytes(data[place + 2 : place + 4], "big")
        found.append((code, data[place + 4 : place + 2 + length]))
        place += 2 + max(length, 2)
    return found


def jpeg2000_decoder(tile_size: tuple[int, int]) -> Decoder:
    """Decoder of bare JPEG 2000 codestreams whose three components are R, G and B (compression 33005)."""
    from imagecodecs import jpeg2k_decode

    def decode(data: bytes) -> RgbArray:
        # marker, length, capabilities; then the sizes that a damaged file could make huge
        if data[:4] != _J2K_START or len(data) < 51:
            raise ValueError("no JPEG 2000 codestream")
        right, bottom, left, top = struct.unpack(">4I", data[8:24])
        n_components = int.from_bytes(data[40:42], "big")
        if (right - left, bottom - top) != tile_size or data[42:51] != b"\x07\x01\x01" * 3 or n_components != 3:
            raise ValueError("a JPEG 2000 image of another size or kind")
        try:
            return _checked(jpeg2k_decode(data), tile_size)
        except RuntimeError as error:  # imagecodecs' errors of all codecs
            raise ValueError(str(error)) from error

    return decode


def deflate_decoder(tile_size: tuple[int, int], *, differences: bool) -> Decoder:
    """Decoder of zlib streams; `differences` where each pixel is stored as its difference from the one to its left."""
    expected = 3 * tile_size[0] * tile_size[1]

    def decode(data: bytes) -> RgbArray:
        stream = zlib.decompressobj()
        try:
            raw = stream.decompress(data, expected)
            # the check sum comes after the last byte
            rest = stream.decompress(stream.unconsumed_tail, 1) if not stream.eof else b""
        except zlib.error as error:
            raise ValueError(str(error)) from error
        if len(raw) != expected or rest or not stream.eof:
            raise ValueError("a zlib stream of another size")
        pixels = np.frombuffer(raw, np.uint8).reshape(tile_size[1], tile_size[0], 3)
        return np.cumsum(pixels, axis=1, dtype=np.uint8) if differences else pixels

    return decode


def raw_decoder(tile_size: tuple[int, int]) -> Decoder:
    """Decoder of tiles that are stored as they are."""

    def decode(data: bytes) -> RgbArray:
        if len(data) != 3 * tile_size[0] * tile_size[1]:
            raise ValueError("a tile of another size")
        return np.frombuffer(data, np.uint8).reshape(tile_size[1], tile_size[0], 3)

    return decode


def _checked(pixels: RgbArray, tile_size: tuple[int, int]) -> RgbArray:
    if pixels.shape != (tile_size[1], tile_size[0], 3) or pixels.dtype != np.uint8:
        raise ValueError(f"decoded to {pixels.shape} {pixels.dtype}")
    return pixels
