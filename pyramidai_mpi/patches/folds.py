"""Folds for cross-validation: files of patches dealt out by patient, never by patch, and the table that says how.

Who has patches of one patient on both sides of a split measures how well the patient is remembered. So all slides of a
patient lie in one fold.
"""

from __future__ import annotations

import hashlib
import math
from dataclasses import dataclass
from typing import TYPE_CHECKING

from pyramidai_mpi.base.counts import counted
from pyramidai_mpi.base.csv_reading import read_csv
from pyramidai_mpi.base.csv_text import csv_row, shown_in_csv
from pyramidai_mpi.base.errors import InputError, UsageError
from pyramidai_mpi.patches.tally import labels_of

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping, Sequence
    from pathlib import Path

    from pyramidai_mpi.base.csv_reading import Row
    from pyramidai_mpi.patches.tally import Tally

_COLUMNS = ("file", "slide", "patient", "fold")


def deal_folds(n_of: Mapping[str, Sequence[int]], n_folds: int, seed: int = 0) -> dict[str, int]:
    """Deal patients out to folds so that each fold gets about as many patches of every kind.

    They go one after the other, each into the fold that has least of what they bring: least sum over kinds of (share of
    the kind's patches in the fold) x (share of them of this patient); of equals into the one with the fewest patches,
    then the fewest patients, then the lowest number. Those who bring much go first: patients are in classes by the
    power of two of their greatest share, and within a class in the order of SHA-256 of ``SEED:NAME``. All is counted in
    whole numbers, so that the folds follow from seed, names and numbers alone.

    With one kind of patches no two folds differ by more than the patient with the most of them has (Graham 1969): each
    went into what was the smallest fold.

    Parameters
    ----------
    n_of
        Patches of each kind by patient, equally many kinds each.
    n_folds
        How many.
    seed
        Of the order.

    Returns
    -------
    dict
        The fold of each patient, 0 to `n_folds` - 1; none is empty.

    Raises
    ------
    UsageError
        When there are fewer patients than folds, or less than two folds.
    """
    if n_folds < 2:
        raise UsageError(f"--folds {n_folds}: expected at least 2")
    if len(n_of) < n_folds:
        less = f"--folds {len(n_of)}{' or less' if len(n_of) > 2 else ''}"
        advice = f"use {less}" if len(n_of) > 1 else "folds need at least two"
        raise UsageError(f"--folds {n_folds}: there are patches of {counted(len(n_of), 'patient')} only; {advice}")
    totals = [sum(kind) for kind in zip(*n_of.values(), strict=True)]
    whole = math.lcm(*(total for total in totals if total))
    weights = [whole // total if total else 0 for total in totals]  # whole x share of one patch of its kind
    shares = {name: [n * weight for n, weight in zip(kinds, weights, strict=True)] for name, kinds in n_of.items()}

    def turn(name: str) -> tuple[int, bytes, str]:
        return -max(shares[name], default=0).bit_length(), hashlib.sha256(f"{seed}:{name}".encode()).digest(), name

    held = [[0] * len(totals) for _ in range(n_folds)]
    n_patches, n_patients = [0] * n_folds, [0] * n_folds
    fold_of: dict[str, int] = {}
    for name in sorted(n_of, key=turn):

        def burden(fold: int, brought: Sequence[int] = shares[name]) -> tuple[int, int, int, int]:
            overlap = sum(one * other for one, other in zip(held[fold], brought, strict=True))
            return overlap, n_patches[fold], n_patients[fold], fold

        fold = min(range(n_folds), key=burden)
        held[fold] = [one + other for one, other in zip(held[fold], shares[name], strict=True)]
        n_patches[fold] += sum(n_of[name])
        n_patients[fold] += 1
        fold_of[name] = fold
    return fold_of


def owners_by_slide(files: Sequence[tuple[Path, str, str | None]]) -> list[str]:
    """Whose the patches of each file are, in words: of a patient, or of a slide of which nobody has said the patient.

    Two files of one slide are of one patient, also where only one of them says so.

    Parameters
    ----------
    files
        Path, quick hash of the slide (empty where it has none), and patient (None where nobody has said).

    Raises
    ------
    InputError
        When one slide is said to be of two patients.
    """
    by_slide: dict[str, tuple[Path, str]] = {}
    for path, digest, patient in files:
        if patient is None or not digest:
            continue
        other, known = by_slide.setdefault(digest, (path, patient))
        if known != patient:
            raise InputError(
                f"{path} and {other} are of one slide, and say that it is of patients {patient} and {known}; leave one "
                "of them out"
            )

    def owner(path: Path, digest: str, patient: str | None) -> str:
        if patient is not None:
            return f"patient {patient}"
        return f"patient {by_slide[digest][1]}" if digest in by_slide else f"slide {digest or path.name}"

    return [owner(*file) for file in files]


def patients_of(tallies: Sequence[Tally], *, unknown_alone: bool = False) -> list[str]:
    """Who must stay together: a name for the patient of each file.

    Parameters
    ----------
    tallies
        The files.
    unknown_alone
        Take a slide whose patient nobody has said as a patient of its own; else that is an error. Two files of one
        slide are of one patient all the same.

    Raises
    ------
    InputError
        When a slide's patient is not known, or one slide is said to be of two patients.
    """
    owners = owners_by_slide([(each.path, each.header.slide.quickhash, each.patient) for each in tallies])
    unknown = [each.path.name for each in tallies if each.patient is None]
    if unknown and not unknown_alone:
        more = f" and {len(unknown) - 5} more" if len(unknown) > 5 else ""
        raise InputError(
            f"{tallies[0].path.parent}: nobody has said of which patient the slides of {', '.join(unknown[:5])}{more} "
            "are; extract them with --origin TABLE, or with --by slide each of them counts as a patient of its own"
        )
    return owners


def fold_tallies(
    tallies: Sequence[Tally], n_folds: int, seed: int = 0, *, unknown_alone: bool = False, stratify: bool = False
) -> list[int]:
    """The fold of each file, see `deal_folds` and `patients_of`.

    Parameters
    ----------
    stratify
        Balance the patches of each label; else all patches alike.

    Raises
    ------
    UsageError, InputError
        As `deal_folds` and `patients_of`.
    """
    labels = labels_of(tallies) if stratify else []
    groups = patients_of(tallies, unknown_alone=unknown_alone)
    n_of: dict[str, list[int]] = {}
    for group, each in zip(groups, tallies, strict=True):
        kinds = [each.n_of.get(label, 0) for label in labels] if stratify else [each.header.n_patches]
        n_of[group] = [one + other for one, other in zip(n_of.get(group, [0] * len(kinds)), kinds, strict=True)]
    fold_of = deal_folds(n_of, n_folds, seed)
    return [fold_of[group] for group in groups]


def fold_lines(tallies: Sequence[Tally], folds: Sequence[int]) -> Iterator[str]:
    """The table as CSV, a row a file: file, slide, patient, fold, n_patches, and patches of each label."""
    labels = labels_of(tallies)
    yield csv_row([*_COLUMNS, "n_patches", *(f"n_of_{label}" for label in labels)])
    for each, fold in zip(tallies, folds, strict=True):
        counts = [each.n_of.get(label, 0) for label in labels]
        header = each.header
        yield csv_row([each.path.name, header.slide.name, each.patient, fold, header.n_patches, *counts])


@dataclass(frozen=True)
class Folds:
    """A table of folds.

    Attributes
    ----------
    path
        Its file.
    fold_by_file
        Fold of each file of patches, by the file's name as a table shows it.
    """

    path: Path
    fold_by_file: Mapping[str, int]

    @property
    def n_folds(self) -> int:
        """How many there are: one more than the highest number."""
        return max(self.fold_by_file.values()) + 1

    def fold_of(self, file: Path) -> int:
        """The fold of a file of patches, by its name without folders.

        Raises
        ------
        InputError
            When the table does not name it.
        """
        try:
            return self.fold_by_file[shown_in_csv(file.name).strip()]
        except KeyError:
            raise InputError(
                f"{self.path}: does not say in which fold {file.name} is; make the table of this folder anew"
            ) from None

    def apart(self, files: Iterable[Path], fold: int) -> tuple[list[Path], list[Path]]:
        """Files of all other folds, and files of this one, each in their order.

        Raises
        ------
        InputError
            When the table does not name one of them, or has no such fold.
        """
        if not 0 <= fold < self.n_folds:
            raise InputError(f"{self.path}: has folds 0 to {self.n_folds - 1}, no fold {fold}")
        others: list[Path] = []
        members: list[Path] = []
        for file in files:
            (members if self.fold_of(file) == fold else others).append(file)
        return others, members


def read_folds(path: Path) -> Folds:
    """Read a table that `pyramidai patches folds` has made, or anybody: it needs columns ``file`` and ``fold``.

    Where it has a column ``patient``, no patient may be in two folds; an empty cell says of none.

    Raises
    ------
    InputError
        When it cannot be read, lacks a column, names a file twice or has a patient in two folds.
    """
    rows = read_csv(path, _has_columns).rows
    if not _has_columns(rows):
        raise InputError(f"{path}: is no table of folds; expected columns file and fold, named in its first row")
    columns = [cell.strip().casefold() for cell in rows[0].cells]
    fold_by_file: dict[str, int] = {}
    fold_by_patient: dict[str, int] = {}
    for line, cells in rows[1:]:
        file, word, patient = (
            cells[columns.index(name)].strip() if name in columns and columns.index(name) < len(cells) else ""
            for name in ("file", "fold", "patient")
        )
        if not file or not (word.isascii() and word.isdecimal() and len(word) < 7):
            raise InputError(f"{path}: line {line}: expected a file and the number of its fold, 0 or more")
        if file in fold_by_file:
            raise InputError(f"{path}: line {line}: names {file} a second time; keep one row")
        fold_by_file[file] = int(word)
        if patient and fold_by_patient.setdefault(patient, int(word)) != int(word):
            raise InputError(
                f"{path}: line {line}: patient {patient} is in folds {fold_by_patient[patient]} and {int(word)}; "
                "all slides of a patient belong into one"
            )
    if not fold_by_file:
        raise InputError(f"{path}: names no file")
    return Folds(path, fold_by_file)


def _has_columns(rows: Sequence[Row]) -> bool:
    names = [cell.strip().casefold() for cell in rows[0].cells] if rows else []
    return "file" in names and "fold" in names
