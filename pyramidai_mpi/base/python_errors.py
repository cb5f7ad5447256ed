"""Errors as Python code meets them: each is one of Python's own, too, and names arguments instead of options.

Only what the program's functions for Python raise in the end is of these classes. Within the program errors are those
of `base.errors`, which no ``except ValueError`` around a parser and no ``except OSError`` around a disk can catch by
accident.
"""

from __future__ import annotations

import re
from contextlib import contextmanager
from typing import TYPE_CHECKING

from pyramidai_mpi.base import errors, settings
from pyramidai_mpi.base.odd_levels import ODD_LEVELS
from pyramidai_mpi.base.types import Mode

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

PyramidError = errors.PyramidError


__all__ = [
    "InputError",
    "InternalError",
    "LostRankError",
    "MissingInputError",
    "OutputExistsError",
    "PyramidError",
    "StoppedError",
    "StorageError",
    "UsageError",
]
"""What `pyramidai_mpi.errors` shows."""


class UsageError(errors.UsageError, ValueError):
    """An argument that cannot be, or not together with another one."""


class InputError(errors.InputError, ValueError):
    """A slide, model, configuration or result that cannot be used as it is."""


class MissingInputError(InputError, FileNotFoundError):
    """A slide, model or result that is not there."""


class OutputExistsError(errors.OutputExistsError, FileExistsError):
    """The output is already there, or another run is writing it; nothing was touched."""


class StorageError(errors.StorageError, OSError):
    """The surroundings failed: disk full, permission denied, folder gone."""


class StoppedError(errors.StoppedError, RuntimeError):
    """A time limit asked the run to stop; what was done is kept."""


class LostRankError(errors.LostRankError, RuntimeError):
    """A rank has died or stands still, and nobody could take its place."""


class InternalError(errors.InternalError, RuntimeError):
    """A bug: something the program promised itself does not hold."""


_CLASSES: tuple[type[PyramidError], ...] = (
    UsageError,
    InputError,
    OutputExistsError,
    StorageError,
    StoppedError,
    LostRankError,
    InternalError,
)

OTHER_NAMES = {"threshold": "thresholds"}
"""Options whose argument in Python is not their name with underscores."""

_CHOICES = {
    "backend": settings.BACKENDS,
    "levels": settings.LEVELS,
    "mode": tuple(Mode),
    "odd-levels": ODD_LEVELS,
    "policy": settings.POLICIES,
    "precision": settings.PRECISIONS,
    "read-ahead": settings.READ_AHEAD,
    "reader": settings.READERS,
    "tissue": settings.TISSUE_METHODS,
    "writer": settings.WRITERS,
}
_LEADING = re.compile(r"^--(?P<name>[a-z][a-z0-9-]*) (?P<value>[^\s:]+)(?=: )")
_CHOSEN_WORDS = "|".join(f"{name} {word}" for name, words in _CHOICES.items() for word in words)
_CHOSEN = re.compile(rf"(?<![\w-])--(?:{_CHOSEN_WORDS})(?![\w-])")
_OPTION = re.compile(r"(?<![\w-])--([a-z][a-z0-9-]*)")
_OUTPUT = re.compile(r"(?<![\w-])-o(?![\w-])")


def in_words_of_python(message: str) -> str:
    """A message of the program with arguments of `analyse` in the place of options.

    Examples
    --------
    >>> in_words_of_python("--tissue-limit 3: expected an optical density above 0, up to 1")
    'tissue_limit=3: expected an optical density above 0, up to 1'
    >>> in_words_of_python("s.tif: has no µm/px; give --mpp, or take them as the model's with --levels scale")
    "s.tif: has no µm/px; give mpp, or take them as the model's with levels='scale'"
    """
    said = _LEADING.sub(lambda found: _assignment(found["name"], found["value"]), message)
    said = _CHOSEN.sub(lambda found: _assignment(*found[0].removeprefix("--").split(" ")), said)
    said = _OUTPUT.sub("output", _OPTION.sub(lambda found: _argument(found[1]), said))
    return said.replace("the same command with resume", "the same call with resume=True")


def _argument(option: str) -> str:
    return OTHER_NAMES.get(option, option.replace("-", "_"))


def _assignment(option: str, value: str) -> str:
    if option == "threshold":
        level, _, threshold = value.partition("=")
        return f"thresholds={{{level}: {threshold}}}"
    try:
        float(value)
    except ValueError:
        value = repr(value)
    return f"{_argument(option)}={value}"


@contextmanager
def raised_in_python(*inputs: Path) -> Iterator[None]:
    """Raise what goes wrong within as one of this module's errors.

    Parameters
    ----------
    inputs
        What is read: an `errors.InputError` about one that is not there is a `MissingInputError`.
    """
    try:
        yield
    except PyramidError as error:
        if isinstance(error, _CLASSES):
            raise
        told = _class_of(error, inputs)(in_words_of_python(str(error)))
        told.agreed = error.agreed
        raise told.with_traceback(error.__traceback__) from error.__cause__


def _class_of(error: PyramidError, inputs: tuple[Path, ...]) -> type[PyramidError]:
    if isinstance(error, errors.InputError) and any(
        str(error).startswith(f"{path}:") and _is_missing(path) for path in inputs
    ):
        return MissingInputError
    return next(one for one in _CLASSES if isinstance(error, one.__bases__[0]))


def _is_missing(path: Path) -> bool:
    try:
        path.stat()
    except (FileNotFoundError, NotADirectoryError):
        return True
    except (OSError, ValueError):  # there, or nobody knows
        return False
    return False
