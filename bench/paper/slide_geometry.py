"""Slides of real size without pixels: where there is tissue, and how much of each tile's tissue is tumour.

The lesions are the outlines that experts drew for CAMELYON16 (see `bench.paper.lesions`). The tissue is modelled:

- its area is drawn for each slide from a log-normal distribution whose mean is that of the paper: a reference run of
  2 h 29 min at 0.33 s a tile is 27091 tiles; lesions never fill more than a given share of it;
- it lies where a lesion is near (near the middle of a slide without any), its border displaced by smooth noise. Each
  lesion therefore lies within tissue, as in a lymph node, and every cell of a lesion is tissue.

Which tiles exist, and which is whose child, is decided by the package's own `TileRule`.
"""

from __future__ import annotations

import zlib
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import numpy as np
from scipy.ndimage import distance_transform_edt

from bench.paper.lesions import OUTLINE_MPP
from pyramidai_mpi.base.settings import DEFAULT_MIN_TISSUE
from pyramidai_mpi.pyramid.grid import Grid
from pyramidai_mpi.pyramid.rule import TileRule
from pyramidai_mpi.pyramid.tissue import TissueMap
from pyramidai_mpi.synth import Region
from pyramidai_mpi.synth.noise import smooth_noise
from pyramidai_mpi.synth.polygons import Outlines

if TYPE_CHECKING:
    import numpy.typing as npt

    Bools = npt.NDArray[np.bool_]

TILE_PX = 224
TILE_UM = TILE_PX * OUTLINE_MPP
LEVELS = 3
ROOT = 2 ** (LEVELS - 1)
"""Tiles of level 0 along the side of a root."""
CELLS = 4
"""Cells along the side of a level-0 tile: outlines are drawn on these, 13.6 um wide."""
PAPER_REFERENCE_TILES = (2 * 3600 + 29 * 60) / 0.33


@dataclass(frozen=True)
class TissueModel:
    """How much tissue there is.

    Attributes
    ----------
    mean_tiles
        Mean area over slides, in tiles of level 0.
    spread
        Deviation of its natural logarithm.
    most_tumor
        Largest share of the tissue that lesions fill.
    """

    mean_tiles: float = PAPER_REFERENCE_TILES
    spread: float = 0.5
    most_tumor: float = 0.8

    def draw_area(self, rng: np.random.Generator, lesion_tiles: float) -> float:
        """Area of one slide's tissue in tiles."""
        drawn = self.mean_tiles * float(np.exp(self.spread * rng.standard_normal() - self.spread**2 / 2))
        return max(drawn, lesion_tiles / self.most_tumor, float(ROOT**2))


@dataclass(frozen=True)
class LevelGeometry:
    """The tiles of one level in row-major order.

    Attributes
    ----------
    index
        uint32 (N, 2): col, row in the grid of the whole slide.
    parent
        int64 (N,): row in the next coarser level, -1 for a root.
    tumor
        float32 (N,): share of the tile's tissue that is tumour.
    """

    index: npt.NDArray[np.uint32]
    parent: npt.NDArray[np.int64]
    tumor: npt.NDArray[np.float32]


@dataclass(frozen=True)
class SlideGeometry:
    """All tiles of one slide, level 0 first."""

    slide: str
    levels: tuple[LevelGeometry, ...]


def labelled_from_below(geometry: SlideGeometry) -> SlideGeometry:
    """Tiles all tumour or not at all: level 0 by half of their tissue, above where any level-0 descendant is."""
    found = [(geometry.levels[0].tumor >= 0.5).astype(np.float32)]
    for below, tiles in zip(geometry.levels[:-1], geometry.levels[1:], strict=True):
        tumor = np.zeros(len(tiles.tumor), np.float32)
        tumor[below.parent[found[-1] > 0]] = 1
        found.append(tumor)
    levels = [replace(tiles, tumor=tumor) for tiles, tumor in zip(geometry.levels, found, strict=True)]
    return SlideGeometry(geometry.slide, tuple(levels))


def build_geometry(slide: str, outlines: dict[str, Any], tissue: TissueModel, seed: int = 0) -> SlideGeometry:
    """Lay tissue round the lesions of one slide (none: a tumour-free one) and cut it into tiles."""
    rng = np.random.default_rng([seed, zlib.crc32(slide.encode())])
    rings = {
        kind: [np.asarray(ring, np.float64)[:, :2] / TILE_PX for ring in outlines.get(kind, [])]
        for kind in ("positive", "negative")
    }
    area = tissue.draw_area(rng, _area(rings))
    origin, shape = _window(rings, area)
    lesions = _draw_lesions(rings, origin, shape)
    mask = _grow_tissue(rng, lesions, area)
    grid = Grid.of_tiles(shape[1] * TILE_PX, shape[0] * TILE_PX, TILE_PX, 2, LEVELS, 1.0)
    return SlideGeometry(slide, _cut_into_tiles(grid, mask, lesions, origin))


def _area(rings: dict[str, list[npt.NDArray[np.float64]]]) -> float:
    def area_of(ring: npt.NDArray[np.float64]) -> float:
        x, y = ring.T
        return float(abs(np.dot(x, np.roll(y, -1)) - np.dot(y, np.roll(x, -1))) / 2)

    return max(sum(map(area_of, rings["positive"])) - sum(map(area_of, rings["negative"])), 0.0)


def _window(rings: dict[str, list[npt.NDArray[np.float64]]], area: float) -> tuple[tuple[int, int], tuple[int, int]]:
    """First (col, row) and (rows, cols), in whole roots, of a part of the slide that holds the tissue."""
    low, high = np.array([200.0, 400.0]), np.array([200.0, 400.0])  # about the middle of a slide
    if rings["positive"]:
        points = np.concatenate(rings["positive"])
        low, high = points.min(axis=0), points.max(axis=0)
    margin = np.sqrt(area) + 2 * ROOT
    first = np.maximum(np.floor((low - margin) / ROOT), 0).astype(int) * ROOT
    last = np.ceil((high + margin) / ROOT).astype(int) * ROOT
    return (int(first[0]), int(first[1])), (int(last[1] - first[1]), int(last[0] - first[0]))


def _draw_lesions(
    rings: dict[str, list[npt.NDArray[np.float64]]], origin: tuple[int, int], shape: tuple[int, int]
) -> Bools:
    """Cells whose middle lies in an outline and in no hole, bool (rows, cols)."""
    cells = np.zeros((shape[0] * CELLS, shape[1] * CELLS), bool)
    for kind, value in (("positive", True), ("negative", False)):
        for ring in rings[kind]:
            points = (ring - origin) * CELLS
            left, top = np.maximum(np.floor(points.min(axis=0)), 0).astype(int)
            right, bottom = np.ceil(points.max(axis=0)).astype(int) + 1
            part = cells[top:bottom, left:right]  # a view
            region = Region(tuple((float(x), float(y)) for x, y in points))
            part[Outlines([region]).mask(left + 0.5, top + 0.5, 1.0, (part.shape[0], part.shape[1]))] = value
    return cells


def _grow_tissue(rng: np.random.Generator, lesions: Bools, area: float) -> Bools:
    """Tissue of `area` tiles over and around the lesions, bool of their shape; made of 2 x 2 cells."""
    rows, cols = (n // 2 for n in lesions.shape)
    covered = lesions.reshape(rows, 2, cols, 2).any(axis=(1, 3))
    if covered.any():
        distance = np.asarray(distance_transform_edt(~covered))
    else:
        row, col = np.indices((rows, cols))
        distance = np.hypot(row - rows / 2, col - cols / 2)
    wanted = min(round(area * (CELLS // 2) ** 2), covered.size - 1)
    radius = np.sqrt(wanted / np.pi)
    distance = distance + 0.25 * radius * smooth_noise(rng, (rows, cols), max(radius, 4.0))
    distance[covered] = -np.inf
    chosen = distance <= np.partition(distance, wanted, axis=None)[wanted]
    return chosen.repeat(2, axis=0).repeat(2, axis=1)


def _cut_into_tiles(grid: Grid, mask: Bools, lesions: Bools, origin: tuple[int, int]) -> tuple[LevelGeometry, ...]:
    rule = TileRule(TissueMap(grid, mask, CELLS), DEFAULT_MIN_TISSUE)
    tumor = TissueMap(grid, mask & lesions, CELLS)
    present, levels = rule.root_map(), []
    above = np.zeros((0, 0), np.int64)
    for n in range(LEVELS - 1, -1, -1):
        if n < LEVELS - 1:
            present = present.repeat(2, axis=0).repeat(2, axis=1) & (rule.tissue.counts[n] > 0)
        row, col = np.nonzero(present)
        parent = np.full(len(row), -1, np.int64) if n == LEVELS - 1 else above[row // 2, col // 2]
        share = tumor.counts[n][present] / rule.tissue.counts[n][present]
        index = np.stack([col, row], axis=1) + np.array(origin) // 2**n
        levels.append(LevelGeometry(index.astype(np.uint32), parent, share.astype(np.float32)))
        above = np.cumsum(present).reshape(present.shape) - 1
    return tuple(reversed(levels))
