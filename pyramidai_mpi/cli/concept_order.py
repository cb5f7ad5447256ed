"""What is asked of ``pyramidai concepts``."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from pyramidai_mpi.base.errors import UsageError
from pyramidai_mpi.explain.concepts.measures import MEASURES

if TYPE_CHECKING:
    from pathlib import Path


@dataclass(frozen=True)
class ConceptOrder:
    """See the command's help. Of this `output`, `plots` and `overwrite` change no figure.

    Attributes
    ----------
    nuclei
        Folder of known nuclei; None finds them.
    names, tables
        What is measured, and tables of what somebody else has measured.
    layers
        Their names; none for all.
    """

    model: Path
    places: tuple[Path, ...]
    nuclei: Path | None
    names: tuple[str, ...]
    tables: tuple[Path, ...]
    layers: tuple[str, ...]
    class_name: str | None
    level: int | None
    folds: int
    most: int
    draws: int
    n_shuffles: int
    seed: int
    output: Path
    plots: bool
    overwrite: bool


def split_names(words: str) -> tuple[list[str], list[str]]:
    """Names of measures and files of concepts from ``area,count,FILE.csv``.

    Raises
    ------
    UsageError
        When there is no such measure, nothing at all, or something twice.
    """
    parts = [word.strip() for word in words.split(",")]
    files = [word for word in parts if word.lower().endswith(".csv")]
    names = [word for word in parts if word not in files]
    for name in names:
        if name not in MEASURES:
            raise UsageError(
                f"--concepts {name!r}: expected some of {', '.join(MEASURES)}, or a file that ends with .csv"
            )
    if len(set(parts)) < len(parts):
        twice = next(word for word in parts if parts.count(word) > 1)
        raise UsageError(f"--concepts {twice!r}: is there twice; name it once")
    return names, files
