"""Tiles and regions as GeoJSON that QuPath opens.

QuPath's rules, from its ``PathObjectTypeAdapters`` and ``GsonTools`` (qupath-core, since 0.4): the kind of object
stands in ``properties.objectType``; ``classification`` has a ``name`` and a ``color`` of three integers (one packed
integer under that name is refused; up to 0.3 it stood under ``colorRGB``); ``measurements`` is one object of
numbers; children stand as features in ``properties.childObjects``. Slides with bounds are shown from the corner of
their bounds on (``OpenslideImageServer``), so that corner is taken off the coordinates.
"""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

import numpy as np

from pyramidai_mpi.base.errors import UsageError
from pyramidai_mpi.base.types import Decision, outcome_names
from pyramidai_mpi.export.cell_squares import square_texts
from pyramidai_mpi.export.cells import is_dense
from pyramidai_mpi.export.features import (
    OTHERS,
    UNREADABLE,
    ZOOMED,
    classification,
    feature_collection,
    positive_classification,
)
from pyramidai_mpi.export.levels import chosen_levels
from pyramidai_mpi.export.outlines import write_outlines
from pyramidai_mpi.export.shown import shown_values, tile_columns
from pyramidai_mpi.store.results.reader import open_result
from pyramidai_mpi.store.results.tables import iter_column, read_header, read_rows

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from pathlib import Path

    import numpy.typing as npt

    from pyramidai_mpi.export.shown import Show
    from pyramidai_mpi.store.results.tables import Header, ResultFile, TileRows


def write_geojson(
    result: Path,
    target: Path,
    *,
    overwrite: bool = False,
    flat: bool = False,
    levels: Sequence[int] | None = None,
    show: Show | None = None,
) -> None:
    """Write all analysed tiles as a GeoJSON FeatureCollection, children within their parents.

    Of a result with strides, the outlines of `export.outlines` instead, or when `flat` a square for each window's cell,
    with its score and stride.

    The positive class is that of positive tiles of level 0 alone: their number is that of the run's summary. A tile
    above level 0 that was zoomed into has a class of that name, all others the most probable of the other classes.

    Coordinates are level-0 pixels from the corner of the slide's bounds, exterior rings counter-clockwise in terms of
    the numbers (RFC 7946). Unreadable tiles have no measurements. Of a predicted slide the others have
    attention and contributions among them, see `export.shown.tile_columns`. Memory is that of one row of root tiles.

    Parameters
    ----------
    result
        Result file.
    target
        File to write; compressed when its name ends in ``.gz``.
    overwrite
        Replace an existing file.
    flat
        All tiles side by side instead, for programs that do not know QuPath's children.
    levels
        Only tiles of these levels; None for all.
    show
        Of a predicted slide: tiles are classified by attention or contribution in place of their score, as
        `_shown_classes` says.

    Raises
    ------
    UsageError
        When the result has no such level, or nothing of the kind to show; of one with strides, when levels are given
        without `flat`, or there are more squares than programs open.
    InputError
        When the result cannot be read.
    OutputExistsError, StorageError
        When the target is in the way or cannot be written.
    """
    with open_result(result) as file:
        header = read_header(file)
        if is_dense(header):
            if show is not None:
                shown_values(file, header, show)  # says that there is none
            _write_dense(file, header, result, target, overwrite=overwrite, flat=flat, levels=levels)
            return
        texts, chosen = _FeatureTexts(file, header, show), chosen_levels(header, levels)
        with feature_collection(target, header, overwrite=overwrite, inputs=[result]) as collection:
            for band in _bands(file, header, chosen):
                features = texts.flat(band) if flat else texts.nested(band)
                collection.add(features)


def _write_dense(
    file: ResultFile,
    header: Header,
    result: Path,
    target: Path,
    *,
    overwrite: bool,
    flat: bool,
    levels: Sequence[int] | None,
) -> None:
    """Outlines of a result with strides, or squares."""
    if not flat:
        if levels is not None:
            raise UsageError(f"--levels: {result} has strides and is written as outlines of all; give --flat as well")
        write_outlines(result, target, overwrite=overwrite)
        return
    texts = square_texts(file, header, chosen_levels(header, levels))
    with feature_collection(target, header, overwrite=overwrite, inputs=[result]) as collection:
        for features in texts:
            collection.add(features)


def write_flat(
    result: Path,
    target: Path,
    *,
    overwrite: bool = False,
    levels: Sequence[int] | None = None,
    show: Show | None = None,
) -> None:
    """As `write_geojson`, all tiles side by side."""
    write_geojson(result, target, overwrite=overwrite, flat=True, levels=levels, show=show)


class _FeatureTexts:
    """Tiles as JSON texts."""

    def __init__(self, file: ResultFile, header: Header, show: Show | None) -> None:
        self._file, self._header = file, header
        self._shown_classes = None if show is None else _shown_classes(file, header, show)
        self._bounds = np.array(header.slide.l0_bounds, np.int64)
        self._sides = [record.patch_size_level0 for record in header.levels]
        self._positive = header.score_column
        others = iter(OTHERS * len(header.model.classes))
        self._classes = [
            positive_classification(header)
            if name == header.model.positive_class
            else classification(name, next(others))
            for name in header.model.classes
        ]
        self._measures = [f"prob_{name}" for name in header.model.classes]

    def flat(self, band: list[TileRows]) -> list[str]:
        """One feature a tile, level 0 first."""
        return [opening + "}}" for rows in band for opening in self._openings(rows)]

    def nested(self, band: list[TileRows]) -> list[str]:
        """One feature a tile without parent in the band, with its descendants inside."""
        tops: list[str] = []
        children: dict[int, list[str]] = {}
        levels = {rows.level for rows in band}
        for rows in band:
            has_parents = rows.level + 1 in levels
            texts = [
                f'{opening},"childObjects":[{",".join(children[row])}]}}}}' if row in children else opening + "}}"
                for row, opening in enumerate(self._openings(rows), rows.first_row)
            ]
            children = {}
            for text, parent in zip(texts, rows.parent.tolist(), strict=True):
                if parent < 0 or not has_parents:
                    tops.append(text)
                else:
                    children.setdefault(parent, []).append(text)
        return tops

    def _openings(self, rows: TileRows) -> list[str]:
        """Each tile's feature up to the place where children or two braces follow."""
        low = rows.l0_coords - self._bounds
        high = low + self._sides[rows.level]
        x0, y0, x1, y1 = (values.tolist() for values in (*low.T, *high.T))
        of_columns = [*self._classes]
        if rows.level:
            of_columns[self._positive] = classification(outcome_names(rows.level)[Decision.ZOOM], ZOOMED)
        classes = [of_columns[column] for column in self._decided_class(rows).tolist()]
        if self._shown_classes is not None:
            classes = self._shown_classes[rows.first_row : rows.first_row + len(rows)]
        more = tile_columns(self._file, self._header, rows.level, rows.first_row, rows.first_row + len(rows))
        names = [json.dumps(name, ensure_ascii=False) for name in (*self._measures, *more)]
        place = (
            '{"type":"Feature","geometry":{"type":"Polygon","coordinates":[[[%d,%d],[%d,%d],[%d,%d],[%d,%d],[%d,%d]]]},'
            '"properties":{"objectType":"tile","classification":%s'
        )
        measures = "".join(name.replace("%", "%%") + ":%.9g," for name in names)
        whole = f'{place},"measurements":{{{measures}"level":{rows.level}}}'
        numbers = [column.tolist() for column in (*rows.probability.T, *more.values())]
        texts = list(map(whole.__mod__, zip(x0, y0, x1, y0, x1, y1, x0, y1, x0, y0, classes, *numbers, strict=True)))
        for i in np.flatnonzero(rows.decision == Decision.UNREADABLE).tolist():
            corners = (x0[i], y0[i], x1[i], y0[i], x1[i], y1[i], x0[i], y1[i], x0[i], y0[i])
            texts[i] = place % (*corners, classification("unreadable", UNREADABLE))
        return texts

    def _decided_class(self, rows: TileRows) -> npt.NDArray[np.int64]:
        """Column of the positive class where the decision says so, else of the most probable of the others."""
        others = np.where(np.isnan(rows.probability), -1, rows.probability)
        others[:, self._positive] = -2
        return np.where(rows.decision == Decision.ZOOM, self._positive, others.argmax(axis=1))


def _shown_classes(file: ResultFile, header: Header, show: Show) -> list[str]:
    """Classifications of all tiles of level 0, as JSON texts.

    Attention is above or below that of a tile if all had the same, 1 over their number; contributions are for or
    against their class.
    """
    values, scale = shown_values(file, header, show)
    assert header.prediction is not None
    limit = 0.0 if scale.is_signed else 1 / max(1, header.prediction.n_tiles)
    names = ("against", "for") if scale.is_signed else ("less than", "at least")
    ends = scale.anchors[0], scale.anchors[-1]
    kinds = [
        classification(f"{show}: {name}{'' if scale.is_signed else ' even'}", colour)
        for name, colour in zip(names, ends, strict=True)
    ]
    return [kinds[int(value >= limit)] for value in values.tolist()]


def _bands(file: ResultFile, header: Header, levels: Sequence[int]) -> Iterator[list[TileRows]]:
    """The tiles of some levels that lie in each row of roots or below it, level 0 first.

    Tiles are stored row by row, so a band is a slice of every level's tables.
    """
    grid = header.grid
    _, n_bands = grid.shape(grid.n_levels - 1)
    ends = {}
    for level in levels:
        rows_a_band = grid.span(grid.n_levels - 1) // grid.span(level)
        counts = np.zeros(n_bands, np.int64)
        for index in iter_column(file, level, "index"):
            counts += np.bincount(index[:, 1] // rows_a_band, minlength=n_bands)
        ends[level] = [0, *np.cumsum(counts).tolist()]
    for band in range(n_bands):
        yield [read_rows(file, level, end[band], end[band + 1]) for level, end in ends.items()]
