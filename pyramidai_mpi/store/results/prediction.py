"""What the aggregator of a model package says of a whole slide: ``/slide_prediction`` of a result, and two tables.

Beside the result, not within it: the digest of a result is that of its tiles, and the prediction has its own.
"""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from pyramidai_mpi.base.types import Decision

if TYPE_CHECKING:
    from collections.abc import Iterable

    import h5py
    import numpy.typing as npt

GROUP = "slide_prediction"
TILE_TABLES = ("attention", "contribution")
"""Tables of level 0."""

TASKS = ("binary", "classes", "share", "survival")
_MOST_COLUMNS = 1000
_TOLERANCE = 1e-3


@dataclass(frozen=True)
class PredictionRecord:
    """What is said of a slide, without what its tiles had to do with it.

    Attributes
    ----------
    task
        One of `TASKS`.
    method
        How tiles became a slide: ``abmil``, ``mean``, ``transformer``.
    sha256
        Of the aggregator's network.
    classes
        Names of the numbers of `prediction`.
    n_tiles
        Tiles of level 0 that it was made of: the readable ones.
    prediction
        float32 (C,); NaN where there is none, as of a slide without readable tiles.
    logits
        float64 (C',): what comes before the last sigmoid or softmax, the sum of all contributions and `constant`.
    constant
        float32 (C',).
    n_attentions
        Columns H of the table of attention.
    digest
        See `prediction_digest`; empty until it is written.
    """

    task: str
    method: str
    sha256: str
    classes: tuple[str, ...]
    n_tiles: int
    prediction: npt.NDArray[np.float32]
    logits: npt.NDArray[np.float64]
    constant: npt.NDArray[np.float32]
    n_attentions: int
    digest: str = ""

    @property
    def logit_names(self) -> tuple[str, ...]:
        """Names of the columns of contribution: of a single one of task ``binary`` the positive class."""
        return self.classes if len(self.logits) == len(self.classes) else self.classes[-1:]

    @property
    def attention_names(self) -> tuple[str, ...]:
        """Names of the columns of attention: those of the classes where there are as many, else numbers."""
        if self.n_attentions == len(self.classes) > 1:
            return self.classes
        return tuple(str(n) for n in range(self.n_attentions))

    @property
    def words(self) -> str:
        """The prediction for people."""
        if not self.n_tiles:
            return "no prediction, as no tile of level 0 was read"
        values = [f"{name} {value:.4g}" for name, value in zip(self.classes, self.prediction.tolist(), strict=True)]
        if self.task == "binary":
            return values[1]
        if self.task == "classes":
            order = np.argsort(-self.prediction, kind="stable")
            return ", ".join(values[n] for n in order)
        return f"{'share of' if self.task == 'share' else 'risk,'} {values[0]}"


@dataclass(frozen=True)
class SlidePrediction:
    """A slide's prediction with the part of each tile of level 0, rows as in its tables; NaN where unreadable.

    Attributes
    ----------
    record
        What is said of the slide.
    attention
        float32 (N, H).
    contribution
        float32 (N, C').
    """

    record: PredictionRecord
    attention: npt.NDArray[np.float32]
    contribution: npt.NDArray[np.float32]

    def digest(self, result_digest: str) -> str:
        """See `prediction_digest`."""
        return prediction_digest(result_digest, self.record, [[self.attention], [self.contribution]])


def prediction_digest(
    result_digest: str, record: PredictionRecord, tables: Iterable[Iterable[npt.NDArray[np.float32]]]
) -> str:
    """SHA-256 over what is said of a slide, equal whatever the ranks that computed it.

    Parameters
    ----------
    result_digest
        Of the result.
    record
        Its prediction.
    tables
        Attention and contribution in blocks of rows.

    Returns
    -------
    str
        64 hexadecimal digits. Hashed are, each ended by a newline, the text ``pyramidai-prediction/1``, the digest of
        the result, the aggregator's hash, and as a line of JSON task, method, classes and number of tiles; then the
        bytes, little-endian, of prediction, logits, constant, attention and contribution.
    """
    facts = json.dumps([record.task, record.method, list(record.classes), record.n_tiles], separators=(",", ":"))
    digest = hashlib.sha256("\n".join(["pyramidai-prediction/1", result_digest, record.sha256, facts, ""]).encode())
    for values, dtype in ((record.prediction, "<f4"), (record.logits, "<f8"), (record.constant, "<f4")):
        digest.update(np.ascontiguousarray(values, dtype).data)
    for blocks in tables:
        for block in blocks:
            digest.update(np.ascontiguousarray(block, "<f4").data)
    return digest.hexdigest()


def write_prediction(file: h5py.File, prediction: SlidePrediction, result_digest: str) -> None:
    """Add the group; the tables of level 0 are written with its others."""
    record, group = prediction.record, file.create_group(GROUP)
    group.attrs.update(
        task=record.task,
        method=record.method,
        aggregator_sha256=record.sha256,
        classes=list(record.classes),
        n_tiles=record.n_tiles,
        digest=prediction.digest(result_digest),
    )
    group.create_dataset("prediction", data=record.prediction)
    group.create_dataset("logits", data=record.logits)
    group.create_dataset("constant", data=record.constant)


def read_prediction_record(file: h5py.File) -> PredictionRecord | None:
    """What an open result says of its slide; None where it is of tiles alone. Raises whatever damage makes HDF5 raise.

    Raises
    ------
    ValueError
        When it says what no prediction is.
    """
    if GROUP not in file:
        return None
    group, attributes = file[GROUP], file[GROUP].attrs
    tables = {name: group[name] for name in ("prediction", "logits", "constant")}
    for name, table in tables.items():
        dtype = np.float64 if name == "logits" else np.float32
        if table.dtype != dtype or table.ndim != 1 or not 1 <= len(table) <= _MOST_COLUMNS:
            raise ValueError(f"{GROUP}/{name} is {table.dtype} {table.shape}")
    classes = tuple(str(name) for name in attributes["classes"])
    record = PredictionRecord(
        task=str(attributes["task"]),
        method=str(attributes["method"]),
        sha256=str(attributes["aggregator_sha256"]),
        classes=classes,
        n_tiles=int(attributes["n_tiles"]),
        prediction=tables["prediction"][...],
        logits=tables["logits"][...],
        constant=tables["constant"][...],
        n_attentions=int(file["levels/0/attention"].shape[1]),
        digest=str(attributes["digest"]),
    )
    n_logits = len(record.logits)
    fits = (
        record.task in TASKS
        and len(record.prediction) == len(classes)
        and len(classes) >= (2 if record.task in {"binary", "classes"} else 1)
        and n_logits == len(record.constant)
        and (n_logits == len(classes) or (n_logits == 1 and record.task == "binary"))
        and 1 <= record.n_attentions <= _MOST_COLUMNS
        and record.n_tiles >= 0
    )
    if not fits:
        raise ValueError(f"{GROUP}: task {record.task!r:.20}, classes {classes!r:.80} and its numbers do not fit")
    if {bool(np.isfinite(values).all()) for values in (record.prediction, record.logits)} != {record.n_tiles > 0}:
        raise ValueError(f"{GROUP}: numbers that are not finite, of {record.n_tiles} tiles")
    return record


def table_shapes(record: PredictionRecord) -> list[tuple[str, np.dtype[Any], tuple[int, ...]]]:
    """Name, type and shape of a row of each of the tables of level 0."""
    widths = (record.n_attentions, len(record.logits))
    return [(name, np.dtype(np.float32), (width,)) for name, width in zip(TILE_TABLES, widths, strict=True)]


def check_tile_tables(
    record: PredictionRecord,
    blocks: Iterable[tuple[npt.NDArray[np.uint8], npt.NDArray[np.float32], npt.NDArray[np.float32]]],
) -> None:
    """See that the tables of level 0 fit the slide's prediction.

    Parameters
    ----------
    blocks
        Decision, attention and contribution of some rows after others.

    Raises
    ------
    ValueError
        They do not.
    """
    n_tiles, attention_sum, logits = 0, np.zeros(record.n_attentions), record.constant.astype(np.float64)
    size = np.abs(logits)
    for decision, attention, contribution in blocks:
        readable = decision != Decision.UNREADABLE
        for name, values in zip(TILE_TABLES, (attention, contribution), strict=True):
            if (np.isfinite(values).all(axis=1) != readable).any():
                raise ValueError(f"the rows of {name} do not fit the decisions of their tiles")
        n_tiles += int(readable.sum())
        attention_sum += attention[readable].sum(axis=0, dtype=np.float64)
        logits = logits + contribution[readable].sum(axis=0, dtype=np.float64)
        size = size + np.abs(contribution[readable]).sum(axis=0, dtype=np.float64)
    if n_tiles != record.n_tiles:
        raise ValueError(f"{GROUP} is of {record.n_tiles} tiles, and {n_tiles} were read")
    if not n_tiles:
        return
    if (np.abs(attention_sum - 1) > _TOLERANCE).any():
        raise ValueError("the columns of attention do not sum to 1")
    if (np.abs(logits - record.logits) > 1e-6 * size + 1e-12).any():
        raise ValueError("contributions and constant do not sum to the logits")
