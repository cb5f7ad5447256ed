"""ASAP's XML, the format of the CAMELYON annotations."""

from __future__ import annotations

from typing import TYPE_CHECKING
from xml.etree import ElementTree

import numpy as np

from pyramidai_mpi.base.errors import InputError, input_errors
from pyramidai_mpi.truth.outlines import Outline, OutlineFile

if TYPE_CHECKING:
    from pathlib import Path

_AREAS = frozenset({"polygon", "spline", "rectangle"})


def read_asap(path: Path, known: frozenset[str] = frozenset()) -> OutlineFile:
    """Read an ASAP XML file; the class of an outline is its group.

    Parameters
    ----------
    path
        The file.
    known
        Class names that mean something, in lower case. A group that is none of them takes the class of the group that
        it is part of, where that is one.

    Raises
    ------
    InputError
        When it cannot be read or is no ASAP file.
    """
    with input_errors(path):
        raw = path.read_bytes()
    try:
        root = ElementTree.fromstring(raw)
    except (ElementTree.ParseError, LookupError, ValueError) as error:
        raise InputError(f"{path}: not valid XML ({error}); save the annotations again") from error
    if root.tag != "ASAP_Annotations":
        raise InputError(f"{path}: is XML of {root.tag!r}, expected ASAP_Annotations; export it as ASAP XML or GeoJSON")
    above = {group.get("Name", ""): group.get("PartOfGroup", "") for group in root.iter("Group")}
    outlines, others = [], 0
    for number, node in enumerate(root.iter("Annotation")):
        if node.get("Type", "Polygon").lower() not in _AREAS:
            others += 1
            continue
        try:
            shell = np.array([_point(point) for point in node.iter("Coordinate")], np.float64).reshape(-1, 2)
            if not np.isfinite(shell).all():
                raise ValueError("a coordinate is not finite")
        except (ValueError, TypeError) as error:
            name = node.get("Name") or f"number {number}"
            raise InputError(f"{path}: annotation {name!r} has a bad coordinate ({error}); save it again") from error
        outlines.append(Outline(_class_of(node.get("PartOfGroup", ""), above, known), shell))
    notes = (f"{others} annotations that are no areas were left out",) if others else ()
    return OutlineFile(tuple(outlines), notes)


def _point(node: ElementTree.Element) -> tuple[float, float]:
    # decimal commas are written by ASAP under some locales
    return float(node.get("X", "").replace(",", ".")), float(node.get("Y", "").replace(",", "."))


def _class_of(group: str, above: dict[str, str], known: frozenset[str]) -> str:
    name, seen = group, set[str]()
    while name and name not in seen:
        if name.casefold() in known:
            return name
        seen.add(name)
        name = above.get(name, "")
    return group
