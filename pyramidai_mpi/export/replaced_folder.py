"""Giving a finished folder its name, in place of an older one of the same kind where that is asked for."""

from __future__ import annotations

import re
import shutil
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING

from pyramidai_mpi.base.errors import OutputExistsError
from pyramidai_mpi.base.presence import is_there
from pyramidai_mpi.store.files.placing import (
    check_folder,
    check_replaceable,
    flush_folder,
    storage_errors,
    sweep,
    temporary_name,
)

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path


@dataclass(frozen=True)
class FolderKind:
    """What tells the folders that an export makes from all others: only such a one is ever replaced, whole.

    Attributes
    ----------
    title
        What errors call it, such as "a Deep Zoom picture".
    marker
        A file that each of them holds.
    names
        Regular expression that fits the path of all that is in it, at any depth, from the folder on and with slashes.
        One that holds anything else is somebody's own.
    folders
        Likewise of the folders in it alone, where names of files do not tell them from others.
    """

    title: str
    marker: str
    names: str
    folders: str = ""

    def is_one(self, folder: Path) -> bool:
        """Whether a folder holds what the export makes, and nothing else."""
        has_marker = False
        for path in folder.rglob("*"):
            name = path.relative_to(folder).as_posix()
            fits = self.folders if self.folders and path.is_dir() and not path.is_symlink() else self.names
            if not re.fullmatch(fits, name):
                return False
            has_marker |= name == self.marker
        return has_marker

    def check(self, folder: Path, *, overwrite: bool) -> None:
        """Find out before the work whether a folder could be made, or replaced, after it.

        Parameters
        ----------
        overwrite
            Replace one that is there. An empty folder is taken in any case.

        Raises
        ------
        OutputExistsError, StorageError
            When something is in the way, or the folder that it is to lie in is missing or cannot be written.
        """
        check_folder(folder.parent)
        if not is_there(folder):
            return
        if folder.is_symlink():
            raise OutputExistsError(f"{folder}: is a link, which is never replaced; name the folder that it leads to")
        if not folder.is_dir():
            raise OutputExistsError(f"{folder}: exists already and is no folder; name another folder")
        with storage_errors(folder):
            if not any(folder.iterdir()):
                return
            if not self.is_one(folder):
                raise OutputExistsError(f"{folder}: holds something else than {self.title}; name another folder")
        if not overwrite:
            raise OutputExistsError(f"{folder}: exists already; use --overwrite to replace it or name another folder")
        check_replaceable(folder)
        check_folder(folder)  # or what it holds could not be removed


@contextmanager
def replaced_folder(folder: Path, kind: FolderKind, *, overwrite: bool) -> Iterator[Path]:
    """Give a temporary folder to fill; it gets its name at the end, or nothing is left behind and the older one stays.

    Raises
    ------
    OutputExistsError, StorageError
        As `FolderKind.check`; and when writing fails.
    """
    _mend(folder, kind)
    kind.check(folder, overwrite=overwrite)
    temporary = temporary_name(folder)
    try:
        with storage_errors(temporary):
            temporary.mkdir()
            yield temporary
            kind.check(folder, overwrite=overwrite)
            _place(temporary, folder)
    finally:
        shutil.rmtree(temporary, ignore_errors=True)


def _older(folder: Path) -> Path:
    """Where the older folder stands while the new one takes its name: always the same, to be found after a kill."""
    return folder.with_name(f".{folder.name}.older")


def _mend(folder: Path, kind: FolderKind) -> None:
    """Put in order what a killed process has left: half a new folder, and the older one, which may have no name."""
    sweep(folder)
    older = _older(folder)
    if older.is_dir() and kind.is_one(older):
        with storage_errors(folder):
            if is_there(folder):
                _remove(older, folder)
            else:
                older.rename(folder)


def _place(temporary: Path, folder: Path) -> None:
    if folder.is_dir() and any(folder.iterdir()):
        folder.rename(_older(folder))
        try:
            temporary.rename(folder)
        except OSError:
            _older(folder).rename(folder)
            raise
        _remove(_older(folder), folder)
    else:
        temporary.rename(folder)  # replaces an empty folder
    flush_folder(folder.parent)


def _remove(older: Path, folder: Path) -> None:
    """Remove the older folder under a name by which the next export sweeps away what a kill leaves of it."""
    going = temporary_name(folder)
    older.rename(going)
    shutil.rmtree(going)
