"""Which levels of a result an export holds: ``--levels 0`` for readers that take every row for a tile of one size."""

from __future__ import annotations

from typing import TYPE_CHECKING

from pyramidai_mpi.base.errors import UsageError

if TYPE_CHECKING:
    from collections.abc import Sequence

    from pyramidai_mpi.store.results.tables import Header


def parse_levels(text: str) -> tuple[int, ...]:
    """Levels from words such as ``0,1``, each once, the finest first.

    Raises
    ------
    UsageError
        When a word is no level.
    """
    words = [word.strip() for word in text.split(",")]
    if not all(word.isascii() and word.isdigit() for word in words):
        raise UsageError(f"--levels {text}: expected levels joined by commas, such as 0 or 0,1")
    return tuple(sorted({int(word) for word in words}))


def chosen_levels(header: Header, levels: Sequence[int] | None) -> tuple[int, ...]:
    """The levels asked for, the finest first; None asks for all.

    Raises
    ------
    UsageError
        When the result has no such level.
    """
    there = range(len(header.levels))
    chosen = there if levels is None else sorted(set(levels))
    if missing := set(chosen) - set(there):
        raise UsageError(f"--levels: the result of {header.slide.name} has levels 0 to {there[-1]}, not {min(missing)}")
    return tuple(chosen)
