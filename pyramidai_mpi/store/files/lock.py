"""One run at a time on one output, also from different hosts, without the file system's locks.

A lock is a file made exclusively, which says who made it: machine, process number and start of that process. A thread
of the holder's renews its time every few seconds. A lock is stale at once when its process is gone on this machine;
another's is stale when whoever wants it has seen no renewal for 60 s by a clock of its own, so that no clocks of hosts
or file systems are compared.

Several runs may find the same stale lock. Whoever makes the file ``LOCK.WORD``, where WORD is the stale lock's own, may
replace it, and looks again before that whether the lock is still the stale one. A holder that stood still for so long
has lost its lock, and finds that out (`OutputLock.check`) before it gives its result the name.
"""

from __future__ import annotations

import contextlib
import json
import os
import re
import secrets
import stat
import threading
import time
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

from pyramidai_mpi.base.errors import OutputExistsError
from pyramidai_mpi.base.presence import is_there
from pyramidai_mpi.process.host import host_name
from pyramidai_mpi.process.identity import ProcessIdentity, this_process
from pyramidai_mpi.store.files.placing import (
    discard,
    flush_folder,
    only_owner,
    storage_errors,
    sweep,
    temporary_name,
)

if TYPE_CHECKING:
    from pathlib import Path

HEARTBEAT_S = 10.0
STALE_AFTER_S = 60.0
_POLL_S = 1.0
_MOST_BYTES = 4096
_WORD = "[0-9a-f]{16}|unknown"


@dataclass(frozen=True)
class LockHolder(ProcessIdentity):
    """Who holds a lock.

    Attributes
    ----------
    host
        Name of the computer, for people.
    word
        Different for each lock ever made.
    """

    host: str
    word: str

    @classmethod
    def this_process(cls) -> LockHolder:
        """A new holder."""
        return cls(**asdict(this_process()), host=host_name(), word=secrets.token_hex(8))

    def to_bytes(self) -> bytes:
        """The holder as JSON."""
        return json.dumps(asdict(self), sort_keys=True).encode() + b"\n"


_NOBODY = LockHolder("", 0, 0, "unknown", "unknown")
"""Of a lock whose maker died while writing it, or that is another's secret."""


@dataclass(frozen=True)
class _Sight:
    """A lock at one moment. Each renewal, and each other lock, changes it."""

    holder: LockHolder
    changed_ns: int
    inode: int


class LockWatch:
    """What a process has seen of other machines' locks, by a clock that nobody sets."""

    def __init__(self) -> None:
        self._seen: dict[Path, tuple[_Sight | None, float]] = {}

    def look(self, output: Path) -> None:
        """Begin to watch the lock of an output, if there is one; who wants many begins with all."""
        with contextlib.suppress(OSError, OutputExistsError):  # told by whoever takes it
            self._silence_of(_lock_of(output))

    def is_silent(self, lock: Path, seen: _Sight, *, patient: bool) -> bool:
        """Whether nobody has renewed a lock for 60 s. With patience, wait to see it renewed or that silent."""
        while True:
            first, _ = self._seen.get(lock, (seen, 0.0))
            now, silent_s = self._silence_of(lock)
            if now != first or now != seen:
                return False
            if silent_s >= STALE_AFTER_S or not patient:
                return silent_s >= STALE_AFTER_S
            time.sleep(min(_POLL_S, STALE_AFTER_S - silent_s))

    def _silence_of(self, lock: Path) -> tuple[_Sight | None, float]:
        sight, now = _look(lock), time.monotonic()
        first, since = self._seen.get(lock, (None, now))
        if sight is None or sight != first:
            since = now
        self._seen[lock] = sight, since
        return sight, now - since


class OutputLock:
    """The lock of one output, from its creation to `release`.

    Parameters
    ----------
    output
        The file to be written; the lock, ``OUT.h5.lock``, lies beside it.
    holder
        This process.
    """

    def __init__(self, output: Path, holder: LockHolder) -> None:
        self._output, self._path = output, _lock_of(output)
        self._holder = holder
        self._released = threading.Event()
        self._heart = threading.Thread(target=self._beat, name="pyramidai-lock", daemon=True)
        self._heart.start()

    @staticmethod
    def is_there(output: Path) -> bool:
        """Whether an output is locked, by a run that may be gone."""
        return is_there(_lock_of(output))

    @classmethod
    def take(cls, output: Path, *, patient: bool = False, watch: LockWatch | None = None) -> OutputLock:
        """Lock an output.

        Parameters
        ----------
        output
            The file to be written.
        patient
            Wait for a lock of another machine's until it is renewed or stale, at most about 60 s: nothing else tells
            whether its run is at work or was killed.
        watch
            What this process has seen of the lock before.

        Raises
        ------
        OutputExistsError
            Another run holds it, or something else than a file has the lock's name.
        StorageError
            The disk is full or fails.
        """
        path, watch = _lock_of(output), watch or LockWatch()
        holder = LockHolder.this_process()
        with storage_errors(path):
            while not _create(path, holder):
                found = _look(path)
                if found is None:
                    continue  # released in this instant
                is_stale = _is_stale(path, found, watch, patient=patient)
                if is_stale and (owner := only_owner(path)):
                    raise OutputExistsError(
                        f"{path}: is left by a run that is gone, and only its owner, {owner}, may remove it in this "
                        "folder (it has the sticky bit); ask them to, or name another output"
                    )
                if is_stale and _replace(path, found, holder, watch, patient=patient):
                    _sweep_permits(path)
                    break
                if (now := _look(path)) is not None:  # else released while it was watched
                    raise _held(output, now.holder)
        return cls(output, holder)

    def is_held(self) -> bool:
        """Whether the lock is still this one.

        Raises
        ------
        OSError
            That cannot be seen.
        """
        with contextlib.suppress(OutputExistsError):
            found = _look(self._path)
            return found is not None and found.holder == self._holder
        return False

    def check(self) -> None:
        """See that the lock is still this one; nothing may be given its name or removed otherwise.

        Raises
        ------
        OutputExistsError
            It is not: another run has taken the place of this one, which must have stood still for a minute.
        StorageError
            That cannot be seen, or the lock's folder is gone.
        """
        with storage_errors(self._path):
            is_held = self.is_held()
            if not is_held:
                self._path.parent.stat()  # gone, or its disk: that is nobody else's run
        if not is_held:
            raise OutputExistsError(
                f"{self._output}: another run has taken the place of this one, which was not heard of for "
                f"{STALE_AFTER_S:.0f} s (suspended, or its disk did not answer) or whose lock was removed; nothing of "
                "this one is kept: see whether the other one finishes, else use --resume"
            )

    def release(self) -> None:
        """Remove the lock, if it is still this one."""
        self._released.set()
        if self._heart is not threading.current_thread():
            self._heart.join()
        for _ in range(2):  # over a network the first look may fail
            with contextlib.suppress(OSError):
                if self.is_held():
                    self._path.unlink()
                return

    def _beat(self) -> None:
        while not self._released.wait(HEARTBEAT_S):
            # a lock that another run has replaced is no longer ours to renew
            with contextlib.suppress(OSError):
                if self.is_held():
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


def _look(path: Path) -> _Sight | None:
    """The lock as it is now; None when there is none. It is opened, as network file systems remember times for long.

    Raises
    ------
    OutputExistsError
        Something else has its name.
    """
    try:
        status, text = path.lstat(), b""
        if not stat.S_ISREG(status.st_mode):
            what = "a link to nothing" if path.is_symlink() and not path.exists() else "no plain file"
            raise OutputExistsError(f"{path}: is {what} where the output's lock goes; remove it")
        with contextlib.suppress(PermissionError):  # another user's, and private: seen from outside
            descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NOFOLLOW | os.O_NONBLOCK)
            try:
                status, text = os.fstat(descriptor), os.read(descriptor, _MOST_BYTES)
            finally:
                os.close(descriptor)
    except FileNotFoundError:
        return None
    return _Sight(_holder_of(text), status.st_mtime_ns, status.st_ino)


def _holder_of(text: bytes) -> LockHolder:
    try:
        document: dict[str, Any] = json.loads(text)
        return LockHolder(
            str(document["machine"]),
            int(document["pid"]),
            int(document["started"]),
            str(document["host"]),
            str(document["word"]) if re.fullmatch(_WORD, str(document["word"])) else "unknown",
        )
    except (ValueError, KeyError, TypeError, OverflowError, RecursionError):
        return _NOBODY


def _is_stale(path: Path, found: _Sight, watch: LockWatch, *, patient: bool) -> bool:
    return found.holder.is_gone() if found.holder.is_here() else watch.is_silent(path, found, patient=patient)


def _replace(path: Path, stale: _Sight, holder: LockHolder, watch: LockWatch, *, patient: bool) -> bool:
    """Put this holder's lock in the place of a stale one; False when another run is quicker."""
    permit = path.with_name(f"{path.name}.{stale.holder.word}")
    if not _create(permit, holder):
        # its maker may have died between two calls below; its place is taken like that of any lock
        other = _look(permit)
        if other is None or not _is_stale(permit, other, watch, patient=patient):
            return False
        if not _replace(permit, other, holder, watch, patient=patient):
            return False
    fresh = temporary_name(path)
    try:
        if _look(path) != stale or not _create(fresh, holder):
            return False
        fresh.replace(path)
        flush_folder(path.parent)
        return True
    finally:
        discard(fresh)
        discard(permit)


def _sweep_permits(path: Path) -> None:
    """Remove what runs that died while taking over left beside a lock now held; no word of theirs comes back."""
    sweep(path, silent_s=STALE_AFTER_S)
    permit = re.compile(rf"{re.escape(path.name)}(\.({_WORD}))+")
    with contextlib.suppress(OSError):
        for entry in os.scandir(path.parent):
            if permit.fullmatch(entry.name):
                discard(path.parent / entry.name)


def _held(output: Path, holder: LockHolder) -> OutputExistsError:
    # of a run here it was seen that it lives
    unseen = "" if holder.is_here() else ", or use --resume if it was killed"
    return OutputExistsError(
        f"{output}: is being written by another run (process {holder.pid} on host {holder.host}); wait for it{unseen}, "
        "or name another output"
    )
