"""Tiles and regions as GeoJSON that QuPath opens.

QuPath's rules, from its ``PathObjectTypeAdapters`` and ``GsonTools`` (qupath-core, since 0.4): the kind of object
stands in ``properties.objectType``; ``classification`` has a ``name`` and a ``color`` of three integers (one packed
integer under that name is refused; up to 0.3 it stood under ``colorRGB``); ``measurements`` is one object of
numbers; children stand as features in ``properties.childObjects``. Slides with bounds are shown from the corner of
their bounds on (``OpenslideImageServer``), so that corner is taken off the coordinates.
"""

from __future__ import annotations

import gzip
import json
from contextlib import ExitStack, contextmanager
from typing import IO, TYPE_CHECKING, cast

import numpy as np

from pyramidai_mpi.base.types import Decision
from pyramidai_mpi.store.files.placing import placed
from pyramidai_mpi.store.results.reader import open_result
from pyramidai_mpi.store.results.tables import iter_column, read_header, read_rows

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from pathlib import Path

    import numpy.typing as npt

    from pyramidai_mpi.store.results.tables import Header, ResultFile, TileRows

_POSITIVE = (200, 0, 0)
_UNREADABLE = (128, 128, 128)
# One for each further class, told apart with the common colour-vision deficiencies (Okabe and Ito 2008).
_OTHERS = ((0, 114, 178), (0, 158, 115), (230, 159, 0), (86, 180, 233), (204, 121, 167), (240, 228, 66))
_GZIP_LEVEL = 3


def write_geojson(result: Path, target: Path, *, overwrite: bool = False, flat: bool = False) -> None:
    """Write all analysed tiles as a GeoJSON FeatureCollection, children within their parents.

    Coordinates are level-0 pixels from the corner of the slide's bounds, exterior rings counter-clockwise in terms of
    the numbers (RFC 7946). Unreadable tiles have no measurements. Memory is that of one row of root tiles.

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

    Raises
    ------
    InputError
        When the result cannot be read.
    OutputExistsError, StorageError
        When the target is in the way or cannot be written.
    """
    with open_result(result) as file:
        header = read_header(file)
        texts = _FeatureTexts(header)
        with feature_collection(target, overwrite=overwrite, inputs=[result]) as collection:
            for band in _bands(file, header):
                features = texts.flat(band) if flat else texts.nested(band)
                collection.add(features)


def write_flat(result: Path, target: Path, *, overwrite: bool = False) -> None:
    """As `write_geojson`, all tiles side by side."""
    write_geojson(result, target, overwrite=overwrite, flat=True)


class FeatureCollection:
    """Features on their way to a file.

    Parameters
    ----------
    out
        Takes the bytes.
    """

    def __init__(self, out: IO[bytes]) -> None:
        self._out = out
        self._separator = b"\n"

    def add(self, features: Sequence[str]) -> None:
        """Append features, each a JSON text."""
        if features:
            self._out.write(self._separator + ",\n".join(features).encode())
            self._separator = b",\n"


@contextmanager
def feature_collection(target: Path, *, overwrite: bool, inputs: Sequence[Path]) -> Iterator[FeatureCollection]:
    """Open a GeoJSON file, compressed when its name ends in ``.gz``; it gets its name when all is written.

    Raises
    ------
    OutputExistsError, StorageError
        When the target is in the way or cannot be written.
    """
    with ExitStack() as stack:
        temporary = stack.enter_context(placed(target, overwrite=overwrite, inputs=inputs))
        out: IO[bytes] = stack.enter_context(temporary.open("wb"))
        if target.suffix == ".gz":
            # neither name nor time within: equal results give equal files
            zipped = gzip.GzipFile(filename="", mode="wb", compresslevel=_GZIP_LEVEL, fileobj=out, mtime=0)
            out = cast("IO[bytes]", stack.enter_context(zipped))
        out.write(b'{"type":"FeatureCollection","features":[')
        yield FeatureCollection(out)
        out.write(b"\n]}\n")


def classification(name: str, colour: tuple[int, int, int]) -> str:
    """QuPath's classification as a JSON text."""
    return json.dumps({"name": name, "color": list(colour)}, ensure_ascii=False, separators=(",", ":"))


def positive_classification(header: Header) -> str:
    """The positive class as a classification."""
    return classification(header.model.positive_class, _POSITIVE)


class _FeatureTexts:
    """Tiles as JSON texts."""

    def __init__(self, header: Header) -> None:
        self._bounds = np.array(header.slide.l0_bounds, np.int64)
        self._sides = [record.patch_size_level0 for record in header.levels]
        self._positive = header.score_column
        others = iter(_OTHERS * len(header.model.classes))
        self._classes = [
            positive_classification(header)
            if name == header.model.positive_class
            else classification(name, next(others))
            for name in header.model.classes
        ]
        self._measures = [json.dumps(f"prob_{name}", ensure_ascii=False) for name in header.model.classes]

    def flat(self, band: list[TileRows]) -> list[str]:
        """One feature a tile, level 0 first."""
        return [opening + "}}" for rows in band for opening in self._openings(rows)]

    def nested(self, band: list[TileRows]) -> list[str]:
        """One feature a tile without parent, with its descendants inside."""
        tops: list[str] = []
        children: dict[int, list[str]] = {}
        for rows in band:
            texts = [
                f'{opening},"childObjects":[{",".join(children[row])}]}}}}' if row in children else opening + "}}"
                for row, opening in enumerate(self._openings(rows), rows.first_row)
            ]
            children = {}
            for text, parent in zip(texts, rows.parent.tolist(), strict=True):
                if parent < 0:
                    tops.append(text)
                else:
                    children.setdefault(parent, []).append(text)
        return tops

    def _openings(self, rows: TileRows) -> list[str]:
        """Each tile's feature up to the place where children or two braces follow."""
        low = rows.l0_coords - self._bounds
        high = low + self._sides[rows.level]
        x0, y0, x1, y1 = (values.tolist() for values in (*low.T, *high.T))
        classes = [self._classes[column] for column in self._decided_class(rows).tolist()]
        place = (
            '{"type":"Feature","geometry":{"type":"Polygon","coordinates":[[[%d,%d],[%d,%d],[%d,%d],[%d,%d],[%d,%d]]]},'
            '"properties":{"objectType":"tile","classification":%s'
        )
        measures = "".join(name.replace("%", "%%") + ":%.9g," for name in self._measures)
        whole = f'{place},"measurements":{{{measures}"level":{rows.level}}}'
        probability = rows.probability.T.tolist()
        texts = list(
            map(whole.__mod__, zip(x0, y0, x1, y0, x1, y1, x0, y1, x0, y0, classes, *probability, strict=True))
        )
        for i in np.flatnonzero(rows.decision == Decision.UNREADABLE).tolist():
            corners = (x0[i], y0[i], x1[i], y0[i], x1[i], y1[i], x0[i], y1[i], x0[i], y0[i])
            texts[i] = place % (*corners, classification("unreadable", _UNREADABLE))
        return texts

    def _decided_class(self, rows: TileRows) -> npt.NDArray[np.int64]:
        """The positive class where the decision says so, else the most probable of the others."""
        others = np.where(np.isnan(rows.probability), -1, rows.probability)
        others[:, self._positive] = -2
        return np.where(rows.decision == Decision.ZOOM, self._positive, others.argmax(axis=1))


def _bands(file: ResultFile, header: Header) -> Iterator[list[TileRows]]:
    """The tiles of each row of roots with all their descendants, level 0 first.

    Tiles are stored row by row, so a band is a slice of every level's tables.
    """
    grid = header.grid
    _, n_bands = grid.shape(grid.n_levels - 1)
    ends = []
    for level in range(grid.n_levels):
        rows_a_band = grid.scale_factor ** (grid.n_levels - 1 - level)
        counts = np.zeros(n_bands, np.int64)
        for index in iter_column(file, level, "index"):
            counts += np.bincount(index[:, 1] // rows_a_band, minlength=n_bands)
        ends.append([0, *np.cumsum(counts).tolist()])
    for band in range(n_bands):
        yield [read_rows(file, level, end[band], end[band + 1]) for level, end in enumerate(ends)]
