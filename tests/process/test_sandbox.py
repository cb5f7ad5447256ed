"""Whatever becomes of the child, its parent gets one line and goes on."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from itertools import count
from pathlib import Path

import pytest

from pyramidai_mpi.base.errors import InputError, InternalError, StorageError, UsageError
from pyramidai_mpi.process import sandbox
from pyramidai_mpi.process.sandbox import Trial
from pyramidai_mpi.testing.launch import REPOSITORY

ENDS = {
    "a crash": ("import ctypes; ctypes.string_at(0)", "crashed with SIGSEGV"),
    "an abort": ("os.abort()", "crashed with SIGABRT"),
    "a hang": ("while True: time.sleep(1)", "took more than 1 s"),
    "a busy hang": ("while True: pass", "took more than 1 s"),
    "bad input": ("raise InputError('x.tif: is a picture of a cat')", "x.tif: is a picture of a cat"),
}


NOT_THE_FILES_FAULT = {
    "too much memory": ("bytes(3 << 30)", StorageError, "MemoryError"),
    "killed for want of memory": ("os.kill(os.getpid(), 9)", StorageError, "was killed"),
    "a bug": ("1 / 0", InternalError, "ZeroDivisionError: division by zero"),
    "a library that is missing": ("import no_such_library", InternalError, "No module named 'no_such_library'"),
    "a mistake of the caller's": ("raise UsageError('no reader of that name')", UsageError, "no reader of that name"),
}


@pytest.fixture
def module(tmp_path, monkeypatch):
    """Writes a module whose ``main`` does the given work in the child."""

    def write(work: str) -> str:
        (tmp_path / "victim.py").write_text(
            "import os, sys, time\n"
            "from pyramidai_mpi.base.errors import InputError, UsageError\n"
            "from pyramidai_mpi.process.sandbox import run_under_limits\n"
            f"def work(arguments):\n    {work}\n"
            "def main():\n    run_under_limits(work)\n"
        )
        return "victim"

    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    return write


@pytest.mark.parametrize("end", ENDS)
def test_a_bad_end_is_one_line(end, module):
    work, words = ENDS[end]
    trial = Trial("x.tif", module(work), [], seconds=1 if "hang" in end else 30, memory_bytes=1 << 30)
    with trial, pytest.raises(InputError, match=r"x\.tif") as caught:
        trial.check()
    assert words in str(caught.value)
    assert "\n" not in str(caught.value)


def test_a_child_loses_no_time_while_all_is_suspended(module, monkeypatch):
    moments = count(0.0, 1000.0)  # whoever looks was suspended before
    monkeypatch.setattr(sandbox.time, "monotonic", lambda: next(moments))
    with Trial("x.tif", module("return 'fine'"), [], seconds=60, memory_bytes=1 << 30) as trial:
        assert trial.check() == "fine"


@pytest.mark.parametrize("end", NOT_THE_FILES_FAULT)
def test_what_is_not_the_files_fault_is_not_blamed_on_it(end, module):
    work, kind, words = NOT_THE_FILES_FAULT[end]
    with (
        Trial("x.tif", module(work), [], seconds=30, memory_bytes=1 << 30) as trial,
        pytest.raises(kind) as caught,
    ):
        trial.check()
    assert words in str(caught.value)
    assert "damaged" not in str(caught.value)
    assert "\n" not in str(caught.value)


def test_a_child_that_cannot_be_started_is_no_fault_of_the_file(module):
    module("pass")
    with (
        Trial("x.tif", "no_such_module", [], seconds=30, memory_bytes=1 << 30) as trial,
        pytest.raises(InternalError, match="No module named 'no_such_module'"),
    ):
        trial.check()


def test_of_much_that_a_child_says_before_it_crashes_the_last_lines_are_told(module):
    work = "os.write(2, b'x\\n' * 200_000 + b'\\x1b[31mterminate\\xff\\n'); os.abort()"
    with (
        Trial("x.tif", module(work), [], seconds=30, memory_bytes=1 << 30) as trial,
        pytest.raises(InputError, match="SIGABRT") as caught,
    ):
        trial.check()
    assert str(caught.value).endswith("(its last lines: x / x / \\x1b[31mterminate\\udcff)")


def test_a_good_end_says_nothing_and_arguments_arrive(module, tmp_path):
    work = "open(arguments[0], 'w').write(arguments[1])"
    with Trial("x", module(work), [str(tmp_path / "a b"), "\u00e4\n"], seconds=30, memory_bytes=1 << 30) as trial:
        trial.check()
    assert (tmp_path / "a b").read_text() == "\u00e4\n"


def test_what_the_work_returns_is_the_answer_asked_for_once_or_twice(module):
    with Trial("x", module("return 'caf\u00e9'"), [], seconds=30, memory_bytes=1 << 30) as trial:
        assert [trial.check(), trial.check()] == ["caf\u00e9"] * 2
    assert trial.check() == "caf\u00e9"


def test_leaving_without_asking_ends_the_child(module):
    with Trial("x", module("time.sleep(600)"), [], seconds=600, memory_bytes=1 << 30) as trial:
        process = trial._process
    assert process.poll() is not None


def test_the_child_uses_this_package_and_not_what_lies_in_the_current_folder(module, tmp_path, monkeypatch):
    (tmp_path / "elsewhere" / "pyramidai_mpi").mkdir(parents=True)
    (tmp_path / "elsewhere" / "pyramidai_mpi" / "__init__.py").write_text("raise SystemExit(9)")
    monkeypatch.chdir(tmp_path / "elsewhere")
    with Trial("x", module("pass"), [], seconds=30, memory_bytes=1 << 30) as trial:
        trial.check()


@pytest.mark.parametrize("number", ["SIGTERM", "SIGINT", "SIGUSR1"])
def test_a_signal_to_all_processes_of_a_job_speaks_not_against_the_file(number, module):
    work = f"import signal; os.kill(os.getpid(), signal.{number})"
    with Trial("x.tif", module(work), [], seconds=30, memory_bytes=1 << 30) as trial:
        trial.check()


def test_under_fewer_addresses_than_wanted_a_crash_is_not_blamed_on_the_file(module, monkeypatch):
    monkeypatch.setattr(sandbox, "address_limit", lambda: 900 << 20)
    with (
        Trial("x.tif", module("os.abort()"), [], seconds=30, memory_bytes=8 << 30) as trial,
        pytest.raises(StorageError, match=r"under 0\.879 GiB of memory crashed.* ask for 8 GiB a rank") as caught,
    ):
        trial.check()
    assert "damaged" not in str(caught.value)


@pytest.mark.parametrize("limit", ["hard", "soft"])
def test_a_limit_of_addresses_that_is_lower_than_ours_holds_and_sound_work_is_done(limit, module, tmp_path):
    program = (
        "import resource, sys\n"
        f"lower, limit = 2 << 30, {limit!r}\n"
        "_, hard = resource.getrlimit(resource.RLIMIT_AS)\n"
        "resource.setrlimit(resource.RLIMIT_AS, (lower, lower if limit == 'hard' else hard))\n"
        "from pyramidai_mpi.process.sandbox import Trial\n"
        f"with Trial('x', {module('import resource; return str(resource.getrlimit(resource.RLIMIT_AS)[0])')!r}, [], "
        "seconds=30, memory_bytes=8 << 30) as trial:\n"
        "    assert trial.check() == str(lower)\n"
    )
    environment = dict(os.environ) | {"PYTHONPATH": f"{tmp_path}:{REPOSITORY}"}
    done = subprocess.run([sys.executable, "-c", program], env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


@pytest.mark.parametrize(
    ("work", "said"),
    [
        ("raise OSError(24, 'Too many open files')", "Too many open files"),
        ('raise RuntimeError("can\'t start new thread")', "can't start new thread"),
        ("os.write(2, b'terminate called: std::bad_alloc\\n'); os.abort()", "ran out of it"),
        ("os.kill(os.getpid(), 7)", "SIGBUS"),
    ],
)
def test_what_the_machine_lacks_is_not_blamed_on_the_file(work, said, module):
    with (
        Trial("x.tif", module(work), ["x.tif"], seconds=30, memory_bytes=1 << 30) as trial,
        pytest.raises(StorageError, match=r"x\.tif") as caught,
    ):
        trial.check()
    assert said in str(caught.value)
    assert "damaged" not in str(caught.value)


@pytest.mark.parametrize("work", ["time.sleep(60)", "import ctypes; ctypes.PyDLL(None).sleep(60)"])
def test_it_ends_with_its_parent_also_within_a_library(work, module, tmp_path):
    told = tmp_path / "child"
    name = module(
        f"open({str(told)!r}, 'w').write(str(os.getpid())); os.rename({str(told)!r}, {str(told)!r} + '.pid'); {work}"
    )
    program = (
        "from pyramidai_mpi.process.sandbox import Trial\n"
        f"Trial('x.tif', {name!r}, [], seconds=60, memory_bytes=1 << 30).check()"
    )
    path = os.pathsep.join([str(REPOSITORY), str(tmp_path)])
    with subprocess.Popen([sys.executable, "-c", program], env=os.environ | {"PYTHONPATH": path}) as parent:
        pid_file = told.with_suffix(".pid")
        while not pid_file.exists():
            assert parent.poll() is None
            time.sleep(0.01)
        parent.kill()
    child = Path("/proc", pid_file.read_text())
    end = time.monotonic() + 50  # less than it would take
    while child.exists() and (child / "stat").read_text().rpartition(")")[2].split()[0] != "Z":
        assert time.monotonic() < end
        time.sleep(0.01)
