"""A file gets its name when it is whole and on the disk, and never takes another's place unasked."""

from __future__ import annotations

import errno
import os
import stat
from pathlib import Path

import pytest

from pyramidai_mpi.base.errors import OutputExistsError, StorageError
from pyramidai_mpi.store.files.placing import (
    check_target,
    discard,
    place,
    placed_folder,
    storage_errors,
    temporary_name,
)


def names_in(folder: Path) -> list[str]:
    return [path.name for path in folder.iterdir()]


@pytest.fixture
def finished(tmp_path):
    """A finished temporary file, and the name it is to get."""
    target = tmp_path / "out.h5"
    temporary = temporary_name(target)
    temporary.write_bytes(b"result")
    return temporary, target


def test_a_finished_file_gets_its_name_and_nothing_else_stays(finished):
    temporary, target = finished
    place(temporary, target, overwrite=False)
    assert target.read_bytes() == b"result"
    assert names_in(target.parent) == ["out.h5"]
    assert target.stat().st_nlink == 1


def test_a_name_that_was_taken_meanwhile_is_left_untouched(finished):
    temporary, target = finished
    target.write_bytes(b"another run's")
    with pytest.raises(OutputExistsError, match=r"out\.h5") as caught:
        place(temporary, target, overwrite=False)
    assert caught.value.exit_code == 73
    assert target.read_bytes() == b"another run's"


def test_a_dangling_link_of_that_name_is_left_untouched(finished):
    temporary, target = finished
    target.symlink_to("nowhere")
    with pytest.raises(OutputExistsError):
        place(temporary, target, overwrite=False)
    assert target.is_symlink()
    assert not (target.parent / "nowhere").exists()


def test_overwriting_replaces_in_one_step(finished):
    temporary, target = finished
    target.write_bytes(b"old")
    place(temporary, target, overwrite=True)
    assert target.read_bytes() == b"result"
    assert names_in(target.parent) == ["out.h5"]


@pytest.mark.parametrize("overwrite", [False, True])
def test_the_file_is_flushed_before_it_is_named_and_the_folder_after(finished, monkeypatch, overwrite):
    temporary, target = finished
    events = []
    real = os.fsync

    def fsync(descriptor):
        kind = "folder" if stat.S_ISDIR(os.fstat(descriptor).st_mode) else "file"
        events.append((kind, target.exists()))
        real(descriptor)

    monkeypatch.setattr(os, "fsync", fsync)
    place(temporary, target, overwrite=overwrite)
    assert events == [("file", False), ("folder", True)]


def without_hard_links(*_args, **_kwargs):
    raise OSError(errno.EPERM, "Operation not permitted")


def test_a_file_system_without_hard_links_works_too(finished, monkeypatch):
    monkeypatch.setattr(os, "link", without_hard_links)
    temporary, target = finished
    place(temporary, target, overwrite=False)
    assert target.read_bytes() == b"result"
    assert names_in(target.parent) == ["out.h5"]


def test_a_file_system_without_hard_links_replaces_nothing_either(finished, monkeypatch):
    monkeypatch.setattr(os, "link", without_hard_links)
    temporary, target = finished
    target.write_bytes(b"another run's")
    with pytest.raises(OutputExistsError):
        place(temporary, target, overwrite=False)
    assert target.read_bytes() == b"another run's"


def test_no_empty_file_is_left_under_the_name_when_the_last_step_fails(finished, monkeypatch):
    monkeypatch.setattr(os, "link", without_hard_links)

    def fails(*_args):
        raise OSError(errno.EIO, "Input/output error")

    monkeypatch.setattr(Path, "replace", fails)
    temporary, target = finished
    with pytest.raises(OSError, match="Input/output"):
        place(temporary, target, overwrite=False)
    assert not target.exists()


def test_an_error_of_the_disk_passes_and_names_nothing(finished, monkeypatch):
    def full(_descriptor):
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    temporary, target = finished
    with pytest.raises(StorageError, match="No space left") as caught, storage_errors(temporary):
        place(temporary, target, overwrite=False)
    assert caught.value.exit_code == 74
    assert not target.exists()


@pytest.mark.parametrize("error", [OSError(28, "No space left on device"), RuntimeError("HDF5: unable\nto extend")])
def test_what_a_failed_write_raises_becomes_one_line(tmp_path, error):
    with pytest.raises(StorageError) as caught, storage_errors(tmp_path / "a.part"):
        raise error
    assert "\n" not in str(caught.value)
    assert str(tmp_path) in str(caught.value)


def test_temporary_names_are_hidden_in_the_same_folder(tmp_path):
    name = temporary_name(tmp_path / "out.h5")
    assert name.parent == tmp_path
    assert name.name.startswith(".out.h5.")
    assert str(os.getpid()) in name.name


def test_a_free_name_in_a_folder_passes_and_nothing_is_made(tmp_path):
    check_target(tmp_path / "out.h5", overwrite=False)
    assert names_in(tmp_path) == []


@pytest.mark.parametrize("make", [Path.touch, lambda path: path.symlink_to("nowhere")], ids=["file", "dangling link"])
def test_a_taken_name_is_refused_before_the_work_unless_overwriting(tmp_path, make):
    target = tmp_path / "out.h5"
    make(target)
    with pytest.raises(OutputExistsError, match=r"out\.h5.*--overwrite") as caught:
        check_target(target, overwrite=False)
    assert caught.value.exit_code == 73
    check_target(target, overwrite=True)


@pytest.mark.parametrize("overwrite", [False, True])
def test_a_folder_is_never_replaced(tmp_path, overwrite):
    (tmp_path / "out.h5").mkdir()
    with pytest.raises(OutputExistsError, match="folder"):
        check_target(tmp_path / "out.h5", overwrite=overwrite)


def test_a_missing_folder_is_an_error_of_the_surroundings(tmp_path):
    with pytest.raises(StorageError, match=r"results.*no such folder") as caught:
        check_target(tmp_path / "results" / "out.h5", overwrite=False)
    assert caught.value.exit_code == 74
    assert not (tmp_path / "results").exists()


def test_a_folder_without_permission_is_an_error_of_the_surroundings(tmp_path, monkeypatch):
    monkeypatch.setattr(os, "access", lambda *_args: False)
    with pytest.raises(StorageError, match="permission"):
        check_target(tmp_path / "out.h5", overwrite=False)


def test_discarding_removes_what_is_there_and_minds_nothing_else(tmp_path):
    leftover = tmp_path / "a.part"
    leftover.touch()
    discard(leftover)
    discard(leftover)
    assert not leftover.exists()


def test_a_folder_gets_its_name_when_it_is_filled_whatever_a_killed_process_left(tmp_path):
    target = tmp_path / "deeper" / "package"
    left = temporary_name(target)
    left.mkdir(parents=True)
    (left / "old").touch()
    with placed_folder(target) as temporary:
        (temporary / "new").touch()
        assert not target.exists()
    assert names_in(target.parent) == ["package"]
    assert names_in(target) == ["new"]


def test_a_folder_that_could_not_be_filled_leaves_nothing(tmp_path):
    with pytest.raises(StorageError, match="No space left"), placed_folder(tmp_path / "package") as temporary:
        (temporary / "new").touch()
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
    assert names_in(tmp_path) == []


def test_a_folder_whose_name_was_taken_meanwhile_is_left_untouched(tmp_path):
    target = tmp_path / "package"
    with pytest.raises(OutputExistsError, match="package"), placed_folder(target):
        target.symlink_to("nowhere")
    assert names_in(tmp_path) == ["package"]
