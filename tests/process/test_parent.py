"""A process that a launcher has started ends with it, also while it loads libraries."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from typing import TYPE_CHECKING

import pytest

from pyramidai_mpi.process import parent
from pyramidai_mpi.process.identity import start_of
from pyramidai_mpi.testing.launch import REPOSITORY

if TYPE_CHECKING:
    from pathlib import Path

PROGRAM = """
import sys, time
from pathlib import Path
from pyramidai_mpi.process.parent import ParentWatch
Path("ready").touch()
time.sleep(float(sys.argv[1]))
ParentWatch("rank 3")
Path("watched").touch()
end = time.monotonic() + 60
while time.monotonic() < end:  # as an import does, without a pause
    pass
Path("lived").touch()
"""
PATIENCE_S = 60.0


def orphan(folder: Path, before_s: float, wanted: str) -> str:
    """What a process says whose parent ends once it has made a file; it must be gone in time."""
    (folder / "program.py").write_text(PROGRAM)
    words = (
        f"{sys.executable} program.py {before_s} 2>said & echo $! >pid; while [ ! -e {wanted} ]; do sleep 0.05; done"
    )
    environment = os.environ | {"PYTHONPATH": str(REPOSITORY)}
    subprocess.run(["sh", "-c", words], cwd=folder, env=environment, check=True, timeout=PATIENCE_S)
    pid, end = int((folder / "pid").read_text()), time.monotonic() + PATIENCE_S
    while start_of(pid) not in {None, -1} and time.monotonic() < end:
        time.sleep(0.1)
    assert start_of(pid) in {None, -1}, "it lives"
    assert not (folder / "lived").exists()
    return (folder / "said").read_text()


def test_it_ends_with_its_parent_whatever_it_does(tmp_path: Path) -> None:
    said = orphan(tmp_path, 0.0, "watched")
    assert said == "pyramidai: error: the process that has started this one is gone (rank 3)\n"


def test_a_parent_that_was_gone_before_anybody_watched_is_noticed(tmp_path: Path) -> None:
    assert "is gone (rank 3)" in orphan(tmp_path, 1.0, "ready")
    assert not (tmp_path / "watched").exists()


@pytest.mark.parametrize(
    ("name", "session", "is_gone"),
    [
        ("systemd\n", 4711, True),
        ("init\n", 4711, True),
        ("systemd\n", 1, False),
        ("systemd\n", 0, False),
        ("dumb-init\n", 4711, False),
        ("mpirun\n", 4711, False),
        (None, 4711, False),
    ],
)
def test_who_was_an_orphan_from_the_first_is_one_where_process_1_starts_no_ranks(
    monkeypatch: pytest.MonkeyPatch, name: str | None, session: int, is_gone: bool
) -> None:
    def read_text(_: Path) -> str:
        if name is None:
            raise FileNotFoundError
        return name

    monkeypatch.setattr(parent.Path, "read_text", read_text)
    monkeypatch.setattr(parent.os, "getppid", lambda: 1)
    monkeypatch.setattr(parent.os, "getsid", lambda _: session)
    monkeypatch.setattr(parent, "_AT_FIRST", [1])
    assert parent.has_gone() == is_gone


def test_a_child_that_is_forked_has_a_parent_of_its_own() -> None:
    pid = os.fork()
    if pid == 0:
        os._exit(int(parent.has_gone()))
    assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 0


def test_while_the_parent_lives_nothing_happens(monkeypatch: pytest.MonkeyPatch) -> None:
    left = []
    monkeypatch.setattr(parent.os, "_exit", left.append)
    watch = parent.ParentWatch("rank 0")
    assert parent.ParentWatch.of_this_process is watch
    time.sleep(1.2)
    watch.end()
    assert parent.ParentWatch.of_this_process is None
    assert not left
