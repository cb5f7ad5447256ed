"""A table that says which patient, node and centre slides are of."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from pyramidai_mpi.base.csv_reading import read_csv, was_utf8
from pyramidai_mpi.base.errors import InputError
from pyramidai_mpi.base.patch_order import slide_stem
from pyramidai_mpi.store.patches.record import ORIGINS, origin_of

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence
    from pathlib import Path

    from pyramidai_mpi.base.csv_reading import Row

_SLIDE = "slide"


@dataclass(frozen=True)
class Origins:
    """Where slides are from.

    Attributes
    ----------
    rows
        What the table says of each slide, by its name without regard to case, with or without ending; None where there
        is no table, so that names of CAMELYON17 count.
    """

    rows: Mapping[str, Mapping[str, str]] | None = None

    @classmethod
    def read(cls, path: Path) -> Origins:
        """Read a table with a column ``slide`` and some of ``patient``, ``node`` and ``centre``.

        Raises
        ------
        InputError
            When it cannot be read, lacks these columns or has others, or names a slide twice or not at all.
        """
        table = read_csv(path, lambda rows: bool(rows) and _columns(rows[0].cells) is not None)
        columns = _columns(table.rows[0].cells) if table.rows else None
        if columns is None:
            said = ", ".join(table.rows[0].cells)[:80] if table.rows else "nothing"
            raise InputError(
                f"{path}: its first line says {said}; expected the columns slide and some of {', '.join(ORIGINS)}"
            )
        rows: dict[str, dict[str, str]] = {}
        lines: dict[str, int] = {}
        for row in table.rows[1:]:
            values = _values(path, row, columns)
            slide = values.pop(_SLIDE, "")
            if not slide:
                raise InputError(f"{path}: line {row.line}: names no slide")
            key = slide.casefold()
            if key in rows:
                raise InputError(f"{path}: line {row.line}: slide {slide} is in line {lines[key]} already; keep one")
            rows[key], lines[key] = values, row.line
        return cls(rows)

    def of(self, slide: str) -> dict[str, str]:
        """What is known of a slide, by its file name, of `ORIGINS`; nothing of one that the table does not name."""
        if self.rows is None:
            return origin_of(slide)
        return dict(self._row(slide) or {})

    def unknown(self, slides: Iterable[str]) -> list[str]:
        """Which of these slides the table does not name."""
        return [] if self.rows is None else [slide for slide in slides if self._row(slide) is None]

    def _row(self, slide: str) -> Mapping[str, str] | None:
        rows = self.rows or {}
        names = (slide.casefold(), slide_stem(slide).casefold())
        return next((rows[name] for name in names if name in rows), None)


def _columns(names: Sequence[str]) -> list[str] | None:
    """The columns, None where they are not those of such a table."""
    columns = [name.strip().casefold() for name in names]
    fits = _SLIDE in columns and len(columns) > 1 and len(set(columns)) == len(columns)
    return columns if fits and set(columns) <= {_SLIDE, *ORIGINS} else None


def _values(path: Path, row: Row, columns: Sequence[str]) -> dict[str, str]:
    if len(row.cells) > len(columns):
        raise InputError(f"{path}: line {row.line}: {len(row.cells)} cells for {len(columns)} columns")
    cells = [cell.strip() for cell in row.cells]  # a row may end early
    if not all(was_utf8(cell) and cell.isprintable() for cell in cells):
        raise InputError(f"{path}: line {row.line}: is no plain text; save the table as CSV in UTF-8")
    return {name: cell for name, cell in zip(columns, cells, strict=False) if cell}
