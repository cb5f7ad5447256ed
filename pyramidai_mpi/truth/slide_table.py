"""What a table says of whole slides: a label, a share, or when something happened."""

from __future__ import annotations

import math
from dataclasses import dataclass
from pathlib import PurePath
from typing import TYPE_CHECKING

from pyramidai_mpi.base.csv_reading import read_csv, read_number
from pyramidai_mpi.base.errors import InputError

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from pathlib import Path

    from pyramidai_mpi.base.csv_reading import Row

COLUMNS = {"binary": ("label",), "classes": ("label",), "share": ("share",), "survival": ("time", "event")}
"""What is needed of a slide, by task."""

_SLIDE = ("slide", "wsi", "slide_id")
_PATIENT = ("patient", "case_id")
_WORDS = {
    **dict.fromkeys(("tumor", "tumour", "positive", "true", "yes", "1"), True),
    **dict.fromkeys(("normal", "negative", "false", "no", "0"), False),
}


@dataclass(frozen=True)
class SlideTruth:
    """What is true of a slide.

    Attributes
    ----------
    patient
        Whose slide it is; the slide's own name where the table does not say.
    values
        Number of its class; its share; or time, and 1 for an event, else 0.
    """

    patient: str
    values: tuple[float, ...]


def read_slide_table(path: Path, task: str, classes: Sequence[str], slides: Sequence[str]) -> list[SlideTruth]:
    """Read what is true of slides, in their order.

    The table's first line names columns: ``slide``; ``label``, of task ``share`` ``share`` (0 to 1), of ``survival``
    ``time`` and ``event`` (1 or 0); if wanted ``patient``. More columns and slides are left alone. Names of slides are
    compared without case and ending.

    Parameters
    ----------
    task
        A key of `COLUMNS`.
    classes
        Names that labels may be, of ``binary`` the negative one first; there words such as tumor and normal, or 1 and
        0, will do too.

    Raises
    ------
    InputError
        The table cannot be read, lacks a column or a slide, names one twice, or says what cannot be.
    """
    rows = read_csv(path, _has_columns).rows
    names = [name.strip().casefold() for name in rows[0].cells] if rows else []
    of_slide = next((name for name in _SLIDE if name in names), "")
    needed = COLUMNS[task]
    if task == "share" and "share" not in names and "label" in names:
        needed = ("label",)
    lacking = [name for name in needed if name not in names]
    if not of_slide or lacking:
        missing = lacking[0] if of_slide else "slide"
        raise InputError(f"{path}: has no column {missing}, which task {task} needs; the first line names columns")
    of_patient = next((name for name in _PATIENT if name in names), "")
    wanted = {_key(slide): slide for slide in slides}
    found: dict[str, SlideTruth] = {}
    for line, cells in rows[1:]:
        row = dict(zip(names, (cell.strip() for cell in cells), strict=False))
        key, where = _key(row.get(of_slide, "")), f"{path}: line {line}"
        if key not in wanted:
            continue
        if key in found:
            raise InputError(f"{where}: slide {row[of_slide]} has a row already; keep one")
        patient = row.get(of_patient, "") if of_patient else key
        if not patient:
            raise InputError(f"{where}: names no patient, though there is such a column")
        found[key] = SlideTruth(patient, _values(where, task, classes, [row.get(name, "") for name in needed]))
    missing_slides = [slide for slide in slides if _key(slide) not in found]
    if missing_slides:
        raise InputError(
            f"{path}: has no row for slide {missing_slides[0]} ({len(missing_slides)} in all); add one, or leave out "
            "the slide's result"
        )
    return [found[_key(slide)] for slide in slides]


def _values(where: str, task: str, classes: Sequence[str], cells: Sequence[str]) -> tuple[float, ...]:
    if task in {"binary", "classes"}:
        return (float(_class_of(where, task, classes, cells[0])),)
    number = _number(cells[0])
    if task == "share":
        if not 0 <= number <= 1:
            raise InputError(f"{where}: share is {cells[0]!r}, expected a number from 0 to 1")
        return (number,)
    event = _WORDS.get(cells[1].casefold()) if cells[1].casefold() in {"1", "0", "true", "false", "yes", "no"} else None
    if not (math.isfinite(number) and number >= 0) or event is None:
        raise InputError(
            f"{where}: time is {cells[0]!r} and event {cells[1]!r}, expected a number from 0 on, and 1 or 0"
        )
    return number, float(event)


def _class_of(where: str, task: str, classes: Sequence[str], label: str) -> int:
    by_name: Mapping[str, int] = {name.casefold(): n for n, name in enumerate(classes)}
    if label in classes:
        return list(classes).index(label)
    if label.casefold() in by_name:
        return by_name[label.casefold()]
    if task == "binary" and label.casefold() in _WORDS:
        return int(_WORDS[label.casefold()])
    raise InputError(f"{where}: label is {label!r}, expected one of {', '.join(classes)}, which the model knows")


def _number(text: str) -> float:
    try:
        return read_number(text)
    except ValueError:
        return math.nan


def _key(name: str) -> str:
    path = PurePath(name)
    return (path.stem if path.suffix else path.name).casefold()


def _has_columns(rows: Sequence[Row]) -> bool:
    names = [name.strip().casefold() for name in rows[0].cells] if rows else []
    return any(name in names for name in _SLIDE)
