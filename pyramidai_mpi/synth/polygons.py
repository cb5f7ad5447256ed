"""Tumour outlines: read, put onto a slide, rasterise by the even-odd rule, write as GeoJSON."""

from __future__ import annotations

import gzip
import json
from typing import TYPE_CHECKING, Any

import numpy as np

from pyramidai_mpi.base.errors import InputError, UsageError, failed_read
from pyramidai_mpi.synth.spec import Region

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence
    from pathlib import Path

    from numpy.typing import NDArray

CAMELYON_MPP = 0.243
"""µm per level-0 pixel of the CAMELYON16 outlines (scanners of both centres, rounded)."""


def read_regions(path: Path, slide: str | None = None) -> tuple[tuple[Region, ...], float | None]:
    """Read outlines, and the µm per pixel they are drawn in where the format implies it.

    Two formats, ``.gz`` or not: ``{slide: {"positive": [ring, ...], "negative": [ring, ...]}}`` in CAMELYON16 pixels
    (negative = hole), for which `slide` names the entry; and GeoJSON (FeatureCollection, Feature, Polygon,
    MultiPolygon) in the pixels of the slide to be.

    Raises
    ------
    InputError
        When the file cannot be read or holds no polygon.
    UsageError
        When `slide` is missing or not in the file.
    """
    try:
        raw = path.read_bytes()
        document = json.loads(gzip.decompress(raw) if raw[:2] == b"\x1f\x8b" else raw)
    except (OSError, EOFError, ValueError) as error:
        raise failed_read(path, error) or InputError(
            f"{path}: cannot read polygons ({error}); give GeoJSON or CAMELYON outlines"
        ) from error
    if isinstance(document, dict) and "type" in document:
        regions, mpp = tuple(_geojson_regions(document)), None
    elif isinstance(document, dict):
        regions, mpp = _camelyon_regions(path, document, slide), CAMELYON_MPP
    else:
        raise InputError(f"{path}: neither GeoJSON nor CAMELYON outlines; expected a JSON object")
    if not regions:
        raise InputError(f"{path}: holds no polygon; nothing to draw")
    return regions, mpp


def _camelyon_regions(path: Path, document: dict[str, Any], slide: str | None) -> tuple[Region, ...]:
    some = ", ".join(list(document)[:3])
    if slide is None:
        raise UsageError(f"{path}: holds {len(document)} slides; name one of them ({some}, ...)")
    if slide not in document:
        raise UsageError(f"{path}: no slide {slide!r} in it; there are {some}, ...")
    try:
        holes = [_ring(ring) for ring in document[slide].get("negative", ())]
        return tuple(_with_holes(_ring(ring), holes) for ring in document[slide]["positive"])
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise InputError(f"{path}: slide {slide!r} is not lists of [x, y] rings ({error!r})") from error


def _geojson_regions(node: dict[str, Any]) -> Iterable[Region]:
    try:
        kind = node["type"]
        if kind == "FeatureCollection":
            for feature in node["features"]:
                yield from _geojson_regions(feature)
        elif kind == "Feature":
            yield from _geojson_regions(node["geometry"])
        elif kind in ("Polygon", "MultiPolygon"):
            for rings in [node["coordinates"]] if kind == "Polygon" else node["coordinates"]:
                yield Region(_ring(rings[0]), tuple(_ring(ring) for ring in rings[1:]))
    except (KeyError, TypeError, ValueError, IndexError) as error:
        raise InputError(f"GeoJSON is malformed ({error!r}); export the annotations again") from error


def _ring(points: Sequence[Sequence[float]]) -> tuple[tuple[float, float], ...]:
    ring = tuple((float(point[0]), float(point[1])) for point in points)
    if len(ring) > 1 and ring[0] == ring[-1]:
        ring = ring[:-1]
    if len(ring) < 3 or not np.isfinite(ring).all():
        raise ValueError("a ring needs three finite points")
    return ring


def _with_holes(outline: tuple[tuple[float, float], ...], holes: list[tuple[tuple[float, float], ...]]) -> Region:
    x, y = np.array(outline).T
    inside = [hole for hole in holes if x.min() <= hole[0][0] <= x.max() and y.min() <= hole[0][1] <= y.max()]
    return Region(outline, tuple(inside))


def fit_regions(regions: tuple[Region, ...], width: int, height: int, scale: float = 1.0) -> tuple[Region, ...]:
    """Scale outlines (source µm/px over slide µm/px keeps their real size) and centre them on the slide.

    What is then larger than 80 % of the slide is shrunk to it, all regions together.
    """
    points = np.concatenate([np.array(region.outline) for region in regions])
    low, high = points.min(axis=0), points.max(axis=0)
    room = 0.8 * np.array([width, height])
    scale = min(scale, float((room / np.maximum(high - low, 1e-9)).min()))
    middle, target = (low + high) / 2, np.array([width, height]) / 2

    def move(ring: tuple[tuple[float, float], ...]) -> tuple[tuple[float, float], ...]:
        moved = np.round((np.array(ring) - middle) * scale + target, 1)
        return tuple((float(px), float(py)) for px, py in moved)

    return tuple(Region(move(r.outline), tuple(move(hole) for hole in r.holes)) for r in regions)


class Outlines:
    """Regions ready to be rasterised again and again: rings as arrays, with their bounding boxes."""

    def __init__(self, regions: Iterable[Region]) -> None:
        self._parts = [(_Ring(region.outline), [_Ring(hole) for hole in region.holes]) for region in regions]

    def mask(self, l0_x: float, l0_y: float, step: float, shape: tuple[int, int]) -> NDArray[np.bool_]:
        """Which points of a grid lie inside any region and in none of its holes.

        Parameters
        ----------
        l0_x, l0_y, step, shape
            Point ``[r, c]`` lies at ``(l0_x + c * step, l0_y + r * step)`` in level-0 pixels.

        Returns
        -------
        ndarray
            bool, of `shape`. Even-odd rule within a ring; a point on an edge belongs to one side.
        """
        out = np.zeros(shape, bool)
        for outline, holes in self._parts:
            inside = outline.mask(l0_x, l0_y, step, shape)
            if inside is None:
                continue
            for hole in holes:
                gap = hole.mask(l0_x, l0_y, step, shape)
                if gap is not None:
                    inside &= ~gap
            out |= inside
        return out


class _Ring:
    def __init__(self, points: tuple[tuple[float, float], ...]) -> None:
        self._points = np.asarray(points, np.float64)
        self._low, self._high = self._points.min(axis=0), self._points.max(axis=0)

    def mask(self, l0_x: float, l0_y: float, step: float, shape: tuple[int, int]) -> NDArray[np.bool_] | None:
        """Inside or not by the even-odd rule; None when the bounding box misses the grid."""
        rows, cols = shape
        if (
            self._high[0] < l0_x
            or self._low[0] > l0_x + cols * step
            or self._high[1] < l0_y
            or self._low[1] > l0_y + rows * step
        ):
            return None
        points = (self._points - (l0_x, l0_y)) / step
        x0, y0 = points.T
        x1, y1 = np.roll(points, -1, axis=0).T
        crosses = (np.minimum(y0, y1) <= rows) & (np.maximum(y0, y1) >= 0) & (y0 != y1)
        x0, y0, x1, y1 = x0[crosses], y0[crosses], x1[crosses], y1[crosses]
        first = np.clip(np.ceil(np.minimum(y0, y1)), 0, rows).astype(np.int64)
        last = np.clip(np.ceil(np.maximum(y0, y1)), 0, rows).astype(np.int64)
        # one entry for every (edge, row) crossing: the points right of it change sides
        count = last - first
        edge = np.repeat(np.arange(len(count)), count)
        row = np.arange(len(edge)) - np.repeat(np.cumsum(count) - count, count) + first[edge]
        at = x0[edge] + (row - y0[edge]) * (x1[edge] - x0[edge]) / (y1[edge] - y0[edge])
        toggles = np.zeros((rows, cols + 1), np.int32)
        np.add.at(toggles, (row, np.clip(np.ceil(at), 0, cols).astype(np.int64)), 1)
        inside: NDArray[np.bool_] = np.cumsum(toggles, axis=1)[:, :cols] % 2 == 1
        return inside


def ring_area(ring: tuple[tuple[float, float], ...]) -> float:
    """Area of a simple ring in square pixels (shoelace formula)."""
    x, y = np.array(ring).T
    return float(abs(np.dot(x, np.roll(y, -1)) - np.dot(y, np.roll(x, -1))) / 2)


def nucleus_json(kind: str, outline: NDArray[np.float64]) -> str:
    """One nucleus as a GeoJSON feature, a detection for QuPath, of class ``tumor nucleus`` and so on.

    Parameters
    ----------
    outline
        float64 (N, 2): l0_x, l0_y in pixels; written to the tenth.
    """
    ring = [f"[{x:.1f},{y:.1f}]" for x, y in (*outline.tolist(), outline[0].tolist())]
    return (
        '{"type":"Feature","geometry":{"type":"Polygon","coordinates":[[' + ",".join(ring) + "]]},"
        '"properties":{"objectType":"detection","classification":{"name":"' + kind + ' nucleus"}}}'
    )


def to_geojson(regions: Iterable[Region]) -> str:
    """GeoJSON FeatureCollection in level-0 pixels, one Polygon a region, classified as QuPath does."""
    features = [
        {
            "type": "Feature",
            "geometry": {
                "type": "Polygon",
                "coordinates": [[*map(list, ring), list(ring[0])] for ring in (region.outline, *region.holes)],
            },
            "properties": {
                "objectType": "annotation",
                "classification": {"name": "Tumor", "color": [200, 0, 0]},
            },
        }
        for region in regions
    ]
    return json.dumps({"type": "FeatureCollection", "features": features})
