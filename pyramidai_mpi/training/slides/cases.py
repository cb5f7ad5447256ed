"""A table of slides' labels: what each case is, whose slides they are, and which cases learn, choose and test."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from pyramidai_mpi.base.csv_reading import read_csv
from pyramidai_mpi.base.errors import InputError, UsageError
from pyramidai_mpi.models.aggregator_entry import SlideTask
from pyramidai_mpi.training.exact.random_choices import generator_of
from pyramidai_mpi.training.slides.bags import Case
from pyramidai_mpi.training.splits import Split
from pyramidai_mpi.truth.slide_table import (
    PATIENT_COLUMNS,
    SLIDE_COLUMNS,
    numbers_of,
    read_slide_rows,
    slide_key,
)

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from pathlib import Path

    from pyramidai_mpi.base.csv_reading import Row
    from pyramidai_mpi.truth.slide_table import SlideRow

_POSITIVE = ("tumor", "tumour", "positive", "true", "yes", "1")
_STRATA = 4


@dataclass(frozen=True)
class LabelledSlides:
    """Slides, and what their table says.

    Attributes
    ----------
    cases
        One a patient where the table has such a column, else one a slide, in the table's order.
    classes
        Of ``binary`` and ``classes``: their names, of ``binary`` the negative one first. Empty for other tasks.
    """

    cases: tuple[Case, ...]
    classes: tuple[str, ...]


def read_cases(
    path: Path, task: SlideTask, slides: Sequence[str], positive: str | None = None, splits: Path | None = None
) -> LabelledSlides:
    """Read the table of labels.

    Its first line names columns: ``slide``, and ``label``, or ``share`` (0 to 1), or ``time`` and ``event`` (1 or 0);
    if wanted ``patient``, whose slides are one case, and ``split`` (train, validation or test). More are left alone.

    Parameters
    ----------
    path
        The table.
    task
        Which columns count.
    slides
        Names of the slides that there are; the table may name more. They are compared without case and ending.
    positive
        Name of the positive class of ``binary``; None for tumor, positive, true, yes or 1, else the later by name.
    splits
        Another table that says which cases learn, choose and test: columns ``split``, and ``slide`` or ``patient``.

    Raises
    ------
    InputError
        The table cannot be read, lacks a slide or a column, or says two things of one slide or patient.
    UsageError
        There is no class of that name, or not as many as the task needs.
    """
    found: dict[str, _Said] = {}
    for number, row in read_slide_rows(path, task, slides).items():
        said = _Said.of_row(task, row)
        first = found.setdefault(row.patient, said)
        if (first.values, first.split) != (said.values, said.split):
            raise InputError(
                f"{row.where}: patient {row.patient} has another label or split in another row; a patient is one case"
            )
        first.slides.append(number)
    if splits is not None:
        _split_by(splits, found, slides)
    classes = _classes_of(path, task, [said.values[0] for said in found.values()], positive)
    cases = tuple(
        Case(name, tuple(said.slides), said.target(task, classes), said.split) for name, said in found.items()
    )
    return LabelledSlides(cases, classes)


def _split_by(path: Path, found: Mapping[str, _Said], slides: Sequence[str]) -> None:
    """Let another table say what each case is for."""
    rows = read_csv(path, _has_split).rows
    names = [name.strip().casefold() for name in rows[0].cells] if rows else []
    who = next((name for name in (*SLIDE_COLUMNS, *PATIENT_COLUMNS) if name in names), None)
    if who is None or "split" not in names:
        raise InputError(f"{path}: expected a line of names, split and slide or patient, then a line each")
    kinds: dict[str, str] = {}
    for line, cells in rows[1:]:
        row = dict(zip(names, (cell.strip() for cell in cells), strict=False))
        key = slide_key(row.get(who, "")) if who in SLIDE_COLUMNS else row.get(who, "")
        kind = row.get("split", "")
        if kind not in list(Split) or kinds.setdefault(key, kind) != kind:
            raise InputError(f"{path}: line {line}: expected train, validation or test, one for each {who}")
    for case, said in found.items():
        keys = [slide_key(slides[number]) for number in said.slides] if who in SLIDE_COLUMNS else [case]
        of_case = {kinds.get(key) for key in keys}
        if len(of_case) != 1 or None in of_case:
            raise InputError(f"{path}: names no split of {case}, or two; name one, by its {who}")
        said.split = of_case.pop()


@dataclass
class _Said:
    """What the rows of a case say."""

    values: tuple[str, ...]
    numbers: tuple[float, ...]
    split: str | None
    slides: list[int]

    @classmethod
    def of_row(cls, task: SlideTask, row: SlideRow) -> _Said:
        split = row.cells.get("split") or None
        if split is not None and split not in list(Split):
            raise InputError(f"{row.where}: split is {split!r}, expected train, validation or test")
        return cls(row.values, numbers_of(row, task), split, [])

    def target(self, task: SlideTask, classes: Sequence[str]) -> tuple[float, ...]:
        if task in {SlideTask.BINARY, SlideTask.CLASSES}:
            return (float(classes.index(self.values[0])),)
        return self.numbers


def _classes_of(path: Path, task: SlideTask, labels: Sequence[str], positive: str | None) -> tuple[str, ...]:
    if task not in {SlideTask.BINARY, SlideTask.CLASSES}:
        if positive is not None:
            raise UsageError(f"--positive: task {task} has no classes; leave it out")
        return ()
    classes = sorted(set(labels))
    if len(classes) < 2 or (task is SlideTask.BINARY and len(classes) > 2):
        expected = "two" if task is SlideTask.BINARY else "two or more"
        raise InputError(f"{path}: the slides have the labels {', '.join(classes)}; task {task} needs {expected}")
    if positive is not None and positive not in classes:
        raise UsageError(f"--positive {positive}: the slides have the labels {', '.join(classes)}; name one of these")
    if task is SlideTask.CLASSES:
        return tuple(classes)
    named = positive or next((one for one in classes if one.casefold() in _POSITIVE), classes[1])
    return tuple(sorted(classes, key=lambda one: one == named))


def _has_split(rows: Sequence[Row]) -> bool:
    return bool(rows) and "split" in [name.strip().casefold() for name in rows[0].cells]


def split_cases(
    cases: Sequence[Case], task: SlideTask, seed: int, shares: tuple[float, float] = (0.6, 0.2)
) -> dict[Split, list[Case]]:
    """Which cases learn, which choose the best epoch, which test: as the table says, or drawn.

    Drawn, each class (of ``share`` each quarter of the cases, of ``survival`` those with and without event) is dealt
    in the same shares.

    Parameters
    ----------
    cases, task
        All cases. A table says it of all of them, or of none.
    seed
        Of the draw.
    shares
        Shares that learn and that choose.

    Raises
    ------
    InputError
        A split is empty, or lacks a class or an event.
    """
    split: dict[Split, list[Case]] = {kind: [] for kind in Split}
    said = [case.split for case in cases]
    if any(one is not None for one in said):
        if unsaid := next((case for case in cases if case.split is None), None):
            raise InputError(f"{unsaid.name}: has no split, though others do; say it of all, or of none")
        for case in cases:
            split[Split(str(case.split))].append(case)
    else:
        order = generator_of(seed, "split").permutation(len(cases))
        strata = _strata(cases, task)
        for stratum in sorted(set(strata)):
            group = [cases[place] for place in order if strata[place] == stratum]
            validation = max(round(shares[1] * len(group)), min(1, len(group) // 3))
            test = max(round((1 - sum(shares)) * len(group)), min(1, len(group) // 3))
            split[Split.VALIDATION] += group[:validation]
            split[Split.TEST] += group[validation : validation + test]
            split[Split.TRAIN] += group[validation + test :]
    for kind, chosen in split.items():
        _check_split(kind, chosen, task)
    return split


def _strata(cases: Sequence[Case], task: SlideTask) -> list[int]:
    if task is SlideTask.SHARE:
        ranks = np.argsort(np.argsort([case.target[0] for case in cases], kind="stable"))
        return [int(rank) * _STRATA // len(cases) for rank in ranks]
    return [int(case.target[1 if task is SlideTask.SURVIVAL else 0]) for case in cases]


def _check_split(kind: Split, cases: Sequence[Case], task: SlideTask) -> None:
    if not cases:
        raise InputError(f"no slide is for {kind}; give more slides, or say with column split which are")
    if task in {SlideTask.BINARY, SlideTask.CLASSES} and len({case.target for case in cases}) < 2:
        raise InputError(f"all slides for {kind} have one label; give more slides, or say with column split which are")
    if task is SlideTask.SURVIVAL and not any(case.target[1] for case in cases):
        raise InputError(f"no slide for {kind} has an event; give more slides, or say with column split which are")
