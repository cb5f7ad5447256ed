"""Reading result files."""

from __future__ import annotations

from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import h5py
import numpy as np

from pyramidai_mpi.base.errors import InputError, UsageError, hdf5_errors, printable
from pyramidai_mpi.base.part import Part
from pyramidai_mpi.base.types import Decision
from pyramidai_mpi.pyramid.looked_at import warning_of
from pyramidai_mpi.pyramid.rule import TileRule
from pyramidai_mpi.pyramid.tissue import TissueMap
from pyramidai_mpi.pyramid.tree import TreeLevel
from pyramidai_mpi.store.results.check import check_content
from pyramidai_mpi.store.results.contents import check_objects
from pyramidai_mpi.store.results.feature_digest import ATTRIBUTE as FEATURES_DIGEST
from pyramidai_mpi.store.results.feature_digest import checked_digest_of_features
from pyramidai_mpi.store.results.prediction import TILE_TABLES, prediction_digest
from pyramidai_mpi.store.results.result import (
    FORMAT,
    FORMAT_VERSION,
    PART_FORMAT,
    PartRecord,
    digest_of_blocks,
    hashed_tables,
)
from pyramidai_mpi.store.results.seal import check_seal
from pyramidai_mpi.store.results.tables import (
    count_decisions,
    damage_is_named,
    iter_column,
    names_damage,
    read_execution,
    read_header,
    read_mask_rows,
    read_min_tissue,
    read_mode,
)

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping
    from contextlib import AbstractContextManager
    from pathlib import Path

    from pyramidai_mpi.store.results.tables import Header, ResultFile


@dataclass(frozen=True)
class CheckedResult:
    """A result file whose seal and content have been checked: it may be opened again and again, and is hashed once.

    Attributes
    ----------
    path
        The result file.
    """

    path: Path
    _stamp: tuple[int, ...] = field(repr=False)
    _may_be_part: bool = field(default=False, repr=False)

    @classmethod
    def check(cls, path: Path, *, may_be_part: bool = False) -> CheckedResult:
        """See that a file is what was sealed, and that what it says can be true.

        Parameters
        ----------
        may_be_part
            Whether a part of a result will do (see `read_part`).

        Raises
        ------
        InputError
            When it is missing, no HDF5 file, no result, was changed after it was written, or holds sizes, numbers or
            rows that do not fit each other.
        """
        if not path.is_file():
            raise InputError(f"{path}: no such result file; check the path")
        with hdf5_errors(path):
            stamp = _stamp_of(path)  # before its bytes are read, so that a change in between shows
            check_seal(path)
        checked = cls(path, stamp, may_be_part)
        with checked.open() as file:
            check_content(file)
        return checked

    @contextmanager
    def open(self) -> Iterator[ResultFile]:
        """Open it for reading; what goes wrong in the caller's own lines is the caller's.

        Raises
        ------
        InputError
            When it has another size, time of change or place on the disk than when it was checked, or is no complete
            result of this format version.
        """
        with hdf5_errors(self.path):
            if _stamp_of(self.path) != self._stamp:
                raise InputError(f"{self.path}: was changed since it was opened; open it again")
            file = h5py.File(self.path, "r")
        with file:
            _check_file(file, self.path, may_be_part=self._may_be_part)
            yield file


def _stamp_of(path: Path) -> tuple[int, ...]:
    """What tells a file from another one, and from itself before a change."""
    status = path.stat()
    return status.st_dev, status.st_ino, status.st_size, status.st_mtime_ns


def open_result(path: Path, *, may_be_part: bool = False) -> AbstractContextManager[ResultFile]:
    """Check a complete result file, or if that will do a part of one, and open it for reading.

    Raises
    ------
    InputError
        As `CheckedResult.check` and `CheckedResult.open`.
    """
    return CheckedResult.check(path, may_be_part=may_be_part).open()


def format_of(path: Path) -> str:
    """What a sealed file says that it holds, before more of it is looked at.

    Raises
    ------
    InputError
        When it is missing, no HDF5 file, or was changed after it was written.
    """
    if not path.is_file():
        raise InputError(f"{path}: no such file; check the path")
    with hdf5_errors(path):
        check_seal(path)
        with h5py.File(path, "r") as file, damage_is_named(file):
            return str(file.attrs.get("format"))


@names_damage
def _check_file(file: ResultFile, path: Path, *, may_be_part: bool) -> None:
    """See that it is a complete result of this format, and reaches nowhere else."""
    is_part = file.attrs.get("format") == PART_FORMAT
    if is_part and not may_be_part:
        raise InputError(f"{path}: is a part of a result; join all of them first: pyramidai merge")
    if not is_part and file.attrs.get("format") != FORMAT:
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


@names_damage
def read_levels(file: ResultFile) -> dict[int, TreeLevel]:
    """The analysed tiles of every level, level 0 first.

    Raises
    ------
    InputError
        When they cannot be read.
    """
    return {
        n: TreeLevel(
            **{
                name: file[f"levels/{n}/{name}"][...]
                for name in ("index", "probability", "decision", "parent", "score", "state")
                if name in file[f"levels/{n}"]
            }
        )
        for n in range(len(file["levels"]))
    }


@names_damage
def read_rule(file: ResultFile) -> TileRule:
    """Which tiles exist on the slide of a result: its grids, its tissue, and the share that makes a root.

    Raises
    ------
    InputError
        When the result does not say.
    """
    header = read_header(file)
    pixels_per_tile = round(header.grid.l0_side(0) / header.mask_downsample)
    mask = read_mask_rows(file, 0, header.mask_shape[0])
    return TileRule(TissueMap(header.grid, mask, pixels_per_tile), read_min_tissue(file))


@names_damage
def read_part(file: ResultFile) -> PartRecord | None:
    """Which part of a file an open one is; None for a whole one.

    Raises
    ------
    InputError
        When it says so of itself and does not say which.
    """
    if "part" not in file:
        return None
    attributes = file["part"].attrs
    try:
        return PartRecord(Part(int(attributes["number"]), int(attributes["of"])), str(attributes["facts"]))
    except UsageError as error:
        raise ValueError(f"it claims to be part {attributes['number']} of {attributes['of']}") from error


def read_digest(path: Path, *, may_be_part: bool = False, with_features: bool = True) -> str:
    """The digest of a result file, or if that will do of a part of one; see `digest_in`.

    Where an encoder gave its features, that is `digest_of_features`, unless `with_features` is not set.

    Raises
    ------
    InputError
        As `open_result` and `digest_in`.
    """
    with open_result(path, may_be_part=may_be_part) as file:
        digest, header = digest_in(file), read_header(file)
        return checked_digest_of_features(file, header) if with_features and header.has_encoded else digest


def stated_digest(file: ResultFile, header: Header) -> str:
    """What `read_digest` gives, but features are not read again for it: the file's seal has been checked.

    Raises
    ------
    InputError
        The tables are not those of which it was written.
    """
    digest = digest_in(file)
    return str(file.attrs.get(FEATURES_DIGEST)) if header.has_encoded else digest


def read_stated_digest(path: Path) -> str:
    """The digest of features as a file says it that was just written and sealed.

    Raises
    ------
    InputError
        It cannot be read.
    """
    with hdf5_errors(path), h5py.File(path, "r") as file, damage_is_named(file):
        return str(file.attrs[FEATURES_DIGEST])


def digest_in(file: ResultFile) -> str:
    """The digest of an open result, computed from its content (see `store.results.result.digest_of`).

    Raises
    ------
    InputError
        When its content cannot be read, or is not that of which it was written.
    """
    header = read_header(file)
    tables = (
        (n_tiles, [iter_column(file, n, name) for name, _ in hashed_tables(header.levels[n])])
        for n, n_tiles in enumerate(header.n_tiles)
    )
    digest = digest_of_blocks(header.slide.quickhash, header.model.level_sha256, header.levels, tables)
    if digest != header.digest:
        written = printable(str(header.digest))
        raise InputError(
            f"{file.filename}: its tables give the digest {digest[:16]}..., written was {written:.16}...; "
            "run the analysis again"
        )
    if header.prediction is not None:
        found = prediction_digest(digest, header.prediction, (iter_column(file, 0, name) for name in TILE_TABLES))
        if found != header.prediction.digest:
            raise InputError(
                f"{file.filename}: its prediction gives the digest {found[:16]}..., written was "
                f"{printable(header.prediction.digest):.16}...; run the analysis again"
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
    intended_use: str | None = None

    @property
    def warning(self) -> str:
        """What was not looked at, see `pyramid.looked_at.warning_of`; empty for nothing."""
        return warning_of([level.analysed for level in self.levels], [level.unreadable for level in self.levels])


def summarise(path: Path) -> ResultSummary:
    """Describe a result file; see `read_summary`.

    Raises
    ------
    InputError
        As `open_result` and `read_summary`.
    """
    with open_result(path) as file:
        return read_summary(file)


def read_summary(file: ResultFile) -> ResultSummary:
    """Describe an open result.

    Raises
    ------
    InputError
        When it is damaged.
    """
    header = read_header(file)
    levels = []
    for n, record in enumerate(header.levels):
        counts = count_decisions(file, n)
        levels.append(
            LevelSummary(
                level=n,
                spacing_um_px=record.spacing_um_px,
                threshold=record.threshold,
                analysed=int(counts.sum()),
                zoomed=int(counts[Decision.ZOOM]),
                unreadable=int(counts[Decision.UNREADABLE]),
            )
        )
    return ResultSummary(
        slide=header.slide.name,
        l0_size=header.slide.l0_size,
        mpp=header.slide.mpp,
        model=header.model.name,
        software_version=header.software_version,
        created=header.created,
        n_tiles_failed=header.n_tiles_failed,
        levels=tuple(levels),
        execution=dict(read_execution(file).attributes),
        intended_use=header.model.intended_use,
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
    feature_type: str
    encoder_sha256: str
    """Of the encoder beside the model; empty where there was none, like the next."""
    encoder_yaml: str
    tissue_method: str
    n_tiles_failed: int
    software_version: str
    mode: str
    execution: Mapping[str, Any]
    """Attributes of `/execution`, as Python's own types."""


def read_origin(path: Path, *, may_be_part: bool = False) -> ResultOrigin:
    """What a result file, or if that will do a part of one, was made from.

    Raises
    ------
    InputError
        As `open_result`, and when the result does not say.
    """
    with open_result(path, may_be_part=may_be_part) as file:
        header, execution = read_header(file), read_execution(file)
        return ResultOrigin(
            quickhash=header.slide.quickhash,
            mpp=header.slide.mpp,
            level_sha256=header.model.level_sha256,
            model_yaml=header.model.yaml_text,
            positive_class=header.model.positive_class,
            stain=header.model.stain,
            thresholds=tuple(level.threshold for level in header.levels),
            feature_widths=tuple(level.n_features for level in header.levels),
            feature_type=header.levels[0].feature_type,
            encoder_sha256="" if header.encoder is None else header.encoder.level_sha256[0],
            encoder_yaml="" if header.encoder is None else header.encoder.yaml_text,
            tissue_method=header.tissue_method,
            n_tiles_failed=header.n_tiles_failed,
            software_version=str(file.attrs["software_version"]),
            mode=str(read_mode(file)),
            execution={name: np.asarray(value).tolist() for name, value in execution.attributes.items()},
        )
