"""Label masks: a TIFF of the slide's shape, of any size, whose pixels say what is tumour."""

from __future__ import annotations

import math
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import tifffile

from pyramidai_mpi.base.damage import damage_and
from pyramidai_mpi.base.errors import InputError, failed_read
from pyramidai_mpi.base.tiff_chain import pages_in_chain
from pyramidai_mpi.truth.coverage import UNIT, cover_blocks

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    import numpy.typing as npt

_FINE_ENOUGH = 4
"""Of a pyramidal mask the smallest level is read whose pixels are this many times finer than the cells asked for."""

_MOST_SEGMENT_BYTES = 1 << 28
"""Of one tile or strip, which is decoded as a whole."""

_MOST_BLOCK_SIDE = 4096

_DAMAGE = damage_and(tifffile.TiffFileError)


@dataclass(frozen=True)
class LabelMask:
    """A mask that was seen to fit its slide.

    Attributes
    ----------
    path
        The file.
    l0_size
        Width and height of the slide.
    value
        What its tumour pixels hold; None: anything above 0.
    sizes
        Width and height of each stored level, largest first.
    downsample
        Level-0 pixels per pixel of the largest.
    """

    path: Path
    l0_size: tuple[int, int]
    value: int | None
    sizes: tuple[tuple[int, int], ...]
    downsample: float

    def coverage(self, shape: tuple[int, int], step: float) -> npt.NDArray[np.int32]:
        """Coverage of cells of side `step` level-0 pixels by tumour, int32 of `shape` (rows, cols), 0 to `UNIT`.

        Read tile by tile, so that a mask as large as its slide needs no more memory than a tile.
        """
        level = self._level_for(step)
        covered = np.zeros(shape, np.float64)
        # by sizes: a reduced level's side is rounded to whole pixels
        pixel = self.downsample * self.sizes[0][1] / self.sizes[level][1] / step
        pixel_x = self.downsample * self.sizes[0][0] / self.sizes[level][0] / step
        with _opened(self.path) as tiff:
            for labels, corner in _blocks(self.path, _levels(self.path, tiff)[level]):
                is_tumor = labels > 0 if self.value is None else labels == self.value
                cover_blocks(is_tumor, corner, (pixel, pixel_x), covered)
        return np.clip(np.rint(covered * UNIT), 0, UNIT).astype(np.int32)

    def marked(self, step: float) -> tuple[npt.NDArray[np.bool_], tuple[float, float]]:
        """The stored level whose pixels are closest to `step` level-0 pixels without being larger, or the largest.

        Returns
        -------
        marked : numpy.ndarray
            bool (h, w); a byte a pixel.
        pixel : tuple
            Height and width of a pixel of it in level-0 pixels.
        """
        of_level = [self.downsample * self.sizes[0][0] / width for width, _ in self.sizes]
        level = max((n for n, pixel in enumerate(of_level) if pixel <= step * (1 + 1e-6)), default=0)
        found = np.zeros((self.sizes[level][1], self.sizes[level][0]), bool)
        with _opened(self.path) as tiff:
            for labels, (row, col) in _blocks(self.path, _levels(self.path, tiff)[level]):
                is_tumor = labels > 0 if self.value is None else labels == self.value
                found[row : row + labels.shape[0], col : col + labels.shape[1]] = is_tumor
        height, width = (
            self.downsample * whole / part for whole, part in zip(self.sizes[0][::-1], found.shape, strict=True)
        )
        return found, (height, width)

    def window(self, l0_corner: tuple[float, float], downsample: float, size: int) -> npt.NDArray[np.int32]:
        """What the mask's pixels under the middles of a window's pixels hold, int32 (size, size); 0 off the mask.

        Only the tiles or strips that it touches are decoded.

        Parameters
        ----------
        l0_corner
            x and y of the window's top-left corner in level-0 pixels.
        downsample
            Level-0 pixels a pixel of the window.
        """
        middles = (np.arange(size) + 0.5) * downsample
        cols, rows = (np.floor((corner + middles) / self.downsample).astype(np.int64) for corner in l0_corner)
        found = np.zeros((size, size), np.int32)
        with _opened(self.path) as tiff:
            page = _levels(self.path, tiff)[0]
            for block, (row, col) in _blocks_of(self.path, page, rows, cols):
                in_rows = np.flatnonzero((rows >= row) & (rows < row + block.shape[0]))
                in_cols = np.flatnonzero((cols >= col) & (cols < col + block.shape[1]))
                found[np.ix_(in_rows, in_cols)] = block[np.ix_(rows[in_rows] - row, cols[in_cols] - col)]
        return found

    def _level_for(self, step: float) -> int:
        fits = [
            n
            for n, (width, _) in enumerate(self.sizes)
            if self.downsample * self.sizes[0][0] / width <= step / _FINE_ENOUGH
        ]
        return max(fits, default=0)


def open_mask(path: Path, l0_size: tuple[int, int], value: int | None = None) -> LabelMask:
    """Check that a file is a label mask of a slide of this size.

    Raises
    ------
    InputError
        When it is no readable TIFF, has colours or pieces too large to be decoded, or another shape than the slide.
    """
    with _opened(path) as tiff:
        levels = _levels(path, tiff)
        first = levels[0]
        if first.samplesperpixel != 1 or first.dtype is None or first.dtype.kind not in "biu":
            raise InputError(
                f"{path}: is an image of {first.samplesperpixel} channels of {first.dtype}, expected a label mask: one "
                "channel of whole numbers"
            )
        for page in levels:
            _check_segments(path, page)
        sizes = tuple((int(page.imagewidth), int(page.imagelength)) for page in levels)
    return LabelMask(path, l0_size, value, sizes, downsample_of(path, sizes[0], l0_size))


def downsample_of(path: Path, size: tuple[int, int], l0_size: tuple[int, int]) -> float:
    """The downsample whose rounding gives the mask's size: a power of two where one does and none is exact."""
    # a side of n pixels is that of the slide over the downsample, rounded up or down
    low = max(l0 / (n + 1) for n, l0 in zip(size, l0_size, strict=True))
    high = min(l0 / max(n - 1, 0.5) for n, l0 in zip(size, l0_size, strict=True))
    if low > high:
        raise InputError(
            f"{path}: is {size[0]} x {size[1]} px, which is no reduction of the slide's {l0_size[0]} x {l0_size[1]} "
            "px; another slide's mask, or a part of it"
        )
    ratio_x, ratio_y = l0_size[0] / size[0], l0_size[1] / size[1]
    if ratio_x == ratio_y:
        return ratio_x
    power = 2.0 ** round(math.log2(ratio_x))
    return power if low <= power <= high else math.sqrt(ratio_x * ratio_y)


@contextmanager
def _named_damage(path: Path) -> Iterator[None]:
    """It stands around what tifffile does alone."""
    try:
        yield
    except _DAMAGE as error:
        what = f"{error!s:.200}" or type(error).__name__
        raise failed_read(path, error) or InputError(f"{path}: not a readable TIFF ({what}); check the mask") from error


@contextmanager
def _opened(path: Path) -> Iterator[Any]:
    with _named_damage(path):
        tiff = tifffile.TiffFile(path)
    with tiff:
        yield tiff


def _levels(path: Path, tiff: Any) -> list[Any]:
    """Pages of the largest image: its own pyramid, or further pages that shrink in proportion."""
    with _named_damage(path):
        pages = [page.keyframe if hasattr(page, "keyframe") else page for page in pages_in_chain(tiff)]
        levels = [pages[0]]
        for page in pages[1:]:
            shrink = pages[0].imagewidth / page.imagewidth
            same_shape = abs(pages[0].imagelength / shrink - page.imagelength) <= 1 + page.imagelength * 0.02
            if page.imagewidth < levels[-1].imagewidth and same_shape and page.samplesperpixel == 1:
                levels.append(page)
    return levels


def _check_segments(path: Path, page: Any) -> None:
    """See that a tile or strip can be decoded: of one that is too large, a few bytes may claim anything."""
    with _named_damage(path):
        width, height = page.imagewidth, page.imagelength
        tile = (page.tilewidth, page.tilelength) if page.is_tiled else (width, min(page.rowsperstrip, height))
        n_bytes = math.prod(map(int, tile)) * page.dtype.itemsize * int(page.imagedepth)
        if min(width, height, *tile) < 1:
            raise ValueError("it has no pixels")
        if (n_stored := len(page.dataoffsets)) < (n_wanted := math.prod(page.chunked)):
            raise ValueError(f"it lists {n_stored} of its {n_wanted} pieces")
        if (
            end := max(map(sum, zip(page.dataoffsets, page.databytecounts, strict=True)))
        ) > page.parent.filehandle.size:
            raise ValueError(f"it was cut: it is to reach to byte {end}")
    if n_bytes > _MOST_SEGMENT_BYTES:
        raise InputError(
            f"{path}: is stored in pieces of {tile[0]} x {tile[1]} px, too large to decode at once; save it in tiles"
        )


def _blocks(path: Path, page: Any) -> Iterator[tuple[npt.NDArray[Any], tuple[int, int]]]:
    """Decoded tiles or strips (h, w) with row and column of their corner, without what lies past the image."""
    segments = iter(page.segments())
    while True:
        with _named_damage(path):
            found = next(segments, None)
            if found is None:
                return
            data, index, _ = found
            if data is None:  # not stored: background
                continue
            row, col = int(index[-3]), int(index[-2])
            block = data.reshape(data.shape[-3], data.shape[-2])[: page.imagelength - row, : page.imagewidth - col]
        for top in range(0, block.shape[0], _MOST_BLOCK_SIDE):
            for left in range(0, block.shape[1], _MOST_BLOCK_SIDE):
                part = block[top : top + _MOST_BLOCK_SIDE, left : left + _MOST_BLOCK_SIDE]
                yield part, (row + top, col + left)


def _blocks_of(
    path: Path, page: Any, rows: npt.NDArray[np.int64], cols: npt.NDArray[np.int64]
) -> Iterator[tuple[npt.NDArray[Any], tuple[int, int]]]:
    """Decoded tiles or strips that hold any of these rows and columns, as `_blocks` gives them."""
    width, height = int(page.imagewidth), int(page.imagelength)
    high, wide = (page.tilelength, page.tilewidth) if page.is_tiled else (min(page.rowsperstrip, height), width)
    across = -(-width // wide)
    down = sorted({row // high for row in rows.tolist() if 0 <= row < height})
    along = sorted({col // wide for col in cols.tolist() if 0 <= col < width})
    for number in (r * across + c for r in down for c in along):
        with _named_damage(path):
            file = page.parent.filehandle
            file.seek(page.dataoffsets[number])
            data, index, _ = page.decode(file.read(page.databytecounts[number]), number)
            if data is None:  # not stored: background
                continue
            row, col = int(index[-3]), int(index[-2])
            block = data.reshape(data.shape[-3], data.shape[-2])[: height - row, : width - col]
        yield block, (row, col)
