"""One run at a time holds an output; a lock whose holder is gone is taken over, by one run only."""

from __future__ import annotations

import json
import os
import socket
import subprocess
import sys
import threading
import time
from dataclasses import replace
from typing import TYPE_CHECKING

import pytest

from pyramidai_mpi.base.errors import OutputExistsError, StorageError
from pyramidai_mpi.store.files import lock as locking
from pyramidai_mpi.store.files.lock import LockHolder, OutputLock

if TYPE_CHECKING:
    from pathlib import Path


@pytest.fixture
def output(tmp_path: Path) -> Path:
    return tmp_path / "out.h5"


def lock_of(output: Path) -> Path:
    return output.with_name("out.h5.lock")


def leave_lock(output: Path, holder: LockHolder, age_s: float = 0.0) -> None:
    lock_of(output).write_bytes(holder.to_bytes())
    then = time.time() - age_s
    os.utime(lock_of(output), (then, then))


@pytest.fixture
def gone() -> LockHolder:
    """A process of this host that has ended."""
    child = subprocess.Popen([sys.executable, "-c", ""])
    child.wait()
    return replace(LockHolder.this_process(), pid=child.pid)


@pytest.fixture
def elsewhere() -> LockHolder:
    return replace(LockHolder.this_process(), host="n7", machine="n7 another boot")


def test_it_says_who_holds_it_and_is_gone_after_release(output: Path) -> None:
    lock = OutputLock.take(output)
    said = json.loads(lock_of(output).read_text())
    assert (said["host"], said["pid"]) == (socket.gethostname(), os.getpid())
    # the 22nd field of /proc/PID/stat (proc(5)); this process's name has no blank in it
    assert str(said["started"]) == open("/proc/self/stat").read().rpartition(")")[2].split()[19]  # noqa: PTH123, SIM115
    lock.release()
    assert list(output.parent.iterdir()) == []


def test_a_second_run_is_told_who_holds_it_and_changes_nothing(output: Path) -> None:
    lock = OutputLock.take(output)
    before = lock_of(output).read_bytes()
    with pytest.raises(OutputExistsError, match=rf"process {os.getpid()} on host {socket.gethostname()}") as caught:
        OutputLock.take(output, patient=True)
    assert caught.value.exit_code == 73
    assert lock_of(output).read_bytes() == before
    lock.release()


def test_of_a_process_of_this_host_that_has_ended_it_is_stale_at_once(output: Path, gone: LockHolder) -> None:
    leave_lock(output, gone)
    OutputLock.take(output).release()
    assert list(output.parent.iterdir()) == []


def test_a_process_that_got_the_number_of_one_that_has_ended_does_not_hold_it(output: Path) -> None:
    own = LockHolder.this_process()
    leave_lock(output, replace(own, started=own.started - 5))
    OutputLock.take(output).release()


@pytest.mark.parametrize(("age_s", "is_free"), [(0, False), (50, False), (70, True)])
def test_of_another_host_it_is_stale_after_a_minute(
    output: Path, elsewhere: LockHolder, age_s: float, is_free: bool
) -> None:
    leave_lock(output, elsewhere, age_s)
    if is_free:
        OutputLock.take(output).release()
    else:
        with pytest.raises(OutputExistsError, match="host n7"):
            OutputLock.take(output)


def test_one_that_was_never_finished_names_nobody_and_is_stale_after_a_minute(output: Path) -> None:
    lock_of(output).write_bytes(b'{"host": "n')
    with pytest.raises(OutputExistsError, match="unknown"):
        OutputLock.take(output)
    then = time.time() - 70
    os.utime(lock_of(output), (then, then))
    OutputLock.take(output).release()


def test_with_patience_a_silent_lock_of_another_host_is_waited_for(
    output: Path, elsewhere: LockHolder, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(locking, "_POLL_S", 0.01)
    leave_lock(output, elsewhere, 59.5)
    OutputLock.take(output, patient=True).release()


def test_with_patience_a_lock_that_is_renewed_is_respected(
    output: Path, elsewhere: LockHolder, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(locking, "_POLL_S", 0.01)
    leave_lock(output, elsewhere, 30)
    renewal = threading.Timer(0.1, os.utime, [lock_of(output)])
    renewal.start()
    with pytest.raises(OutputExistsError):
        OutputLock.take(output, patient=True)
    renewal.join()


def test_it_is_renewed_while_it_is_held(output: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert locking.HEARTBEAT_S * 3 < locking.STALE_AFTER_S
    monkeypatch.setattr(locking, "HEARTBEAT_S", 0.01)
    lock = OutputLock.take(output)
    os.utime(lock_of(output), (0, 0))
    end = time.monotonic() + 10
    while lock_of(output).stat().st_mtime == 0:
        assert time.monotonic() < end
        time.sleep(0.01)
    lock.release()


def test_a_lock_that_another_run_has_taken_over_is_left_alone(output: Path, elsewhere: LockHolder) -> None:
    lock = OutputLock.take(output)
    leave_lock(output, elsewhere)
    lock.release()
    assert lock_of(output).read_bytes() == elsewhere.to_bytes()


def test_of_many_that_find_the_same_stale_lock_one_gets_it(output: Path, gone: LockHolder) -> None:
    for _ in range(10):
        leave_lock(output, gone)
        taken, refused = [], []
        start = threading.Barrier(8)

        def take(taken=taken, refused=refused, start=start) -> None:
            start.wait()
            try:
                taken.append(OutputLock.take(output))
            except OutputExistsError as error:
                refused.append(error)

        threads = [threading.Thread(target=take) for _ in range(8)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert (len(taken), len(refused)) == (1, 7)
        taken[0].release()
        assert list(output.parent.iterdir()) == []


def test_a_missing_folder_is_an_error_of_the_surroundings(tmp_path: Path) -> None:
    with pytest.raises(StorageError):
        OutputLock.take(tmp_path / "gone" / "out.h5")


@pytest.mark.timeout(10, method="signal")
def test_a_link_to_nothing_in_its_place_is_told_and_left(output: Path) -> None:
    lock_of(output).symlink_to("gone")
    with pytest.raises(OutputExistsError, match=r"out\.h5\.lock: is a link to nothing"):
        OutputLock.take(output, patient=True)
    assert lock_of(output).is_symlink()
