"""Whether something has a name; no answer of the file system is no "no"."""

from __future__ import annotations

import errno
import os
from typing import TYPE_CHECKING

import pytest

from pyramidai_mpi.base.errors import (
    InputError,
    PyramidError,
    StorageError,
    failed_read,
    hdf5_errors,
    own_file_errors,
)
from pyramidai_mpi.base.presence import is_there
from pyramidai_mpi.slides.identity import FullHash
from pyramidai_mpi.store.files.lock import OutputLock
from pyramidai_mpi.store.files.placing import check_folder, check_free, check_target, stamp_of
from pyramidai_mpi.store.journal.folder import JournalFolder

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path


def test_it_is_what_has_the_name(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    (tmp_path / "link").symlink_to("nothing")
    assert [is_there(tmp_path / name) for name in ("file", "link", "other", "file/in it")] == [True, True, False, False]


@pytest.mark.parametrize("number", [errno.ESTALE, errno.EIO, errno.EACCES])
@pytest.mark.parametrize(
    "asks",
    [
        is_there,
        lambda path: JournalFolder.of(path).exists,
        OutputLock.is_there,
        check_free,
        lambda path: check_target(path, overwrite=False),
    ],
    ids=["is_there", "journal", "lock", "free", "target"],
)
def test_where_nobody_knows_nobody_says_no(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    asks: Callable[[Path], object],
    number: int,
) -> None:
    def fails(path: object, **_: object) -> os.stat_result:
        raise OSError(number, os.strerror(number), os.fspath(path))  # type: ignore[call-overload]

    monkeypatch.setattr(os, "lstat", fails)
    with pytest.raises(StorageError, match=rf"{tmp_path}.*: cannot be looked for: {os.strerror(number)}; "):
        asks(tmp_path / "out.h5")


def test_a_folder_on_a_disk_that_fails_is_not_said_to_be_missing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fails(path: object, **_: object) -> os.stat_result:
        raise OSError(errno.ESTALE, os.strerror(errno.ESTALE), os.fspath(path))  # type: ignore[call-overload]

    monkeypatch.setattr(os, "stat", fails)
    with pytest.raises(StorageError, match="Stale file handle; see to the machine"):
        check_folder(tmp_path)


@pytest.mark.parametrize(
    ("error", "kind"),
    [
        (FileNotFoundError(errno.ENOENT, "No such file or directory"), StorageError),
        (PermissionError(errno.EACCES, "Permission denied"), InputError),
        (OSError(errno.EIO, "Input/output error"), StorageError),
    ],
    ids=["gone", "no right", "failing disk"],
)
def test_a_file_of_the_program_s_own_that_has_gone_is_no_wrong_path(error: OSError, kind: type[PyramidError]) -> None:
    with pytest.raises(kind, match=r"manifest\.json: "), own_file_errors("manifest.json"):
        raise error


def test_a_time_of_change_that_nobody_tells_is_not_that_of_no_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert stamp_of(tmp_path / "out.h5") is None

    def fails(path: object, **_: object) -> os.stat_result:
        raise OSError(errno.ESTALE, os.strerror(errno.ESTALE), os.fspath(path))  # type: ignore[call-overload]

    monkeypatch.setattr(os, "stat", fails)
    with pytest.raises(StorageError, match=r"out\.h5: cannot be read: Stale file handle"):
        stamp_of(tmp_path / "out.h5")


def test_a_hash_that_a_disk_keeps_back_is_no_hash(tmp_path: Path) -> None:
    class Failing(type(tmp_path)):  # type: ignore[misc]
        def open(self, *_: object, **__: object) -> object:
            raise OSError(errno.EIO, os.strerror(errno.EIO))

    with pytest.raises(StorageError, match="Input/output error"):
        FullHash(Failing(tmp_path / "slide.tif")).result()


@pytest.mark.parametrize(
    ("error", "said"),
    [
        (OSError(errno.EIO, "Input/output error"), "a.h5: cannot be read: Input/output error; see to the disk"),
        (KeyError("Unable to open object (errno = 5, error message = 'Input/output error')"), "a.h5: cannot be read: "),
        (RuntimeError("can't start new thread"), "a.h5: cannot be read: memory or threads are used up"),
        (ValueError("no such dtype"), None),
        (OSError("truncated file: eof = 96"), None),
        (StorageError("the system says: Input/output error"), None),
    ],
)
def test_what_libraries_hand_on_of_a_disk_is_the_disk_s(error: Exception, said: str | None) -> None:
    failure = failed_read("a.h5", error)
    assert (failure is None) if said is None else str(failure).startswith(said)


def test_a_file_that_another_program_writes_is_no_failing_disk() -> None:
    with pytest.raises(InputError, match=r"a\.h5: another program has it open"), hdf5_errors("a.h5"):
        raise BlockingIOError(errno.EAGAIN, "Unable to lock file")
