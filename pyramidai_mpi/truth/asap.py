"""ASAP's XML, the format of the CAMELYON annotations."""

from __future__ import annotations

from typing import TYPE_CHECKING
from xml.etree import ElementTree

from pyramidai_mpi.base.errors import InputError
from pyramidai_mpi.truth.outlines import LeftOut, Outline, OutlineFile, ring_of
from pyramidai_mpi.truth.text import read_text

if TYPE_CHECKING:
    from pathlib import Path

    from pyramidai_mpi.truth.outlines import Ring

_AREAS = frozenset({"polygon", "spline", "rectangle"})
_NO_AREA = {"dot": "point", "pointset": "point set", "none": "untyped annotation"}


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
    raw = read_text(path)
    try:
        # expat itself, from 2.4.1 on, ends entities that multiply
        root = ElementTree.fromstring(raw)
    except (ElementTree.ParseError, LookupError, ValueError) as error:
        raise InputError(f"{path}: not valid XML ({error!s:.200}); save the annotations again") from error
    if root.tag != "ASAP_Annotations":
        raise InputError(
            f"{path}: is XML of {root.tag!r:.80}, expected ASAP_Annotations; export it as ASAP XML or GeoJSON"
        )
    above = {group.get("Name", ""): group.get("PartOfGroup", "") for group in root.iter("Group")}
    outlines, left_out = [], []
    for number, node in enumerate(root.iter("Annotation")):
        kind, name = node.get("Type", "Polygon").lower(), _class_of(node.get("PartOfGroup", ""), above, known)
        if kind not in _AREAS:
            left_out.append(LeftOut(_NO_AREA.get(kind, f"{kind:.40}"), name))
            continue
        try:
            outlines.append(Outline(name, _shell(node, kind)))
        except ValueError as error:
            which = node.get("Name") or f"number {number}"
            raise InputError(
                f"{path}: annotation {which!r:.80} has a bad coordinate ({error!s:.120}); save it again"
            ) from error
    return OutlineFile(tuple(outlines), tuple(left_out))


def _shell(node: ElementTree.Element, kind: str) -> Ring:
    """The corners of an annotation in their order; of a rectangle two that are opposite may stand for all four.

    Raises
    ------
    ValueError
        When a coordinate is no number.
    """
    # programs that edit these files need not keep the lines in order
    points = sorted(node.iter("Coordinate"), key=lambda point: int(point.get("Order", "0")))
    corners = [(_number(point.get("X", "")), _number(point.get("Y", ""))) for point in points]
    if kind == "rectangle" and len(corners) == 2:
        (left, top), (right, bottom) = corners
        corners = [(left, top), (right, top), (right, bottom), (left, bottom)]
    return ring_of(corners)


def _number(text: str) -> float:
    return float(text.replace(",", "."))  # decimal commas are written by ASAP under some locales


def _class_of(group: str, above: dict[str, str], known: frozenset[str]) -> str:
    name, seen = group, set[str]()
    while name and name not in seen:
        if name.casefold() in known:
            return name
        seen.add(name)
        name = above.get(name, "")
    return group
