"""Numbers of things in sentences: one tile, two tiles."""

from __future__ import annotations


def counted(number: int, noun: str) -> str:
    """A number with its noun, in the plural with an s unless it is one: ``1 tile``, ``0 tiles``."""
    return f"{number} {noun}{'' if number == 1 else 's'}"
