"""What of a file the system keeps in memory: reading it there, and making it forget, so that reading can be timed."""

from __future__ import annotations

import os
from contextlib import contextmanager, suppress
from typing import TYPE_CHECKING

from pyramidai_mpi.base.errors import input_errors

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

_BLOCK = 8 << 20
_PLACES = 64


def remember(path: Path) -> None:
    """Read a whole file, so that the system has it in memory, as far as there is room.

    Raises
    ------
    InputError, StorageError
        When it cannot be read.
    """
    with _opened(path) as descriptor:
        while os.read(descriptor, _BLOCK):
            pass


def forget(path: Path) -> None:
    """Ask the system to drop what it keeps of a file (``POSIX_FADV_DONTNEED``), after what is not on the disk yet is.

    It may decline: `share_in_memory` says what it has done. A server of a network file system is not asked.

    Raises
    ------
    InputError, StorageError
        When the file cannot be opened.
    """
    with _opened(path) as descriptor:
        with suppress(OSError):  # a file system without flushing has nothing to flush
            os.fsync(descriptor)
        if hasattr(os, "posix_fadvise"):  # macOS has none
            os.posix_fadvise(descriptor, 0, 0, os.POSIX_FADV_DONTNEED)


def share_in_memory(path: Path) -> float | None:
    """About what share of a file the system has in memory; None where the file system cannot say.

    Reads that must not wait (``RWF_NOWAIT``, Linux 4.14) are tried at some places. The system may begin to fetch what
    is not there, a page for each: files of a few pages are in memory afterwards.

    Raises
    ------
    InputError, StorageError
        When the file cannot be read.
    """
    if not hasattr(os, "RWF_NOWAIT"):
        return None
    found = tried = 0
    with _opened(path) as descriptor:
        os.posix_fadvise(descriptor, 0, 0, os.POSIX_FADV_RANDOM)  # and what follows it is not fetched, too
        size = os.fstat(descriptor).st_size
        os.posix_fadvise(descriptor, 0, 0, os.POSIX_FADV_RANDOM)  # else some kernels read ahead even so
        for place in range(0, size, max(1, size // _PLACES)):
            tried += 1
            try:
                found += os.preadv(descriptor, [bytearray(1)], place, os.RWF_NOWAIT)
            except BlockingIOError:
                continue
            except OSError:  # not of this file system
                return None
    return found / tried if tried else None


@contextmanager
def _opened(path: Path) -> Iterator[int]:
    with input_errors(path):
        descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
        try:
            yield descriptor
        finally:
            os.close(descriptor)
