"""Results and runs from Python: what ``pyramidai_mpi.open_result`` and ``pyramidai_mpi.analyse`` are."""

from __future__ import annotations

import math
import tempfile
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from pyramidai_mpi.base.errors import UsageError
from pyramidai_mpi.base.settings import (
    TISSUE_METHODS,
    ModelChoice,
    Output,
    Regions,
    RunSettings,
    SlideInput,
    check_choice,
)
from pyramidai_mpi.base.types import Mode, index_keys
from pyramidai_mpi.export.last_look import read_last_look, tissue_rows
from pyramidai_mpi.models.shipped import default_model
from pyramidai_mpi.pyramid.tree import ExecutionTree
from pyramidai_mpi.run.run import run_slide
from pyramidai_mpi.store.results import reader
from pyramidai_mpi.store.results.summary import read_areas
from pyramidai_mpi.store.results.tables import iter_column, read_header, read_mask_rows, read_rows

if TYPE_CHECKING:
    import os
    from collections.abc import Mapping

    import numpy.typing as npt
    import pandas as pd
    from mpi4py import MPI

    from pyramidai_mpi.pyramid.tissue import Areas
    from pyramidai_mpi.store.results.result import LevelRecord
    from pyramidai_mpi.store.results.tables import Header


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


@dataclass(frozen=True)
class ResultLevel:
    """One level of a result; its tables are read when they are asked for, and kept.

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
    _file: reader.CheckedResult = field(repr=False)
    _folder: tempfile.TemporaryDirectory[str] | None = field(default=None, repr=False)  # lives as long as its file

    def __len__(self) -> int:
        return self.n_tiles

    @cached_property
    def tiles(self) -> npt.NDArray[np.void]:
        """All analysed tiles in row-major order, records of `tile_dtype`."""
        with self._file.open() as file:
            rows = read_rows(file, self.number, 0, self.n_tiles)
        tiles = np.empty(self.n_tiles, tile_dtype(len(self.classes)))
        tiles["col"], tiles["row"] = rows.index.T
        tiles["l0_x"], tiles["l0_y"] = rows.l0_coords.T
        tiles["l0_side"] = self.record.patch_size_level0
        tiles["probability"] = rows.probability
        tiles["decision"] = rows.decision
        tiles["parent"] = rows.parent
        return tiles

    @cached_property
    def features(self) -> npt.NDArray[np.float32] | None:
        """Feature vectors, float32 (N, F), rows as `tiles`; None when the run kept none."""
        if not self.record.n_features:
            return None
        with self._file.open() as file:
            return np.concatenate(
                [np.empty((0, self.record.n_features), np.float32), *iter_column(file, self.number, "features")]
            )

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
        """The tiles as a data frame with the columns of ``pyramidai export --csv``.

        Raises
        ------
        ImportError
            When pandas is not installed.
        """
        import pandas as pd

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
        return pd.DataFrame(columns)


@dataclass(frozen=True)
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

    @property
    def x_um(self) -> npt.NDArray[np.float64]:
        """Centres of the columns in µm from the slide's left edge, float64 (W,)."""
        return (np.arange(self.values.shape[1], dtype=np.float64) + 0.5) * self.spacing_um_px

    @property
    def y_um(self) -> npt.NDArray[np.float64]:
        """Centres of the rows in µm from the slide's upper edge, float64 (H,)."""
        return (np.arange(self.values.shape[0], dtype=np.float64) + 0.5) * self.spacing_um_px


@dataclass(frozen=True)
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
    _file: reader.CheckedResult = field(repr=False)
    _folder: tempfile.TemporaryDirectory[str] | None = field(default=None, repr=False)

    @property
    def path(self) -> Path:
        """The file."""
        return self._file.path

    @cached_property
    def tree(self) -> ExecutionTree:
        """All analysed tiles by level, as the run had them."""
        with self._file.open() as file:
            return ExecutionTree(reader.read_levels(file))

    @cached_property
    def tissue(self) -> npt.NDArray[np.bool_]:
        """Tissue mask, bool (H, W), `header.mask_downsample` level-0 pixels a pixel."""
        with self._file.open() as file:
            return read_mask_rows(file, 0, self.header.mask_shape[0])

    @cached_property
    def areas(self) -> Areas:
        """Tissue, and tissue within positive tiles of level 0, in mm²."""
        with self._file.open() as file:
            return read_areas(file, self.header)

    @cached_property
    def digest(self) -> str:
        """What ``pyramidai digest`` prints: equal results, equal digests."""
        with self._file.open() as file:
            return reader.digest_in(file)

    @property
    def summary(self) -> reader.ResultSummary:
        """What ``pyramidai info`` prints, and how the result came about."""
        with self._file.open() as file:
            return reader.read_summary(file)

    @property
    def warning(self) -> str:
        """What of the slide was not looked at: no tissue, nothing at level 0; empty for nothing."""
        return self.summary.warning

    def heatmap(self, spacing_um_px: float | None = None) -> Heatmap:
        """Score of the last look at every tissue pixel.

        Parameters
        ----------
        spacing_um_px
            µm per pixel of the heatmap; None takes the tissue mask's, the finest that tells all.

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
        with self._file.open() as file:
            score = read_last_look(file, header).scores(0, height, width, downsample)
            tissue = tissue_rows(file, header, 0, height, width, downsample)
        return Heatmap(np.where(tissue, score, np.float32(np.nan)), downsample * mpp)

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
            Level and record (of `tile_dtype`); None where no tile was analysed, as beside the slide.

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
            side = self.header.grid.l0_tile_side(number)
            place = self.levels[number].row_of(int(l0_x // side), int(l0_y // side))
            if place is not None:
                return number, self.levels[number].tiles[place]
        return None


def open_result(path: str | os.PathLike[str]) -> OpenResult:
    """Open a result file for looking at it with numpy or pandas.

    Parameters
    ----------
    path
        What ``pyramidai run`` wrote.

    Raises
    ------
    InputError
        When it is no complete, undamaged result.

    Examples
    --------
    >>> result = open_result("slide.h5")  # doctest: +SKIP
    >>> positive = result.levels[0].tiles["decision"] == 1  # doctest: +SKIP
    """
    return _opened(Path(path), None)


def _opened(path: Path, folder: tempfile.TemporaryDirectory[str] | None) -> OpenResult:
    checked = reader.CheckedResult.check(path)
    with checked.open() as file:
        header = read_header(file)
    levels = tuple(
        ResultLevel(number, record, header.model.classes, n_tiles, checked, folder)
        for number, (record, n_tiles) in enumerate(zip(header.levels, header.n_tiles, strict=True))
    )
    return OpenResult(header, levels, checked, folder)


def analyse(
    slide: str | os.PathLike[str],
    model: str | os.PathLike[str] | None = None,
    comm: MPI.Intracomm | None = None,
    *,
    output: str | os.PathLike[str] | None = None,
    overwrite: bool = False,
    mode: str = Mode.PYRAMID,
    thresholds: Mapping[int, float] | None = None,
    mpp: float | None = None,
    features: bool = False,
    backend: str = "onnxruntime",
    roi: str | os.PathLike[str] | None = None,
    exclude: str | os.PathLike[str] | None = None,
    tissue_mask: str | os.PathLike[str] | None = None,
    no_tissue: bool = False,
    tissue: str = TISSUE_METHODS[0],
    tissue_limit: float | None = None,
) -> OpenResult:
    """Analyse a slide in this process, by the code of ``pyramidai run`` and with the same result.

    Parameters
    ----------
    slide
        Any slide that OpenSlide reads.
    model
        Folder of a model package; None takes the shipped demonstration model.
    comm
        The ranks to share the work; collective over them. None uses this process alone.
    output
        Result file to write; None keeps it in a temporary folder for as long as the returned object or one of its
        levels lives.
    overwrite
        Replace an existing output.
    mode
        ``pyramid``, ``reference`` or ``exhaustive``.
    thresholds
        Replacements for the model's thresholds, by level.
    mpp
        µm per level-0 pixel, where the slide does not say or is wrong.
    features
        Keep the networks' feature vectors.
    backend
        ``onnxruntime``, ``openvino`` or ``auto``.
    roi, exclude
        Files of outlines that the analysis is restricted to, and that are left out of it.
    tissue_mask
        Image of the tissue, instead of finding it.
    no_tissue
        All of the slide is tissue.
    tissue
        How tissue is found: ``od`` or ``hsv-otsu``.
    tissue_limit
        Least optical density of tissue, with ``od``; None takes 0.03.

    Returns
    -------
    OpenResult
        On every rank.

    Raises
    ------
    PyramidError
        Whatever ``pyramidai run`` would end with, on every rank.
    """
    if comm is None:
        comm = _this_process()
    elif comm.size > 1 and output is None:
        raise UsageError("analyse on several ranks needs an output that all of them can read; give output=")
    check_choice("mode", mode, list(Mode))
    folder = tempfile.TemporaryDirectory(prefix="pyramidai-") if output is None else None
    target = Path(output) if output is not None else Path(folder.name if folder else "", Path(slide).stem + ".h5")
    settings = RunSettings(
        SlideInput(
            Path(slide),
            mpp,
            regions=Regions(_path(roi), _path(exclude), _path(tissue_mask), no_tissue),
            tissue=tissue,
            tissue_limit=tissue_limit,
        ),
        ModelChoice(
            default_model() if model is None else Path(model),
            dict(thresholds or {}),
            features=features,
            backend=backend,
        ),
        Output(target, overwrite, command_line="pyramidai_mpi.analyse"),
        mode=Mode(mode),
    )
    run_slide(comm, settings)
    return _opened(target, folder)


def _path(name: str | os.PathLike[str] | None) -> Path | None:
    return None if name is None else Path(name)


def _this_process() -> MPI.Intracomm:
    import mpi4py

    mpi4py.rc.thread_level = "funneled"  # without effect where MPI runs already
    from mpi4py import MPI

    return MPI.COMM_SELF
