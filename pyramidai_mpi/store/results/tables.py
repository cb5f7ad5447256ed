"""A stored result piece by piece: its description, and the rows of its levels in blocks of bounded size."""

from __future__ import annotations

import math
from contextlib import contextmanager
from dataclasses import dataclass
from functools import wraps
from typing import TYPE_CHECKING, Any, Concatenate, ParamSpec, TypeAlias, TypeVar

import h5py
import numpy as np

from pyramidai_mpi.base.errors import InputError, failed_read
from pyramidai_mpi.base.types import Decision, Mode
from pyramidai_mpi.pyramid.grid import Grid, GridLevel
from pyramidai_mpi.store.results.prediction import read_prediction_record
from pyramidai_mpi.store.results.records import read_level_record, read_model_record, read_slide_record
from pyramidai_mpi.store.results.result import Execution

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    import numpy.typing as npt

    from pyramidai_mpi.store.results.prediction import PredictionRecord
    from pyramidai_mpi.store.results.result import LevelRecord, ModelRecord, SlideRecord

ResultFile: TypeAlias = h5py.File
"""An open result, as `store.results.reader.open_result` gives it."""

BLOCK_ROWS = 65536
_BLOCK_BYTES = 1 << 26

_Arguments = ParamSpec("_Arguments")
_Found = TypeVar("_Found")


@dataclass(frozen=True)
class Header:
    """What a result says beside its tiles.

    Attributes
    ----------
    slide, model, levels
        As in `store.results.result.Result`.
    n_tiles
        Analysed tiles of each level, level 0 first.
    mask_shape
        Height and width of the tissue mask.
    mask_downsample
        Level-0 pixels per mask pixel.
    tissue_method
        Name of the method that found the tissue.
    software_version, created
        Version of the program that wrote it, and when, in ISO 8601.
    n_tiles_failed
        Unreadable tiles.
    digest
        What was written as the digest of its content; None in a file of the first versions, which wrote none.
    prediction
        What the model's aggregator says of the slide; None where it has none.
    encoder
        What gave the features of level 0 beside the model; None where nothing did.
    """

    slide: SlideRecord
    model: ModelRecord
    levels: tuple[LevelRecord, ...]
    n_tiles: tuple[int, ...]
    mask_shape: tuple[int, int]
    mask_downsample: float
    tissue_method: str
    software_version: str
    created: str
    n_tiles_failed: int
    digest: str | None
    prediction: PredictionRecord | None = None
    encoder: ModelRecord | None = None

    @property
    def is_of_encoder(self) -> bool:
        """Whether the model is an encoder, which gives features and no scores."""
        return not self.model.classes

    @property
    def has_encoded(self) -> bool:
        """Whether an encoder gave features, as the model or beside it: then the file has a digest of them."""
        return self.is_of_encoder or self.encoder is not None

    @property
    def grid(self) -> Grid:
        """Tile geometry."""
        width, height = self.slide.l0_size
        if any(level.cell is not None for level in self.levels):
            return Grid(
                width,
                height,
                self.model.tile_size,
                tuple(
                    GridLevel(level.downsample, level.cell or self.model.tile_size, level.block, level.margin)
                    for level in self.levels
                ),
                self.levels[0].base,
            )
        return Grid.of_tiles(
            width,
            height,
            self.model.tile_size,
            self.model.scale_factor,
            len(self.levels),
            self.levels[0].downsample,
        )

    @property
    def score_column(self) -> int:
        """Column of the positive class among the probabilities.

        Raises
        ------
        InputError
            When the positive class is none of the classes, as of an encoder, which has none.
        """
        if self.is_of_encoder:
            raise InputError(
                f"the result of {self.slide.name}: is of the encoder {self.model.name}, which gives features and no "
                "scores; use a result of a classifier, or for features `export --clam`"
            )
        if self.model.positive_class not in self.model.classes:
            raise InputError(f"a result's positive class {self.model.positive_class!r:.80} is none of its classes")
        return self.model.classes.index(self.model.positive_class)


def model_in_words(header: Header) -> str:
    """What the model of a result gives, for people."""
    if header.is_of_encoder:
        return f"encoder, {header.levels[0].n_features} features a tile ({header.levels[0].feature_type})"
    return f"{', '.join(header.model.classes)}; positive: {header.model.positive_class}"


@dataclass(frozen=True)
class TileRows:
    """Consecutive rows of one level.

    Attributes
    ----------
    level
        The level.
    first_row
        Row of the first of them in the level's tables.
    l0_coords
        int64 (n, 2): l0_x, l0_y of the top-left corners.
    index
        uint32 (n, 2): col, row.
    probability
        float32 (n, C), NaN where unreadable.
    decision
        uint8 (n,), values of `types.Decision`.
    parent
        int64 (n,): row in the next coarser level, -1 where there is none.
    """

    level: int
    first_row: int
    l0_coords: npt.NDArray[np.int64]
    index: npt.NDArray[np.uint32]
    probability: npt.NDArray[np.float32]
    decision: npt.NDArray[np.uint8]
    parent: npt.NDArray[np.int64]

    def __len__(self) -> int:
        return len(self.index)


@contextmanager
def damage_is_named(file: ResultFile) -> Iterator[None]:
    """Turn what HDF5 says of a result that cannot be read into one line for the user.

    It stands around reading alone: what goes wrong in the lines of whoever reads, or in writing, is no damage.

    Raises
    ------
    InputError
        Instead of what HDF5, or a value that makes no sense, raises.
    StorageError
        The disk fails.
    """
    try:
        yield
    except (LookupError, OSError, ValueError, TypeError, AttributeError, RuntimeError, ArithmeticError) as error:
        raise failed_read(file.filename, error) or InputError(
            f"{file.filename}: damaged result file: {error!s:.300}"
        ) from error


def names_damage(
    read: Callable[Concatenate[ResultFile, _Arguments], _Found],
) -> Callable[Concatenate[ResultFile, _Arguments], _Found]:
    """Give a function that reads an open result, its first argument, the errors of `damage_is_named`."""

    @wraps(read)
    def reading(file: ResultFile, /, *args: _Arguments.args, **kwargs: _Arguments.kwargs) -> _Found:
        with damage_is_named(file):
            return read(file, *args, **kwargs)

    return reading


@names_damage
def read_header(file: ResultFile) -> Header:
    """Read the description of an open result.

    Raises
    ------
    InputError
        When parts of it are missing.
    """
    mask = file["tissue/mask"]
    groups = [file["levels"][n] for n in sorted(file["levels"], key=int)]
    if not groups:
        raise InputError(f"{file.filename}: has no levels")
    return Header(
        slide=read_slide_record(file),
        model=read_model_record(file),
        levels=tuple(read_level_record(group) for group in groups),
        n_tiles=tuple(len(group["index"]) for group in groups),
        mask_shape=(int(mask.shape[0]), int(mask.shape[1])),
        mask_downsample=float(mask.attrs["downsample"]),
        tissue_method=str(mask.attrs["method"]),
        software_version=str(file.attrs["software_version"]),
        created=str(file.attrs["created"]),
        n_tiles_failed=int(file.attrs["n_tiles_failed"]),
        digest=str(file.attrs["digest"]) if "digest" in file.attrs else None,
        prediction=read_prediction_record(file),
        encoder=read_model_record(file, "encoder") if "encoder" in file else None,
    )


@names_damage
def read_rows(file: ResultFile, level: int, first: int, last: int) -> TileRows:
    """Rows `first` to `last` (excluded) of a level.

    Raises
    ------
    InputError
        When they cannot be read.
    """
    group = file[f"levels/{level}"]
    return TileRows(
        level,
        first,
        l0_coords=group["coords"][first:last],
        index=group["index"][first:last],
        probability=group["probability"][first:last],
        decision=group["decision"][first:last],
        parent=group["parent"][first:last],
    )


def iter_rows(file: ResultFile, level: int, block_rows: int = BLOCK_ROWS) -> Iterator[TileRows]:
    """All rows of a level, a block at a time.

    Raises
    ------
    InputError
        When they cannot be read.
    """
    n_rows = _length(file, level)
    block_rows = _within_memory(file, level, "probability", block_rows)
    for first in range(0, n_rows, block_rows):
        yield read_rows(file, level, first, min(first + block_rows, n_rows))


def iter_column(file: ResultFile, level: int, name: str, block_rows: int = BLOCK_ROWS) -> Iterator[npt.NDArray[Any]]:
    """One table of a level, a block at a time.

    Raises
    ------
    InputError
        When it cannot be read.
    """
    block_rows = _within_memory(file, level, name, block_rows)
    for first in range(0, _length(file, level), block_rows):
        with damage_is_named(file):  # around the reading alone: an error of whoever takes the block is not the file's
            block = file[f"levels/{level}/{name}"][first : first + block_rows]
        yield block


def iter_cells(
    file: ResultFile, level: int
) -> Iterator[tuple[npt.NDArray[np.uint32], npt.NDArray[np.float32], npt.NDArray[np.uint8]]]:
    """Column and row of the blocks of a level, uint32 (n, 2), with their `TreeLevel.score` and `TreeLevel.state`.

    Raises
    ------
    InputError
        When they cannot be read.
    """
    block_rows = _within_memory(file, level, "score", BLOCK_ROWS)
    columns = (iter_column(file, level, name, block_rows) for name in ("index", "score", "state"))
    yield from zip(*columns, strict=True)


@names_damage
def read_mask_rows(file: ResultFile, top: int, bottom: int) -> npt.NDArray[np.bool_]:
    """Rows `top` to `bottom` (excluded) of the tissue mask, bool.

    Raises
    ------
    InputError
        When they cannot be read.
    """
    rows = file["tissue/mask"][top:bottom]
    tissue: npt.NDArray[np.bool_] = rows.view(np.bool_)
    np.not_equal(rows, 0, out=tissue)  # in place, as a large slide's mask is hundreds of MB
    return tissue


@names_damage
def read_execution(file: ResultFile) -> Execution:
    """How an open result came about; batches are empty where the file does not tell.

    Raises
    ------
    InputError
        When it cannot be read.
    """
    group = file["execution"]
    facts = {name: value.item() if isinstance(value, np.generic) else value for name, value in group.attrs.items()}
    ranks = group["ranks"][...]
    return Execution(facts, ranks, group["batches"][...]) if "batches" in group else Execution(facts, ranks)


@names_damage
def read_mode(file: ResultFile) -> Mode:
    """How the run of an open result went through the levels.

    Raises
    ------
    InputError
        When it does not say.
    """
    return Mode(str(file["execution"].attrs["mode"]))


@names_damage
def read_min_tissue(file: ResultFile) -> float:
    """Share of tissue from which a tile of the highest level was a root.

    Raises
    ------
    InputError
        When the result does not say.
    """
    return float(file["execution"].attrs["min_tissue"])


@names_damage
def read_level_seconds(file: ResultFile) -> npt.NDArray[np.float64] | None:
    """Working seconds of all ranks on each level, float64 (N,), level 0 first.

    None when the file does not tell, as that of a run that was resumed, whose earlier seconds are lost.

    Raises
    ------
    InputError
        When they cannot be read.
    """
    execution = read_execution(file)
    if "level_s" not in (execution.ranks.dtype.names or ()) or execution.attributes.get("tiles_from_journal", 0):
        return None
    seconds = np.asarray(execution.ranks["level_s"].sum(axis=0)[: len(file["levels"])], np.float64)
    return seconds if seconds.sum() > 0 else None


def count_decisions(file: ResultFile, level: int) -> npt.NDArray[np.int64]:
    """Tiles of a level by decision, int64 (3,), indexed by `types.Decision`.

    Raises
    ------
    InputError
        When they cannot be read.
    """
    counts = np.zeros(len(Decision), np.int64)
    for decision in iter_column(file, level, "decision"):
        counts += np.bincount(decision, minlength=len(Decision))[: len(Decision)]
    return counts


@names_damage
def _within_memory(file: ResultFile, level: int, name: str, block_rows: int) -> int:
    """At most so many rows, and fewer of a wide table."""
    table = file[f"levels/{level}/{name}"]
    row_bytes: int = table.dtype.itemsize * math.prod(table.shape[1:])
    return max(1, min(block_rows, _BLOCK_BYTES // max(1, row_bytes)))


@names_damage
def _length(file: ResultFile, level: int) -> int:
    return len(file[f"levels/{level}/index"])
