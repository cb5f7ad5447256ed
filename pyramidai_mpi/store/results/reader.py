"""Reading result files."""

from __future__ import annotations

from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import h5py
import numpy as np

from pyramidai_mpi.base.errors import InputError
from pyramidai_mpi.base.types import Decision, index_keys
from pyramidai_mpi.pyramid.grid import Grid
from pyramidai_mpi.pyramid.rule import TileRule
from pyramidai_mpi.pyramid.tissue import TissueMap
from pyramidai_mpi.pyramid.tree import TreeLevel
from pyramidai_mpi.store.results.contents import check_objects
from pyramidai_mpi.store.results.result import FORMAT, FORMAT_VERSION, digest_of
from pyramidai_mpi.store.results.seal import check_seal

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping
    from pathlib import Path

    import numpy.typing as npt


@contextmanager
def open_result(path: Path) -> Iterator[h5py.File]:
    """Open a complete result file for reading.

    Raises
    ------
    InputError
        When it is missing, no HDF5 file, no result, of another format version or not complete, or lacks what is read.
    """
    if not path.is_file():
        raise InputError(f"{path}: no such result file; check the path")
    try:
        check_seal(path)
        file = h5py.File(path, "r")
    except OSError as error:
        raise InputError(f"{path}: not a readable HDF5 file: {error}") from error
    with file:
        try:
            _check_file(path, file)
            yield file
        except (KeyError, OSError, ValueError, TypeError, AttributeError, RuntimeError) as error:
            raise InputError(f"{path}: damaged result file: {error}") from error


def _check_file(path: Path, file: h5py.File) -> None:
    """See that it is a complete result of this format, and reaches nowhere else."""
    if file.attrs.get("format") != FORMAT:
        raise InputError(f"{path}: no result of this program: its format is {file.attrs.get('format')!r:.80}")
    if file.attrs.get("format_version") != FORMAT_VERSION:
        raise InputError(
            f"{path}: has format version {file.attrs.get('format_version')!r:.80}, expected {FORMAT_VERSION}"
        )
    if not file.attrs.get("complete"):
        raise InputError(f"{path}: is not complete; run the analysis again")
    try:
        check_objects(file)
    except InputError as error:
        raise InputError(f"{path}: {error}; do not trust it, run the analysis again") from error


def read_levels(file: h5py.File) -> dict[int, TreeLevel]:
    """The analysed tiles of every level, level 0 first.

    Raises
    ------
    InputError
        When they are no tree: tables of wrong types or lengths, rows out of order, a parent that is not there.
    """
    groups = file["levels"]
    n_classes = len(file["model"].attrs["classes"])
    levels: dict[int, TreeLevel] = {}
    n_parents = 0
    if set(groups) != {str(n) for n in range(len(groups))}:
        raise InputError(f"{file.filename}: has the levels {sorted(groups)}, expected 0..{len(groups) - 1}")
    for n in reversed(range(len(groups))):
        group = groups[str(n)]
        level = TreeLevel(
            index=_table(group, "index", np.dtype(np.uint32), (2,)),
            probability=_table(group, "probability", np.dtype(np.float32), (n_classes,)),
            decision=_table(group, "decision", np.dtype(np.uint8), ()),
            parent=_table(group, "parent", np.dtype(np.int64), ()),
        )
        first_parent = -1 if n == len(groups) - 1 else 0
        if (
            not len(level.index) == len(level.probability) == len(level.decision) == len(level.parent)
            or (np.diff(index_keys(level.index)) <= 0).any()
            or (level.decision > max(Decision)).any()
            or ((level.parent < min(first_parent, n_parents - 1)) | (level.parent >= n_parents)).any()
        ):
            raise InputError(f"{file.filename}: the tables of level {n} do not fit each other")
        levels[n] = level
        n_parents = len(level.index)
    return dict(sorted(levels.items()))


def _table(group: h5py.Group, name: str, dtype: np.dtype[Any], row: tuple[int, ...]) -> npt.NDArray[Any]:
    table = group[name]
    if table.dtype != dtype or table.ndim != len(row) + 1 or table.shape[1:] != row:
        raise InputError(
            f"{group.file.filename}: {table.name} is {table.dtype} {table.shape}, expected {dtype} (any, *{row})"
        )
    return np.asarray(table[...])


def read_rule(file: h5py.File) -> TileRule:
    """Which tiles exist on the slide of a result: its grids, its tissue, and the share that makes a root."""
    model, mask = file["model"].attrs, file["tissue/mask"]
    width, height = (int(side) for side in file["slide"].attrs["dimensions"])
    grid = Grid(
        l0_width=width,
        l0_height=height,
        tile_size=int(model["tile_size"]),
        scale_factor=int(model["scale_factor"]),
        n_levels=len(file["levels"]),
        base_downsample=float(file["levels/0"].attrs["downsample"]),
    )
    pixels_per_tile = round(grid.l0_tile_side(0) / float(mask.attrs["downsample"]))
    return TileRule(
        TissueMap(grid, mask[...].astype(bool), pixels_per_tile), float(file["execution"].attrs["min_tissue"])
    )


def read_level_seconds(file: h5py.File) -> npt.NDArray[np.float64] | None:
    """Working seconds of all ranks on each level, float64 (N,), level 0 first.

    None when the file does not tell: that of a cohort, whose slides share the ranks, or of a run that was resumed,
    whose earlier seconds are lost.
    """
    ranks = file["execution/ranks"][...]
    if "level_s" not in (ranks.dtype.names or ()) or file["execution"].attrs.get("tiles_from_journal", 0):
        return None
    seconds = np.asarray(ranks["level_s"].sum(axis=0)[: len(file["levels"])], np.float64)
    return seconds if seconds.sum() > 0 else None


def read_digest(path: Path) -> str:
    """The digest of a result file, computed from its content (see `store.results.result.digest_of`).

    Raises
    ------
    InputError
        When the file cannot be read, or its content is not that of which it was written.
    """
    with open_result(path) as file:
        levels = read_levels(file)
        digest = digest_of(
            str(file["slide"].attrs["quickhash"]),
            tuple(str(sha256) for sha256 in file["model"].attrs["level_sha256"]),
            [float(file[f"levels/{n}"].attrs["threshold"]) for n in levels],
            levels,
        )
        if digest != file.attrs["digest"]:
            raise InputError(
                f"{path}: its tables give the digest {digest[:16]}..., written was {file.attrs['digest']!s:.16}...; "
                "run the analysis again"
            )
        return digest


@dataclass(frozen=True)
class LevelSummary:
    """Tiles of one level by outcome."""

    level: int
    spacing_um_px: float
    threshold: float
    analysed: int
    zoomed: int
    unreadable: int


@dataclass(frozen=True)
class ResultSummary:
    """A result file in a few words."""

    slide: str
    l0_size: tuple[int, int]
    mpp: float
    model: str
    software_version: str
    created: str
    n_tiles_failed: int
    levels: tuple[LevelSummary, ...]
    execution: dict[str, Any]


def summarise(path: Path) -> ResultSummary:
    """Describe a result file."""
    with open_result(path) as file:
        levels = []
        for n in sorted(file["levels"], key=int):
            group = file["levels"][n]
            decision = group["decision"][...]
            levels.append(
                LevelSummary(
                    level=int(n),
                    spacing_um_px=float(group.attrs["spacing_um_px"]),
                    threshold=float(group.attrs["threshold"]),
                    analysed=len(decision),
                    zoomed=int(np.count_nonzero(decision == Decision.ZOOM)),
                    unreadable=int(np.count_nonzero(decision == Decision.UNREADABLE)),
                )
            )
        width, height = file["slide"].attrs["dimensions"]
        return ResultSummary(
            slide=str(file["slide"].attrs["name"]),
            l0_size=(int(width), int(height)),
            mpp=float(file["slide"].attrs["mpp"]),
            model=str(file["model"].attrs["name"]),
            software_version=str(file.attrs["software_version"]),
            created=str(file.attrs["created"]),
            n_tiles_failed=int(file.attrs["n_tiles_failed"]),
            levels=tuple(levels),
            execution=dict(file["execution"].attrs),
        )


@dataclass(frozen=True)
class ResultOrigin:
    """What a result was made from, as far as it says so; thresholds, hashes, widths level by level, level 0 first."""

    quickhash: str
    mpp: float
    level_sha256: tuple[str, ...]
    model_yaml: str
    positive_class: str
    stain: str
    thresholds: tuple[float, ...]
    feature_widths: tuple[int, ...]
    """Length of the feature vectors, 0 where none are kept."""
    tissue_method: str
    n_tiles_failed: int
    software_version: str
    mode: str
    execution: Mapping[str, Any]
    """Attributes of `/execution`, as Python's own types."""


def read_origin(path: Path) -> ResultOrigin:
    """What a result file was made from.

    Raises
    ------
    InputError
        As `open_result`.
    """
    with open_result(path) as file:
        levels = [file[f"levels/{n}"] for n in sorted(file["levels"], key=int)]
        model, execution = file["model"].attrs, file["execution"].attrs
        return ResultOrigin(
            quickhash=str(file["slide"].attrs["quickhash"]),
            mpp=float(file["slide"].attrs["mpp"]),
            level_sha256=tuple(str(sha256) for sha256 in model["level_sha256"]),
            model_yaml=str(model["yaml"]),
            positive_class=str(model["positive_class"]),
            stain=str(model["stain"]),
            thresholds=tuple(float(level.attrs["threshold"]) for level in levels),
            feature_widths=tuple(level["features"].shape[1] if "features" in level else 0 for level in levels),
            tissue_method=str(file["tissue/mask"].attrs["method"]),
            n_tiles_failed=int(file.attrs["n_tiles_failed"]),
            software_version=str(file.attrs["software_version"]),
            mode=str(execution["mode"]),
            execution={name: np.asarray(value).tolist() for name, value in execution.items()},
        )
