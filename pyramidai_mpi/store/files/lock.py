"""One run at a time on one output, also from different hosts, without the file system's locks.

A lock is a file made exclusively, which says who made it: host, process number and start time of that process. A thread
of the holder's renews its time every few seconds. A lock is stale at once when its process is gone on this host, and
after 60 s without renewal when it is another's. Ages are taken between two times of the file system, so that clocks of
hosts need not agree.

Two runs may find the same stale lock. Whoever makes the file ``LOCK.WORD``, where WORD is the stale lock's own, may
replace it, and looks again before that whether the lock is still the stale one.
"""

from __future__ import annotations

import contextlib
import json
import os
import secrets
import threading
import time
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from pyramidai_mpi.base.errors import OutputExistsError
from pyramidai_mpi.process.host import host_name, pid_space
from pyramidai_mpi.store.files.placing import discard, flush_folder, storage_errors

HEARTBEAT_S = 10.0
STALE_AFTER_S = 60.0
_POLL_S = 1.0
_MOST_BYTES = 4096


@dataclass(frozen=True)
class LockHolder:
    """Who holds a lock.

    Attributes
    ----------
    host
        Name of the computer, for people.
    machine
        Its running system and the name space of its process numbers: where `pid` means something.
    pid, started
        Process number and its start, in clock ticks since the system's.
    word
        Different for each lock ever made.
    """

    host: str
    machine: str
    pid: int
    started: int
    word: str

    @classmethod
    def this_process(cls) -> LockHolder:
        """A new holder."""
        pid = os.getpid()
        return cls(host_name(), pid_space(), pid, _start_of(pid) or 0, secrets.token_hex(8))

    def is_here(self) -> bool:
        """Whether the process belongs to this machine, where it can be looked for."""
        return bool(self.machine) and self.machine == pid_space()

    def is_gone(self) -> bool:
        """Whether a process of this machine has ended."""
        try:
            os.kill(self.pid, 0)
        except PermissionError:  # another user's
            pass
        except (ProcessLookupError, OverflowError):
            return True
        return _start_of(self.pid) not in {None, self.started}

    def to_bytes(self) -> bytes:
        """The holder as JSON."""
        return json.dumps(asdict(self), sort_keys=True).encode() + b"\n"


class OutputLock:
    """The lock of one output, from its creation to `release`.

    Parameters
    ----------
    path
        ``OUT.h5.lock``.
    holder
        This process.
    """

    def __init__(self, path: Path, holder: LockHolder) -> None:
        self._path = path
        self._holder = holder
        self._released = threading.Event()
        self._heart = threading.Thread(target=self._beat, name="pyramidai-lock", daemon=True)
        self._heart.start()

    @staticmethod
    def is_there(output: Path) -> bool:
        """Whether an output is locked, by a run that may be gone."""
        return os.path.lexists(_lock_of(output))

    @classmethod
    def take(cls, output: Path, *, patient: bool = False) -> OutputLock:
        """Lock an output.

        Parameters
        ----------
        output
            The file to be written; the lock lies beside it.
        patient
            Wait for a lock of another host's until it is renewed or stale, at most about 60 s: a job that was killed
            there and started again here would otherwise meet its own past.

        Raises
        ------
        OutputExistsError
            Another run holds it, or a link that leads nowhere has the lock's name.
        StorageError
            The disk is full or fails.
        """
        path = _lock_of(output)
        holder = LockHolder.this_process()
        with storage_errors(path):
            while not _create(path, holder):
                found = _read(path)
                if found is None:
                    if path.is_symlink():
                        raise OutputExistsError(f"{path}: is a link to nothing where the output's lock goes; remove it")
                    continue  # released in this instant
                is_stale = found.is_gone() if found.is_here() else _is_silent(path, patient=patient)
                if not is_stale:
                    raise _held(output, found)
                if _replace_stale(path, found, holder):
                    break
                raise _held(output, _read(path) or found)
        return cls(path, holder)

    def release(self) -> None:
        """Remove the lock, if it is still this one."""
        self._released.set()
        if self._heart is not threading.current_thread():
            self._heart.join()
        with contextlib.suppress(OSError):
            if _read(self._path) == self._holder:
                self._path.unlink()

    def _beat(self) -> None:
        while not self._released.wait(HEARTBEAT_S):
            # a lock that another run has replaced is no longer ours to renew
            with contextlib.suppress(OSError):
                if _read(self._path) == self._holder:
                    os.utime(self._path)


def _lock_of(output: Path) -> Path:
    return output.with_name(f"{output.name}.lock")


def _create(path: Path, holder: LockHolder) -> bool:
    """Make the lock; False when there is one."""
    try:
        descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o666)
    except FileExistsError:
        return False
    try:
        os.write(descriptor, holder.to_bytes())
        os.fsync(descriptor)
    except OSError:
        discard(path)
        raise
    finally:
        os.close(descriptor)
    return True


def _read(path: Path) -> LockHolder | None:
    """Who holds the lock; None when there is none. One whose maker died while writing it names nobody."""
    try:
        with path.open("rb") as file:
            document: dict[str, Any] = json.loads(file.read(_MOST_BYTES))
        return LockHolder(
            str(document["host"]),
            str(document["machine"]),
            int(document["pid"]),
            int(document["started"]),
            "".join(letter for letter in str(document["word"]) if letter.isalnum()),
        )
    except FileNotFoundError:
        return None
    except (ValueError, KeyError, TypeError, RecursionError):
        return LockHolder("unknown", "", 0, 0, "unknown")


def _is_silent(path: Path, *, patient: bool) -> bool:
    """Whether nobody has renewed the lock for 60 s. With patience, wait to see it renewed or that old."""
    first = _last_sign(path)
    while True:
        last, now = _last_sign(path), _time_there(path)
        if last is None or now - last >= STALE_AFTER_S:
            return last is not None
        if not patient or last != first:
            return False
        time.sleep(_POLL_S)


def _last_sign(path: Path) -> float | None:
    try:
        return path.stat().st_mtime
    except FileNotFoundError:
        return None


def _time_there(path: Path) -> float:
    """What time it is for the file system: the time of a file made now."""
    probe = path.with_name(f".{path.name}.{secrets.token_hex(8)}")
    try:
        probe.touch(exist_ok=False)
        return probe.stat().st_mtime
    finally:
        discard(probe)


def _replace_stale(path: Path, stale: LockHolder, holder: LockHolder) -> bool:
    """Put this holder's lock in the place of a stale one; False when another run is quicker."""
    permit = path.with_name(f"{path.name}.{stale.word}")
    if not _create(permit, holder):
        other = _read(permit)
        # its maker died between two calls below; two runs that both find that could meet here, once in a blue moon
        if other is not None and (other.is_gone() if other.is_here() else _is_silent(permit, patient=False)):
            discard(permit)
        return False
    try:
        if _read(path) != stale:
            return False
        fresh = path.with_name(f"{path.name}.{holder.word}")
        if not _create(fresh, holder):
            return False
        fresh.replace(path)
        flush_folder(path.parent)
        return True
    finally:
        discard(permit)


def _held(output: Path, holder: LockHolder) -> OutputExistsError:
    return OutputExistsError(
        f"{output}: is being written by another run (process {holder.pid} on host {holder.host}); wait for it, or name "
        "another output"
    )


def _start_of(pid: int) -> int | None:
    """Start of a process in ticks since that of the system, -1 when it has ended; None when that cannot be seen."""
    try:
        stat = Path("/proc", str(pid), "stat").read_text()
    except OSError:
        return None
    fields = stat.rpartition(")")[2].split()
    # a zombie has ended; its parent has not asked for it yet
    return -1 if fields[0] in "ZX" else int(fields[19])
