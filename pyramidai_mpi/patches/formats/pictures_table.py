"""Pictures in a folder a label, and the table that may say more of them: which files, labels and patients."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING

from pyramidai_mpi.base.csv_reading import read_csv
from pyramidai_mpi.base.csv_text import meant_in_csv
from pyramidai_mpi.base.errors import InputError, input_errors

if TYPE_CHECKING:
    from collections.abc import Sequence

    from pyramidai_mpi.base.csv_reading import Row

ENDINGS = (".png", ".jpg", ".jpeg", ".tif", ".tiff")
UNLABELLED = "unlabelled"
"""Folder of pictures whose label is not known."""

_COLUMNS = ("file", "label", "patient")


@dataclass(frozen=True)
class LabelledPicture:
    """One picture.

    Attributes
    ----------
    name
        Path from the folder on, with slashes.
    label
        Its label; None for unknown.
    patient
        Whose it is; None where nothing is said of it.
    """

    name: str
    label: str | None
    patient: str | None = None


def pictures_in(folder: Path) -> list[LabelledPicture]:
    """Pictures of a folder a label, ``LABEL/NAME.png``, by name.

    Raises
    ------
    InputError
        When there is none, or the folder cannot be read.
    """
    with input_errors(folder):
        found = [
            LabelledPicture(f"{label.name}/{path.name}", _label_of(label.name))
            for label in sorted(folder.iterdir())
            if label.is_dir() and not label.name.startswith(".")
            for path in sorted(label.iterdir())
            if _is_picture(path.name) and path.is_file()
        ]
    if not found:
        raise InputError(f"{folder}: holds no pictures; looked for LABEL/*{', LABEL/*'.join(ENDINGS)}")
    return found


def _label_of(folder: str) -> str | None:
    return None if folder == UNLABELLED else folder


def _is_picture(name: str) -> bool:
    return not name.startswith(".") and name.casefold().endswith(ENDINGS)


def pictures_of_table(folder: Path, table: Path) -> list[LabelledPicture]:
    """The pictures that a table names, in its order: column ``file``, a path from the folder on; ``label`` and
    ``patient`` if wanted. Without a column of labels the folder that a picture lies in is its label. Further columns
    are not looked at, so that the table of an export of ours will do.

    Raises
    ------
    InputError
        Names the line: there is no such file, one stands there twice, a row has too many cells; or the table cannot be
        read, or has no rows or no column ``file``.
    """  # noqa: D205  one sentence a column
    rows = read_csv(table, lambda rows: bool(rows) and "file" in _names(rows[0])).rows
    names = _names(rows[0]) if rows else []
    if "file" not in names:
        raise InputError(f"{table}: has no column file; its first line names the columns {', '.join(_COLUMNS)}")
    if len(set(names)) < len(names):
        raise InputError(f"{table}: names a column twice")
    places = {name: names.index(name) for name in _COLUMNS if name in names}
    found: dict[str, LabelledPicture] = {}
    for row in rows[1:]:
        picture = _picture_of(table, row, places, len(names))
        if picture.name in found:
            raise InputError(f"{table}: line {row.line}: {picture.name} stands there twice")
        if not (folder / picture.name).is_file():
            raise InputError(f"{table}: line {row.line}: there is no {picture.name} in {folder}")
        found[picture.name] = picture
    if not found:
        raise InputError(f"{table}: names no picture")
    return list(found.values())


def _names(row: Row) -> list[str]:
    return [cell.strip().casefold() for cell in row.cells]


def _picture_of(table: Path, row: Row, places: dict[str, int], n_columns: int) -> LabelledPicture:
    if len(row.cells) > n_columns:
        raise InputError(f"{table}: line {row.line}: has {len(row.cells)} cells, expected {n_columns}")

    def cell(name: str) -> str | None:
        place = places.get(name, n_columns)
        return (meant_in_csv(row.cells[place].strip()) or None) if place < len(row.cells) else None

    said = cell("file")
    if said is None:
        raise InputError(f"{table}: line {row.line}: names no file")
    path = PurePosixPath(said)
    if path.is_absolute() or ".." in path.parts:
        raise InputError(f"{table}: line {row.line}: {said} leads out of the folder")
    label = cell("label") if "label" in places else (_label_of(path.parts[-2]) if len(path.parts) > 1 else None)
    return LabelledPicture(str(path), label, cell("patient"))


def labels_in(pictures: Sequence[LabelledPicture]) -> tuple[str, ...]:
    """All labels, by name."""
    return tuple(sorted({picture.label for picture in pictures if picture.label is not None}))
