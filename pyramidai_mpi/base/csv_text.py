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
    csv.writer(line, lineterminator="\n").writerow(
        "" if cell is None else _harmless(printable(str(cell))) for cell in cells
    )
    return line.getvalue()


def _harmless(text: str) -> str:
    if not text.lstrip().startswith(_FORMULA):
        return text
    with suppress(ValueError):
        float(text)
        return text
    return f"'{text}"
