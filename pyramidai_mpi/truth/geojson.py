"""JSON annotations: GeoJSON as QuPath and `synth` write it, and the CAMELYON16 collection of many slides."""

from __future__ import annotations

import json
from contextlib import contextmanager
from functools import lru_cache
from typing import TYPE_CHECKING, Any

from pyramidai_mpi.base.errors import InputError, input_errors
from pyramidai_mpi.truth.outlines import LeftOut, Outline, OutlineFile, ring_of
from pyramidai_mpi.truth.text import read_text

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

# QuPath's other objects are measured cells and tiles of an analysis, no annotations by a person. It names them
# "detection" (objectType, since 0.4; object_type in 0.3) or "PathDetectionObject" (as the feature's id, up to 0.3).
_NOT_DRAWN = {
    "detection": "detection",
    "cell": "cell",
    "tile": "tile",
    "tmacore": "TMA core",
    "root": "root object",
}
_NO_AREA = {
    "Point": "point",
    "MultiPoint": "point set",
    "LineString": "line",
    "MultiLineString": "line",
    "LinearRing": "line",
}
_MALFORMED = (KeyError, TypeError, ValueError, IndexError, AttributeError, RecursionError)


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
    raw = read_text(path)
    try:
        return json.loads(raw)
    except (ValueError, RecursionError) as error:
        raise InputError(f"{path}: not valid JSON ({error!s:.200}); export the annotations again") from error


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
        some = ", ".join(f"{name:.80}" for name in list(document)[:3])
        raise InputError(f"{path}: holds {len(document)} slides ({some}, ...), none of them {slide!r}")
    try:
        return OutlineFile(
            (
                *(Outline("_0", ring_of(ring)) for ring in entry["positive"]),
                *(Outline("_2", ring_of(ring)) for ring in entry.get("negative", ())),
            )
        )
    except _MALFORMED as error:
        raise InputError(f"{path}: slide {slide!r} is not lists of [x, y] rings ({error!r:.200})") from error


def outlines_of_geojson(path: Path, document: Any) -> OutlineFile:
    """The polygons of a GeoJSON document: FeatureCollection, Feature, geometry, or a list of these (QuPath).

    Raises
    ------
    InputError
        When it is no GeoJSON.
    """
    reading = _Reading()
    with _malformed(path):
        for node in document if isinstance(document, list) else [document]:
            reading.take(node)
    return reading.result()


def nuclei_of_geojson(path: Path, document: Any) -> OutlineFile:
    """The same of what a program, or a person, has outlined as nuclei: detections, nuclei of cells, annotations.

    Raises
    ------
    InputError
        When it is no GeoJSON.
    """
    reading = _Reading(nuclei=True)
    with _malformed(path):
        for node in document if isinstance(document, list) else [document]:
            reading.take(node)
    return reading.result()


@contextmanager
def _malformed(path: Path) -> Iterator[None]:
    try:
        yield
    except _MALFORMED as error:
        raise InputError(f"{path}: malformed GeoJSON ({error!r:.200}); export the annotations again") from error


class _Reading:
    def __init__(self, *, nuclei: bool = False) -> None:
        self._outlines: list[Outline] = []
        self._left_out: list[LeftOut] = []
        self._drawn = frozenset({"detection", "cell"} if nuclei else ())

    def take(self, node: Any) -> None:
        kind = node["type"]
        if kind == "FeatureCollection":
            for feature in node["features"]:
                self.take(feature)
        elif kind == "Feature":
            properties = node.get("properties") or {}
            name, drawn = _class_name(properties), _NOT_DRAWN.get(_object_type(node, properties))
            if drawn in self._drawn:
                # QuPath's cells have an outline of their own and one of their nucleus
                self._take_geometry(_nucleus_of(node) or node["geometry"], name)
            elif drawn is not None:
                self._left_out.append(LeftOut(drawn, name, is_annotation=False))
            elif node["geometry"] is None:
                self._left_out.append(LeftOut("empty annotation", name))
            else:
                self._take_geometry(node["geometry"], name)
            for child in _structured(properties.get("childObjects")) or ():
                self.take(child)
        else:
            self._take_geometry(node, "")

    def _take_geometry(self, geometry: Any, name: str) -> None:
        kind = geometry["type"]
        if kind == "GeometryCollection":
            for part in geometry["geometries"]:
                self._take_geometry(part, name)
        elif kind in ("Polygon", "MultiPolygon"):
            self._outlines.extend(_polygons(kind, geometry["coordinates"], name))
        elif kind in _NO_AREA:
            self._left_out.append(LeftOut(_NO_AREA[kind], name))
        else:
            raise ValueError(f"unknown type {kind!r}")

    def result(self) -> OutlineFile:
        return OutlineFile(tuple(self._outlines), tuple(self._left_out))


def _nucleus_of(feature: dict[str, Any]) -> Any:
    """The outline of a QuPath cell's nucleus, None of other objects."""
    return feature.get("nucleusGeometry") or (feature.get("properties") or {}).get("nucleusGeometry")


def _object_type(feature: dict[str, Any], properties: dict[str, Any]) -> str:
    """QuPath's word for the kind of object, without ``Path`` and ``Object``; of an id only where it is such a word."""
    ids = [str(one) for one in (feature.get("id"), properties.get("id")) if str(one).endswith("Object")]
    said = next(filter(None, (properties.get("objectType"), properties.get("object_type"), *ids)), "annotation")
    word = str(said).lower().replace("_", "")
    return word.removesuffix("object").removeprefix("path")


def _structured(value: Any) -> Any:
    """What stands within a text, where a program that knows only flat tables (GeoPandas, GDAL) has made it one."""
    if isinstance(value, str) and value.lstrip()[:1] in ("{", "["):
        try:
            return json.loads(value)
        except ValueError:
            pass  # a name that begins like that
    return value


def _polygons(kind: str, coordinates: Any, name: str) -> Iterator[Outline]:
    for rings in ([coordinates] if kind == "Polygon" else coordinates) or [[]]:
        shell, *holes = map(ring_of, rings or [[]])  # POLYGON EMPTY is an annotation, too
        yield Outline(name, shell, tuple(holes))


def _class_name(properties: dict[str, Any]) -> str:
    """QuPath: ``classification: {name}``, of late ``{names: [base, derived, ...]}``; a plain text elsewhere."""
    found = _structured(properties.get("classification", properties.get("class", "")))
    if isinstance(found, dict):
        found = found.get("name") or ": ".join(found.get("names") or [])
    elif isinstance(found, list):
        found = ": ".join(found)
    return "" if found is None or found != found else str(found)  # NaN is how tables write that there is none
