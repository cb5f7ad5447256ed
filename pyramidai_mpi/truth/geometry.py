"""From outlines to the area that is tumour: crossings repaired or refused, holes cut, the slide's border kept.

A ring that crosses itself is repaired by the even-odd rule where that changes little, and refused otherwise; what lies
off the slide is cut off, and refused when it is most of it. Of CAMELYON16's 2163 outlines 373 cross themselves; all are
repaired.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import shapely

from pyramidai_mpi.base.errors import InputError
from pyramidai_mpi.truth.outlines import classes_listed, listed

if TYPE_CHECKING:
    from collections.abc import Iterable
    from pathlib import Path

    from pyramidai_mpi.truth.outlines import ClassNames, Outline, OutlineFile, Ring

_SAFE_CHANGE = 0.05
"""A repair may change the area that the outline encloses by this share: a loop at a corner, not a figure of eight."""

_SAFE_AREA = 1024.0
"""Or by this many square pixels, whatever the share: 2 % of a tile of 224 pixels. Of CAMELYON16's 373 self-crossing
outlines one, of 187 square pixels, needs it."""

_MOST_CROSSINGS = 3000
"""The time of a repair grows with the square of this: 500 corners thrown at random cross 40000 times, which takes 90 s.
Of CAMELYON16's 373 self-crossing outlines all but 19 cross at most 30 times, and none more than 300 times."""

_EDGES_AT_A_TIME = 32


@dataclass(frozen=True)
class OutlinedArea:
    """An area of a slide.

    Attributes
    ----------
    shape
        shapely MultiPolygon in level-0 pixels, valid and within the slide; may be empty.
    notes
        What was repaired, clipped or left out, one line each.
    """

    shape: shapely.MultiPolygon
    notes: tuple[str, ...] = ()

    def rings(self) -> list[Ring]:
        """Its closed rings, float64 (N, 2), shells turning one way and holes the other."""
        turned = shapely.orient_polygons(self.shape)
        return [
            np.asarray(shapely.get_coordinates(ring), np.float64)
            for polygon in shapely.get_parts(turned)
            for ring in (polygon.exterior, *polygon.interiors)
        ]


class TumorArea(OutlinedArea):
    """Tumour of a slide; empty when there is none."""


def no_tumor() -> TumorArea:
    """Of a slide without any."""
    return TumorArea(shapely.MultiPolygon())


def tumor_area(path: Path, found: OutlineFile, classes: ClassNames, l0_size: tuple[int, int]) -> TumorArea:
    """The union of the tumour outlines without what is excluded, clipped to the slide.

    Parameters
    ----------
    path
        The file they come from, for messages.
    found
        All of it. When no outline has a class, all are tumour.
    classes
        Which classes count.
    l0_size
        Width and height of the slide in level-0 pixels.

    Raises
    ------
    InputError
        When no class is known as tumour, tumour is annotated but by nothing that has an area, an outline crosses itself
        beyond repair, or most of the tumour lies outside the slide.
    """
    outlines = found.outlines
    notes: list[str] = []
    if outlines and not any(one.name for one in outlines):
        notes.append("no outline has a class: all are taken as tumour")
        tumor, excluded, unknown = list(outlines), [], set()
    else:
        tumor = [one for one in outlines if classes.is_tumor(one.name)]
        excluded = [one for one in outlines if classes.is_exclusion(one.name)]
        unknown = {one.name for one in outlines} - {one.name for one in [*tumor, *excluded]}
    if unknown and not tumor:
        raise InputError(
            f"{path}: has outlines of class {classes_listed(unknown)}, none known as {classes.what}; name the class "
            f"with {classes.option}, or list the slide in negative.txt when it has no {classes.what}"
        )
    if unknown:
        notes.append(f"outlines of class {classes_listed(unknown)} were left out")
    workshop = _Workshop(path)
    area = _union(workshop.polygons(tumor))
    if area.is_empty:
        drawn = [one.kind for one in found.left_out if one.is_annotation and classes.is_tumor(one.name)]
        _refuse_no_area(path, found, [*workshop.flat(), *drawn])
    if excluded:
        area = _polygons_of(shapely.difference(area, _union(workshop.polygons(excluded))))
    area, clipped = _clip(path, area, l0_size, "tumour")
    return TumorArea(area, (*_left_out(found), *notes, *workshop.notes(), *clipped))


def outlined_area(path: Path, found: OutlineFile, l0_size: tuple[int, int]) -> OutlinedArea:
    """The union of outlines of any class, clipped to the slide.

    Raises
    ------
    InputError
        When the file holds something, but nothing that has an area; an outline crosses itself beyond repair; or most of
        the area lies outside the slide.
    """
    workshop = _Workshop(path)
    area = _union(workshop.polygons(found.outlines))
    if area.is_empty:
        _refuse_no_area(path, found, workshop.flat())
    area, clipped = _clip(path, area, l0_size, "outlined area")
    return OutlinedArea(area, (*_left_out(found), *workshop.notes(), *clipped))


def _refuse_no_area(path: Path, found: OutlineFile, wanted: list[str]) -> None:
    """Refuse a file of whose annotations none that is `wanted` has an area; one that holds nothing says: there is none.

    A person who drew a line around the tumour, and a program's cells in place of annotations, do not say that.
    """
    held = wanted if wanted or found.outlines else [one.kind for one in found.left_out]
    if held:
        raise InputError(
            f"{path}: outlines no area, but holds {listed(held)}; draw closed outlines, or, where there is nothing to "
            "outline, save a file without any object"
        )


def _left_out(found: OutlineFile) -> tuple[str, ...]:
    """A note on what was not used."""
    if not found.left_out:
        return ()
    return (f"not used, as they are no annotations with an area: {listed([one.kind for one in found.left_out])}",)


class _Workshop:
    """Makes valid polygons of rings and remembers what it had to do."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._repaired = 0
        self._flat = 0

    def notes(self) -> list[str]:
        notes = []
        if self._repaired:
            notes.append(f"{self._repaired} self-crossing outlines were repaired, their area hardly changed")
        if self._flat:
            notes.append(f"not used: {listed(self.flat())}")
        return notes

    def flat(self) -> list[str]:
        """A word for each outline so far that has no area."""
        return ["flat outline"] * self._flat

    def polygons(self, outlines: Iterable[Outline]) -> list[shapely.Geometry]:
        made = []
        for one in outlines:
            shell = self._ring(one.shell)
            holes = [hole for ring in one.holes if not (hole := self._ring(ring)).is_empty]
            made.append(shapely.difference(shell, shapely.union_all(holes)) if holes else shell)
        return made

    def _ring(self, points: Ring) -> shapely.Geometry:
        points = points[np.r_[True, (np.diff(points, axis=0) != 0).any(axis=1)]] if len(points) else points
        if len(np.unique(points, axis=0)) < 3:
            self._flat += 1
            return shapely.MultiPolygon()
        polygon = shapely.Polygon(points)
        if polygon.is_valid:
            return polygon
        if _crosses_itself_more_often(points, _MOST_CROSSINGS):
            raise InputError(
                f"{self._path}: an outline crosses itself more than {_MOST_CROSSINGS} times, so that its inside is not "
                f"clear (it starts at {points[0, 0]:.0f}, {points[0, 1]:.0f}); redraw it"
            )
        repaired = _polygons_of(shapely.make_valid(polygon))
        # the signed area of a ring counts its loops as often as it turns around them, the repaired one counts each by
        # the even-odd rule: they differ by what the repair had to decide
        change = abs(repaired.area - polygon.area)
        if change > max(_SAFE_CHANGE * max(repaired.area, polygon.area), _SAFE_AREA):
            reason = shapely.is_valid_reason(polygon)
            raise InputError(
                f"{self._path}: an outline crosses itself so that its inside is not clear ({reason}; it starts at "
                f"{points[0, 0]:.0f}, {points[0, 1]:.0f}); redraw it"
            )
        if repaired.is_empty:
            self._flat += 1
        else:
            self._repaired += 1
        return repaired


def _crosses_itself_more_often(points: Ring, most: int) -> bool:
    """Whether more than so many pairs of edges that are no neighbours meet; ends as soon as that is clear."""
    edges = shapely.linestrings(np.stack([points, np.roll(points, -1, axis=0)], axis=1))
    tree, n_met = shapely.STRtree(edges), 0
    for first in range(0, len(edges), _EDGES_AT_A_TIME):
        one, other = tree.query(edges[first : first + _EDGES_AT_A_TIME], predicate="intersects")
        apart = np.abs(one + first - other)
        n_met += int(np.count_nonzero((apart > 1) & (apart < len(edges) - 1)))
        if n_met > 2 * most:  # each pair is met from both sides
            return True
    return False


def _union(shapes: list[shapely.Geometry]) -> shapely.MultiPolygon:
    return _polygons_of(shapely.union_all(shapes))


def _polygons_of(shape: shapely.Geometry) -> shapely.MultiPolygon:
    """The polygons of any geometry; points and lines that operations leave behind are dropped."""
    parts = shapely.get_parts(shapely.get_parts(shape))
    return shapely.MultiPolygon([part for part in parts if isinstance(part, shapely.Polygon) and part.area > 0])


def _clip(
    path: Path, area: shapely.MultiPolygon, l0_size: tuple[int, int], what: str
) -> tuple[shapely.MultiPolygon, list[str]]:
    width, height = l0_size
    if area.is_empty or shapely.covers(slide := shapely.box(0, 0, width, height), area):
        return area, []
    inside = _polygons_of(shapely.intersection(area, slide))
    outside = 1 - inside.area / area.area
    if outside > 0.5:
        left, top, right, bottom = area.bounds
        raise InputError(
            f"{path}: {100 * outside:.0f} % of the {what} lies outside the slide of {width} x {height} px (outlines "
            f"reach from {left:.0f}, {top:.0f} to {right:.0f}, {bottom:.0f}): another slide's, or not in level-0 pixels"
        )
    return inside, [f"{100 * outside:.2g} % of the {what} lies outside the slide and was cut off"]
