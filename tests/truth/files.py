"""Annotation files made for a test."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pathlib import Path

SQUARE = [[10, 10], [90, 10], [90, 90], [10, 90]]
HOLE = [[30, 30], [50, 30], [50, 50], [30, 50]]


def asap(path: Path, annotations: list[tuple[str, list]], groups: str = "", kind: str = "Polygon") -> Path:
    body = "".join(
        f'<Annotation Name="a" Type="{kind}" PartOfGroup="{group}" Color="#F4FA58"><Coordinates>'
        + "".join(f'<Coordinate Order="{n}" X="{x}" Y="{y}" />' for n, (x, y) in enumerate(points))
        + "</Coordinates></Annotation>"
        for group, points in annotations
    )
    path.write_text(
        f'<?xml version="1.0"?><ASAP_Annotations><Annotations>{body}</Annotations>'
        f"<AnnotationGroups>{groups}</AnnotationGroups></ASAP_Annotations>"
    )
    return path


def feature(rings: list, name: str | None = "Tumor", kind: str = "Polygon", **properties) -> dict:
    closed = [[*ring, ring[0]] for ring in rings]
    if name is not None:
        properties["classification"] = {"name": name, "color": [200, 0, 0]}
    return {
        "type": "Feature",
        "geometry": {"type": kind, "coordinates": closed if kind == "Polygon" else [closed]},
        "properties": {"objectType": "annotation", **properties},
    }


def geojson(path: Path, *features: dict) -> Path:
    path.write_text(json.dumps({"type": "FeatureCollection", "features": list(features)}))
    return path
