"""A file gets its name when it is whole and on the disk, and never takes another's place unasked."""

from __future__ import annotations

import errno
import os
import stat
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path

import pytest

from pyramidai_mpi.base.errors import OutputExistsError, StorageError
from pyramidai_mpi.process.identity import this_process
from pyramidai_mpi.store.files import placing
from pyramidai_mpi.store.files.placing import (
    check_folder,
    check_target,
    discard,
    make_folder,
    place,
    placed_folder,
    storage_errors,
    sweep,
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


def test_no_two_temporary_names_are_the_same_also_of_one_process(tmp_path):
    assert len({temporary_name(tmp_path / "out.h5") for _ in range(100)}) == 100


@pytest.fixture
def gone():
    """A temporary name of a process of this machine that has ended, for a path."""
    child = subprocess.Popen([sys.executable, "-c", ""])
    child.wait()
    return lambda path: name_of(path, replace(this_process(), pid=child.pid))


def name_of(path, process):
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(placing, "this_process", lambda: process)
        return temporary_name(path)


def aged(path, seconds):
    path.touch()
    then = time.time() - seconds
    os.utime(path, (then, then))
    return path


@pytest.mark.parametrize("silent_s", [0, 60, 86400])
def test_what_a_killed_process_left_is_swept_and_what_a_live_one_fills_is_not(tmp_path, gone, silent_s):
    output = tmp_path / "a.h5"
    aged(gone(output), 0)
    folder = gone(output)
    folder.mkdir()
    (folder / "in it").touch()
    own = aged(temporary_name(output), 1e6)
    recycled = name_of(output, replace(this_process(), started=5))
    recycled.touch()
    sweep(output, silent_s=silent_s)
    assert names_in(tmp_path) == [own.name]


def test_what_another_machine_made_is_swept_when_nothing_was_written_to_it_for_long(tmp_path):
    output, own = tmp_path / "a.h5", this_process()
    host, boot, space = own.machine.split()
    machines = [f"n7 {boot} {space}", f"{host} {boot[::-1]} {space}", f"{host} {boot} pid:[1]", ""]
    others = [replace(own, machine=machine, pid=10**6) for machine in machines]
    old, older = ([aged(name_of(output, other), age) for other in others] for age in (3600, 2 * 86400))
    sweep(output)
    assert sorted(names_in(tmp_path)) == sorted(path.name for path in old)
    new = [aged(name_of(output, other), 0) for other in others]
    sweep(output, silent_s=60)
    assert sorted(names_in(tmp_path)) == sorted(path.name for path in new)
    assert len(older) == len(new) == 4


@pytest.mark.parametrize("longer", ["a.h5x.h5", "a.h5.x.h5", "a.h5.0123abcd-1-1-0123abcd.h5", "a.h5.part", "b.a.h5"])
def test_what_is_of_a_longer_name_is_left_alone(tmp_path, gone, longer):
    name = gone(tmp_path / longer)
    name.touch()
    (tmp_path / longer).touch()
    sweep(tmp_path / "a.h5", silent_s=0)
    assert sorted(names_in(tmp_path)) == sorted([name.name, longer])


def test_a_file_is_not_placed_when_its_name_is_not_ours_any_more(finished):
    temporary, target = finished

    def lost():
        raise OutputExistsError("another run has taken our place")

    target.write_bytes(b"another run's")
    with pytest.raises(OutputExistsError, match="our place"):
        place(temporary, target, overwrite=True, check=lost)
    assert target.read_bytes() == b"another run's"


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


def test_a_folder_is_made_with_those_it_lies_in_and_may_be_there(tmp_path):
    (tmp_path / "there").mkdir()
    for name in ("there", "new", "new/deeper", "a/b/c"):
        make_folder(tmp_path / name, "--results-dir")
        assert (tmp_path / name).is_dir()


@pytest.mark.parametrize(
    ("name", "reason"), [("file", "no folder"), ("file/in", "Not a directory"), ("link", "no fold")]
)
def test_a_folder_that_cannot_be_made_is_74_and_one_line(tmp_path, name, reason):
    (tmp_path / "file").write_text("mine")
    (tmp_path / "link").symlink_to(tmp_path / "nowhere" / "at all")
    with pytest.raises(StorageError, match=rf"{name}: .*{reason}.*--results-dir") as caught:
        make_folder(tmp_path / name, "--results-dir")
    assert caught.value.exit_code == 74
    assert (tmp_path / "file").read_text() == "mine"


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


def test_a_folder_gets_its_name_when_it_is_filled_whatever_a_killed_process_left(tmp_path, gone):
    target = tmp_path / "deeper" / "package"
    left = gone(target)
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


def test_a_folder_that_has_gone_during_the_work_is_not_made_anew(tmp_path):
    gone = tmp_path / "gone" / "package"
    with pytest.raises(StorageError, match="cannot be written: No such file"), placed_folder(gone, makes_parents=False):
        pass
    assert names_in(tmp_path) == []
    with placed_folder(gone):
        pass
    assert names_in(tmp_path) == ["gone"]


def test_a_file_where_a_folder_is_named_is_said(tmp_path):
    (tmp_path / "a.tif").touch()
    with pytest.raises(StorageError, match=r"a\.tif: is a file, and no folder"):
        check_folder(tmp_path / "a.tif")


def test_a_folder_that_is_replaced_stays_until_the_new_one_is_whole(tmp_path, monkeypatch) -> None:
    target = tmp_path / "package"
    target.mkdir()
    (target / "old").touch()
    with pytest.raises(KeyError), placed_folder(target, replaces=True):
        raise KeyError
    rename = Path.rename

    def failing(self: Path, to: Path) -> Path:
        if to == target and not (self / "old").exists():
            raise OSError(errno.EIO, "Input/output error")
        return rename(self, to)

    with monkeypatch.context() as patched:
        patched.setattr(Path, "rename", failing)
        with pytest.raises(StorageError, match="Input/output"), placed_folder(target, replaces=True) as temporary:
            (temporary / "new").touch()
    assert names_in(tmp_path) == ["package"]
    assert names_in(target) == ["old"]
    with placed_folder(target, replaces=True) as temporary:
        (temporary / "new").touch()
    assert names_in(tmp_path) == ["package"]
    assert names_in(target) == ["new"]
