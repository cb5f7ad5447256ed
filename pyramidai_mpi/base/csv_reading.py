"""Tables that people write: CSV as spreadsheets of any country save it."""

from __future__ import annotations

import codecs
import csv
import io
import re
from typing import TYPE_CHECKING, NamedTuple

from pyramidai_mpi.base.errors import InputError, input_errors

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from pathlib import Path

SEPARATORS = {",": "commas", ";": "semicolons", "\t": "tabs"}
"""What separates cells, and its name."""

_HEAD_LETTERS = 1 << 16
_WIDE = (codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)
_TOLD = re.compile(r"\s*sep=([^\r\n])[ \t]*(?=[\r\n])", re.IGNORECASE)
_MOST_BYTES = 64 << 20
"""A table of a million slides is no larger; a slide that is given as a table is."""


class Row(NamedTuple):
    """A row that is not blank: the number of its first line, and its cells as they stand, but for blank last ones."""

    line: int
    cells: list[str]


class Table(NamedTuple):
    """Rows, the first of which may be the names of the columns, and what separates their cells."""

    rows: list[Row]
    separator: str


def read_csv(path: Path, fits: Callable[[Sequence[Row]], bool]) -> Table:
    """Read a table whose cells are separated by commas, semicolons or tabs, in UTF-8 or, with its mark, UTF-16.

    Bytes that are no UTF-8 are kept, as they are in names of files. A line ``sep=;`` at the head, which spreadsheets
    write, is left out.

    Parameters
    ----------
    fits
        Whether rows, cut at one kind of separator, are such a table. The kind by which alone they are is the one.

    Raises
    ------
    InputError
        It cannot be read, is no text or no CSV, or is such a table by two kinds of separator.
    """
    text = read_plain_text(path)
    if told := _TOLD.match(text):
        if told[1] in '" ' or told[1].isalnum():
            raise InputError(f"{path}: its line sep={told[1]} names no separator; expected one of , and ; and a tab")
        # the end of its line stays, so that the others keep their numbers
        return Table(_rows(path, text[told.end() :], told[1]), told[1])
    # where none fits, whoever asked says why, of what is most probably meant
    candidates = _separators_in(text)
    tables: dict[str, list[Row]] = {}
    error: InputError | None = None
    for mark in candidates:
        try:
            tables[mark] = _rows(path, text, mark)
        except InputError as caught:
            error = error or caught
    fitting = [mark for mark, rows in tables.items() if fits(rows)]
    if len(fitting) > 1:
        kinds = " and by ".join(SEPARATORS[mark] for mark in fitting)
        raise InputError(f"{path}: can be read as separated by {kinds}; put cells that hold either in double quotes")
    if fitting:
        return Table(tables[fitting[0]], fitting[0])
    if error is not None:
        raise error
    return Table(tables[candidates[0]], candidates[0])


def read_plain_text(path: Path) -> str:
    """The text of a small file that people write, in UTF-8 or, with its mark, UTF-16; other bytes as in names of files.

    Raises
    ------
    InputError
        It cannot be read, or is no text.
    """
    with input_errors(path), path.open("rb") as file:
        data = file.read(_MOST_BYTES + 1)
    if len(data) > _MOST_BYTES:
        raise InputError(f"{path}: is larger than {_MOST_BYTES >> 20} MiB, which no such table is; check the path")
    if data.startswith(_WIDE):
        try:
            return data.decode("utf-16")
        except UnicodeDecodeError as error:
            raise InputError(f"{path}: begins as UTF-16 and goes on otherwise; save it as CSV in UTF-8") from error
    if b"\0" in data.partition(b"\n")[0]:
        raise InputError(f"{path}: is UTF-16 without its mark, or no text at all; save it as CSV in UTF-8")
    return data.decode("utf-8-sig", errors="surrogateescape")


def was_utf8(text: str) -> bool:
    """Whether all bytes of a text that `read_plain_text` gave were UTF-8."""
    return not any("\udc80" <= letter <= "\udcff" for letter in text)


def read_number(text: str) -> float:
    """A number with a decimal point, or, as spreadsheets of many countries save it, one decimal comma.

    Raises
    ------
    ValueError
        It is none.
    """
    return float(text.replace(",", ".") if text.count(",") == 1 and "." not in text else text)


def _separators_in(text: str) -> list[str]:
    """Those of the first line, the commonest first; of one column without a name beside it, what ends the next line."""
    lines = [*re.findall(r"[^\r\n]*\S[^\r\n]*", text[:_HEAD_LETTERS])[:2], "", ""]
    return (
        sorted((mark for mark in SEPARATORS if mark in lines[0]), key=lambda mark: -lines[0].count(mark))
        or [mark for mark in SEPARATORS if lines[1].rstrip(" ").endswith(mark)]
        or [","]
    )


def _rows(path: Path, text: str, separator: str) -> list[Row]:
    reader = csv.reader(io.StringIO(text, newline=""), strict=True, skipinitialspace=True, delimiter=separator)
    rows: list[Row] = []
    while True:
        line = reader.line_num + 1
        try:
            cells = next(reader)
        except StopIteration:
            return rows
        except csv.Error as error:
            raise InputError(f"{path}: line {line}: cannot be read as CSV: {error}") from error
        while cells and not cells[-1].strip():
            cells.pop()
        if cells:
            rows.append(Row(line, cells))
