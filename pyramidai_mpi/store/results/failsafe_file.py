"""HDF5 files that survive a failing disk.

When a write fails, the HDF5 library keeps trying to write what it holds, at each close and once more at the end of the
process, which it does not survive: seen with version 2.0.0, a full disk ended ranks with a segmentation fault and not
with an exit code. So the library writes through a file that never fails: from the first error on it takes what it is
given and drops it, and the error is raised when the library has let go.
"""

from __future__ import annotations

import os
from contextlib import contextmanager
from typing import TYPE_CHECKING, Literal

import h5py

from pyramidai_mpi.store.results.seal import FILE_VERSIONS

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path


class FailsafeFile:
    """A file whose writes never raise, in the words of `io.RawIOBase` as far as h5py uses them.

    Parameters
    ----------
    path
        The file.
    mode
        ``w`` to make it or make it anew, ``r+`` to change it.

    Attributes
    ----------
    error
        What went wrong first; None as long as all went well.
    """

    def __init__(self, path: Path, mode: Literal["w", "r+"]) -> None:
        self.error: OSError | None = None
        self._file = path.open({"w": "w+b", "r+": "r+b"}[mode], buffering=0)
        self._at = 0
        self._end = self._file.seek(0, os.SEEK_END)

    def close(self) -> None:
        """Close the file; what goes wrong is kept as well."""
        try:
            self._file.close()
        except OSError as error:
            self.error = self.error or error

    def raise_error(self) -> None:
        """Raise what went wrong first, if anything did."""
        if self.error is not None:
            raise self.error

    def seek(self, offset: int, whence: int = os.SEEK_SET) -> int:
        """Move to a place."""
        self._at = offset + {os.SEEK_SET: 0, os.SEEK_CUR: self._at, os.SEEK_END: self._end}[whence]
        return self._at

    def tell(self) -> int:
        """Where the next byte is read or written."""
        return self._at

    def read(self, size: int = -1) -> bytes:
        """Bytes from here on; zeros for those that were dropped."""
        data = bytearray(max(self._end - self._at, 0) if size < 0 else size)
        return bytes(data[: self.readinto(data)])

    def readinto(self, buffer: bytearray | memoryview) -> int:
        """Fill a buffer with bytes from here on; zeros for those that were dropped."""
        view = memoryview(buffer).cast("B")[: max(self._end - self._at, 0)]
        done = 0
        while done < len(view):
            piece = os.preadv(self._file.fileno(), [view[done:]], self._at + done)
            if not piece:
                view[done:] = bytes(len(view) - done)
                break
            done += piece
        self._at += len(view)
        return len(view)

    def write(self, data: bytes | memoryview) -> int:
        """Write bytes, or drop them once something has gone wrong."""
        view = memoryview(data).cast("B")
        done = 0
        try:
            while self.error is None and done < len(view):
                done += os.pwrite(self._file.fileno(), view[done:], self._at + done)
        except OSError as error:
            self.error = error
        self._at += len(view)
        self._end = max(self._end, self._at)
        return len(view)

    def truncate(self, size: int | None = None) -> int:
        """Set the file's length."""
        self._end = self._at if size is None else size
        try:
            if self.error is None:
                os.ftruncate(self._file.fileno(), self._end)
        except OSError as error:
            self.error = error
        return self._end

    def flush(self) -> None:
        """Nothing is held back."""


@contextmanager
def written_hdf5(path: Path, mode: Literal["w", "r+"]) -> Iterator[h5py.File]:
    """Open a result file for writing by one process.

    Raises
    ------
    OSError
        At the end, when not all of it could be written.
    """
    failsafe = FailsafeFile(path, mode)
    try:
        with h5py.File(failsafe, mode, libver=FILE_VERSIONS) as file:
            yield file
    except Exception:
        failsafe.raise_error()  # what HDF5 makes of it is no more than a consequence
        raise
    finally:
        failsafe.close()
    failsafe.raise_error()
