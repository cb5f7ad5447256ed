"""Feature vectors on a rank's own disk between their computation and their place in the result file."""

from __future__ import annotations

import errno
import os
import tempfile
from typing import IO, TYPE_CHECKING

import numpy as np

from pyramidai_mpi.base.errors import StorageError

if TYPE_CHECKING:
    import numpy.typing as npt


class FeatureSpool:
    """Rows of float32 vectors by level, appended and read back by number; memory does not grow with them.

    One nameless temporary file a level, in the system's folder for such files (``TMPDIR``): it is gone when the process
    is, however that ends. Used by one thread at a time.
    """

    def __init__(self) -> None:
        self._files: dict[int, IO[bytes]] = {}

    def append(self, level: int, features: npt.NDArray[np.float32]) -> None:
        """Add rows, float32 (n, F), to a level; F is the same for all rows of a level.

        Raises
        ------
        StorageError
            When the disk is full.
        """
        data = np.ascontiguousarray(features, np.float32).reshape(-1).view(np.uint8)
        # the system would pass over a folder that it cannot use, and fill another
        folder = os.environ.get("TMPDIR")
        try:
            if level not in self._files:
                # unbuffered: a full disk is met here, not in a later flush
                self._files[level] = tempfile.TemporaryFile(prefix="pyramidai-features-", buffering=0, dir=folder)  # noqa: SIM115
            file = self._files[level]
            file.seek(0, os.SEEK_END)
            if file.write(data.data) != len(data):
                raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        except OSError as error:
            raise StorageError(
                f"{folder or tempfile.gettempdir()}: cannot keep features there: {error.strerror}; "
                "name a larger folder in TMPDIR"
            ) from error

    def read(self, level: int, rows: npt.NDArray[np.integer], width: int) -> npt.NDArray[np.float32]:
        """Rows of a level by number, in the order given: float32 (n, width)."""
        features = np.empty((len(rows), width), np.float32)
        if not len(rows):
            return features
        file = self._files[level]
        row_bytes = width * features.itemsize
        # rows next to each other in the file come in one read
        order = np.argsort(rows, kind="stable")
        ordered = rows[order]
        starts = np.flatnonzero(np.diff(ordered, prepend=ordered[0] - 2) != 1)
        for start, stop in zip(starts, [*starts[1:], len(ordered)], strict=True):
            file.seek(int(ordered[start]) * row_bytes)
            run = np.frombuffer(file.read(int(stop - start) * row_bytes), np.float32)
            features[order[start:stop]] = run.reshape(stop - start, width)
        return features

    def close(self) -> None:
        """Free the disk space."""
        for file in self._files.values():
            file.close()
        self._files.clear()
