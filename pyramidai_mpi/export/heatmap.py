"""The heatmap as a pyramidal BigTIFF: exact numbers for programs, grey values for slide viewers.

OpenSlide reads 8 bits a sample (it asks libtiff for RGBA and fails on float32). The file therefore holds two pyramids
of the same pixels, each single-channel and tiled:

- OME image 0, ``probability``: float32, the score as it is stored, NaN where there is no tissue or no score;
- OME image 1, ``view``: uint8, 0 where there is none, else 1 + 254 times the score, rounded.

The view comes first in the file and its reduced levels stand both in the chain of directories, where OpenSlide looks,
and among the first one's sub-directories, where OME readers look. A reduced pixel is the largest score of the 2 x 2
below it: still one tile's very number, and no positive spot is lost from the overview.
"""

from __future__ import annotations

import struct
import tempfile
from contextlib import closing
from itertools import pairwise
from typing import TYPE_CHECKING
from xml.sax.saxutils import escape, quoteattr

import numpy as np
import tifffile

from pyramidai_mpi.base.errors import printable
from pyramidai_mpi.base.intended_use import claim_of
from pyramidai_mpi.export.cell_look import CellLook
from pyramidai_mpi.export.cells import is_dense
from pyramidai_mpi.export.last_look import tissue_rows
from pyramidai_mpi.export.shown import looks_and_scale
from pyramidai_mpi.store.files.placing import placed
from pyramidai_mpi.store.results.reader import open_result
from pyramidai_mpi.store.results.tables import read_header

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    import numpy.typing as npt

    from pyramidai_mpi.export.shown import Scale, Show
    from pyramidai_mpi.pyramid.last_look import LastLook
    from pyramidai_mpi.store.results.tables import Header, ResultFile

_TILE = 256
_OME = "http://www.openmicroscopy.org/Schemas/OME/2016-06"


def write_heatmap(result: Path, target: Path, *, overwrite: bool = False, show: Show | None = None) -> None:
    """Write the score of every tissue pixel, on the grid of the tissue mask (about 32 level-0 pixels a pixel).

    Where the pyramid did not zoom in, the last tile's score stands for all of its tissue. Memory is that of a band of
    rows beside one number for each level-0 tile.

    Of a result with strides a pixel is a cell of the finest one, with the score of the finest window over it that was
    looked at, and tissue where its middle is; memory is that of a band of rows. The description in the file says where
    in a pixel the centre of its window lies, which is where the score belongs.

    With `show` they are attention or contribution in place of scores: the first image has the numbers, named so, and
    the view has 1 and 255 at the ends of their scale, which the description gives. A reduced pixel of a contribution is
    the one furthest from 0.

    Raises
    ------
    UsageError
        When the result has nothing of the kind to show.
    InputError
        When the result cannot be read.
    OutputExistsError, StorageError
        When the target is in the way or cannot be written.
    """
    with open_result(result) as file:
        header = read_header(file)
        last_look, scale = looks_and_scale(file, header, show)
        with (
            placed(target, overwrite=overwrite, inputs=[result]) as temporary,
            closing(_Picture(file, header, last_look, scale, target.parent)) as picture,
        ):
            _write_pyramids(temporary, picture)


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


class _Picture:
    """The heatmap's pixels, any level of its pyramid, in bands of tile rows.

    Reduced levels are made while the next finer one is read for the first time, and wait in nameless files.
    """

    def __init__(
        self, file: ResultFile, header: Header, last_look: LastLook | CellLook, scale: Scale, folder: Path
    ) -> None:
        self._file, self.header, self._last_look, self.scale = file, header, last_look, scale
        self.shape, self._downsample = header.mask_shape, header.mask_downsample
        if isinstance(last_look, CellLook):
            self.shape, self._downsample = last_look.shape, last_look.l0_tile_side
        self.mpp = header.slide.mpp * self._downsample
        self._reduced = [tempfile.TemporaryFile(dir=folder) for _ in range(1, self.n_levels)]  # noqa: SIM115

    @property
    def n_levels(self) -> int:
        """Levels until all fits into one tile."""
        return max(1, int(np.ceil(np.log2(max(self.shape) / _TILE))) + 1)

    def shape_of(self, level: int) -> tuple[int, int]:
        """Height and width of a level, rounded up."""
        return -(-self.shape[0] // 2**level), -(-self.shape[1] // 2**level)

    def tiles(self, level: int) -> Iterator[npt.NDArray[np.float32]]:
        """Tiles of a level, row by row, float32, those at the edge filled up with NaN; level 0 is asked for first."""
        height, width = self.shape_of(level)
        for top in range(0, height, _TILE):
            pixels = self._rows(level, top, min(top + _TILE, height))
            if level + 1 < self.n_levels:
                self._reduced[level].seek(top // 2 * self.shape_of(level + 1)[1] * pixels.itemsize)
                self._reduced[level].write(halved(pixels, signed=self.scale.is_signed).tobytes())
            band = np.full((_TILE, -(-width // _TILE) * _TILE), np.nan, np.float32)
            band[: pixels.shape[0], :width] = pixels
            for left in range(0, band.shape[1], _TILE):
                yield band[:, left : left + _TILE]

    def close(self) -> None:
        """Let go of what waits."""
        for file in self._reduced:
            file.close()

    def _rows(self, level: int, top: int, bottom: int) -> npt.NDArray[np.float32]:
        width = self.shape_of(level)[1]
        if level:
            file = self._reduced[level - 1]
            file.seek(top * width * np.dtype(np.float32).itemsize)
            data = file.read((bottom - top) * width * np.dtype(np.float32).itemsize)
            return np.frombuffer(data, np.float32).reshape(bottom - top, width)
        downsample = self._downsample
        score = self._last_look.scores(top, bottom, width, downsample)
        tissue = tissue_rows(self._file, self.header, top, bottom, width, downsample)
        return np.where(tissue, score, np.float32(np.nan))


def _write_pyramids(path: Path, picture: _Picture) -> None:
    with tifffile.TiffWriter(path, bigtiff=True, ome=False, byteorder="<") as tiff:
        description = _ome_xml(picture).encode()
        scale = picture.scale
        grey = quantised if scale.name == "score" else lambda values: quantised(scale.position(values))
        _write_pyramid(tiff, picture, np.dtype(np.uint8), grey, description)
        _write_pyramid(tiff, picture, np.dtype(np.float32), lambda score: score, None)
    _chain_reduced_levels(path)


def _write_pyramid(
    tiff: tifffile.TiffWriter,
    picture: _Picture,
    dtype: np.dtype[np.generic],
    encode: Callable[[npt.NDArray[np.float32]], npt.NDArray[np.generic]],
    description: bytes | None,
) -> None:
    for level in range(picture.n_levels):
        pixels_per_cm = 1e4 / (picture.mpp * 2**level)
        tiff.write(
            map(encode, picture.tiles(level)),
            shape=picture.shape_of(level),
            dtype=dtype,
            tile=(_TILE, _TILE),
            photometric="minisblack",
            compression="zlib",
            subfiletype=1 if level else 0,
            subifds=(picture.n_levels - 1 or None) if level == 0 else None,
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


def where_scores_belong(header: Header) -> str:
    """How a pixel lies to its window, of a result with strides, else nothing."""
    if not is_dense(header):
        return ""
    finest, window = header.levels[0], header.model.tile_size
    cell, margin = finest.cell or window, finest.margin
    l0_side, l0_shift = cell * finest.downsample, (window / 2 - margin) * finest.downsample
    return (
        f"A pixel is the cell of a window of {window} px at stride {cell} ({finest.spacing_um_px:g} µm/px): pixel "
        f"(x, y) covers the slide's level-0 pixels from ({l0_side:g} x, {l0_side:g} y) on, {l0_side:g} a side. Its "
        f"score belongs to the centre of the window, level-0 pixel ({l0_side:g} x + {l0_shift:g}, {l0_side:g} y + "
        f"{l0_shift:g}). Where only coarser windows were looked at, it is the score of the finest of them over it."
    )


def _ome_xml(picture: _Picture) -> str:
    """Description of both images; the exact one is image 0 and stands behind the view's directories.

    It says what the model is for, where the result does, and how pixels lie to windows, where these overlap.
    """
    height, width = picture.shape
    scale, claim = picture.scale, claim_of(picture.header.model.intended_use)
    name = printable(scale.title)  # XML knows no way to write control characters
    ends = "" if scale.name == "score" else f"View: 1 is {scale.low:.9g}, 255 is {scale.high:.9g} ({scale.title})."
    said = " ".join(filter(None, [claim, where_scores_belong(picture.header), ends]))
    description = f"<Description>{escape(printable(said))}</Description>" if said else ""
    images = []
    for number, (title, kind, directory) in enumerate(
        [("probability" if scale.name == "score" else scale.name, "float", picture.n_levels), ("view", "uint8", 0)]
    ):
        images.append(
            f'<Image ID="Image:{number}" Name="{title}">{description}'
            f'<Pixels ID="Pixels:{number}" DimensionOrder="XYCZT" Type="{kind}" '
            f'SizeX="{width}" SizeY="{height}" SizeC="1" SizeZ="1" SizeT="1" '
            f'PhysicalSizeX="{picture.mpp!r}" PhysicalSizeXUnit="µm" '
            f'PhysicalSizeY="{picture.mpp!r}" PhysicalSizeYUnit="µm">'
            f'<Channel ID="Channel:{number}:0" Name={quoteattr(name)} SamplesPerPixel="1"/>'
            f'<TiffData IFD="{directory}" PlaneCount="1"/></Pixels></Image>'
        )
    return (
        f'<?xml version="1.0" encoding="UTF-8"?><OME xmlns="{_OME}" '
        f'xmlns:xsi="http://www.w3.org/2001/XMLSchema-instance" xsi:schemaLocation="{_OME} {_OME}/ome.xsd">'
        f"{''.join(images)}</OME>"
    )
