"""Bytes of tiles, such as pictures, on a rank's disk between their coming and their place in a file."""

from __future__ import annotations

import errno
import os
import tempfile
from typing import TYPE_CHECKING, Self

from pyramidai_mpi.base.errors import StorageError

if TYPE_CHECKING:
    from pathlib import Path


class ByteSpool:
    """Bytes one after the other, appended and read back by their place; memory does not grow with them.

    They lie in a nameless file: it is gone when the process is, however that ends. Appended to by one thread at a time.

    Parameters
    ----------
    folder
        Where it lies.

    Raises
    ------
    StorageError
        When no file can be made there.
    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._end = 0
        try:
            # unbuffered: a full disk is met where it is written to, not in a later flush
            self._file = tempfile.TemporaryFile(prefix=".pyramidai-kept-", buffering=0, dir=folder)  # noqa: SIM115
        except OSError as error:
            raise self._failure(error) from error

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def append(self, data: bytes) -> None:
        """Add bytes.

        Raises
        ------
        StorageError
            When the disk is full.
        """
        view = memoryview(data)
        try:
            while view:
                written = os.pwrite(self._file.fileno(), view, self._end)
                if not written:
                    raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
                self._end += written
                view = view[written:]
        except OSError as error:
            raise self._failure(error) from error

    def read(self, place: int, length: int) -> bytes:
        """The bytes from a place on.

        Raises
        ------
        StorageError
            When the disk fails, or there are fewer.
        """
        try:
            data = os.pread(self._file.fileno(), length, place)
            if len(data) != length:
                raise OSError(errno.EIO, os.strerror(errno.EIO))
        except OSError as error:
            raise self._failure(error) from error
        return data

    def close(self) -> None:
        """Free the disk space; a second time does nothing."""
        self._file.close()

    def _failure(self, error: OSError) -> StorageError:
        return StorageError(
            f"{self._folder}: cannot keep pictures there until their file is written: {error.strerror or error}; make "
            "room, or name another folder"
        )
