"""Printing figures and keeping them, tables and plots: what benches share."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass, field
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence
    from pathlib import Path

    from matplotlib.figure import Figure as Plot


@dataclass(frozen=True)
class Figure:
    """One measured number: what it is, its value and unit, and the setting it was seen in."""

    figure: str
    value: float
    unit: str
    setting: dict[str, Any] = field(default_factory=dict)


def report(figures: list[Figure], json_file: Path | None) -> None:
    """Print figures as a table, and write them as JSON when a file is named."""
    width = max(len(figure.figure) for figure in figures)
    for figure in figures:
        setting = ", ".join(f"{name}={value}" for name, value in figure.setting.items())
        print(f"{figure.figure:{width}}  {figure.value:10.3f} {figure.unit:10} {setting}")
    if json_file is not None:
        json_file.write_text(json.dumps([asdict(figure) for figure in figures], indent=1) + "\n")


def table_lines(heads: Sequence[str], rows: Iterable[Iterable[object]]) -> Iterator[str]:
    """A Markdown table, line by line, as the rows come."""
    yield f"| {' | '.join(heads)} |"
    yield "|" + " --- |" * len(heads)
    for row in rows:
        yield f"| {' | '.join(map(str, row))} |"


def print_table(heads: Sequence[str], rows: Iterable[Iterable[object]]) -> None:
    """Print a Markdown table, each line as soon as it is known."""
    for line in table_lines(heads, rows):
        print(line, flush=True)


def save_plot(plot: Plot, prefix: Path, dpi: int) -> None:
    """Write PREFIX.svg and PREFIX.png."""
    for suffix in (".svg", ".png"):
        plot.savefig(prefix.with_suffix(suffix), dpi=dpi)
