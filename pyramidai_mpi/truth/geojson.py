"""JSON annotations: GeoJSON as QuPath and `synth` write it, and the CAMELYON16 collection of many slides."""

from __future__ import annotations

import gzip
import json
from functools import lru_cache
from typing import TYPE_CHECKING, Any

from pyramidai_mpi.base.errors import InputError, input_errors
from pyramidai_mpi.truth.outlines import Outline, OutlineFile, ring_of

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

# QuPath's other objects are measured cells and tiles of an analysis, no annotations by a person
_NO_ANNOTATIONS = frozenset({"detection", "cell", "tile", "tma_core", "root"})
_MALFORMED = (KeyError, TypeError, ValueError, IndexError, AttributeError)


def read_json(path: Path) -> Any:
    """The document of a JSON file, gzipped or not.

    Raises
    ------
    InputError
        When it cannot be read or is no JSON.
    """
    with input_errors(path):
        stat = path.stat()
        return _parsed(path, stat.st_mtime_ns, stat.st_size)


# of a collection every slide of a cohort asks for the same file, which takes a second to parse; nobody changes it
@lru_cache(maxsize=1)
def _parsed(path: Path, _mtime_ns: int, _size: int) -> Any:
    raw = path.read_bytes()
    try:
        return json.loads(gzip.decompress(raw) if raw[:2] == b"\x1f\x8b" else raw)
    except (OSError, EOFError, ValueError, RecursionError) as error:
        raise InputError(f"{path}: not valid JSON ({error}); export the annotations again") from error


def is_collection(document: Any) -> bool:
    """Whether it is ``{slide: {"positive": [ring, ...], "negative": [ring, ...]}}`` of many slides."""
    return (
        isinstance(document, dict)
        and "type" not in document
        and bool(document)
        and all(isinstance(entry, dict) and "positive" in entry for entry in document.values())
    )


def outlines_of_collection(path: Path, document: dict[str, Any], slide: str) -> OutlineFile:
    """The outlines of one slide of a CAMELYON16 collection; ``negative`` rings are cut out of the positive ones.

    Raises
    ------
    InputError
        When it has no such slide (its name counts without regard to case), or not rings of points.
    """
    entry = next((value for name, value in document.items() if name.casefold() == slide.casefold()), None)
    if entry is None:
        some = ", ".join(list(document)[:3])
        raise InputError(f"{path}: holds {len(document)} slides ({some}, ...), none of them {slide!r}")
    try:
        return OutlineFile(
            (
                *(Outline("_0", ring_of(ring)) for ring in entry["positive"]),
                *(Outline("_2", ring_of(ring)) for ring in entry.get("negative", ())),
            )
        )
    except _MALFORMED as error:
        raise InputError(f"{path}: slide {slide!r} is not lists of [x, y] rings ({error!r})") from error


def outlines_of_geojson(path: Path, document: Any) -> OutlineFile:
    """The polygons of a GeoJSON document: FeatureCollection, Feature, geometry, or a list of these (QuPath).

    Raises
    ------
    InputError
        When it is no GeoJSON.
    """
    reading = _Reading()
    try:
        for node in document if isinstance(document, list) else [document]:
            reading.take(node)
    except _MALFORMED as error:
        raise InputError(f"{path}: malformed GeoJSON ({error!r}); export the annotations again") from error
    return reading.result()


class _Reading:
    def __init__(self) -> None:
        self._outlines: list[Outline] = []
        self._lines = 0
        self._objects = 0

    def take(self, node: Any) -> None:
        kind = node["type"]
        if kind == "FeatureCollection":
            for feature in node["features"]:
                self.take(feature)
        elif kind == "Feature":
            properties = node.get("properties") or {}
            if str(properties.get("objectType", "annotation")).lower() in _NO_ANNOTATIONS:
                self._objects += 1
            elif node["geometry"] is not None:
                self._take_geometry(node["geometry"], _class_name(properties))
        else:
            self._take_geometry(node, "")

    def _take_geometry(self, geometry: Any, name: str) -> None:
        kind = geometry["type"]
        if kind == "GeometryCollection":
            for part in geometry["geometries"]:
                self._take_geometry(part, name)
        elif kind in ("Polygon", "MultiPolygon"):
            self._outlines.extend(_polygons(kind, geometry["coordinates"], name))
        elif kind in ("Point", "MultiPoint", "LineString", "MultiLineString"):
            self._lines += 1
        else:
            raise ValueError(f"unknown type {kind!r}")

    def result(self) -> OutlineFile:
        notes = []
        if self._lines:
            notes.append(f"{self._lines} points or lines were left out: they have no area")
        if self._objects:
            notes.append(f"{self._objects} detections, cells or tiles were left out: they are no annotations")
        return OutlineFile(tuple(self._outlines), tuple(notes))


def _polygons(kind: str, coordinates: Any, name: str) -> Iterator[Outline]:
    for rings in [coordinates] if kind == "Polygon" else coordinates:
        if rings:
            yield Outline(name, ring_of(rings[0]), tuple(ring_of(ring) for ring in rings[1:]))


def _class_name(properties: dict[str, Any]) -> str:
    """QuPath: ``classification: {name}``, of late ``{names: [base, derived, ...]}``; a plain text elsewhere."""
    found = properties.get("classification", properties.get("class", ""))
    if isinstance(found, dict):
        found = found.get("name") or ": ".join(found.get("names") or [])
    return str(found or "")
