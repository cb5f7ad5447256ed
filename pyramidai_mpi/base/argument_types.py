"""Types of arguments that Python code gives: what no command line could, said before the work with the argument's name.

A text is true as a switch whatever it says, so ``overwrite="no"`` would overwrite.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from numbers import Integral, Real


def check_paths(**given: object) -> None:
    """Raise a TypeError for the first argument that is neither None nor a path."""
    for name, value in given.items():
        if value is not None and (not isinstance(value, str | os.PathLike) or isinstance(os.fspath(value), bytes)):
            raise _wrong(name, value, "a path, as text or pathlib.Path")


def check_switches(**given: object) -> None:
    """Raise a TypeError for the first argument that is neither True nor False; numpy's count, and 0 and 1."""
    for name, value in given.items():
        is_number = isinstance(value, Integral) and value in (0, 1)
        if not is_number and type(value).__name__ not in ("bool", "bool_"):
            raise _wrong(name, value, "True or False")


def check_numbers(**given: object) -> None:
    """Raise a TypeError for the first argument that is neither None nor a number."""
    for name, value in given.items():
        if value is not None and not _is_number(value, Real):
            raise _wrong(name, value, "a number")


def check_integers(**given: object) -> None:
    """Raise a TypeError for the first argument that is no integer."""
    for name, value in given.items():
        if not _is_number(value, Integral):
            raise _wrong(name, value, "an integer")


def check_texts(**given: object) -> None:
    """Raise a TypeError for the first argument that is neither None nor text."""
    for name, value in given.items():
        if value is not None and not isinstance(value, str):
            raise _wrong(name, value, "text")


def check_levels(**given: object) -> None:
    """Raise a TypeError for the first argument that is neither None nor a mapping from levels to numbers."""
    for name, value in given.items():
        if value is None:
            continue
        if not isinstance(value, Mapping) or not all(
            _is_number(level, Integral) and _is_number(number, Real) for level, number in value.items()
        ):
            raise _wrong(name, value, "a mapping from levels to numbers, such as {0: 0.6}")


def _is_number(value: object, kind: type) -> bool:
    return isinstance(value, kind) and not isinstance(value, bool)


def _wrong(name: str, value: object, expected: str) -> TypeError:
    return TypeError(f"{name}={value!r:.60}: expected {expected}")
