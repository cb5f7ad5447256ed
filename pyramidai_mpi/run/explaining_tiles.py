"""Which tiles of a slide are to be explained: chosen from its result, a table or points, before it is opened."""

from __future__ import annotations

import io
import json
import math
import os
from dataclasses import asdict, dataclass, field
from typing import TYPE_CHECKING

import numpy as np

from pyramidai_mpi.base.csv_reading import read_csv, read_number
from pyramidai_mpi.base.errors import InputError, UsageError
from pyramidai_mpi.base.odd_levels import INTERPOLATED, odd_levels_of
from pyramidai_mpi.base.patch_order import slide_stem
from pyramidai_mpi.base.types import Decision, index_keys
from pyramidai_mpi.store.results.reader import open_result
from pyramidai_mpi.store.results.tables import iter_rows, read_execution, read_header

if TYPE_CHECKING:
    from pathlib import Path

    import numpy.typing as npt

    from pyramidai_mpi.base.csv_reading import Row
    from pyramidai_mpi.base.explain_order import ExplainOrder, TilesWanted
    from pyramidai_mpi.models.package import ModelPackage
    from pyramidai_mpi.pyramid.grid import Grid
    from pyramidai_mpi.store.results.tables import Header, ResultFile

_COLUMNS = (("col", "row"), ("l0_x", "l0_y"), ("minx", "miny"))
"""Pairs of columns that say where a tile lies, the first that is there counts: place in the level's grid, or level-0
pixels; the last is that of exported tables."""
_TABLE_ENDINGS = (".csv", ".txt", ".tsv")


@dataclass(frozen=True)
class ResultSays:
    """What a result says of the run that made it, and that an explanation of its tiles follows.

    Attributes
    ----------
    name
        The result's file.
    quickhash, mpp
        Of its slide, and µm per level-0 pixel in the run.
    levels
        ``mpp`` or ``scale``: how the model's levels were laid over the slide.
    stain_map
        JSON of the map by which the slide's stain was normalised; empty for none.
    computed
        Library, precision and processor that gave its probabilities, in words.
    odd_levels
        How the slide's levels of odd size were read, as `base.settings.SlideInput`.
    """

    name: str
    quickhash: str
    mpp: float
    levels: str
    stain_map: str
    computed: str
    odd_levels: str = INTERPOLATED


@dataclass(frozen=True)
class ChosenTiles:
    """Tiles of one slide.

    Attributes
    ----------
    index
        int64 (N, 2): col, row in the level's grid, row-major.
    points
        int64 (M, 2): level-0 pixels whose tiles are meant as well, where the grid is known only of the open slide.
    known
        float32 (N, C): the result's probabilities of these tiles; NaN where it has none.
    result
        What the result says; None without one.
    """

    index: npt.NDArray[np.int64]
    points: npt.NDArray[np.int64] = field(default_factory=lambda: np.empty((0, 2), np.int64))
    known: npt.NDArray[np.float32] = field(default_factory=lambda: np.empty((0, 0), np.float32))
    result: ResultSays | None = None

    def of(self, grid: Grid, level: int, what: str) -> npt.NDArray[np.int64]:
        """Places of all tiles in a grid, int64 (N, 2): col, row, row-major, each once.

        Raises
        ------
        InputError
            One lies outside the slide.
        """
        index = np.concatenate([self.index, tiles_at_points(grid, level, self.points, what)])
        outside = np.flatnonzero(((index < 0) | (index >= grid.shape(level))).any(axis=1))
        if len(outside):
            col, row = index[outside[0]].tolist()
            columns, rows = grid.shape(level)
            raise InputError(
                f"{what}: tile col {col} row {row} of level {level} lies outside the slide, of {columns} columns "
                f"and {rows} rows there; check the level and the slide"
            )
        return in_order(index)

    def to_bytes(self) -> bytes:
        """For the way to the other ranks."""
        file = io.BytesIO()
        said = json.dumps(None if self.result is None else asdict(self.result))
        np.savez(file, index=self.index, points=self.points, known=self.known, said=np.array(said))
        return file.getvalue()

    @classmethod
    def from_bytes(cls, data: bytes) -> ChosenTiles:
        """Inverse of `to_bytes`."""
        with np.load(io.BytesIO(data), allow_pickle=False) as arrays:
            said = json.loads(str(arrays["said"]))
            result = None if said is None else ResultSays(**said)
            return cls(arrays["index"], arrays["points"], arrays["known"], result)


def in_order(index: npt.NDArray[np.int64]) -> npt.NDArray[np.int64]:
    """Places (N, 2) of tiles, each once, row-major."""
    _, first = np.unique(index_keys(index), return_index=True)
    return np.asarray(index[first])


def tiles_at_points(grid: Grid, level: int, points: npt.NDArray[np.int64], what: str) -> npt.NDArray[np.int64]:
    """The tiles that level-0 pixels (M, 2) lie in, by their middles: int64 (M, 2), col and row.

    Raises
    ------
    InputError
        One lies outside the slide.
    """
    outside = ((points < 0) | (points >= (grid.l0_width, grid.l0_height))).any(axis=1)
    if outside.any():
        x, y = points[np.flatnonzero(outside)[0]].tolist()
        raise InputError(
            f"{what}: level-0 pixel ({x}, {y}) lies outside the slide of {grid.l0_width} x {grid.l0_height} pixels"
        )
    return np.asarray(np.floor((points + 0.5) / grid.l0_side(level)), np.int64)


def choose_tiles(
    wanted: TilesWanted, order: ExplainOrder, package: ModelPackage, result: Path | None, slide: Path
) -> ChosenTiles:
    """The tiles of a slide that are meant.

    Parameters
    ----------
    order, package
        Of which model, which of its levels, and whether a class is named.
    result
        The slide's result; None where there is none.
    slide
        For its name, in a folder of tables.

    Raises
    ------
    UsageError
        Only a result could say which they are, or it has no such level, or another positive class than the model and
        none is named.
    InputError
        The result or the table cannot be read, is of another model, of overlapping windows, or names no tile.
    """
    level = order.level
    if result is None:
        if wanted.needs_result:
            raise UsageError(
                f"{slide}: --tiles {wanted.in_words()} are those of a result; name the slide's result instead, or give "
                "--tiles l0:X,Y or a file"
            )
        index, points = _places_wanted(wanted, level, slide)
        return ChosenTiles(index, points)
    with open_result(result) as file:
        header = read_header(file)
        _check_model(header, result, order, package)
        grid = header.grid
        if wanted.needs_result:
            index = _by_score(file, header, level, wanted)
        else:
            index, points = _places_wanted(wanted, level, slide)
            index = ChosenTiles(index, points).of(grid, level, wanted.in_words())
        index = in_order(index)
        return ChosenTiles(index, known=_known(file, level, index, len(package.classes)), result=_said(file, header))


def _check_model(header: Header, result: Path, order: ExplainOrder, package: ModelPackage) -> None:
    level, model = order.level, header.model
    if any(one.cell is not None for one in header.levels):
        raise InputError(
            f"{result}: its windows overlap (--stride), and tiles are explained; name its slide with --tiles l0:X,Y"
        )
    if level >= len(header.levels):
        raise UsageError(f"--level {level}: {result} has levels 0 to {len(header.levels) - 1}")
    found = (model.level_sha256[level], model.classes, model.tile_size, model.scale_factor, model.base_mpp, model.stain)
    asked = (
        package.levels[level].sha256, package.classes, package.tile_size, package.scale_factor, package.base_mpp,
        package.stain,
    )  # fmt: skip
    if found != asked:
        raise InputError(
            f"{result}: is the result of another network at level {level} (model {model.name}) than that of "
            f"{package.folder}; give the model it was made with"
        )
    if not order.class_name and model.positive_class != package.classes[package.score_column]:
        raise UsageError(
            f"{result}: its scores are of class {model.positive_class} (--positive-class), and those of model "
            f"{package.name} of {package.classes[package.score_column]}; say with --class which is to be explained"
        )


def _by_score(file: ResultFile, header: Header, level: int, wanted: TilesWanted) -> npt.NDArray[np.int64]:
    """Tiles of the highest scores, of equal ones the first; or all that reached the threshold."""
    column = header.score_column
    index, score = np.empty((0, 2), np.int64), np.empty(0, np.float32)
    for rows in iter_rows(file, level):
        chosen = rows.decision == Decision.ZOOM if wanted.positive else np.isfinite(rows.probability[:, column])
        index = np.concatenate([index, rows.index[chosen].astype(np.int64)])
        score = np.concatenate([score, rows.probability[chosen, column]])
        if wanted.top:
            best = np.lexsort((index_keys(index), -score))[: wanted.top]
            index, score = index[best], score[best]
    return index


def _known(file: ResultFile, level: int, index: npt.NDArray[np.int64], n_classes: int) -> npt.NDArray[np.float32]:
    """The result's probabilities of tiles (N, 2), row-major; NaN where it has none."""
    known = np.full((len(index), n_classes), np.nan, np.float32)
    keys = index_keys(index)
    for rows in iter_rows(file, level):
        _, here, there = np.intersect1d(keys, index_keys(rows.index), assume_unique=True, return_indices=True)
        known[here] = rows.probability[there]
    return known


def _said(file: ResultFile, header: Header) -> ResultSays:
    said = read_execution(file).attributes
    words = [str(said.get("backend", "onnxruntime")), str(said.get("precision", "float32")), str(said.get("cpu", ""))]
    return ResultSays(
        os.path.basename(str(file.filename)),  # noqa: PTH119  (h5py's name is no path)
        header.slide.quickhash,
        header.slide.mpp,
        str(said.get("levels", "mpp")),
        str(said.get("stain_map", "")),
        ", ".join(word for word in words if word),
        odd_levels_of(said),
    )


def _places_wanted(wanted: TilesWanted, level: int, slide: Path) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.int64]]:
    """Places in the grid, and level-0 pixels."""
    if wanted.file is None:
        return np.empty((0, 2), np.int64), np.array(wanted.points, np.int64).reshape(-1, 2)
    return read_tile_table(_table_of(wanted.file, slide), level)


def _table_of(file: Path, slide: Path) -> Path:
    if not file.is_dir():
        return file
    stem = slide_stem(slide)
    found = [path for ending in _TABLE_ENDINGS if (path := file / f"{stem}{ending}").is_file()]
    if len(found) != 1:
        names = " or ".join(f"{stem}{ending}" for ending in _TABLE_ENDINGS)
        raise InputError(f"{file}: expected one table {names} of the tiles of {slide.name}, found {len(found)}")
    return found[0]


def read_tile_table(path: Path, level: int) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.int64]]:
    """Tiles of a level from a table with columns ``col,row``, or ``l0_x,l0_y``, and perhaps ``level``.

    Exported tables of results are such, by their columns ``level``, ``col`` and ``row``. Of several levels, the rows of
    the one that is asked for count.

    Returns
    -------
    index, points
        int64 (N, 2) places in the level's grid, or int64 (M, 2) level-0 pixels; the other one is empty.

    Raises
    ------
    InputError
        Names the line: a column is missing, a value is no whole number; or no tile is of the level.
    """
    rows = read_csv(path, lambda rows: bool(rows) and _columns(rows[0]) is not None).rows
    columns = _columns(rows[0]) if rows else None
    if columns is None:
        raise InputError(
            f"{path}: names no tiles; expected a line of names with level,col,row or l0_x,l0_y, and a line a tile"
        )
    x, y, of_level = columns
    found = [
        (_whole(path, row, x, "place"), _whole(path, row, y, "place"))
        for row in rows[1:]
        if of_level is None or _whole(path, row, of_level, "level") == level
    ]
    if not found:
        raise InputError(f"{path}: has no tile of level {level}; say with --level of which level they are")
    places, none = np.array(found, np.int64), np.empty((0, 2), np.int64)
    names = [cell.strip().casefold() for cell in rows[0].cells]
    return (places, none) if names[x] == "col" else (none, places)


def _columns(header: Row) -> tuple[int, int, int | None] | None:
    """Where the table says x, y and the level; None where it does not."""
    names = [cell.strip().casefold() for cell in header.cells]
    for pair in _COLUMNS:
        if all(names.count(name) == 1 for name in pair):
            level = names.index("level") if names.count("level") == 1 else None
            return names.index(pair[0]), names.index(pair[1]), level
    return None


def _whole(path: Path, row: Row, column: int, what: str) -> int:
    text = row.cells[column].strip() if column < len(row.cells) else ""
    try:
        value = read_number(text)
    except ValueError:
        value = math.nan
    if not (math.isfinite(value) and value == int(value) and abs(value) < 1 << 40):
        raise InputError(f"{path}: line {row.line}: {what} {text!r:.40}: expected a whole number")
    return int(value)
