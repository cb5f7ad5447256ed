"""Giving a finished file its name: nothing half-written is ever seen, nothing is ever replaced unasked."""

from __future__ import annotations

import contextlib
import errno
import hashlib
import os
import pwd
import re
import secrets
import shutil
import stat
from contextlib import contextmanager
from typing import TYPE_CHECKING

from pyramidai_mpi.base.errors import OutputExistsError, StorageError, UsageError, input_errors, machine_failure
from pyramidai_mpi.base.presence import is_there
from pyramidai_mpi.process.identity import ProcessIdentity, this_process

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence
    from pathlib import Path

FORGOTTEN_AFTER_S = 86400.0
"""A day: how long nothing was written to a temporary file of another machine's before it counts as left over."""
_MACHINE_DIGITS = 8
_ENDING = ".part"


def check_target(path: Path, *, overwrite: bool, inputs: Sequence[Path] = ()) -> None:
    """Find out before the work whether the file could be placed after it.

    Parameters
    ----------
    inputs
        What the work reads; it is never replaced, not even on request.

    Raises
    ------
    UsageError
        When the file is one of the inputs.
    OutputExistsError
        When something has that name already and `overwrite` is not set, or it is no plain file.
    StorageError
        When its folder is missing or cannot be written, or its name is too long.
    """
    check_folder(path.parent)
    check_length(path, temporary_name(path).name)
    check_no_input(path, inputs)
    if path.exists() and not path.is_file():
        raise OutputExistsError(f"{path}: is no plain file; name another output")
    if is_there(path) and not overwrite:
        raise OutputExistsError(f"{path}: exists already; use --overwrite to replace it or name another output")
    check_replaceable(path)


def check_replaceable(path: Path) -> None:
    """Raise `OutputExistsError` when there is something that only its owner may replace or remove."""
    owner = only_owner(path)
    if owner:
        raise OutputExistsError(
            f"{path}: exists already, and only its owner, {owner}, may replace it in this folder (it has the sticky "
            "bit); name another output"
        )


def only_owner(path: Path) -> str:
    """Name of another user who alone may remove or replace a file; empty where this one may, as far as that is seen.

    Folders that all may write to, as for scratch, have a sticky bit against removing what others have put there.
    """
    try:
        folder, status = path.parent.stat(), path.lstat()
    except OSError:
        return ""
    user = os.geteuid()
    if not folder.st_mode & stat.S_ISVTX or user in {0, folder.st_uid, status.st_uid}:
        return ""
    return user_name(status.st_uid)


def user_name(number: int) -> str:
    """Name of a user, for people; the number where the system has none."""
    try:
        return f"user {pwd.getpwuid(number).pw_name}"
    except KeyError:
        return f"user {number}"


def check_no_input(path: Path, inputs: Sequence[Path]) -> None:
    """Raise `UsageError` when a file to be made is one of those that the work reads."""
    for source in inputs:
        if path.exists() and source.exists() and path.samefile(source):
            raise UsageError(f"{path}: is an input of this command; name another output")


def check_length(path: Path, name: str) -> None:
    """Find out whether the file system takes a name that is made beside an output.

    Raises
    ------
    StorageError
        When it is too long.
    """
    length = len(os.fsencode(name))
    try:
        most = os.pathconf(path.parent, "PC_NAME_MAX")
    except OSError:
        return
    if length > most:
        raise StorageError(
            f"{path}: its name is too long: beside it goes one of {length} bytes, and the file system takes {most}; "
            f"name an output that is {length - most} bytes shorter"
        )


def check_folder(folder: Path) -> None:
    """Find out whether files could be made in a folder.

    Raises
    ------
    StorageError
        When it is missing or cannot be written.
    """
    try:
        mode = folder.stat().st_mode
    except OSError as error:
        if failure := machine_failure(error):
            raise failure from error
        said = f"{folder}: no such folder, or no right to enter it; make it first or name another"
        raise StorageError(said) from None
    if not stat.S_ISDIR(mode):
        raise StorageError(f"{folder}: is a file, and no folder; name another output")
    if not os.access(folder, os.W_OK | os.X_OK):
        raise StorageError(f"{folder}: no permission to write there; name an output in another folder")


def make_folder(folder: Path, option: str) -> None:
    """Make a folder and those it lies in, where there is none.

    Parameters
    ----------
    option
        Who asks for it, for the message.

    Raises
    ------
    StorageError
        When that cannot be done, or something else has the name.
    """
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        reason = "is there and no folder" if isinstance(error, FileExistsError) else f"cannot be made: {error.strerror}"
        raise StorageError(f"{folder}: {reason}; name another with {option}") from error


def temporary_name(path: Path) -> Path:
    """A hidden name in the same folder, new at each call: it says whose it is, and a random word tells it apart."""
    maker = this_process()
    mark = f"{_short(maker.machine)}-{maker.pid}-{maker.started:x}-{secrets.token_hex(4)}"
    return path.with_name(f".{path.name}.{mark}.part")


def _short(machine: str) -> str:
    """A few digits for a machine, for a name; none fit where the system does not tell which it is."""
    return hashlib.sha256(machine.encode()).hexdigest()[:_MACHINE_DIGITS] if machine else "0" * _MACHINE_DIGITS


def place(temporary: Path, path: Path, *, overwrite: bool, check: Callable[[], None] = lambda: None) -> None:
    """Flush a finished file to the disk and give it its name.

    Parameters
    ----------
    check
        Called right before that; raises when the name is not this run's to give any more.

    Raises
    ------
    OutputExistsError
        When something took the name in the meantime and `overwrite` is not set; the temporary file stays.
    """
    flush_file(temporary)
    check()
    if overwrite:
        temporary.replace(path)
    else:
        _rename_without_replacing(temporary, path)
    try:
        flush_folder(path.parent)
    except OSError:
        # A name that a loss of power may take back is no success. What was replaced cannot come back.
        if not overwrite:
            discard(path)
        raise


def _rename_without_replacing(temporary: Path, path: Path) -> None:
    # A hard link fails when the name is taken, in one step on every host; rename() would replace.
    try:
        os.link(temporary, path)
    except FileExistsError as error:
        raise OutputExistsError(
            f"{path}: another run wrote it in the meantime; use --overwrite to replace it or -o for another name"
        ) from error
    except OSError as error:
        if error.errno not in {errno.EPERM, errno.ENOTSUP, errno.ENOSYS, errno.EMLINK}:
            raise
        # A file system without hard links (FAT, network shares): take the name with an empty file, then replace it.
        try:
            os.close(os.open(path, os.O_CREAT | os.O_EXCL | os.O_WRONLY))
        except FileExistsError as taken:
            raise OutputExistsError(f"{path}: another run wrote it in the meantime") from taken
        try:
            temporary.replace(path)
        except OSError:
            path.unlink()
            raise
    else:
        discard(temporary)  # the file has its name; what is left of the other one is swept away by the next run


def stamp_of(path: Path) -> tuple[int, int] | None:
    """Size and time of change (ns) of a file, which tell it from the one that replaces it; None when there is none.

    Raises
    ------
    InputError, StorageError
        The system does not say: as `input_errors`.
    """
    with input_errors(path):
        try:
            status = path.stat()
        except (FileNotFoundError, NotADirectoryError):
            return None
    return status.st_size, status.st_mtime_ns


def flush_folder(folder: Path) -> None:
    """Flush a folder's list of names to the disk, where the file system can.

    Raises
    ------
    OSError
        When the disk fails; not for what cannot be flushed (no right to read it, some network file systems).
    """
    try:
        descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    except PermissionError:
        return
    try:
        os.fsync(descriptor)
    except OSError as error:
        if error.errno not in {errno.EINVAL, errno.ENOTSUP, errno.EROFS, errno.EBADF}:
            raise
    finally:
        os.close(descriptor)


def flush_file(path: Path) -> None:
    """Flush a closed file to the disk.

    Raises
    ------
    OSError
        When the disk fails.
    """
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


@contextmanager
def storage_errors(path: Path) -> Iterator[None]:
    """Turn what the system or HDF5 says of a failed write of `path` into one line for the user."""
    try:
        yield
    except (OSError, RuntimeError) as error:  # HDF5 reports a full disk as either
        reason = _reason(error)
        raise StorageError(f"{path.parent}: cannot write there: {reason}") from error


def _reason(error: BaseException) -> str:
    """The system's word, where HDF5 wraps it in its own; else the error's first line."""
    for number, text in ((errno.ENOSPC, "No space left on device"), (errno.EDQUOT, "Disk quota exceeded")):
        if text in str(error) or getattr(error, "errno", None) == number:
            return text
    return " ".join(str(error).split())[:200]


def sweep(path: Path, *, silent_s: float = FORGOTTEN_AFTER_S) -> None:
    """Remove temporary files, or folders, that killed processes have left beside a file; what a live one fills stays.

    Of this machine's processes it can be seen whether they have ended.

    Parameters
    ----------
    silent_s
        What another machine's process has made goes when nothing was written to it for so long, in the file system's
        time. Whoever holds the output's lock need not wait for a day.
    """
    name = re.compile(
        rf"\.{re.escape(path.name)}\.([0-9a-f]{{{_MACHINE_DIGITS}}})-(\d{{1,9}})-([0-9a-f]{{1,16}})-[0-9a-f]{{8}}\.part"
    )
    machine = this_process().machine
    with contextlib.suppress(OSError):
        names = [entry.name for entry in os.scandir(path.parent) if entry.name.endswith(_ENDING)]  # of many slides few
        found = [(path.parent / one, name.fullmatch(one)) for one in names]
        for temporary, match in found:
            if match is None:
                continue
            if machine and match[1] == _short(machine):
                is_left = ProcessIdentity(machine, int(match[2]), int(match[3], 16)).is_gone()
            else:
                is_left = time_there(path) - temporary.lstat().st_mtime >= silent_s
            if is_left:
                shutil.rmtree(temporary, ignore_errors=True)
                discard(temporary)


def time_there(path: Path) -> float:
    """What time it is for the file system of a path: the time of a file made now, in seconds since 1970."""
    probe = temporary_name(path)
    try:
        probe.touch(exist_ok=False)
        return probe.stat().st_mtime
    finally:
        discard(probe)


@contextmanager
def placed(target: Path, *, overwrite: bool = False, inputs: Sequence[Path] = ()) -> Iterator[Path]:
    """Give a temporary name to fill; what was written gets its own name at the end, or nothing is left behind.

    Raises
    ------
    UsageError, OutputExistsError, StorageError
        As `check_target`; and when writing fails.
    """
    check_target(target, overwrite=overwrite, inputs=inputs)
    sweep(target)
    temporary = temporary_name(target)
    try:
        with storage_errors(temporary):
            yield temporary
            place(temporary, target, overwrite=overwrite)
    finally:
        discard(temporary)


def check_free(path: Path) -> None:
    """Raise `OutputExistsError` when something has the name already, a dangling link too."""
    if is_there(path):
        raise OutputExistsError(f"{path}: exists already; name another folder")


@contextmanager
def placed_folder(target: Path, *, replaces: bool = False, makes_parents: bool = True) -> Iterator[Path]:
    """Give a temporary folder to fill; it gets its name at the end, or nothing is left behind.

    Parameters
    ----------
    target
        The folder to be.
    replaces
        Whether a folder of that name goes once the new one is complete; who allows that has looked at what it holds.
    makes_parents
        Whether the folders that it lies in are made where they are missing. Not after long work, which began when they
        were there: whoever moved them, or took their disk away, would find a part of the work in another place.

    Raises
    ------
    OutputExistsError
        When something has the name that is not to be replaced.
    StorageError
        When the folder cannot be made or filled.
    """
    is_replaced = replaces and target.is_dir() and not target.is_symlink()
    if not is_replaced:
        check_free(target)
    sweep(target)
    temporary, old = temporary_name(target), temporary_name(target)
    old_is_kept = False
    try:
        temporary.mkdir(parents=makes_parents)
        yield temporary
        if is_replaced:
            target.rename(old)
            old_is_kept = True
        check_free(target)
        temporary.rename(target)
        flush_folder(target.parent)
    except OSError as error:
        raise StorageError(f"{target}: cannot be written: {error.strerror or error}") from error
    finally:
        shutil.rmtree(temporary, ignore_errors=True)
        if old_is_kept:
            with contextlib.suppress(OSError, StorageError):  # then both stay
                if is_there(target):
                    shutil.rmtree(old, ignore_errors=True)
                else:
                    old.rename(target)


def discard(temporary: Path) -> None:
    """Remove a temporary file, if it is there."""
    with contextlib.suppress(OSError):
        temporary.unlink()
