"""Concepts that somebody else has measured: a table with a row a patch and a column a concept."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from pyramidai_mpi.base.csv_reading import read_csv, read_number
from pyramidai_mpi.base.csv_text import meant_in_csv, shown_in_csv
from pyramidai_mpi.base.errors import InputError

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    import numpy.typing as npt

    from pyramidai_mpi.base.csv_reading import Row

FILE, PATCH = "file", "patch"
_OURS = frozenset({"slide", "patient", "fold", "probability"})
"""Columns of the table that the command writes, which are no concepts."""
_GREATEST = 1e100
"""Of values: their squares are summed."""


@dataclass(frozen=True)
class ConceptTable:
    """Concepts of patches.

    Attributes
    ----------
    path
        The file.
    names
        Of its concepts.
    values
        By the name of the file of patches ("" where the table names none) and the patch's number: one value a concept.
    """

    path: Path
    names: tuple[str, ...]
    values: dict[tuple[str, int], tuple[float, ...]]

    def of(self, files: Sequence[str], numbers: Sequence[int]) -> npt.NDArray[np.float64]:
        """Values of patches, float64 (N, concepts), NaN where the table has none.

        Raises
        ------
        InputError
            When it names no file though there are several, or has no value of any of the patches.
        """
        nameless = all(name == "" for name, _ in self.values)
        if nameless and len(set(files)) > 1:
            raise InputError(
                f"{self.path}: has no column {FILE}, and there are {len(set(files))} files of patches; add it"
            )
        missing = (math.nan,) * len(self.names)
        keys = (
            ("" if nameless else shown_in_csv(file).strip(), number)
            for file, number in zip(files, numbers, strict=True)
        )
        found = np.array([self.values.get(key, missing) for key in keys], np.float64).reshape(-1, len(self.names))
        if not np.isfinite(found).any():
            raise InputError(f"{self.path}: says nothing of any of these patches; check its columns {FILE} and {PATCH}")
        return found


def read_concepts(path: Path) -> ConceptTable:
    """Read a table: columns ``patch`` (its number in its file), ``file`` (needed for several), and one a concept.

    Empty cells say nothing. Columns slide, patient, fold and probability are left out, so that patches.csv of an
    earlier run may be added to.

    Raises
    ------
    InputError
        When it cannot be read, lacks columns, has a patch twice, or a cell that is no number.
    """
    rows = read_csv(path, _has_patches).rows
    if not _has_patches(rows):
        raise InputError(
            f"{path}: is no table of concepts; expected a column {PATCH} and one a concept, named in row 1"
        )
    columns = [meant_in_csv(cell.strip()) for cell in rows[0].cells]
    folded = [name.casefold() for name in columns]
    wanted = [n for n, name in enumerate(folded) if name and name not in _OURS and name not in (FILE, PATCH)]
    names = [columns[n] for n in wanted]
    if not names or len(set(folded)) < len(folded):
        raise InputError(
            f"{path}: {'names a column twice' if names else 'has no column of a concept'}; mend its first row"
        )
    values: dict[tuple[str, int], tuple[float, ...]] = {}
    for line, cells in rows[1:]:
        by_name = dict(zip(folded, (cell.strip() for cell in cells), strict=False))
        word = by_name.get(PATCH, "")
        if not (word.isascii() and word.isdecimal() and len(word) < 12):
            raise InputError(f"{path}: line {line}: expected the number of a patch, found {word!r:.40}")
        key = by_name.get(FILE, ""), int(word)
        if key in values:
            raise InputError(f"{path}: line {line}: has patch {word} a second time; keep one row")
        try:
            values[key] = tuple(_value(cells[n].strip() if n < len(cells) else "") for n in wanted)
        except ValueError as error:
            raise InputError(f"{path}: line {line}: {error!s:.100}; expected a number, or nothing") from error
    return ConceptTable(path, tuple(names), values)


def _value(cell: str) -> float:
    value = read_number(cell) if cell else math.nan
    if math.isinf(value):
        raise ValueError(f"{cell} is not finite")
    if abs(value) > _GREATEST:
        raise ValueError(f"{cell} is too great to be squared")
    return value


def _has_patches(rows: Sequence[Row]) -> bool:
    return bool(rows) and PATCH in [cell.strip().casefold() for cell in rows[0].cells]
