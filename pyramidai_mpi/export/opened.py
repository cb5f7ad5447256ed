"""A result file opened from Python: its levels as numpy records or data frames, its scores as a picture."""

from __future__ import annotations

import html
import math
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Any

import numpy as np

from pyramidai_mpi.base.errors import PyramidError, printable
from pyramidai_mpi.base.python_errors import UsageError, raised_in_python
from pyramidai_mpi.base.types import index_keys, outcome_names
from pyramidai_mpi.export.cell_look import CellLook, looks_of
from pyramidai_mpi.export.cells import is_dense
from pyramidai_mpi.export.last_look import tissue_rows
from pyramidai_mpi.export.shown import tile_columns
from pyramidai_mpi.export.window_table import read_windows, window_columns
from pyramidai_mpi.pyramid.tree import ExecutionTree
from pyramidai_mpi.store.results import reader
from pyramidai_mpi.store.results.dense import read_dense_map
from pyramidai_mpi.store.results.prediction import table_shapes
from pyramidai_mpi.store.results.summary import read_areas
from pyramidai_mpi.store.results.tables import iter_column, read_header, read_mask_rows, read_rows

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path
    from tempfile import TemporaryDirectory

    import numpy.typing as npt
    import pandas as pd

    from pyramidai_mpi.export.notebook import ResultScreen
    from pyramidai_mpi.pyramid.dense_map import DenseMap
    from pyramidai_mpi.pyramid.tissue import Areas
    from pyramidai_mpi.store.results.prediction import PredictionRecord
    from pyramidai_mpi.store.results.result import LevelRecord
    from pyramidai_mpi.store.results.tables import Header, ResultFile


_MOST_TILES = 1 << 32
"""Columns and rows are stored as 32 bits."""


def tile_dtype(n_classes: int) -> np.dtype[np.void]:
    """One analysed tile: place in the grid, corner and side in level-0 pixels, and what was found.

    Returns
    -------
    numpy.dtype
        Fields ``col``, ``row`` (u4), ``l0_x``, ``l0_y`` (i8), ``l0_side`` (i8), ``probability`` (f4, shape (C,), NaN
        where unreadable), ``decision`` (u1, see `types.Decision`) and ``parent`` (i8, row in the next coarser level, -1
        for none).
    """
    return np.dtype(
        [
            ("col", "<u4"),
            ("row", "<u4"),
            ("l0_x", "<i8"),
            ("l0_y", "<i8"),
            ("l0_side", "<i8"),
            ("probability", "<f4", (n_classes,)),
            ("decision", "u1"),
            ("parent", "<i8"),
        ]
    )


@dataclass(frozen=True, repr=False)
class ResultLevel:
    """One level of a result; its tables are read when they are asked for, and kept.

    Of a run with strides the tiles of the finest levels are blocks of windows, whose scores `windows` has.

    Attributes
    ----------
    number
        The level; 0 is the finest.
    record
        Geometry and threshold.
    classes
        Names of the classes.
    n_tiles
        Number of analysed tiles.
    """

    number: int
    record: LevelRecord
    classes: tuple[str, ...]
    n_tiles: int
    _file: reader.CheckedResult
    _folder: TemporaryDirectory[str] | None = None  # lives as long as its file
    _header: Header | None = None

    def __len__(self) -> int:
        return self.n_tiles

    def __repr__(self) -> str:
        record, block, stride = self.record, self.record.block, self.record.cell
        features = f", {record.n_features} features each" if record.n_features else ""
        said = f", threshold {record.threshold:g}, classes {', '.join(self.classes)}" if self.classes else ""
        tiles = "tiles" if block == 1 else f"blocks of {block} x {block} windows at stride {stride}"
        where = f"{tiles} at {record.spacing_um_px:.3g} µm/px"
        return printable(f"ResultLevel {self.number}: {self.n_tiles} {where}{said}{features}")

    @cached_property
    def tiles(self) -> npt.NDArray[np.void]:
        """All analysed tiles in row-major order, records of `tile_dtype`.

        Of blocks of windows, corner and side are those of all their windows together, and the probability is that of
        the window with the highest score.
        """
        with _reading(self._file) as file:
            rows = read_rows(file, self.number, 0, self.n_tiles)
        tiles = np.empty(self.n_tiles, tile_dtype(len(self.classes)))
        tiles["col"], tiles["row"] = rows.index.T
        tiles["l0_x"], tiles["l0_y"] = rows.l0_coords.T
        tiles["l0_side"] = self.record.patch_size_level0
        if self._header is not None and self.record.block > 1:
            tiles["l0_side"] = round(self._header.grid.region(self.number) * self.record.downsample)
        tiles["probability"] = rows.probability
        tiles["decision"] = rows.decision
        tiles["parent"] = rows.parent
        return tiles

    @cached_property
    def windows(self) -> npt.NDArray[np.void]:
        """All windows, records of `export.window_table.WINDOW_DTYPE`, block by block; of tiles that are one, these.

        A window that is also one of the coarser stride's is among both levels' (state 2). Cells that were left with
        the coarser score have none.
        """
        assert self._header is not None
        with _reading(self._file) as file:
            return read_windows(file, self._header, self.number)

    @cached_property
    def features(self) -> npt.NDArray[np.floating] | None:
        """Feature vectors, float32 or float16 (N, F), rows as `tiles`; None when the run kept none."""
        if not self.record.n_features:
            return None
        with _reading(self._file) as file:
            none = np.empty((0, self.record.n_features), self.record.feature_type)
            return np.concatenate([none, *iter_column(file, self.number, "features")])

    @cached_property
    def attention(self) -> npt.NDArray[np.float32] | None:
        """Attention of the slide's prediction, float32 (N, H), rows as `tiles`, NaN where unreadable; None for none."""
        return self._of_prediction("attention")

    @cached_property
    def contribution(self) -> npt.NDArray[np.float32] | None:
        """What each tile adds to the logits of the slide's prediction, float32 (N, C'), likewise."""
        return self._of_prediction("contribution")

    def _of_prediction(self, name: str) -> npt.NDArray[np.float32] | None:
        record = None if self._header is None else self._header.prediction
        if record is None or self.number:
            return None
        n_columns = {one: row[0] for one, _, row in table_shapes(record)}[name]
        with _reading(self._file) as file:
            return np.concatenate([np.empty((0, n_columns), np.float32), *iter_column(file, self.number, name)])

    def row_of(self, col: int, row: int) -> int | None:
        """Where the tile (col, row) stands in `tiles`; None where it was not analysed."""
        if not (0 <= col < _MOST_TILES and 0 <= row < _MOST_TILES):
            return None
        (key,) = index_keys(np.array([[col, row]], np.int64))
        place = int(np.searchsorted(self._keys, key))
        return place if place < self.n_tiles and self._keys[place] == key else None

    @cached_property
    def _keys(self) -> npt.NDArray[np.int64]:
        return index_keys(np.stack([self.tiles["col"], self.tiles["row"]], axis=1))

    def to_pandas(self) -> pd.DataFrame:
        """The tiles as a data frame with the columns of ``pyramidai export --csv``; of blocks, their windows.

        Raises
        ------
        ImportError
            When pandas is not installed.
        """
        try:
            import pandas as pd
        except ImportError as error:
            raise ImportError("to_pandas() needs pandas: pip install 'pyramidai-mpi[pandas]'") from error
        if self._header is not None and is_dense(self._header):
            return pd.DataFrame(window_columns(self.windows, self._header, self.number))
        tiles = self.tiles
        columns: dict[str, npt.NDArray[Any]] = {
            "minx": tiles["l0_x"],
            "miny": tiles["l0_y"],
            "width": tiles["l0_side"],
            "height": tiles["l0_side"],
        }
        columns |= {f"prob_{name}": tiles["probability"][:, i] for i, name in enumerate(self.classes)}
        columns |= {"level": np.full(len(tiles), self.number)}
        columns |= {name: tiles[name] for name in ("col", "row", "decision", "parent")}
        columns |= {"outcome": np.array(outcome_names(self.number), object)[tiles["decision"]]}
        if self._header is not None:
            with _reading(self._file) as file:
                columns |= tile_columns(file, self._header, self.number, 0, self.n_tiles)
        return pd.DataFrame(columns)


@dataclass(frozen=True, repr=False)
class Heatmap:
    """Scores on a regular grid.

    Attributes
    ----------
    values
        float32 (H, W); NaN where there is no tissue or no score.
    spacing_um_px
        µm per pixel.

    Examples
    --------
    With xarray::

        xarray.DataArray(h.values, coords={"y": h.y_um, "x": h.x_um}, dims=("y", "x"))
    """

    values: npt.NDArray[np.float32]
    spacing_um_px: float

    def __repr__(self) -> str:
        from pyramidai_mpi.export.notebook import describe_scores

        return describe_scores(self.values, self.spacing_um_px)

    def _repr_html_(self) -> str:
        from pyramidai_mpi.export.notebook import figure

        return figure(self.values, repr(self))

    def _repr_png_(self) -> bytes:
        from pyramidai_mpi.export.notebook import png

        return png(self.values)

    @property
    def x_um(self) -> npt.NDArray[np.float64]:
        """Centres of the columns in µm from the slide's left edge, float64 (W,)."""
        return (np.arange(self.values.shape[1], dtype=np.float64) + 0.5) * self.spacing_um_px

    @property
    def y_um(self) -> npt.NDArray[np.float64]:
        """Centres of the rows in µm from the slide's upper edge, float64 (H,)."""
        return (np.arange(self.values.shape[0], dtype=np.float64) + 0.5) * self.spacing_um_px


@dataclass(frozen=True, repr=False)
class OpenResult:
    """A result file, read as it is asked for.

    Its bytes are checked once, when it is opened. Whatever is asked for later is an `InputError` when the file has
    been changed or replaced since; open it again then.

    Attributes
    ----------
    header
        Slide, model and geometry.
    levels
        All levels, level 0 (the finest) first.
    """

    header: Header
    levels: tuple[ResultLevel, ...]
    _file: reader.CheckedResult
    _folder: TemporaryDirectory[str] | None = None

    def __repr__(self) -> str:
        try:
            return self._screen.text()
        except PyramidError as error:  # whoever looks at an object is to see what is wrong with it, not a traceback
            return printable(f"OpenResult of {self.path.name}, which cannot be read: {error}")

    def _repr_html_(self) -> str:
        from pyramidai_mpi.export.notebook import spacing_for_picture

        try:
            if self.header.is_of_encoder:
                return self._screen.html(None, "")
            scores = self.heatmap(spacing_for_picture(self.header)).values
            return self._screen.html(scores, self.header.model.positive_class)
        except PyramidError:
            return f"<pre>{html.escape(repr(self))}</pre>"

    @property
    def _screen(self) -> ResultScreen:
        from pyramidai_mpi.export.notebook import ResultScreen
        from pyramidai_mpi.export.summary import level_figures

        dense = None
        if is_dense(self.header):
            with _reading(self._file) as file:
                dense = [level_figures(file, self.header, n) for n in range(len(self.levels))]
        return ResultScreen.of(self.path, self.header, self.summary, self.areas, dense)

    @property
    def path(self) -> Path:
        """The file."""
        return self._file.path

    @cached_property
    def tree(self) -> ExecutionTree:
        """All analysed tiles by level, as the run had them."""
        with _reading(self._file) as file:
            return ExecutionTree(reader.read_levels(file))

    @cached_property
    def tissue(self) -> npt.NDArray[np.bool_]:
        """Tissue mask, bool (H, W), `header.mask_downsample` level-0 pixels a pixel."""
        with _reading(self._file) as file:
            return read_mask_rows(file, 0, self.header.mask_shape[0])

    @cached_property
    def areas(self) -> Areas:
        """Tissue, and tissue within positive tiles of level 0, in mm²."""
        with _reading(self._file) as file:
            return read_areas(file, self.header)

    @cached_property
    def digest(self) -> str:
        """What ``pyramidai digest`` prints: equal results, equal digests."""
        with _reading(self._file) as file:
            return reader.digest_in(file)

    @cached_property
    def summary(self) -> reader.ResultSummary:
        """What ``pyramidai info`` prints, and how the result came about."""
        with _reading(self._file) as file:
            return reader.read_summary(file)

    @property
    def prediction(self) -> PredictionRecord | None:
        """What the model's aggregator says of the slide; None of a model of tiles alone."""
        return self.header.prediction

    @property
    def warning(self) -> str:
        """What of the slide was not looked at: no tissue, nothing at level 0; empty for nothing."""
        return self.summary.warning

    def heatmap(self, spacing_um_px: float | None = None) -> Heatmap:
        """Score of the last look at every tissue pixel.

        Parameters
        ----------
        spacing_um_px
            µm per pixel of the heatmap; None takes the tissue mask's, the finest that tells all. Of a result with
            strides it is that of its cells: 4 µm of stride 16 at 0.25 µm/px; where pixels are larger, each has the
            highest score in it. How cells lie to the centres of windows says `dense_map`.

        Raises
        ------
        UsageError
            When the spacing is no number above 0.
        """
        header = self.header
        mpp, (l0_width, l0_height) = header.slide.mpp, header.slide.l0_size
        if spacing_um_px is None:
            downsample, (height, width) = header.mask_downsample, header.mask_shape
        elif math.isfinite(spacing_um_px) and spacing_um_px > 0:
            downsample = spacing_um_px / mpp
            width, height = math.ceil(l0_width / downsample), math.ceil(l0_height / downsample)
        else:
            raise UsageError(f"spacing {spacing_um_px}: expected a number of µm per pixel above 0")
        with _reading(self._file) as file:
            last_look = looks_of(file, header)
            if spacing_um_px is None and isinstance(last_look, CellLook):
                (height, width), downsample = last_look.shape, last_look.l0_tile_side
            score = last_look.scores(0, height, width, downsample)
            tissue = tissue_rows(file, header, 0, height, width, downsample)
        return Heatmap(np.where(tissue, score, np.float32(np.nan)), downsample * mpp)

    def dense_map(self) -> DenseMap:
        """Scores by cell of the finest stride, with the stride of each: what a sliding window gives.

        float32 and uint16 (rows, cols), `DenseMap.cell` pixels a cell; `DenseMap.l0_centres` says where scores belong.
        There are the windows of level 0's network alone, and no tissue mask is laid over them. Of a result without
        strides the cells are the tiles of level 0.
        """
        with _reading(self._file) as file:
            return read_dense_map(file)

    def tile_at(self, l0_x: float, l0_y: float, level: int | None = None) -> tuple[int, np.void] | None:
        """The finest analysed tile over a point, or the one of a given level.

        Parameters
        ----------
        l0_x, l0_y
            Level-0 pixel of the file.
        level
            Look at this level only.

        Returns
        -------
        tuple of int and numpy.void, or None
            Level and record (of `tile_dtype`); None where no tile was analysed, as beside the slide. Of a result with
            strides it may be a block of windows: the score of a place is in `dense_map`.

        Raises
        ------
        UsageError
            When the result has no such level, or the point is not finite.
        """
        if not (math.isfinite(l0_x) and math.isfinite(l0_y)):
            raise UsageError(f"point ({l0_x}, {l0_y}): expected two finite numbers of level-0 pixels")
        if level is not None and level not in range(len(self.levels)):
            raise UsageError(f"level {level}: {self.path} has levels 0 to {len(self.levels) - 1}")
        for number in range(len(self.levels)) if level is None else [level]:
            side = self.header.grid.l0_side(number)
            place = self.levels[number].row_of(int(l0_x // side), int(l0_y // side))
            if place is not None:
                return number, self.levels[number].tiles[place]
        return None


def opened(path: Path, folder: TemporaryDirectory[str] | None = None) -> OpenResult:
    """Open a result file, which lies in a temporary `folder` that goes with it, or not.

    Raises
    ------
    InputError
        When it is no complete, undamaged result.
    """
    with raised_in_python(path):
        checked = reader.CheckedResult.check(path)
    with _reading(checked) as file:
        header = read_header(file)
    levels = tuple(
        ResultLevel(number, record, header.model.classes, n_tiles, checked, folder, header)
        for number, (record, n_tiles) in enumerate(zip(header.levels, header.n_tiles, strict=True))
    )
    return OpenResult(header, levels, checked, folder)


@contextmanager
def _reading(checked: reader.CheckedResult) -> Iterator[ResultFile]:
    """The open file; what goes wrong with it is said as to Python code."""
    with raised_in_python(checked.path), checked.open() as file:
        yield file
