"""Pictures of patches in their file, decoded: RGB as it is, JPEG, or files of pictures as they were found."""

from __future__ import annotations

import io
import warnings
from typing import TYPE_CHECKING

import numpy as np

from pyramidai_mpi.base.damage import damage_and
from pyramidai_mpi.base.errors import InputError
from pyramidai_mpi.slides.readers.pixel_kinds import turned_upright
from pyramidai_mpi.slides.readers.tile_codecs import decode_picture, jpeg_decoder, raw_decoder

if TYPE_CHECKING:
    from pyramidai_mpi.base.types import RgbArray
    from pyramidai_mpi.slides.readers.tile_codecs import Decoder
    from pyramidai_mpi.store.patches.reader import PatchFile
    from pyramidai_mpi.store.patches.record import ImageStore

FORMATS = ("PNG", "JPEG", "TIFF")
"""Files of pictures that are decoded, by Pillow's names."""

_ORIENTATION = 274
_COLOURS = frozenset({"RGB", "RGBA", "P", "PA"})


class PatchPictures:
    """Pictures of the patches of a file. Used by any number of threads.

    Parameters
    ----------
    file
        The file, which holds pictures.
    store
        How they are encoded.

    Raises
    ------
    InputError
        When no decoder here takes them.
    """

    def __init__(self, file: PatchFile, store: ImageStore) -> None:
        self._file = file
        size = (file.header.settings.size,) * 2
        try:
            self._decode = decoder_of(store.coding, (size[0], size[1]))
        except (ValueError, ImportError) as error:
            raise InputError(f"{file.path}: its pictures cannot be decoded here: {error}") from error

    def decode(self, number: int) -> RgbArray:
        """Pixels of a patch, uint8 (size, size, 3); perhaps not to be written to.

        Raises
        ------
        InputError
            When its bytes were damaged after they were written, or are no picture of that size.
        """
        data = self._file.picture(number)
        try:
            return self._decode(data)
        except ValueError as error:
            raise InputError(f"{self._file.path}: the picture of patch {number} cannot be decoded: {error}") from error


def decoder_of(coding: str, size: tuple[int, int]) -> Decoder:
    """A strict decoder of pictures of this size (width, height), by their coding.

    Raises
    ------
    ValueError
        When there is none of that name.
    ImportError
        When its library is not installed.
    """
    if coding == "raw":
        return raw_decoder(size)
    if coding == "jpeg":
        return jpeg_decoder(size, b"", is_ycbcr=True)
    if coding == "files":
        return lambda data: decode_file(data, size)
    raise ValueError(f"pictures encoded as {coding!r:.80}")


def decode_file(data: bytes, size: tuple[int, int]) -> RgbArray:
    """Pixels of the bytes of a PNG, JPEG or TIFF, uint8 (height, width, 3), on white where it has no colour.

    Parameters
    ----------
    size
        Width and height that it has to have; no other picture is unpacked.

    Raises
    ------
    ValueError
        When it is no such picture, is damaged, has another size or no colours.
    """
    from PIL import Image, ImageOps, UnidentifiedImageError

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # what a file claims is looked at below
        try:
            with Image.open(io.BytesIO(data), formats=FORMATS) as picture:
                if picture.size != size:
                    raise ValueError(f"{picture.size[0]} x {picture.size[1]} pixels, expected {size[0]} x {size[1]}")
                if picture.mode not in _COLOURS:
                    raise ValueError(f"its colours are {picture.mode}, not RGB")
                if picture.format == "JPEG":  # Pillow paints grey what it cannot decode
                    pixels = turned_upright(decode_picture(data), int(picture.getexif().get(_ORIENTATION, 1)))
                else:
                    picture.load()  # turns a TIFF upright
                    white = Image.new("RGBA", size, (255, 255, 255, 255))
                    white.alpha_composite(ImageOps.exif_transpose(picture.convert("RGBA")))
                    pixels = np.ascontiguousarray(np.asarray(white)[..., :3])
        except ValueError:
            raise
        except UnidentifiedImageError as error:  # says the address of an object
            raise ValueError("is no PNG, JPEG or TIFF that can be read") from error
        except damage_and(Image.DecompressionBombError) as error:
            raise ValueError(" ".join(str(error).split())[:200]) from error
    if pixels.shape != (size[1], size[0], 3) or pixels.dtype != np.uint8:
        raise ValueError(f"decoded to {pixels.shape} {pixels.dtype}")
    return pixels
