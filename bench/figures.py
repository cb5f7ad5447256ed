"""Printing figures and keeping them: what every benchmark shares."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass, field
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from pathlib import Path


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
