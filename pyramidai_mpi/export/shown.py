"""What pictures and highest tiles show of a result: scores; of a predicted slide also attention or contribution.

A score is a probability, on a scale from 0 to 1. Attention is a share of 1 that a slide's tiles divide among them, from
0 to the largest. A contribution has a sign: its scale is the same on both sides of 0, where it is white.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import numpy as np

from pyramidai_mpi.base.errors import UsageError
from pyramidai_mpi.export.cell_look import looks_of
from pyramidai_mpi.pyramid.last_look import NEVER, LastLook
from pyramidai_mpi.store.results.tables import damage_is_named, iter_column, iter_rows

if TYPE_CHECKING:
    from collections.abc import Sequence

    import numpy.typing as npt

    from pyramidai_mpi.export.cell_look import CellLook
    from pyramidai_mpi.store.results.prediction import PredictionRecord
    from pyramidai_mpi.store.results.tables import Header, ResultFile

KINDS = ("attention", "contribution")

_Anchors = tuple[tuple[int, int, int], ...]

# Blue, yellow, red: score 0, 1/2, 1. Readable with the common colour-vision deficiencies, unlike green to red.
_SCORE: _Anchors = ((49, 54, 149), (254, 224, 144), (165, 0, 38))
# ColorBrewer's YlGnBu and PuOr (Harrower and Brewer 2003), readable likewise.
_ATTENTION: _Anchors = ((255, 255, 217), (65, 182, 196), (8, 29, 88))
SIGNED: _Anchors = ((84, 39, 136), (153, 142, 195), (247, 247, 247), (241, 163, 64), (179, 88, 6))
AGAINST, IN_FAVOUR = SIGNED[0], SIGNED[-1]
"""Colours below and above 0."""


@dataclass(frozen=True)
class Show:
    """What is asked for.

    Attributes
    ----------
    kind
        One of `KINDS`.
    column
        Name of a column; empty for what `_column_of` chooses.
    """

    kind: str
    column: str = ""

    def __str__(self) -> str:
        return f"{self.kind}:{self.column}" if self.column else self.kind


def parse_show(text: str) -> Show:
    """What to show, from the text of an option such as ``attention`` or ``contribution:tumor``.

    Raises
    ------
    UsageError
        When it is none of these.
    """
    kind, colon, column = text.partition(":")
    if kind not in KINDS or (colon and not column):
        raise UsageError(f"--show {text}: expected attention or contribution, of one class as in contribution:CLASS")
    return Show(kind, column)


@dataclass(frozen=True)
class Scale:
    """How numbers become colours.

    Attributes
    ----------
    name
        ``score``, ``attention`` or ``contribution``.
    title
        What it is of, for people.
    low, high
        Ends of the scale.
    anchors
        Colours at even distances from one end to the other.
    """

    name: str
    title: str
    low: float = 0.0
    high: float = 1.0
    anchors: _Anchors = _SCORE

    @property
    def is_signed(self) -> bool:
        """Whether numbers lie on both sides of 0."""
        return self.low < 0

    def position(self, values: npt.NDArray[np.floating]) -> npt.NDArray[np.float64]:
        """Places on the scale, 0 to 1; NaN stays."""
        return np.clip((values.astype(np.float64) - self.low) / (self.high - self.low), 0, 1)

    def colour(self, values: npt.NDArray[np.floating]) -> npt.NDArray[np.float64]:
        """Colours of finite values (N,): float64 (N, 3), 0 to 255."""
        return along(self.position(values), self.anchors)


SCORE = Scale("score", "score")
"""Of any class; `score_scale` names it."""


def along(position: npt.NDArray[np.float64], anchors: _Anchors) -> npt.NDArray[np.float64]:
    """Colours at places 0 to 1, float64 (N, 3), between anchors at even distances."""
    places = np.linspace(0, 1, len(anchors))
    return np.stack([np.interp(position, places, channel) for channel in zip(*anchors, strict=True)], axis=-1)


def score_scale(header: Header) -> Scale:
    """The scale of scores."""
    return replace(SCORE, title=header.model.positive_class)


def tile_columns(
    file: ResultFile, header: Header, level: int, first: int, last: int
) -> dict[str, npt.NDArray[np.float32]]:
    """Attention and contributions of the rows `first` to `last` (excluded) of a level by name, float32 (n,) each.

    Names are ``attention`` and, of several columns, ``attention_<class or number>``, then ``contribution_<class>``.
    Nothing of a result without prediction.

    Raises
    ------
    InputError
        When the result is damaged.
    """
    record = header.prediction
    if record is None or level:
        return {}
    with damage_is_named(file):
        attention, contribution = (file[f"levels/0/{kind}"][first:last] for kind in KINDS)
    names = column_names(record)
    return dict(zip(names, [*attention.T, *contribution.T], strict=True))


def column_names(record: PredictionRecord | None) -> list[str]:
    """Names of the columns of `tile_columns`."""
    if record is None:
        return []
    attention = [f"attention_{name}" for name in record.attention_names] if record.n_attentions > 1 else ["attention"]
    return [*attention, *(f"contribution_{name}" for name in record.logit_names)]


def shown_values(file: ResultFile, header: Header, show: Show) -> tuple[npt.NDArray[np.float32], Scale]:
    """What is to be shown of each tile of level 0, float32 (N,), NaN where unreadable, and its scale.

    Raises
    ------
    UsageError
        When the result has no such thing.
    InputError
        When it is damaged.
    """
    record = header.prediction
    if record is None:
        raise UsageError(
            f"--show {show}: {file.filename} is of model {header.model.name}, which predicts tiles alone, not slides"
        )
    names = record.attention_names if show.kind == "attention" else record.logit_names
    if show.column and show.column not in names:
        raise UsageError(f"--show {show}: expected one of {', '.join(f'{show.kind}:{name}' for name in names)}")
    blocks = iter_column(file, 0, show.kind)
    if show.kind == "attention":
        column = slice(None) if not show.column else slice(names.index(show.column), names.index(show.column) + 1)
        values = _joined([block[:, column].mean(axis=1, dtype=np.float64) for block in blocks])
        title = f"attention{f' of {show.column}' if show.column else ''} (all tiles together: 1)"
        return values, Scale(show.kind, title, 0.0, _largest(values), _ATTENTION)
    chosen = names.index(show.column) if show.column else _column_of(record)
    values = _joined([block[:, chosen] for block in blocks])
    most = _largest(np.abs(values))
    return values, Scale(show.kind, f"contribution to {names[chosen]}", -most, most, SIGNED)


def _joined(blocks: Sequence[npt.NDArray[np.floating]]) -> npt.NDArray[np.float32]:
    return np.concatenate([np.empty(0, np.float32), *blocks]).astype(np.float32)


def _largest(values: npt.NDArray[np.float32]) -> float:
    """End of a scale: 1 where it would have no length."""
    finite = values[np.isfinite(values)]
    return float(finite.max()) if finite.size and finite.max() > 0 else 1.0


def _column_of(record: PredictionRecord) -> int:
    """Which contributions are shown unless one is named: those to the class predicted, else to the last one."""
    is_choice = record.task == "classes" and record.n_tiles > 0
    return int(record.prediction.argmax()) if is_choice else len(record.logits) - 1


def looks_and_scale(file: ResultFile, header: Header, show: Show | None) -> tuple[LastLook | CellLook, Scale]:
    """The last look at every place of an open result, with what is shown in place of the score, and its scale.

    Raises
    ------
    UsageError, InputError
        As `shown_values`.
    """
    looks = looks_of(file, header)
    if show is None:
        return looks, score_scale(header)
    values, scale = shown_values(file, header, show)
    assert isinstance(looks, LastLook)  # a predicted slide has one level of tiles side by side
    painted = np.full_like(looks.score, np.nan)
    for rows in iter_rows(file, 0):
        painted[rows.index[:, 1], rows.index[:, 0]] = values[rows.first_row : rows.first_row + len(rows)]
    look = np.where(np.isfinite(painted), looks.look, np.int8(NEVER))
    return LastLook(painted, look, looks.positive, looks.l0_tile_side), scale
