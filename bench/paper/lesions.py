"""Execution trees with the shapes of real lesions, for benches that need no pixels.

The lesions are the outlines that experts drew for CAMELYON16 (CC0), as ``{slide: {"positive": [ring, ...], "negative":
[ring, ...]}}`` with rings of (x, y) in level-0 pixels of 0.243 um; ``negative`` are holes. All else is modelled:

- the tissue: as many tiles of the lowest level as are asked for, those nearest to a lesion (round the middle of the
  slide when there is none); so the roots surround the lesions as a lymph node does;
- the decision: a tile is zoomed into when a lesion lies within half a tile of it, and else, as a false alarm, when the
  hash of its place falls below a given share. A classifier of 224 um tiles is unsure at the borders, too.
"""

from __future__ import annotations

import gzip
import json
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Self

import numpy as np
from scipy.ndimage import distance_transform_edt
from skimage.draw import polygon, polygon_perimeter

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    import numpy.typing as npt

TILE = np.dtype([("level", "u1"), ("col", "<u4"), ("row", "<u4")])
LEVELS = 3
PAPER_SLIDES = {"large tumours": "tumor_011", "several small": "tumor_003", "negative": None}
"""Three slides like those of the paper's Figs. 6 and 7, and whose lesions they have."""
ROOTS = 4000
FALSE_ALARMS = 0.02
BATCH_SIZE = 16
OUTLINE_MPP = 0.243
TILE_UM = 224 * 0.25
CELL_UM = TILE_UM / 4
"""Side of the cells that outlines are drawn on: a quarter of a tile of level 0."""
SLIDE_UM = (97792 * OUTLINE_MPP, 221184 * OUTLINE_MPP)
"""Width and height of the slides, about, so many at least."""


def hash_of_tiles(tiles: npt.NDArray[Any]) -> npt.NDArray[np.float64]:
    """Number in [0, 1) for each of `tiles` (n,): a function of its place, without a pattern (splitmix64)."""
    place = tiles["level"].astype(np.uint64) << np.uint64(60)
    place |= tiles["col"].astype(np.uint64) << np.uint64(30)
    place |= tiles["row"].astype(np.uint64)
    for shift, factor in ((30, 0xBF58476D1CE4E5B9), (27, 0x94D049BB133111EB), (31, 1)):
        place = (place ^ (place >> np.uint64(shift))) * np.uint64(factor)
    return (place >> np.uint64(11)) * 2.0**-53


def sleep_of_tiles(tiles: npt.NDArray[Any], level_seconds: Sequence[float]) -> npt.NDArray[np.float64]:
    """Seconds that each of `tiles` (n,) sleeps: those of its level, +- 20 % by the hash of its place."""
    seconds: npt.NDArray[np.float64] = np.asarray(level_seconds)[tiles["level"]] * (0.8 + 0.4 * hash_of_tiles(tiles))
    return seconds


@dataclass(frozen=True)
class LesionTree:
    """Which tiles are roots, and which are zoomed into.

    Attributes
    ----------
    roots : ndarray (n,)
        Tiles of the lowest level, in row-major order.
    zoomed : tuple of ndarray (rows, cols) of bool
        For levels 1 and 2, whether a lesion is near; without false alarms.
    false_alarms : float
        Share of all tiles that are zoomed into without a lesion.
    """

    roots: npt.NDArray[Any]
    zoomed: tuple[npt.NDArray[np.bool_], ...]
    false_alarms: float

    def is_zoomed(self, tiles: npt.NDArray[Any]) -> npt.NDArray[np.bool_]:
        """Decision for each of `tiles` (n,) of any levels."""
        decision = (hash_of_tiles(tiles) < self.false_alarms) & (tiles["level"] > 0)
        for level, grid in enumerate(self.zoomed, start=1):
            here = tiles["level"] == level
            decision[here] |= grid[tiles["row"][here], tiles["col"][here]]
        return decision

    def children_of(self, tiles: npt.NDArray[Any]) -> npt.NDArray[Any]:
        """Children (4 m,) of the m tiles among `tiles` that are zoomed into."""
        parents = tiles[self.is_zoomed(tiles)]
        children = np.repeat(parents, 4)
        children["level"] -= 1
        children["col"] = 2 * children["col"] + np.tile([0, 1, 0, 1], len(parents))
        children["row"] = 2 * children["row"] + np.tile([0, 0, 1, 1], len(parents))
        return children

    def all_tiles(self) -> tuple[npt.NDArray[Any], npt.NDArray[np.int64]]:
        """Every tile of the tree (n,), lowest level first, and the place of its parent among them, -1 for roots."""
        tiles, parents, first = [self.roots], [np.full(len(self.roots), -1)], 0
        while tiles[-1].size:
            parents.append(first + np.repeat(np.flatnonzero(self.is_zoomed(tiles[-1])), 4))
            first += len(tiles[-1])
            tiles.append(self.children_of(tiles[-1]))
        return np.concatenate(tiles), np.concatenate(parents)

    def tiles_per_level(self) -> list[int]:
        """Number of tiles in the whole tree, lowest level first."""
        counts, tiles = [], self.roots
        while tiles.size:
            counts.append(len(tiles))
            tiles = self.children_of(tiles)
        return counts

    def save(self, path: Path) -> None:
        """Write it, so that ranks need not draw outlines."""
        np.savez_compressed(
            path, roots=self.roots, false_alarms=self.false_alarms, one=self.zoomed[0], two=self.zoomed[1]
        )

    @classmethod
    def load(cls, path: Path) -> Self:
        """Read what `save` wrote."""
        with np.load(path) as arrays:
            return cls(arrays["roots"], (arrays["one"], arrays["two"]), float(arrays["false_alarms"]))


def load_outlines(path: Path) -> dict[str, Any]:
    """All slides of an outline file, plain or gzipped JSON.

    Raises
    ------
    SystemExit
        There is no such file.
    """
    if not path.is_file():
        raise SystemExit(
            f"no lesion outlines at {path}: this bench needs outlines of real lesions; name a file with --outlines "
            '(JSON, may be gzipped: {slide: {"positive": [[[x, y], ...], ...], "negative": [...]}}, pixels of 0.243 um)'
        )
    data = path.read_bytes()
    slides: dict[str, Any] = json.loads(gzip.decompress(data) if path.suffix == ".gz" else data)
    return slides


def tree_of(path: Path, slide: str | None, roots: int = ROOTS) -> LesionTree:
    """Tree over the lesions of a slide of an outline file, or of a negative slide (None).

    Raises
    ------
    SystemExit
        There is no such file, or no such slide in it.
    """
    outlines = load_outlines(path)
    if slide is not None and slide not in outlines:
        raise SystemExit(f"{path} has no slide {slide!r}; name one of its slides")
    return build_tree(outlines[slide] if slide else {}, roots, FALSE_ALARMS)


def build_tree(outlines: dict[str, Any], roots: int, false_alarms: float) -> LesionTree:
    """Tree over the lesions of one slide, of `roots` roots; no lesions make a negative slide."""
    lesions = draw_lesions(outlines)
    near = tuple(_is_near(lesions, 4 << level) for level in (1, 2))
    distance = _distance_to_lesions(lesions[:: 4 << 2, :: 4 << 2].shape, near[1])
    chosen = np.sort(np.argsort(distance, axis=None, kind="stable")[:roots])
    tiles = np.zeros(len(chosen), TILE)
    tiles["level"] = LEVELS - 1
    tiles["row"], tiles["col"] = np.divmod(chosen, distance.shape[1])
    return LesionTree(tiles, near, false_alarms)


def draw_lesions(outlines: dict[str, Any]) -> npt.NDArray[np.bool_]:
    """Cells (rows, cols) that a lesion touches; whole tiles of every level fit into the shape."""
    rings = {
        kind: [np.asarray(ring) * (OUTLINE_MPP / CELL_UM) for ring in outlines.get(kind, [])]
        for kind in ("positive", "negative")
    }
    wanted = np.max([ring.max(axis=0) for ring in rings["positive"]] + [np.array(SLIDE_UM) / CELL_UM], axis=0)
    width, height = ((wanted // 16 + 2) * 16).astype(int)
    cells = np.zeros((height, width), dtype=bool)
    for ring in rings["positive"]:
        cells[polygon(ring[:, 1], ring[:, 0], cells.shape)] = True
    for ring in rings["negative"]:
        cells[polygon(ring[:, 1], ring[:, 0], cells.shape)] = False
    for ring in rings["positive"]:  # also what is smaller than a cell
        edge = ring.astype(int)
        cells[polygon_perimeter(edge[:, 1], edge[:, 0], cells.shape)] = True
    return cells


def _is_near(lesions: npt.NDArray[np.bool_], side: int) -> npt.NDArray[np.bool_]:
    """Whether a lesion lies within half a tile, for all tiles of `side` cells."""
    half = side // 2
    rows, cols = (n // half for n in lesions.shape)
    halves = np.pad(lesions.reshape(rows, half, cols, half).any(axis=(1, 3)), 1)
    near = np.zeros((rows // 2, cols // 2), dtype=bool)
    for down in range(4):
        for right in range(4):
            near |= halves[down : down + rows - 1 : 2, right : right + cols - 1 : 2]
    return near


def _distance_to_lesions(shape: tuple[int, ...], lesions: npt.NDArray[np.bool_]) -> npt.NDArray[np.float64]:
    if lesions.any():
        distance: npt.NDArray[np.float64] = distance_transform_edt(~lesions)
        return distance
    row, col = np.indices(shape)
    return np.hypot(row - shape[0] / 2, col - shape[1] / 2)
