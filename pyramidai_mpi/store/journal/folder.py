"""Where a run keeps its journal.

Beside each result to be there is a folder of its own with the manifest, ``OUT.h5.journal``. The files of what was done,
one for each rank and start of a run, lie in it too when the run is of one slide; when it is of several, which share the
ranks, they lie in one folder for all, ``pyramidai.journal`` beside the results. A slide's records bear the tag of its
manifest, so it does not matter in which of the two they are found. In the shared folder each start has a lock of its
own, so that other runs see which files are still being written.
"""

from __future__ import annotations

import contextlib
import os
import re
import secrets
import shutil
from dataclasses import dataclass
from typing import TYPE_CHECKING

from pyramidai_mpi.base.errors import InputError, OutputExistsError, StorageError, input_errors
from pyramidai_mpi.base.presence import is_there
from pyramidai_mpi.store.files.lock import LockWatch, OutputLock
from pyramidai_mpi.store.files.placing import discard, flush_folder, storage_errors, temporary_name, user_name
from pyramidai_mpi.store.journal.manifest import read_manifest

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from pyramidai_mpi.store.journal.manifest import Manifest

MANIFEST_NAME = "manifest.json"
SHARED_NAME = "pyramidai.journal"
_ENDING = ".journal"
_FILE_NAME = re.compile(r"\d{4,}-[0-9a-f]{8}-\d{5,}\.tiles")
_SET_ASIDE = ".aside"
_NAME_OF_START = re.compile(r"\.?(\d{4,}-[0-9a-f]{8})(-\d{5,}\.tiles(\.aside|\..+\.part)?|\.lock)")
"""Of a rank's file, one that was set aside, one that was being brought from another disk, or the start's lock."""


@dataclass(frozen=True)
class JournalFolder:
    """A folder of a journal.

    Attributes
    ----------
    path
        ``OUT.h5.journal``, or ``pyramidai.journal``.
    """

    path: Path

    @classmethod
    def of(cls, output: Path) -> JournalFolder:
        """Folder of the journal of a result file."""
        return cls(output.with_name(f"{output.name}.journal"))

    @classmethod
    def shared_beside(cls, output: Path) -> JournalFolder:
        """Folder in which the ranks of a run of several slides keep their files, of which this is one's result."""
        return cls(output.with_name(SHARED_NAME))

    @property
    def exists(self) -> bool:
        """Whether there is something of that name."""
        return is_there(self.path)

    def create(self, manifest: Manifest) -> None:
        """Make the folder with its manifest, both flushed to the disk. An empty folder may be there already.

        Raises
        ------
        StorageError
            When the disk is full or fails.
        """
        target = self.path / MANIFEST_NAME
        temporary = temporary_name(target)
        with storage_errors(self.path):
            try:
                self.path.mkdir(exist_ok=True)
                with temporary.open("wb") as file:
                    file.write(manifest.to_bytes())
                    file.flush()
                    os.fsync(file.fileno())
                temporary.replace(target)
                flush_folder(self.path)
                flush_folder(self.path.parent)
            except OSError:
                discard(temporary)
                raise

    def check_rights(self) -> None:
        """See that this user may write there, if it is there.

        Raises
        ------
        StorageError
            It is another user's, who lets nobody else.
        """
        with contextlib.suppress(OSError):
            status = self.path.lstat()
            if not os.access(self.path, os.W_OK | os.X_OK):
                raise StorageError(
                    f"{self.path}: is the journal of {user_name(status.st_uid)}, who alone may go on from it or remove "
                    "it; ask them to, or name another output"
                )

    def manifest(self) -> Manifest | None:
        """The manifest; None when the run did not live to write it, so that nothing is lost without it.

        Raises
        ------
        InputError
            When it is damaged, or gone while files of ranks are there.
        """
        path = self.path / MANIFEST_NAME
        if is_there(path):
            return read_manifest(path)
        if self.files():
            raise InputError(
                f"{path}: is missing, so nobody knows what its files are of; start afresh with --overwrite"
            )
        return None

    def files(self) -> list[str]:
        """Names of the ranks' files, oldest start first; none where there is no folder.

        Raises
        ------
        InputError
            When the folder cannot be read.
        """
        return sorted(filter(_FILE_NAME.fullmatch, self._names()), key=lambda name: (_start_of(name), name))

    def _names(self) -> list[str]:
        with input_errors(self.path):
            try:
                return [entry.name for entry in os.scandir(self.path)]
            except FileNotFoundError:
                return []

    def starts(self) -> list[str]:
        """First parts of the names of all files, and of the locks of starts that have none yet."""
        return sorted({match[1] for match in map(_NAME_OF_START.fullmatch, self._names()) if match})

    def next_start(self) -> str:
        """First part of the names of the files of a new start: its number, and a word that no other run has."""
        return _start_word(max((_start_of(name) for name in self.files()), default=0) + 1)

    @staticmethod
    def first_start() -> str:
        """As `next_start`, for a folder that is not there yet."""
        return _start_word(1)

    def file_of_rank(self, start: str, rank: int) -> Path:
        """File of one rank of a start."""
        return self.path / f"{start}-{rank:05d}.tiles"

    def set_aside(self, file: Path) -> None:
        """Rename a rank's file, so that no start goes on from it; nothing where there is none.

        Raises
        ------
        StorageError
            When it cannot be renamed.
        """
        with storage_errors(self.path), contextlib.suppress(FileNotFoundError):
            file.rename(file.with_name(f"{file.name}{_SET_ASIDE}"))
            flush_folder(self.path)

    def make(self) -> None:
        """Make the folder of several slides' files, if it is not there.

        Raises
        ------
        StorageError
            When it cannot be made.
        """
        with storage_errors(self.path):
            self.path.mkdir(exist_ok=True)
        self.check_rights()

    def begin_start(self) -> tuple[str, OutputLock]:
        """Begin a start in the folder of several slides' files: as `next_start`, and its lock.

        Raises
        ------
        InputError, StorageError
            When the folder cannot be read or made.
        """
        return self._lock_start(self.next_start)

    def join_start(self, start: str) -> OutputLock:
        """The lock of a start that was begun on another disk; raises as `begin_start`."""
        return self._lock_start(lambda: start)[1]

    def _lock_start(self, name: Callable[[], str]) -> tuple[str, OutputLock]:
        while True:
            self.make()
            start = name()
            try:
                return start, OutputLock.take(self.path / start)
            except StorageError:
                if self.exists:  # else another run has just taken the empty folder away
                    raise

    def watch_starts(self, watch: LockWatch) -> None:
        """Begin to watch the locks of the starts there."""
        with contextlib.suppress(InputError, StorageError):
            for start in self.starts():
                watch.look(self.path / start)

    def remove_files(self, watch: LockWatch | None = None) -> None:
        """Remove the files of starts that are over, unless a slide beside has a journal still; then the empty folder.

        Records of any slide may stand in them, and nothing else tells which. The files of a run that is at work stay,
        also while it is between two slides.

        Parameters
        ----------
        watch
            What was seen of the locks of the starts before.
        """
        with contextlib.suppress(OSError, InputError, StorageError):
            for start in self.starts():
                if self._has_siblings():
                    return
                with contextlib.suppress(OutputExistsError, StorageError):
                    lock = OutputLock.take(self.path / start, patient=True, watch=watch)
                    try:
                        # looked at once more: the start may have begun a slide before it ended
                        for name in [] if self._has_siblings() else self._names():
                            match = _NAME_OF_START.fullmatch(name)
                            if match and match[1] == start and not name.endswith(".lock"):
                                (self.path / name).unlink(missing_ok=True)
                    finally:
                        lock.release()
            self.path.rmdir()

    def _has_siblings(self) -> bool:
        journals = [entry.name for entry in os.scandir(self.path.parent) if entry.name.endswith(_ENDING)]
        return journals != [self.path.name]

    def remove(self) -> bool:
        """Remove the journal; whether nothing is left of it."""
        with contextlib.suppress(OSError, InputError, StorageError):
            for name in self.files():  # before the manifest: without it, they are of nobody knows what
                (self.path / name).unlink()
        with contextlib.suppress(OSError):
            shutil.rmtree(self.path)
        with contextlib.suppress(InputError, StorageError):
            return not self.exists
        return False


def _start_word(number: int) -> str:
    return f"{number:04d}-{secrets.token_hex(4)}"


def _start_of(name: str) -> int:
    return int(name.partition("-")[0])
