"""Places on a slide that a caller lists: a table of points or tiles, or the tiles of a result above a score."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from pyramidai_mpi.base.csv_reading import read_csv, read_number
from pyramidai_mpi.base.errors import InputError, input_errors
from pyramidai_mpi.base.hashes import file_sha256
from pyramidai_mpi.base.patch_order import slide_stem
from pyramidai_mpi.store.results.dense import read_dense_map
from pyramidai_mpi.store.results.reader import open_result, read_digest
from pyramidai_mpi.store.results.tables import iter_rows, read_header

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    import numpy.typing as npt

    from pyramidai_mpi.base.csv_reading import Row
    from pyramidai_mpi.base.patch_order import PatchPlaces

_POINTS = (("l0_x", "l0_y"), ("x", "y"))
_TILES = ("minx", "miny", "width", "height")
_EXPECTED = "expected columns l0_x and l0_y, x and y, or minx, miny, width and height, in level-0 pixels"


@dataclass(frozen=True)
class ListedPlaces:
    """The list of one slide's places.

    Attributes
    ----------
    path
        Table or result.
    above
        Least score (excluded) of the result's tiles; None for a table.
    """

    path: Path
    above: float | None

    @classmethod
    def find(cls, places: PatchPlaces, slide: str) -> ListedPlaces | None:
        """The list of a slide of this name; in a folder, the one that is named like it. None where none is asked for.

        Raises
        ------
        InputError
            When a folder has none for the slide.
        """
        if places.path is None:
            return None
        if not places.path.is_dir():
            return cls(places.path, places.above)
        wanted = f"{slide_stem(slide)}{'.csv' if places.above is None else '.h5'}"
        with input_errors(places.path):
            found = [path for path in sorted(places.path.iterdir()) if path.name.casefold() == wanted.casefold()]
        if len(found) > 1:
            raise InputError(
                f"{places.path}: {found[0].name} and {found[1].name} both list places of {slide}; keep one"
            )
        if not found:
            raise InputError(
                f"{places.path}: has no {wanted} with places of {slide}; every slide needs one, of no places at all a "
                "table with nothing but the names of its columns"
            )
        return cls(found[0], places.above)

    def sha256(self) -> str:
        """SHA-256 of the table, or digest of the result.

        Raises
        ------
        InputError
            When it cannot be read.
        """
        return file_sha256(self.path) if self.above is None else read_digest(self.path)

    def points(self, l0_size: tuple[int, int], quickhash: str) -> npt.NDArray[np.float64]:
        """Where they are: float64 (n, 2) of l0_x, l0_y. Of a tile, the middle of what of it lies on the slide.

        Parameters
        ----------
        l0_size
            Width and height of the slide.
        quickhash
            Of the slide.

        Raises
        ------
        InputError
            When the list cannot be used, is another slide's, or a place lies off the slide.
        """
        if self.above is not None:
            return self._of_result(self.above, l0_size, quickhash)
        return self._of_table(l0_size)

    def _of_result(self, above: float, l0_size: tuple[int, int], quickhash: str) -> npt.NDArray[np.float64]:
        found = [np.empty((0, 2), np.float64)]
        with open_result(self.path) as file:
            header = read_header(file)
            if header.slide.quickhash != quickhash:
                raise InputError(f"{self.path}: is the result of another slide, {header.slide.name}")
            if header.levels[0].cell is not None:  # windows at a stride: scores belong to their middles
                dense = read_dense_map(file)
                middles = dense.l0_centres(np.argwhere(dense.score > above)[:, ::-1])
                return np.clip(middles, 0, np.array(l0_size, np.float64) - 1)
            column, side = header.score_column, header.levels[0].patch_size_level0
            for rows in iter_rows(file, 0):
                corners = rows.l0_coords[rows.probability[:, column] > above].astype(np.float64)
                found.append(_middles(corners, np.full_like(corners, side), l0_size))
        return np.concatenate(found)

    def _of_table(self, l0_size: tuple[int, int]) -> npt.NDArray[np.float64]:
        table = read_csv(self.path, lambda rows: bool(rows) and _columns(rows[0].cells) is not None)
        columns = _columns(table.rows[0].cells) if table.rows else None
        if columns is None:
            said = ", ".join(table.rows[0].cells)[:80] if table.rows else "nothing"
            raise InputError(f"{self.path}: its first line says {said}; {_EXPECTED}")
        level = _place_of(table.rows[0].cells, "level")
        found = []
        for row in table.rows[1:]:
            if level is not None and self._number(row, level, "level") != 0:
                continue  # coarser tiles of an export hold many cells
            values = [self._number(row, place, table.rows[0].cells[place]) for place in columns]
            if len(values) == len(_TILES):
                if min(values[2:]) <= 0:
                    raise InputError(f"{self.path}: line {row.line}: a tile of {values[2]:g} x {values[3]:g} pixels")
                ((x, y),) = _middles(np.array([values[:2]]), np.array([values[2:]]), l0_size).tolist()
            else:
                x, y = values
            if not (0 <= x < l0_size[0] and 0 <= y < l0_size[1]):
                raise InputError(
                    f"{self.path}: line {row.line}: place ({x:g}, {y:g}) lies off the slide of {l0_size[0]} x "
                    f"{l0_size[1]} level-0 pixels; check that the list is this slide's, and in level-0 pixels"
                )
            found.append((x, y))
        return np.array(found, np.float64).reshape(-1, 2)

    def _number(self, row: Row, place: int, name: str) -> float:
        text = row.cells[place] if place < len(row.cells) else ""
        try:
            value = read_number(text)
        except ValueError:
            value = math.nan
        if not math.isfinite(value):
            raise InputError(f"{self.path}: line {row.line}: {name} {text!r:.40}: expected a number")
        return value


def _middles(
    corners: npt.NDArray[np.float64], sides: npt.NDArray[np.float64], l0_size: tuple[int, int]
) -> npt.NDArray[np.float64]:
    """Middles of what of tiles lies on the slide."""
    last = np.minimum(corners + sides, np.array(l0_size, np.float64))
    return np.asarray((np.maximum(corners, 0) + last) / 2)


def _columns(names: Sequence[str]) -> list[int] | None:
    """Places of the columns that say where: of points, or of tiles; None where there are none."""
    for wanted in (*_POINTS, _TILES):
        found = [_place_of(names, name) for name in wanted]
        places = [place for place in found if place is not None]
        if len(places) == len(wanted):
            return places
    return None


def _place_of(names: Sequence[str], wanted: str) -> int | None:
    cleaned = [name.strip().casefold() for name in names]
    return cleaned.index(wanted) if wanted in cleaned else None
