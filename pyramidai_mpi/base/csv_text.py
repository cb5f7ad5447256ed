"""Rows of a CSV file that spreadsheets show as they are, whatever the slides in them are called."""

from __future__ import annotations

import csv
import io
from contextlib import suppress
from typing import TYPE_CHECKING

from pyramidai_mpi.base.errors import printable

if TYPE_CHECKING:
    from collections.abc import Iterable

_FORMULA = ("=", "+", "-", "@", "\uff1d", "\uff0b", "\uff0d", "\uff20")
"""What begins a formula in Excel, LibreOffice and their like; the last four are its wide forms."""


def csv_row(cells: Iterable[object]) -> str:
    """One row with its line end. None is empty; characters that cannot be printed are escaped.

    A text that a spreadsheet would compute (``=cmd|...`` as a slide's name) gets an apostrophe before it, as OWASP has
    it; a number is none.
    """
    line = io.StringIO()
    csv.writer(line, lineterminator="\n").writerow("" if cell is None else shown_in_csv(str(cell)) for cell in cells)
    return line.getvalue()


def shown_in_csv(text: str) -> str:
    """What a cell of `csv_row` says for a text, before it is quoted: how a name is found again in such a table."""
    text = printable(text)
    if not text.lstrip().startswith(_FORMULA):
        return text
    with suppress(ValueError):
        float(text)
        return text
    return f"'{text}"


def meant_in_csv(cell: str) -> str:
    """The text that a cell was made of, as far as the apostrophe of `shown_in_csv` goes."""
    return cell[1:] if cell[:1] == "'" and cell[1:].lstrip().startswith(_FORMULA) else cell
