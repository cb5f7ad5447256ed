"""Writing a rank's journal: after every batch, flushed to the disk every few seconds."""

from __future__ import annotations

import contextlib
import errno
import os
import threading
import time
from typing import TYPE_CHECKING

import numpy as np

from pyramidai_mpi.base.errors import OutputExistsError, StorageError
from pyramidai_mpi.base.presence import is_there
from pyramidai_mpi.store.files.placing import flush_folder
from pyramidai_mpi.store.journal.format import file_head, frame_of

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    import numpy.typing as npt

    from pyramidai_mpi.store.journal.format import RecordFormat

SYNC_PERIOD_S = 4.0
"""Between two fsyncs while there is something to flush; with what an fsync takes, below 5 s."""


class JournalWriter:
    """Appends one rank's batches to a file of its own, which the first batch makes.

    `append` is called by one thread. A thread of the writer's flushes to the disk by time, also while nothing is
    appended; what goes wrong there is raised by the next `append` or by `close`.

    Parameters
    ----------
    path
        A name that nothing has yet.
    record_format
        Of the records.
    is_shared
        Whether it may hold records of several slides. Another run, to which this one counts as killed when it was not
        heard of for a minute, may remove it: such a file is made anew then. With a slide's own file its lock is lost.
    """

    def __init__(self, path: Path, record_format: RecordFormat, *, is_shared: bool = False) -> None:
        self._path = path
        self._is_shared = is_shared
        self._format = record_format
        self._file: int | None = None
        self._key = b""
        self._number = 0
        self._good_bytes = 0
        self._unflushed = self._name_unflushed = False
        self._failure: OSError | None = None
        self._closing = threading.Event()
        self._flusher = threading.Thread(target=self._flush_by_time, name="pyramidai-journal", daemon=True)
        self.seconds = 0.0
        """Wall time inside `append` so far."""

    def append(
        self,
        slide: int,
        records: npt.NDArray[np.void],
        failed: npt.NDArray[np.void],
        features: npt.NDArray[np.float32] | None = None,
        kept: bytes = b"",
    ) -> None:
        """Add the tiles of one batch, which share a slide and a level.

        Parameters
        ----------
        slide
            Tag of the slide's manifest.
        records, failed
            Records of the format; `failed` has one for each unreadable tile of the batch.
        features
            float32 (n, F), a row a tile, where the level has any.
        kept
            What else is kept of the tiles, as many bytes as their records say.

        Raises
        ------
        OutputExistsError
            Another run has removed the file.
        StorageError
            The disk is full or fails. What was appended before stays readable.
        """
        if not len(records):
            return
        started = time.perf_counter()
        vectors = b"" if features is None else np.ascontiguousarray(features, "<f4").tobytes()
        payload = b"".join((records.tobytes(), failed.tobytes(), vectors, kept))
        assert len(payload) == self._format.payload_bytes(records, len(failed))
        with self._storage_errors():
            if self._failure is not None:
                raise self._failure
            if self._file is None:
                self._file = self._create()
                self._flusher.start()
            elif self._is_gone(self._file):
                self._refuse_unless_shared()
                anew = self._create()
                os.dup2(anew, self._file)  # in one step, as the flusher may be at it
                os.close(anew)
            self._write(self._file, frame_of(self._number, slide, len(records), len(failed), payload, self._key))
            self._number += 1
        self.seconds += time.perf_counter() - started

    def close(self) -> None:
        """Flush and close.

        Raises
        ------
        StorageError
            When not everything reached the disk.
        """
        self._closing.set()
        if self._file is None:
            return
        self._flusher.join()
        file, self._file = self._file, None
        with self._storage_errors():
            try:
                if self._failure is not None:
                    raise self._failure
                self._flush(file)
            finally:
                os.close(file)

    def _is_gone(self, file: int) -> bool:
        """Whether another run has removed the file."""
        try:
            return os.fstat(file).st_nlink == 0
        except OSError as error:
            if error.errno != errno.ESTALE or is_there(self._path):
                raise
            return True

    def _refuse_unless_shared(self) -> None:
        if not self._is_shared:
            self._path.parent.parent.stat()  # the results' folder is gone, or its disk: that is nobody else's run
            raise OutputExistsError(
                f"{self._path.parent}: was removed, so another run has taken the place of this one, which was not "
                "heard of for a minute; see whether that one finishes, else start again"
            )

    def _create(self) -> int:
        """Make the file, with its head; its descriptor."""
        flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_APPEND | os.O_CLOEXEC
        try:
            file = os.open(self._path, flags, 0o666)
        except FileNotFoundError:
            self._refuse_unless_shared()
            self._path.parent.mkdir(exist_ok=True)
            file = os.open(self._path, flags, 0o666)
        head, self._key = file_head(self._format.to_bytes(), self._path.name)
        self._good_bytes = self._number = 0
        self._write(file, head)
        self._name_unflushed = True
        return file

    def _write(self, file: int, data: bytes) -> None:
        view = memoryview(data)
        try:
            while view:
                written = os.write(file, view)
                if not written:
                    raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
                view = view[written:]
        except OSError:
            # half a frame would be taken for a torn end, but it need not stay
            with contextlib.suppress(OSError):
                os.ftruncate(file, self._good_bytes)
            raise
        self._good_bytes += len(data)
        self._unflushed = True

    def _flush_by_time(self) -> None:
        while not self._closing.wait(SYNC_PERIOD_S):
            if self._file is not None:
                try:
                    self._flush(self._file)
                except OSError as error:
                    self._failure = error
                    return

    def _flush(self, file: int) -> None:
        """Bring what was written, and once the file's name, to the disk."""
        if self._unflushed:
            self._unflushed = False
            os.fsync(file)
        if self._name_unflushed:
            self._name_unflushed = False
            with contextlib.suppress(FileNotFoundError):  # removed with the file, which the next batch makes anew
                flush_folder(self._path.parent)

    @contextlib.contextmanager
    def _storage_errors(self) -> Iterator[None]:
        try:
            yield
        except OSError as error:
            raise StorageError(
                f"{self._path}: cannot write the journal: {error.strerror or error}; "
                "what was finished before is kept, and --resume goes on from it once the disk takes data again"
            ) from error
