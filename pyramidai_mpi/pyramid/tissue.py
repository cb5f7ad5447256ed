"""Where a slide holds tissue: the mask, and the tissue of every tile.

The mask lies on a grid of its own whose pixels divide level-0 tiles evenly, so the tissue of any tile at any level is a
sum of whole mask pixels and the counts of a parent are exactly the sum of its children's.
"""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass, field
from functools import cached_property
from typing import TYPE_CHECKING

import numpy as np

from pyramidai_mpi.base.errors import InternalError

if TYPE_CHECKING:
    import numpy.typing as npt

    from pyramidai_mpi.pyramid.grid import Grid

METHODS = {"od": "od-1", "hsv-otsu": "otsu-hsv-1"}
"""Names of `slides.segmentation`'s methods in results; counted up when the same slide would get another mask."""
NETWORK = "network"
"""First word of the method in results where a network has found the tissue; its name and hash follow."""

REGION_ROLES = ("roi", "exclude", "tissue_mask")
"""Files that may have a say in a mask."""
CELL_ROLES = ("truth", "places")
"""Files that may have a say, beside these, in which patches there are and what they are."""

TARGET_DOWNSAMPLE = 32.0
_BAND_ROWS = 64


@dataclass(frozen=True)
class RegionFile:
    """A file that had a say: its role (of `REGION_ROLES`, in a mask; of `CELL_ROLES`, in patches), name and SHA-256."""

    role: str
    name: str
    sha256: str


@dataclass(frozen=True)
class TissueSource:
    """How a mask came about: the method in words, and the files that the caller gave."""

    method: str = METHODS["od"]
    files: tuple[RegionFile, ...] = ()

    def facts(self) -> dict[str, str]:
        """Name and SHA-256 of each file, for `/execution`."""
        return {key: value for file in self.files for key, value in (
            (f"{file.role}_file", file.name), (f"{file.role}_file_sha256", file.sha256)
        )}  # fmt: skip

    def to_json(self) -> str:
        """For the way to another rank."""
        return json.dumps(asdict(self))

    @classmethod
    def from_json(cls, text: str) -> TissueSource:
        """Inverse of `to_json`."""
        document = json.loads(text)
        return cls(document["method"], tuple(RegionFile(**file) for file in document["files"]))


def found_by(method: str, limit: float | None = None) -> str:
    """Name of the result file for a method of `METHODS` with a limit of the caller's, if any."""
    return METHODS[method] if limit is None else f"{METHODS[method]} with limit {limit:g}"


def mask_pixels_per_tile(grid: Grid) -> int:
    """Mask pixels along the side of a level-0 tile, so that one is about 32 level-0 pixels wide."""
    return grid.bases * max(1, round(grid.l0_side(0) / grid.bases / TARGET_DOWNSAMPLE))


def mask_downsample(grid: Grid) -> float:
    """Level-0 pixels per mask pixel."""
    return grid.l0_side(0) / mask_pixels_per_tile(grid)


@dataclass(frozen=True)
class TissueMap:
    """Tissue in every tile of every level.

    Attributes
    ----------
    grid
        Tile geometry.
    mask
        bool (H, W), True where there is tissue.
    pixels_per_tile
        Mask pixels along the side of a level-0 tile.
    source
        How the mask came about.
    """

    grid: Grid
    mask: npt.NDArray[np.bool_]
    pixels_per_tile: int
    source: TissueSource = field(default_factory=TissueSource)

    @cached_property
    def counts(self) -> tuple[npt.NDArray[np.int64], ...]:
        """Mask pixels of tissue per tile: for each level int64 (rows, cols)."""
        levels = [block_sums(self.mask, self.pixels_per_tile, self.grid.shape(0))]
        for level in range(1, self.grid.n_levels):
            levels.append(block_sums(levels[-1], self.grid.factor(level), self.grid.shape(level)))
        return tuple(levels)

    @cached_property
    def squares(self) -> npt.NDArray[np.bool_]:
        """Which squares of `Grid.base` hold tissue, bool (rows, cols)."""
        if self.grid.bases == 1:
            return np.asarray(self.counts[0] > 0)
        cols, rows = (extent * self.grid.bases for extent in self.grid.shape(0))
        return np.asarray(block_sums(self.mask, self.pixels_per_tile // self.grid.bases, (cols, rows)) > 0)

    @cached_property
    def squares_near(self) -> npt.NDArray[np.bool_]:
        """Which squares of `Grid.base` have tissue within half a window of them, bool (rows, cols).

        Windows of the cells elsewhere see none of the mask's tissue.
        """
        per_square = self.pixels_per_tile // self.grid.bases
        reach = self.grid.window * self.grid.downsample(0) / 2 / mask_downsample(self.grid)
        cols, rows = (extent * self.grid.bases for extent in self.grid.shape(0))
        return squares_with(self.mask, per_square, reach, (rows, cols))

    def share(self, level: int) -> npt.NDArray[np.float64]:
        """Tissue area over the area of the tile's part inside the slide, float64 (rows, cols)."""
        side = self.pixels_per_tile * self.grid.span(level)
        cols, rows = self.grid.shape(level)
        inside_x, inside_y = (
            # a mask may end short of a last tile that meets the slide by less than a pixel
            np.clip(extent - np.arange(n) * side, 1, side)
            for n, extent in ((cols, self.mask.shape[1]), (rows, self.mask.shape[0]))
        )
        return np.asarray(self.counts[level] / (inside_y[:, None] * inside_x[None, :]).astype(np.float64))


def block_sums(
    values: npt.NDArray[np.bool_] | npt.NDArray[np.int64], block: int, shape: tuple[int, int]
) -> npt.NDArray[np.int64]:
    """Sums over squares of `block` cells, int64 (rows, cols) for `shape` (cols, rows); 0 past the end of `values`."""
    cols, rows = shape
    sums = np.empty((rows, cols), np.int64)
    for first in range(0, rows, _BAND_ROWS):  # the whole of a large mask as int64 would be 300 MB
        count = min(_BAND_ROWS, rows - first)
        padded = np.zeros((count * block, cols * block), np.int64)
        # a mask may end one pixel past the last tile when the tile side is not a whole number of level-0 pixels
        band = values[first * block : (first + count) * block, : cols * block]
        padded[: band.shape[0], : band.shape[1]] = band
        sums[first : first + count] = padded.reshape(count, block, cols, block).sum(axis=(1, 3))
    return sums


def squares_with(
    mask: npt.NDArray[np.bool_], step: float, reach: float, shape: tuple[int, int]
) -> npt.NDArray[np.bool_]:
    """Which squares of a grid have something of a mask in them or near them.

    Parameters
    ----------
    mask
        bool (H, W).
    step
        Side of a square in pixels of the mask; the first one's corner is the mask's.
    reach
        How far beyond its sides counts, in the same pixels.
    shape
        Rows and columns of the grid.

    Returns
    -------
    numpy.ndarray
        bool of `shape`. Pixels count that have an area in a square grown by `reach`.
    """
    # sums from the corner on, int32: a mask has fewer than 2^31 pixels
    sums = np.pad(mask.astype(np.int32).cumsum(axis=0, dtype=np.int32).cumsum(axis=1, dtype=np.int32), ((1, 0), (1, 0)))
    edges = []
    for n_squares, extent in zip(shape, mask.shape, strict=True):
        first = np.arange(n_squares) * step
        ends = np.floor(first - reach + 1e-6), np.ceil(first + step + reach - 1e-6)
        edges.append([np.clip(end, 0, extent).astype(np.int64) for end in ends])
    (top, bottom), (left, right) = ([end[:, None] for end in edges[0]], edges[1])
    return np.asarray(sums[bottom, right] - sums[top, right] - sums[bottom, left] + sums[top, left] > 0)


def pack_mask(mask: npt.NDArray[np.bool_]) -> bytes:
    """Height and width as little-endian int64, then the mask's bits."""
    return np.array(mask.shape, "<i8").tobytes() + np.packbits(mask).tobytes()


def unpack_mask(packed: bytes) -> npt.NDArray[np.bool_]:
    """Inverse of `pack_mask`.

    Raises
    ------
    InternalError
        When the bytes are no packed mask.
    """
    height, width = (int(extent) for extent in np.frombuffer(packed[:16], "<i8")) if len(packed) >= 16 else (-1, -1)
    if min(height, width) < 0 or len(packed) != 16 + -(-height * width // 8):
        raise InternalError(f"{len(packed)} bytes are no mask of {height} x {width} pixels")
    bits = np.unpackbits(np.frombuffer(packed[16:], np.uint8), count=height * width)
    return bits.reshape(height, width).astype(bool)


@dataclass(frozen=True)
class Areas:
    """Areas in mm².

    Attributes
    ----------
    tissue
        Of all tissue in the mask.
    positive
        Of the tissue within positive tiles of level 0.
    """

    tissue: float
    positive: float

    @classmethod
    def measure(
        cls, mask: npt.NDArray[np.bool_], um_px: float, pixels_per_tile: int, positive: npt.NDArray[np.integer]
    ) -> Areas:
        """Measure a slide.

        Parameters
        ----------
        mask
            bool (H, W), True where there is tissue.
        um_px
            µm per pixel of the mask.
        pixels_per_tile
            Mask pixels along the side of a level-0 tile.
        positive
            Column and row of each positive tile of level 0, (N, 2).
        """
        cols, rows = (-(-extent // pixels_per_tile) for extent in reversed(mask.shape))
        is_positive = np.zeros((rows, cols), bool)
        is_positive[positive[:, 1], positive[:, 0]] = True
        return cls.of_counts(block_sums(mask, pixels_per_tile, (cols, rows)), um_px, is_positive)

    @classmethod
    def of_counts(cls, counts: npt.NDArray[np.integer], um_px: float, is_positive: npt.NDArray[np.bool_]) -> Areas:
        """The same from the mask pixels of tissue in each level-0 tile, and which of these are positive: (rows, cols).

        Tiles are to cover all of the mask.
        """
        mm2 = (um_px / 1000) ** 2
        return cls(float(counts.sum() * mm2), float(counts[is_positive].sum() * mm2))
