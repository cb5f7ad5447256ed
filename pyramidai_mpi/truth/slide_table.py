"""What a table says of whole slides: a label, a share, or when something happened."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING

from pyramidai_mpi.base.csv_reading import read_csv, read_number
from pyramidai_mpi.base.errors import InputError, UsageError
from pyramidai_mpi.base.slide_names import bare_name

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from pathlib import Path

    from pyramidai_mpi.base.csv_reading import Row

COLUMNS = {"binary": ("label",), "classes": ("label",), "share": ("share",), "survival": ("time", "event")}
"""What is needed of a slide, by task."""

SLIDE_COLUMNS = ("slide", "wsi", "slide_id")
"""What the column of slides may be called."""
PATIENT_COLUMNS = ("patient", "case_id")
"""What the column of patients may be called."""
_EVENTS = {"1": 1.0, "true": 1.0, "yes": 1.0, "0": 0.0, "false": 0.0, "no": 0.0}
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


@dataclass(frozen=True)
class SlideRow:
    """What a table says of a slide, as it stands there.

    Attributes
    ----------
    where
        File and line, for messages.
    patient
        See `SlideTruth`.
    values
        Cells of the columns that are needed, none of them empty.
    cells
        All of them, by column in lower case.
    """

    where: str
    patient: str
    values: tuple[str, ...]
    cells: Mapping[str, str]


def read_slide_rows(
    path: Path, task: str, slides: Sequence[str], *, or_else: Sequence[str] = ()
) -> dict[int, SlideRow]:
    """Read a table's rows of some slides: by the slides' numbers, in the table's order.

    Parameters
    ----------
    path
        The table. Its first line names columns: ``slide``, those of `COLUMNS`, if wanted ``patient``. More columns and
        slides are left alone.
    task
        A key of `COLUMNS`.
    slides
        Names, which are compared without folders, case and ending.
    or_else
        Columns that will do where those of `COLUMNS` are missing.

    Raises
    ------
    InputError
        The table cannot be read, lacks a column or a slide, names one twice, or leaves a cell empty.
    UsageError
        Two slides have one name.
    """
    numbers: dict[str, int] = {}
    for number, slide in enumerate(slides):
        if numbers.setdefault(slide_key(slide), number) != number:
            raise UsageError(f"two slides are called {slide_key(slide)}; one row of {path} cannot tell them apart")
    rows = read_csv(path, _has_columns).rows
    names = [name.strip().casefold() for name in rows[0].cells] if rows else []
    of_slide = next((name for name in SLIDE_COLUMNS if name in names), "")
    of_patient = next((name for name in PATIENT_COLUMNS if name in names), "")
    needed: Sequence[str] = COLUMNS[task]
    lacking = [name for name in needed if name not in names]
    if lacking and or_else and all(name in names for name in or_else):
        needed, lacking = or_else, []
    if not of_slide or lacking:
        missing = lacking[0] if of_slide else "slide"
        raise InputError(f"{path}: has no column {missing}, which task {task} needs; the first line names columns")
    found: dict[int, SlideRow] = {}
    for line, texts in rows[1:]:
        cells = dict(zip(names, (text.strip() for text in texts), strict=False))
        key, where = slide_key(cells.get(of_slide, "")), f"{path}: line {line}"
        if key not in numbers:
            continue
        if numbers[key] in found:
            raise InputError(f"{where}: slide {cells[of_slide]} has a row already; keep one")
        patient = cells.get(of_patient, "") if of_patient else key
        if not patient:
            raise InputError(f"{where}: names no patient, though there is such a column")
        values = tuple(cells.get(name, "") for name in needed)
        if "" in values:
            raise InputError(f"{where}: has no {needed[values.index('')]}; leave the row out, or fill it in")
        found[numbers[key]] = SlideRow(where, patient, values, cells)
    if missing_slides := [slide for number, slide in enumerate(slides) if number not in found]:
        raise InputError(
            f"{path}: has no row for slide {missing_slides[0]} ({len(missing_slides)} in all); add one, or leave the "
            "slide out"
        )
    return found


def read_slide_table(path: Path, task: str, classes: Sequence[str], slides: Sequence[str]) -> list[SlideTruth]:
    """Read what is true of slides, in their order; a share may stand in a column ``label``, too.

    Parameters
    ----------
    path, task, slides
        See `read_slide_rows`.
    classes
        Names that labels may be, of ``binary`` the negative one first; there words such as tumor and normal, or 1 and
        0, will do too.

    Raises
    ------
    InputError, UsageError
        See `read_slide_rows`; or it says what cannot be.
    """
    rows = read_slide_rows(path, task, slides, or_else=("label",) if task == "share" else ())
    return [SlideTruth(rows[number].patient, _values(rows[number], task, classes)) for number in range(len(slides))]


def numbers_of(row: SlideRow, task: str) -> tuple[float, ...]:
    """Of ``share`` the share; of ``survival`` time, and 1 for an event, else 0; nothing of other tasks.

    Raises
    ------
    InputError
        It is no such number.
    """
    if task == "share":
        share = _number(row.values[0])
        if not 0 <= share <= 1:
            raise InputError(f"{row.where}: share is {row.values[0]!r:.80}, expected a number from 0 to 1")
        return (share,)
    if task == "survival":
        time, event = _number(row.values[0]), _EVENTS.get(row.values[1].casefold())
        if not (math.isfinite(time) and time >= 0) or event is None:
            raise InputError(
                f"{row.where}: time is {row.values[0]!r:.80} and event {row.values[1]!r:.80}, expected a number from 0 "
                "on, and 1 or 0"
            )
        return time, event
    return ()


def slide_key(name: str) -> str:
    """What a slide is called in tables, see `bare_name`."""
    return bare_name(name)


def _values(row: SlideRow, task: str, classes: Sequence[str]) -> tuple[float, ...]:
    if task in {"binary", "classes"}:
        return (float(_class_of(row.where, task, classes, row.values[0])),)
    return numbers_of(row, task)


def _class_of(where: str, task: str, classes: Sequence[str], label: str) -> int:
    by_name: Mapping[str, int] = {name.casefold(): n for n, name in enumerate(classes)}
    if label in classes:
        return list(classes).index(label)
    if label.casefold() in by_name:
        return by_name[label.casefold()]
    if task == "binary" and label.casefold() in _WORDS:
        return int(_WORDS[label.casefold()])
    raise InputError(f"{where}: label is {label!r:.80}, expected one of {', '.join(classes)}, which the model knows")


def _number(text: str) -> float:
    try:
        return read_number(text)
    except ValueError:
        return math.nan


def _has_columns(rows: Sequence[Row]) -> bool:
    names = [name.strip().casefold() for name in rows[0].cells] if rows else []
    return any(name in names for name in SLIDE_COLUMNS)
