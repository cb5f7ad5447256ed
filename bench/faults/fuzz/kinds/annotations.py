"""Annotations: GeoJSON of any kind, collections of many slides, nuclei; ASAP's XML."""

from __future__ import annotations

import gzip
import json
from typing import TYPE_CHECKING

from bench.faults.fuzz.documents import mutate_json, mutate_xml
from bench.faults.fuzz.target import Target, go_all
from pyramidai_mpi.truth.coverage import cover_rings
from pyramidai_mpi.truth.geometry import outlined_area
from pyramidai_mpi.truth.nuclei import read_outlined_nuclei
from pyramidai_mpi.truth.truth import read_outlines, read_truth
from pyramidai_mpi.view.shapes import drawn_outlines

if TYPE_CHECKING:
    from pathlib import Path

L0_SIZE = (1000, 800)
_SQUARE = [[10, 10], [400, 10], [400, 300], [10, 300], [10, 10]]
_HOLE = [[50, 50], [90, 50], [90, 90], [50, 50]]


def _read_geojson(data: bytes, folder: Path) -> None:
    path = folder / "slide.geojson"
    path.write_bytes(data)
    go_all(
        lambda: read_truth(path, "slide.tif", L0_SIZE).coverage((25, 32), 32.0),
        lambda: cover_rings(outlined_area(path, read_outlines(path, "slide.tif"), L0_SIZE).rings(), 32.0, (25, 32)),
        lambda: drawn_outlines(read_outlines(path, "slide.tif")).json(),
        lambda: read_outlined_nuclei(path).window((0.0, 0.0), 2.0, 64),
    )


def _read_asap(data: bytes, folder: Path) -> None:
    path = folder / "slide.xml"
    path.write_bytes(data)
    go_all(
        lambda: read_truth(path, "slide.tif", L0_SIZE).coverage((25, 32), 32.0),
        lambda: cover_rings(outlined_area(path, read_outlines(path, "slide.tif"), L0_SIZE).rings(), 32.0, (25, 32)),
    )


def _feature(geometry: object, properties: object, **others: object) -> dict[str, object]:
    return {"type": "Feature", "geometry": geometry, "properties": properties, **others}


def _geojson_seeds(_: Path) -> dict[str, bytes]:
    polygon = {"type": "Polygon", "coordinates": [_SQUARE, _HOLE]}
    several = {"type": "MultiPolygon", "coordinates": [[_SQUARE], [_HOLE]]}
    point = {"type": "Point", "coordinates": [1, 2]}
    documents = {
        "collection": {
            "type": "FeatureCollection",
            "features": [
                _feature(polygon, {"classification": {"name": "Tumor", "color": [1, 2, 3]},
                "objectType": "annotation"}),
                _feature(several, {"classification": {"names": ["exclusion", "x"]}}),
                _feature(point, {"class": "_0"}, id="PathAnnotationObject"),
            ],
        },
        "cell": _feature(polygon, {"objectType": "cell"}, nucleusGeometry=several),
        "nested": [_feature({"type": "GeometryCollection", "geometries": [polygon, point]}, {
            "classification": '{"name": "tumor"}', "childObjects": [_feature(polygon, {})],
        })],
        "camelyon": {"slide": {"positive": [_SQUARE], "negative": [_HOLE]}, "other": {"positive": []}},
        "empty": {"type": "FeatureCollection", "features": []},
    }  # fmt: skip
    seeds = {name: json.dumps(document).encode() for name, document in documents.items()}
    return seeds | {"packed": gzip.compress(seeds["cell"], mtime=0)}


def _asap_seeds(_: Path) -> dict[str, bytes]:
    def annotation(kind: str, group: str, points: list[list[float]]) -> str:
        coordinates = "".join(f'<Coordinate Order="{n}" X="{x}" Y="{y}"/>' for n, (x, y) in enumerate(points))
        return (
            f'<Annotation Name="a" Type="{kind}" PartOfGroup="{group}" Color="#F00"><Coordinates>{coordinates}'
            "</Coordinates></Annotation>"
        )

    groups = (
        '<Group Name="_0" PartOfGroup="None"/><Group Name="inner" PartOfGroup="_0"/><Group Name="_2" PartOfGroup=""/>'
    )
    body = annotation("Polygon", "inner", [*map(list, _SQUARE[:-1])]) + annotation("Spline", "_2", [*map(list, _HOLE)])
    body += annotation("Rectangle", "_1", [[1.5, 2], [90, 90]]) + annotation("Dot", "_0", [[3, 4]])
    all_groups = f"<AnnotationGroups>{groups}</AnnotationGroups>"
    text = f"<ASAP_Annotations><Annotations>{body}</Annotations>{all_groups}</ASAP_Annotations>"
    entity = '<!DOCTYPE a [<!ENTITY b "xx"><!ENTITY c "&b;&b;">]>'
    entity += '<ASAP_Annotations><Annotation Type="&c;"/></ASAP_Annotations>'
    return {"all": text.encode(), "comma": text.replace("1.5", "1,5").encode(), "entity": entity.encode()}


GEOJSON = Target(
    _read_geojson,
    _geojson_seeds,
    mutate_json,
    words=(
        *(f'"{word}"'.encode() for word in ("type", "features", "geometry", "coordinates", "properties", "Feature")),
        *(f'"{word}"'.encode() for word in ("Polygon", "MultiPolygon", "positive", "negative", "childObjects")),
        *(b"NaN", b"Infinity", b"1e999", b"null", b"[[", b"]]"),
    ),
)
ASAP = Target(
    _read_asap,
    _asap_seeds,
    mutate_xml,
    words=(
        *(b"<Annotation", b"<Group", b"<Coordinate", b"PartOfGroup=", b"Type=", b"Order=", b"<!ENTITY", b"<!DOCTYPE"),
        *(b"SYSTEM", b"encoding=", b"utf-7", b"utf-16", b"\xfe\xff", b"&#x0;", b"<![CDATA["),
    ),
)
