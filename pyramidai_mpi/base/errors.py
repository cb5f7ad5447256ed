"""Errors by blame: the caller's mistake, the circumstances, or a bug of ours.

Each class carries the exit code of the command line (the ``sysexits.h`` numbers where they exist). A message says
what is wrong, where, and what to do next, in one line; the command line prints it as it is, without a traceback.
"""

from __future__ import annotations

import errno
import os
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


_OF_THE_MACHINE = {
    # a disk that fails or is full, also far away
    *("EIO", "ENOSPC", "EDQUOT", "EROFS", "EFBIG", "ESTALE", "EREMOTEIO", "ENODEV", "EUCLEAN", "EBADMSG", "ENOLCK"),
    # the way to it
    *("ETIMEDOUT", "EHOSTDOWN", "EHOSTUNREACH", "ENETDOWN", "ENETUNREACH", "ENETRESET", "ECONNREFUSED", "ECONNRESET"),
    *("ECONNABORTED", "ENOTCONN", "ESHUTDOWN", "ENOTRECOVERABLE", "EKEYEXPIRED", "ENOKEY", "ENOLINK", "ECOMM", "EBUSY"),
    # what a process may have of memory, files and threads
    *("ENOMEM", "EMFILE", "ENFILE", "EAGAIN", "ENOBUFS"),
}
"""What the system says when the machine fails, or has too little: neither a file's fault, nor a bug."""

_WORDS_OF_WANT = (
    "cannot allocate memory",
    "can't start new thread",
    "failed to map segment",
    "failed to allocate memory",
)
"""How Python, the dynamic loader and onnxruntime say it in exceptions of other kinds. `std::bad_alloc` is C++'s."""


_WORDS_OF_FAILURE = tuple(os.strerror(number) for number in (errno.EIO, errno.ESTALE, errno.ENOSPC, errno.EMFILE))
"""The commonest of them in the words in which a library hands on what the system said to it."""


def machine_failure(error: BaseException) -> StorageError | None:
    """What an exception says of the machine it was raised on, as one line; None when it says nothing of it.

    A disk that fails, memory, open files or threads that are used up: no fault of a file, and no bug.
    """
    if isinstance(error, OSError) and errno.errorcode.get(error.errno or 0) in _OF_THE_MACHINE:
        where = "" if error.filename is None else f"{error.filename}: "
        return StorageError(f"{where}the system says: {error.strerror or error}; see to the machine and run again")
    text = " ".join(str(error).split())
    failed_with = next((words for words in _WORDS_OF_FAILURE if words in text), None)
    if failed_with is not None and not isinstance(error, PyramidError):
        return StorageError(f"the system says: {failed_with}; see to the machine and run again")
    is_want = isinstance(error, ImportError | RuntimeError) and any(word in text.casefold() for word in _WORDS_OF_WANT)
    if isinstance(error, MemoryError) or is_want or "std::bad_alloc" in text:
        return StorageError(
            f"memory or threads are used up{limits_in_words()}: {text[:200] or 'out of memory'}; "
            "give each rank more, or start fewer on a machine"
        )
    return None


def limits_in_words() -> str:
    """The limit of this process's addresses, in brackets, for a message; nothing where there is none."""
    limit = address_limit()
    return "" if limit is None else f" (addresses are limited to {limit / 2**30:.3g} GiB: ulimit -v, h_vmem)"


def address_limit() -> int | None:
    """Most bytes of addresses that this process may have (``ulimit -v``, which SGE's h_vmem sets); None: no limit."""
    import resource

    least = min(
        (limit for limit in resource.getrlimit(resource.RLIMIT_AS) if limit != resource.RLIM_INFINITY), default=-1
    )
    return None if least < 0 else least


def failed_read(path: object, error: Exception) -> StorageError | None:
    """What an error in reading a file says of the disk or the machine, as one line; None when it is the file's own.

    Libraries hand on what the system said to them in errors of many kinds: h5py in KeyError, torch in RuntimeError.
    """
    failure = None if isinstance(error, PyramidError) else machine_failure(error)
    if failure is None:
        return None
    if isinstance(error, OSError):
        reason = error.strerror or error
        return StorageError(f"{path}: cannot be read: {reason}; see to the disk or the machine it is on")
    return StorageError(f"{path}: cannot be read: {failure}")


@contextmanager
def input_errors(path: object) -> Iterator[None]:
    """Turn what the system says of an input that cannot be read into one line for the user.

    Raises
    ------
    InputError
        There is no such file, or no right to read it.
    StorageError
        The disk fails, or the process has too little of something.
    """
    try:
        yield
    except OSError as error:
        raise failed_read(path, error) or InputError(
            f"{path}: cannot be read: {error.strerror or error}; check the path and its rights"
        ) from error


@contextmanager
def own_file_errors(path: object) -> Iterator[None]:
    """As `input_errors`, of a file that this run itself has found: where it has gone, no path was wrong.

    Raises
    ------
    InputError
        This user may not read it, or it is no file.
    StorageError
        It or its folder has gone meanwhile, or the disk fails.
    """
    try:
        with input_errors(path):
            yield
    except InputError as error:
        if isinstance(error.__cause__, FileNotFoundError | NotADirectoryError):
            raise StorageError(f"{path}: was there and is gone; see to the disk, then --resume") from error
        raise


@contextmanager
def hdf5_errors(path: object) -> Iterator[None]:
    """As `input_errors`, of what the HDF5 library says of a file.

    Raises
    ------
    InputError
        It is no HDF5 file, or damaged, or locked by who writes it.
    StorageError
        As there.
    """
    try:
        yield
    except BlockingIOError as error:
        raise InputError(f"{path}: another program has it open to write it; close it there and run again") from error
    except OSError as error:
        raise failed_read(path, error) or InputError(f"{path}: not a readable HDF5 file: {error}") from error


def printable(text: str) -> str:
    """Text whose every character shows: a name in it can neither start a line nor command the terminal.

    Line breaks, escapes, characters that turn the direction of writing and bytes of no known encoding become escapes.
    """
    return "".join(c if c.isprintable() else c.encode("unicode_escape").decode("ascii") for c in text)


def is_bug(error: BaseException) -> bool:
    """Whether an error is nobody's but ours."""
    return isinstance(error, InternalError) or not (isinstance(error, PyramidError) or machine_failure(error))


def exit_code_of(failure: BaseException) -> ExitCode:
    """What a process leaves with that an exception ends."""
    blamed = failure if isinstance(failure, PyramidError) else machine_failure(failure)
    return ExitCode.INTERNAL if blamed is None else blamed.exit_code


def failure_report(failure: BaseException, rank: int, size: int, host: str) -> str:
    """What a rank writes before it ends the job: one line when the error is the user's to mend, else the traceback."""
    blamed = failure if isinstance(failure, PyramidError) else machine_failure(failure)
    if blamed is not None and not isinstance(blamed, InternalError):
        return f"pyramidai: error: {printable(' '.join(str(blamed).split()))} (rank {rank}, host {host})\n"
    trace = "".join(traceback.format_exception(failure))
    where = f"rank {rank} of {size} on host {host}"
    return f"{trace}pyramidai: {where} failed as above, which is a bug; ending the whole job\n"


def traceback_lines(error: BaseException) -> str:
    """An error's traceback as an indented list, for the end of a message of the log."""
    lines = "".join(traceback.format_exception(error)).splitlines()
    return "".join(f"\n  {line}" for line in lines)


ERROR_OF_EXIT_CODE: dict[int, type[PyramidError]] = {
    cls.exit_code: cls for cls in (UsageError, InputError, OutputExistsError, StorageError, StoppedError, InternalError)
}
