"""Numbers over a slide as a pyramidal BigTIFF: exact ones for programs, grey values for slide viewers.

OpenSlide reads 8 bits a sample (it asks libtiff for RGBA and fails on float32). The file therefore holds two pyramids
of the same pixels, each single-channel and tiled:

- OME image 0, ``probability`` or what else the numbers are: float32, NaN where there is none;
- OME image 1, ``view``: uint8, 0 where there is none, else 1 + 254 times the place on the scale, rounded.

The view comes first in the file and its reduced levels stand both in the chain of directories, where OpenSlide looks,
and among the first one's sub-directories, where OME readers look. A reduced pixel is the largest number of the 2 x 2
below it: still one tile's very number, and no positive spot is lost from the overview.
"""

from __future__ import annotations

import struct
import tempfile
from contextlib import closing
from dataclasses import dataclass
from itertools import pairwise
from typing import TYPE_CHECKING
from xml.sax.saxutils import escape, quoteattr

import numpy as np
import tifffile

from pyramidai_mpi.base.errors import printable

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    import numpy.typing as npt

    from pyramidai_mpi.export.shown import Scale

_TILE = 256
_OME = "http://www.openmicroscopy.org/Schemas/OME/2016-06"


@dataclass(frozen=True)
class Heat:
    """Numbers to be written.

    Attributes
    ----------
    shape
        Height and width in pixels.
    mpp
        µm per pixel.
    scale
        Its name is that of the first image, scores being a ``probability``.
    said
        What the file says of them, in sentences.
    rows
        Gives rows from the first to the last (excluded), float32 (n, width), NaN for nothing; called once for each
        band of 256 rows, from the top, and once more for the second image.
    """

    shape: tuple[int, int]
    mpp: float
    scale: Scale
    said: str
    rows: Callable[[int, int], npt.NDArray[np.float32]]


def write_heat(path: Path, heat: Heat, folder: Path) -> None:
    """Write both images; reduced levels wait in nameless files in a folder."""
    with (
        closing(_Levels(heat, folder)) as levels,
        tifffile.TiffWriter(path, bigtiff=True, ome=False, byteorder="<") as tiff,
    ):
        scale = heat.scale
        grey = quantised if scale.name == "score" else lambda values: quantised(scale.position(values))
        _write_pyramid(tiff, levels, np.dtype(np.uint8), grey, _ome_xml(heat, levels.n_levels).encode())
        _write_pyramid(tiff, levels, np.dtype(np.float32), lambda score: score, None)
    _chain_reduced_levels(path)


def quantised(score: npt.NDArray[np.floating]) -> npt.NDArray[np.uint8]:
    """Grey values of the view: 0 for NaN, else 1 + 254 times the score, rounded."""
    grey = np.rint(1 + 254 * np.clip(np.nan_to_num(score.astype(np.float64)), 0, 1))
    return np.where(np.isnan(score), 0, grey).astype(np.uint8)


def halved(score: npt.NDArray[np.float32], *, signed: bool = False) -> npt.NDArray[np.float32]:
    """The largest number of each 2 x 2 pixels, NaN where all are; sides are rounded up.

    Of signed numbers the one furthest from 0.
    """
    height, width = score.shape
    padded = np.pad(score, ((0, height % 2), (0, width % 2)), constant_values=np.nan)
    larger = _further if signed else np.fmax
    return np.asarray(
        larger(
            larger(padded[::2, ::2], padded[1::2, ::2]),
            larger(padded[::2, 1::2], padded[1::2, 1::2]),
        )
    )


def _further(one: npt.NDArray[np.float32], other: npt.NDArray[np.float32]) -> npt.NDArray[np.float32]:
    """The number further from 0; the other one where one is NaN."""
    return np.where(np.isnan(other) | (np.abs(one) >= np.abs(other)), one, other)


class _Levels:
    """The pixels of any level of the pyramid, in bands of tile rows.

    Reduced levels are made while the next finer one is read for the first time, and wait in nameless files.
    """

    def __init__(self, heat: Heat, folder: Path) -> None:
        self.heat = heat
        self._reduced = [tempfile.TemporaryFile(dir=folder) for _ in range(1, self.n_levels)]  # noqa: SIM115

    @property
    def n_levels(self) -> int:
        """Levels until all fits into one tile."""
        return max(1, int(np.ceil(np.log2(max(self.heat.shape) / _TILE))) + 1)

    def shape_of(self, level: int) -> tuple[int, int]:
        """Height and width of a level, rounded up."""
        height, width = self.heat.shape
        return -(-height // 2**level), -(-width // 2**level)

    def tiles(self, level: int) -> Iterator[npt.NDArray[np.float32]]:
        """Tiles of a level, row by row, float32, those at the edge filled up with NaN; level 0 is asked for first."""
        height, width = self.shape_of(level)
        for top in range(0, height, _TILE):
            pixels = self._rows(level, top, min(top + _TILE, height))
            if level + 1 < self.n_levels:
                self._reduced[level].seek(top // 2 * self.shape_of(level + 1)[1] * pixels.itemsize)
                self._reduced[level].write(halved(pixels, signed=self.heat.scale.is_signed).tobytes())
            band = np.full((_TILE, -(-width // _TILE) * _TILE), np.nan, np.float32)
            band[: pixels.shape[0], :width] = pixels
            for left in range(0, band.shape[1], _TILE):
                yield band[:, left : left + _TILE]

    def close(self) -> None:
        """Let go of what waits."""
        for file in self._reduced:
            file.close()

    def _rows(self, level: int, top: int, bottom: int) -> npt.NDArray[np.float32]:
        if not level:
            return self.heat.rows(top, bottom)
        width = self.shape_of(level)[1]
        file = self._reduced[level - 1]
        file.seek(top * width * np.dtype(np.float32).itemsize)
        data = file.read((bottom - top) * width * np.dtype(np.float32).itemsize)
        return np.frombuffer(data, np.float32).reshape(bottom - top, width)


def _write_pyramid(
    tiff: tifffile.TiffWriter,
    levels: _Levels,
    dtype: np.dtype[np.generic],
    encode: Callable[[npt.NDArray[np.float32]], npt.NDArray[np.generic]],
    description: bytes | None,
) -> None:
    for level in range(levels.n_levels):
        pixels_per_cm = 1e4 / (levels.heat.mpp * 2**level)
        tiff.write(
            map(encode, levels.tiles(level)),
            shape=levels.shape_of(level),
            dtype=dtype,
            tile=(_TILE, _TILE),
            photometric="minisblack",
            compression="zlib",
            subfiletype=1 if level else 0,
            subifds=(levels.n_levels - 1 or None) if level == 0 else None,
            resolution=(pixels_per_cm, pixels_per_cm),
            resolutionunit="CENTIMETER",
            description=description if level == 0 else None,
            software=False,
            metadata=None,
        )


def _chain_reduced_levels(path: Path) -> None:
    """Hang the view's reduced levels between its first directory and the next image's."""
    with tifffile.TiffFile(path, is_ome=False) as tiff:
        view, exact = tiff.pages[0], tiff.pages[1]
        chain = [view.offset, *(view.subifds or ()), exact.offset]
    with path.open("r+b") as file:
        for here, following in pairwise(chain):
            file.seek(here)
            (n_tags,) = struct.unpack("<Q", file.read(8))
            file.seek(here + 8 + 20 * n_tags)  # BigTIFF: 8 bytes of count, 20 a tag, then the next directory
            file.write(struct.pack("<Q", following))


def _ome_xml(heat: Heat, n_levels: int) -> str:
    """Description of both images; the exact one is image 0 and stands behind the view's directories."""
    height, width = heat.shape
    scale = heat.scale
    name = printable(scale.title)  # XML knows no way to write control characters
    ends = "" if scale.name == "score" else f"View: 1 is {scale.low:.9g}, 255 is {scale.high:.9g} ({scale.title})."
    said = " ".join(filter(None, [heat.said, ends]))
    description = f"<Description>{escape(printable(said))}</Description>" if said else ""
    images = []
    for number, (title, kind, directory) in enumerate(
        [("probability" if scale.name == "score" else scale.name, "float", n_levels), ("view", "uint8", 0)]
    ):
        images.append(
            f'<Image ID="Image:{number}" Name="{title}">{description}'
            f'<Pixels ID="Pixels:{number}" DimensionOrder="XYCZT" Type="{kind}" '
            f'SizeX="{width}" SizeY="{height}" SizeC="1" SizeZ="1" SizeT="1" '
            f'PhysicalSizeX="{heat.mpp!r}" PhysicalSizeXUnit="µm" '
            f'PhysicalSizeY="{heat.mpp!r}" PhysicalSizeYUnit="µm">'
            f'<Channel ID="Channel:{number}:0" Name={quoteattr(name)} SamplesPerPixel="1"/>'
            f'<TiffData IFD="{directory}" PlaneCount="1"/></Pixels></Image>'
        )
    return (
        f'<?xml version="1.0" encoding="UTF-8"?><OME xmlns="{_OME}" '
        f'xmlns:xsi="http://www.w3.org/2001/XMLSchema-instance" xsi:schemaLocation="{_OME} {_OME}/ome.xsd">'
        f"{''.join(images)}</OME>"
    )
