"""Positive regions as smooth outlines: the level-0 tiles, or cells where there are strides, that share sides."""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import shapely
from shapely.geometry.polygon import orient

from pyramidai_mpi.base.intended_use import claim_of, scores_mean_nothing
from pyramidai_mpi.base.types import Decision
from pyramidai_mpi.export.cell_look import BAND, CellLook
from pyramidai_mpi.export.cells import is_dense
from pyramidai_mpi.export.features import feature_collection, positive_classification
from pyramidai_mpi.store.results.reader import open_result
from pyramidai_mpi.store.results.tables import iter_rows, read_header

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    import numpy.typing as npt

    from pyramidai_mpi.store.results.tables import Header, ResultFile


@dataclass(frozen=True)
class Region:
    """Positive level-0 tiles, or cells of the finest stride, that hang together by their sides.

    Attributes
    ----------
    outline
        In level-0 pixels of the file: the union of the tiles, its corners cut; exterior counter-clockwise in terms of
        the numbers, holes clockwise.
    n_tiles
        Number of tiles or cells.
    area_um2
        Area of these in µm², before any corner is cut.
    max_probability
        The largest score among them.
    """

    outline: shapely.Polygon
    n_tiles: int
    area_um2: float
    max_probability: float

    @property
    def rings(self) -> tuple[npt.NDArray[np.float64], ...]:
        """The outline's exterior and holes, float64 (N, 2) each, the last point the first one again."""
        return tuple(shapely.get_coordinates(ring) for ring in (self.outline.exterior, *self.outline.interiors))


def write_outlines(result: Path, target: Path, *, overwrite: bool = False) -> None:
    """Write the positive regions as QuPath annotations with area and maximum probability, the largest first.

    They are the positive tiles of level 0. Of a result with strides they are the cells of the finest one over which the
    finest window that was looked at is positive. Where the model's scores mean nothing, each annotation's description,
    which QuPath shows beside it, says so.

    Parameters
    ----------
    result
        Result file.
    target
        GeoJSON file to write; compressed when its name ends in ``.gz``.
    overwrite
        Replace an existing file.

    Raises
    ------
    InputError
        When the result cannot be read.
    OutputExistsError, StorageError
        When the target is in the way or cannot be written.
    """
    with open_result(result) as file:
        header = read_header(file)
        text = positive_classification(header)
        with feature_collection(target, header, overwrite=overwrite, inputs=[result]) as collection:
            for region in find_regions(file, header):
                collection.add([_feature(region, header, text)])


def find_regions(file: ResultFile, header: Header) -> Iterator[Region]:
    """All positive regions of an open result, the largest first.

    Raises
    ------
    InputError
        When the result is damaged.
    """
    if is_dense(header):
        look = CellLook(file, header)
        parts = list(_runs_of_cells(look))
        if not parts:
            return
        runs, side = np.concatenate(parts), look.l0_tile_side
    else:
        found = [
            runs_of(rows.index[positive].astype(np.int64), rows.probability[positive, header.score_column])
            for rows in iter_rows(file, 0)
            if (positive := rows.decision == Decision.ZOOM).any()
        ]
        if not found:
            return
        runs, side = _rejoined(np.concatenate(found)), header.grid.l0_side(0)
        found.clear()
    for outline, n_tiles, largest in outlines_of_runs(runs, side):
        yield Region(outline, n_tiles, float(n_tiles) * (side * header.slide.mpp) ** 2, largest)


RUN_DTYPE = np.dtype([("row", "<i8"), ("first", "<i8"), ("last", "<i8"), ("score", "<f4")])
"""Neighbours of a row from column `first` to `last` (excluded), and their largest score."""


def outlines_of_runs(runs: npt.NDArray[np.void], side: float) -> Iterator[tuple[shapely.Polygon, int, float]]:
    """Smooth outlines of what hangs together by its sides, the largest first.

    Parameters
    ----------
    runs
        `RUN_DTYPE` records (n,), by row and column.
    side
        Of a unit in the outlines.

    Yields
    ------
    tuple
        The outline, how many units it is of, and the largest score among them.
    """
    region = _connected(runs)
    _, region, n_runs = np.unique(region, return_inverse=True, return_counts=True)
    n_tiles = np.bincount(region, weights=runs["last"] - runs["first"]).astype(np.int64)
    members, ends = np.argsort(region, kind="stable"), np.cumsum(n_runs)
    for number in np.argsort(-n_tiles, kind="stable"):
        own = runs[members[ends[number] - n_runs[number] : ends[number]]]
        boxes = shapely.box(own["first"], own["row"], own["last"], own["row"] + 1)
        # tile units are whole numbers, so touching boxes join exactly
        yield smoothed(shapely.union_all(boxes), side), int(n_tiles[number]), float(own["score"].max())


def runs_of(index: npt.NDArray[np.int64], score: npt.NDArray[np.float32]) -> npt.NDArray[np.void]:
    """Neighbours of a row as one run each: `RUN_DTYPE` records.

    Parameters
    ----------
    index, score
        Column and row (N, 2) in row-major order, and score (N,) of each; at least one.
    """
    col, row = index.T
    starts = np.flatnonzero(np.r_[True, (np.diff(row) != 0) | (np.diff(col) != 1)])
    ends = np.r_[starts[1:], len(col)] - 1
    runs = np.empty(len(starts), RUN_DTYPE)
    runs["row"], runs["first"], runs["last"] = row[starts], col[starts], col[ends] + 1
    runs["score"] = np.maximum.reduceat(score, starts)
    return runs


def _rejoined(runs: npt.NDArray[np.void]) -> npt.NDArray[np.void]:
    """Runs in order, those made one again that were cut where a block of rows ends."""
    is_cut = (np.diff(runs["row"]) == 0) & (runs["last"][:-1] == runs["first"][1:])
    starts = np.flatnonzero(np.r_[True, ~is_cut])
    joined = runs[starts]
    joined["last"] = runs["last"][np.r_[starts[1:], len(runs)] - 1]
    joined["score"] = np.maximum.reduceat(runs["score"], starts)
    return joined


def _runs_of_cells(look: CellLook) -> Iterator[npt.NDArray[np.void]]:
    """The same of the cells of a map, a band of rows at a time."""
    rows = look.shape[0]
    for top in range(0, rows, BAND):
        found = look.rows(top, min(top + BAND, rows))
        row, col = np.nonzero(found.positive)
        if len(row):
            yield runs_of(np.stack([col, row + top], axis=1), found.score[row, col])


def _connected(runs: npt.NDArray[np.void]) -> npt.NDArray[np.int64]:
    """A number for each run, the same for those that touch by a side, directly or through others: the last one's."""
    from scipy.sparse import coo_array  # 25 MB, which those who write tiles as GeoJSON have no use for
    from scipy.sparse.csgraph import connected_components

    n_runs = len(runs)
    # a row's runs are in order and apart, so those of the row above that one touches are neighbours
    stride = int(runs["last"].max()) + 1
    above = (runs["row"] - 1) * stride
    first = np.searchsorted(runs["row"] * stride + runs["last"], above + runs["first"], side="right")
    last = np.searchsorted(runs["row"] * stride + runs["first"], above + runs["last"], side="left")
    n_touching = np.maximum(last - first, 0)
    here = np.repeat(np.arange(n_runs, dtype=np.int32), n_touching)
    touching = np.arange(len(here)) - np.repeat(np.cumsum(n_touching) - n_touching - first, n_touching)
    touch = coo_array((np.ones(len(here), bool), (here, touching.astype(np.int32))), (n_runs, n_runs))
    _, component = connected_components(touch, directed=False)
    last_of = np.zeros(n_runs, np.int64)
    np.maximum.at(last_of, component, np.arange(n_runs))
    return last_of[component]


def smoothed(outline: shapely.Polygon, scale: float) -> shapely.Polygon:
    """Cut the corners of a right-angled outline twice, and scale it.

    Corner cutting after Chaikin (1974), by at most a quarter of a unit along either side and then an eighth: steps
    become slopes, what is cut off outer corners is added at inner ones, and a single square keeps 83 % of its area.

    Parameters
    ----------
    outline
        With sides of whole units.
    scale
        Size of a unit in the outcome.
    """

    def smooth(ring: shapely.LinearRing) -> npt.NDArray[np.float64]:
        points = shapely.get_coordinates(ring.simplify(0))[:-1]
        for cut in (0.25, 0.125):
            side = np.roll(points, -1, axis=0) - points
            length = np.hypot(*side.T)[:, None]
            step = side / length * np.minimum(cut, length / 2)
            points = np.stack([points + step, points + side - step], axis=1).reshape(-1, 2)
        return np.asarray(points * scale)

    holes = [smooth(hole) for hole in outline.interiors]
    return orient(shapely.Polygon(smooth(outline.exterior), holes), 1.0)


def _description(header: Header) -> str:
    """A further member of an annotation's properties, with a comma before it; empty where there is nothing to say.

    QuPath keeps descriptions among its metadata, under this name (``PathAnnotationObject``).
    """
    intended_use = header.model.intended_use
    if not scores_mean_nothing(intended_use):
        return ""
    return f',"metadata":{json.dumps({"ANNOTATION_DESCRIPTION": claim_of(intended_use)})}'


def _feature(region: Region, header: Header, text: str) -> str:
    bounds = np.array(header.slide.l0_bounds)
    coordinates = [np.round(ring - bounds, 2).tolist() for ring in region.rings]
    measurements = {
        "area_um2": round(region.area_um2, 3),
        "max_probability": float(f"{region.max_probability:.9g}"),
        "n_cells" if is_dense(header) else "n_tiles": region.n_tiles,
    }
    return (
        f'{{"type":"Feature","geometry":{json.dumps({"type": "Polygon", "coordinates": coordinates})},'
        f'"properties":{{"objectType":"annotation","classification":{text},"measurements":{json.dumps(measurements)}'
        f"{_description(header)}}}}}"
    )
