"""Tiles with their truth, read from generated slides as from any slide: JPEG and averaging included."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import tifffile

from pyramidai_mpi.base.errors import InputError
from pyramidai_mpi.synth.polygons import Outlines, read_regions

if TYPE_CHECKING:
    from pathlib import Path

    from numpy.typing import NDArray

    U8 = NDArray[np.uint8]
    F32 = NDArray[np.float32]

TILE = 224
"""Side of a tile in pixels of its own level."""

SCALE_FACTOR = 2
LEVELS = (0, 1, 2)
MIN_TISSUE = 0.05
"""Tiles with less tissue than this are background: neither trained on nor tested."""

_TRUTH_SHRINK = 3
_CELL = 1 << _TRUTH_SHRINK
_GLASS_INTENSITY = 222
"""Generated glass is at 240 or more in each colour; the palest tissue absorbs a tenth of the light."""


@dataclass(frozen=True)
class TileSet:
    """Tiles of one level.

    Attributes
    ----------
    pixels
        uint8 (N, 224, 224, 3), RGB.
    tumor_share
        float32 (N,), share of the tile's tissue inside tumour outlines.
    leads_to_tumor
        bool (N,): any level-0 descendant is positive (half of its tissue in tumour); at level 0, the tile itself.
    """

    pixels: U8
    tumor_share: F32
    leads_to_tumor: NDArray[np.bool_]

    def __len__(self) -> int:
        return len(self.pixels)


def join(parts: list[TileSet]) -> TileSet:
    """One set of several."""
    return TileSet(
        np.concatenate([part.pixels for part in parts]),
        np.concatenate([part.tumor_share for part in parts]),
        np.concatenate([part.leads_to_tumor for part in parts]),
    )


@dataclass(frozen=True)
class Truth:
    """Tissue and tumour of a slide in cells of 8 x 8 level-0 pixels, as running sums.

    Attributes
    ----------
    tissue, tumor
        float64 (rows + 1, columns + 1): entry ``[r, c]`` counts cells above r and left of c, of tissue and of tumour
        on tissue.
    """

    tissue: NDArray[np.float64]
    tumor: NDArray[np.float64]

    def shares(self, l0_x: NDArray[np.int64], l0_y: NDArray[np.int64], side: int) -> tuple[F32, F32]:
        """Tissue over area, and tumour over tissue, of squares (corners and side in multiples of 8 pixels)."""
        c0, r0, n = l0_x // _CELL, l0_y // _CELL, side // _CELL

        def count(sums: NDArray[np.float64]) -> NDArray[np.float64]:
            rows, cols = sums.shape[0] - 1, sums.shape[1] - 1
            ra, rb = np.minimum(r0, rows), np.minimum(r0 + n, rows)
            ca, cb = np.minimum(c0, cols), np.minimum(c0 + n, cols)
            out: NDArray[np.float64] = sums[rb, cb] - sums[ra, cb] - sums[rb, ca] + sums[ra, ca]
            return out

        tissue, tumor = count(self.tissue), count(self.tumor)
        return (tissue / n**2).astype(np.float32), (tumor / np.maximum(tissue, 1)).astype(np.float32)

    def leads_to_tumor(self, l0_x: NDArray[np.int64], l0_y: NDArray[np.int64], level: int) -> NDArray[np.bool_]:
        """Whether any level-0 descendant of tiles of a level is positive and no background."""
        out = np.zeros(l0_x.shape, bool)
        for j in range(SCALE_FACTOR**level):
            for i in range(SCALE_FACTOR**level):
                tissue, tumor = self.shares(l0_x + i * TILE, l0_y + j * TILE, TILE)
                out |= (tissue >= MIN_TISSUE) & (tumor >= 0.5)
        return out


@dataclass(frozen=True)
class GeneratedSlide:
    """Pixels of the analysed levels of a generated slide, in memory, and its truth.

    Attributes
    ----------
    levels
        uint8 (H, W, 3) for each analysed level.
    truth
        Tissue and tumour.
    """

    levels: tuple[U8, ...]
    truth: Truth


def load_slide(path: Path) -> GeneratedSlide:
    """Read a slide of the generator and the GeoJSON beside it.

    Raises
    ------
    InputError
        When the file is no pyramid of the generator, or its truth is missing.
    """
    try:
        with tifffile.TiffFile(path) as tiff:
            levels = tuple(tiff.pages[level].asarray() for level in LEVELS)
            thumbnail = tiff.pages[_TRUTH_SHRINK].asarray()
    except (OSError, IndexError, tifffile.TiffFileError) as error:
        raise InputError(f"{path}: no generated pyramid of four levels ({error}); generate it anew") from error
    truth_path = path.with_suffix(".geojson")
    # a slide without tumour has a truth without polygons
    empty = truth_path.exists() and '"Feature"' not in truth_path.read_text(encoding="utf-8")
    regions = () if empty else read_regions(truth_path)[0]
    tissue = thumbnail.min(axis=2) < _GLASS_INTENSITY
    shape = (tissue.shape[0], tissue.shape[1])
    # a cell belongs to tumour when its centre does
    tumor = Outlines(regions).mask(_CELL / 2, _CELL / 2, _CELL, shape) & tissue
    return GeneratedSlide(levels, Truth(_running_sum(tissue), _running_sum(tumor)))


def _running_sum(mask: NDArray[np.bool_]) -> NDArray[np.float64]:
    sums = np.zeros((mask.shape[0] + 1, mask.shape[1] + 1))
    sums[1:, 1:] = mask.cumsum(axis=0).cumsum(axis=1)
    return sums


def draw_tiles(
    slide: GeneratedSlide, level: int, per_class: int, rng: np.random.Generator, *, overlap: int = 1
) -> TileSet:
    """Tiles of one slide and level, at most `per_class` of each class, drawn without replacement.

    Parameters
    ----------
    overlap
        Tiles are taken from a grid shifted by 1/overlap of a tile; 1 is the grid of an analysis.
    """
    side = TILE * SCALE_FACTOR**level
    step = side // overlap
    height, width = slide.levels[0].shape[:2]
    columns = np.arange(0, width - side + 1, step, dtype=np.int64)
    rows = np.arange(0, height - side + 1, step, dtype=np.int64)
    x, y = np.tile(columns, len(rows)), np.repeat(rows, len(columns))
    tissue, share = slide.truth.shares(x, y, side)
    keep = tissue >= MIN_TISSUE
    x, y, share = x[keep], y[keep], share[keep]
    leads = slide.truth.leads_to_tumor(x, y, level)
    chosen = [np.flatnonzero(leads), np.flatnonzero(~leads)]
    picked = np.concatenate([rng.permutation(group)[:per_class] for group in chosen])
    image, scale = slide.levels[level], SCALE_FACTOR**level
    pixels = np.empty((len(picked), TILE, TILE, 3), np.uint8)
    for k, at in enumerate(picked):
        top, left = y[at] // scale, x[at] // scale
        pixels[k] = image[top : top + TILE, left : left + TILE]
    return TileSet(pixels, share[picked], leads[picked])
