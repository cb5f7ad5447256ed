"""One run at a time holds an output; a lock whose holder is gone is taken over, by one run only."""

from __future__ import annotations

import errno
import json
import os
import socket
import subprocess
import sys
import threading
import time
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from pyramidai_mpi.base.errors import OutputExistsError, StorageError
from pyramidai_mpi.store.files import lock as locking
from pyramidai_mpi.store.files.lock import LockHolder, LockWatch, OutputLock

if TYPE_CHECKING:
    from collections.abc import Callable


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


@pytest.mark.parametrize("pid", [0, -1, 2**40, 10**30])
def test_what_is_no_process_number_holds_nothing(output: Path, pid: int) -> None:
    leave_lock(output, replace(LockHolder.this_process(), pid=pid))
    OutputLock.take(output).release()


class Clock:
    """In place of `time`: sleeping takes no time, and something may happen meanwhile."""

    def __init__(self) -> None:
        self.now = 1000.0
        self.meanwhile = lambda: None

    def monotonic(self) -> float:
        return self.now

    def sleep(self, seconds: float) -> None:
        self.now += seconds
        self.meanwhile()


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    clock = Clock()
    monkeypatch.setattr(locking, "time", clock)
    return clock


@pytest.mark.parametrize("age_s", [-1e6, 0, 50, 1e6], ids="its time is {} s ago".format)
def test_of_another_machine_it_is_stale_after_a_minute_of_our_own_whatever_the_clocks_say(
    output: Path, elsewhere: LockHolder, clock: Clock, age_s: float
) -> None:
    leave_lock(output, elsewhere, age_s)
    with pytest.raises(OutputExistsError, match=r"host n7.*--resume if it was killed"):
        OutputLock.take(output)
    assert clock.now == 1000
    OutputLock.take(output, patient=True).release()
    assert clock.now == 1060
    assert list(output.parent.iterdir()) == []


@pytest.mark.parametrize("others", [{"pid": 10**6}, {}, {"started": 5}], ids=["gone here", "ours", "another's here"])
@pytest.mark.parametrize("machine", ["", "another boot", "another name space"])
def test_a_process_number_of_another_boot_or_name_space_is_not_looked_for_here(
    output: Path, clock: Clock, machine: str, others: dict[str, int]
) -> None:
    own = LockHolder.this_process()
    host, boot, space = own.machine.split()
    machines = {"another boot": f"{host} {boot[::-1]} {space}", "another name space": f"{host} {boot} pid:[1]"}
    holder = replace(own, machine=machines.get(machine, ""), word="0" * 16, **others)
    leave_lock(output, holder, 1000)
    with pytest.raises(OutputExistsError):
        OutputLock.take(output)
    clock.meanwhile = lambda: os.utime(lock_of(output))
    with pytest.raises(OutputExistsError):
        OutputLock.take(output, patient=True)
    assert lock_of(output).read_bytes() == holder.to_bytes()


@pytest.mark.parametrize(
    "text",
    [b"", b'{"host": "n', b"null", b"[" * 5000, b'{"machine": 1, "pid": Infinity, "started": 1, "host": 1, "word": 1}'],
)
def test_one_that_cannot_be_read_names_nobody_and_is_stale_after_a_minute(
    output: Path, clock: Clock, text: bytes
) -> None:
    lock_of(output).write_bytes(text)
    with pytest.raises(OutputExistsError, match="unknown"):
        OutputLock.take(output)
    OutputLock.take(output, patient=True).release()
    assert clock.now == 1060
    assert list(output.parent.iterdir()) == []


def test_one_that_is_renewed_is_respected(output: Path, elsewhere: LockHolder, clock: Clock) -> None:
    leave_lock(output, elsewhere, 1000)

    def renew() -> None:
        if clock.now > 1050:
            os.utime(lock_of(output))

    clock.meanwhile = renew
    with pytest.raises(OutputExistsError):
        OutputLock.take(output, patient=True)
    assert clock.now < 1053


def test_one_that_is_released_while_it_is_watched_is_free(output: Path, elsewhere: LockHolder, clock: Clock) -> None:
    leave_lock(output, elsewhere)
    clock.meanwhile = lambda: lock_of(output).unlink(missing_ok=True)
    OutputLock.take(output, patient=True).release()
    assert clock.now < 1003


def test_the_minutes_of_many_pass_at_once(tmp_path: Path, elsewhere: LockHolder, clock: Clock) -> None:
    outputs = [tmp_path / f"{n}" / "out.h5" for n in range(5)]
    watch = LockWatch()
    for output in outputs:
        output.parent.mkdir()
        leave_lock(output, replace(elsewhere, word=f"{len(outputs):016x}"))
        watch.look(output)
    for output in outputs:
        OutputLock.take(output, patient=True, watch=watch).release()
    assert clock.now == 1060


def test_one_that_was_renewed_since_it_is_watched_is_respected_at_once(
    output: Path, elsewhere: LockHolder, clock: Clock
) -> None:
    leave_lock(output, elsewhere)
    watch = LockWatch()
    watch.look(output)
    clock.now += 100
    os.utime(lock_of(output))
    with pytest.raises(OutputExistsError):
        OutputLock.take(output, patient=True, watch=watch)
    assert clock.now == 1100


@pytest.mark.parametrize("where", ["here", "elsewhere"])
@pytest.mark.parametrize("deaths", [1, 2])
def test_runs_that_died_while_taking_over_are_in_nobodys_way(
    output: Path, gone: LockHolder, elsewhere: LockHolder, clock: Clock, where: str, deaths: int
) -> None:
    leave_lock(output, replace(gone, word="0" * 16))
    permit = lock_of(output)
    for number in range(deaths):
        permit = permit.with_name(f"{permit.name}.{number:016x}")
        permit.write_bytes(replace(gone if where == "here" else elsewhere, word=f"{number + 1:016x}").to_bytes())
    (output.parent / "out.h5.lock.h5").touch()  # somebody's
    OutputLock.take(output, patient=True).release()
    assert [path.name for path in output.parent.iterdir()] == ["out.h5.lock.h5"]
    assert (clock.now == 1000) == (where == "here")


def test_one_of_another_user_that_may_not_be_read_is_watched_from_outside(
    output: Path, elsewhere: LockHolder, clock: Clock, monkeypatch: pytest.MonkeyPatch
) -> None:
    leave_lock(output, elsewhere)
    real = os.open

    def forbidden(path: os.PathLike[str], flags: int, *mode: int) -> int:
        if str(path).endswith(".lock") and flags & os.O_ACCMODE == os.O_RDONLY:
            raise PermissionError(13, "Permission denied")
        return real(path, flags, *mode)

    monkeypatch.setattr(os, "open", forbidden)
    with pytest.raises(OutputExistsError, match="unknown"):
        OutputLock.take(output)
    OutputLock.take(output, patient=True)
    assert clock.now == 1060


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
    lock.check()
    leave_lock(output, elsewhere)
    with pytest.raises(OutputExistsError, match="another run has taken the place of this one") as caught:
        lock.check()
    assert caught.value.exit_code == 73
    lock.release()
    assert lock_of(output).read_bytes() == elsewhere.to_bytes()


@pytest.mark.parametrize("what", ["nothing", "a folder"])
def test_a_lock_that_was_removed_is_lost(output: Path, what: str) -> None:
    lock = OutputLock.take(output)
    lock_of(output).unlink()
    if what == "a folder":
        lock_of(output).mkdir()
    with pytest.raises(OutputExistsError, match="whose lock was removed"):
        lock.check()
    lock.release()


def test_a_folder_that_was_renamed_away_is_no_other_run(output: Path) -> None:
    lock = OutputLock.take(output)
    away = output.parent.rename(output.parent.with_name("away"))
    with pytest.raises(StorageError, match=r"cannot write there: .*No such file or directory"):
        lock.check()
    away.rename(output.parent)
    lock.check()
    lock.release()


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


def test_a_folder_that_may_not_be_written_is_an_error_of_the_surroundings(
    output: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def read_only(*_arguments: object) -> int:
        raise OSError(errno.EROFS, os.strerror(errno.EROFS))

    monkeypatch.setattr(os, "open", read_only)
    with pytest.raises(StorageError, match="Read-only file system"):
        OutputLock.take(output)


@pytest.mark.timeout(10, method="signal")
@pytest.mark.parametrize(
    ("make", "what"),
    [
        (lambda path: path.symlink_to("gone"), "a link to nothing"),
        (lambda path: path.symlink_to(__file__), "no plain file"),
        (Path.mkdir, "no plain file"),
        (os.mkfifo, "no plain file"),
    ],
    ids=["link to nothing", "link", "folder", "pipe"],
)
def test_what_is_no_file_in_its_place_is_told_and_left(output: Path, make: Callable[[Path], None], what: str) -> None:
    make(lock_of(output))
    with pytest.raises(OutputExistsError, match=rf"out\.h5\.lock: is {what}"):
        OutputLock.take(output, patient=True)
    assert os.path.lexists(lock_of(output))
