"""Errors by blame: the caller's mistake, the circumstances, or a bug of ours.

Each class carries the exit code of the command line (the ``sysexits.h`` numbers where they exist). A message says
what is wrong, where, and what to do next, in one line; the command line prints it as it is, without a traceback.
"""

from __future__ import annotations

import traceback
from contextlib import contextmanager
from enum import IntEnum
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator


class ExitCode(IntEnum):
    """Exit codes of the command line; every rank of a run leaves with the same one."""

    OK = 0
    TILES_FAILED = 3
    SLIDES_FAILED = 4
    USAGE = 64
    BAD_INPUT = 65
    INTERNAL = 70
    OUTPUT_EXISTS = 73
    IO = 74
    STOPPED = 75


class PyramidError(Exception):
    """Base of every error with a message meant for the user."""

    exit_code = ExitCode.INTERNAL
    agreed = False
    """Whether all ranks of the job raise the same error, so that none waits for another."""


class UsageError(PyramidError):
    """The caller asked for something that cannot be: a wrong option or value."""

    exit_code = ExitCode.USAGE


class InputError(PyramidError):
    """A slide, model, configuration or result that cannot be used as it is."""

    exit_code = ExitCode.BAD_INPUT


class OutputExistsError(PyramidError):
    """The output is already there, or another run is writing it; nothing was touched."""

    exit_code = ExitCode.OUTPUT_EXISTS


class StorageError(PyramidError):
    """The surroundings failed: disk full, permission denied, folder gone."""

    exit_code = ExitCode.IO


class StoppedError(PyramidError):
    """The user, the cluster or a time limit asked the run to stop; what was done is kept."""

    exit_code = ExitCode.STOPPED


class LostRankError(PyramidError):
    """A rank has died or stands still, and nobody could take its place."""

    exit_code = ExitCode.INTERNAL


class InternalError(PyramidError):
    """A bug: something the program promised itself does not hold."""

    exit_code = ExitCode.INTERNAL


@contextmanager
def input_errors(path: object) -> Iterator[None]:
    """Turn what the system says of an input that cannot be read into one line for the user."""
    try:
        yield
    except OSError as error:
        raise InputError(f"{path}: cannot be read: {error.strerror or error}; check the path and its rights") from error


def printable(text: str) -> str:
    """Text whose every character shows: a name in it can neither start a line nor command the terminal.

    Line breaks, escapes, characters that turn the direction of writing and bytes of no known encoding become escapes.
    """
    return "".join(c if c.isprintable() else c.encode("unicode_escape").decode("ascii") for c in text)


def failure_report(failure: BaseException, rank: int, size: int, host: str) -> str:
    """What a rank writes before it ends the job: one line when the error is the user's to mend, else the traceback."""
    if isinstance(failure, PyramidError) and not isinstance(failure, InternalError):
        return f"pyramidai: error: {printable(' '.join(str(failure).split()))} (rank {rank}, host {host})\n"
    trace = "".join(traceback.format_exception(failure))
    where = f"rank {rank} of {size} on host {host}"
    return f"{trace}pyramidai: {where} failed as above, which is a bug; ending the whole job\n"


ERROR_OF_EXIT_CODE: dict[int, type[PyramidError]] = {
    cls.exit_code: cls for cls in (UsageError, InputError, OutputExistsError, StorageError, StoppedError, InternalError)
}
