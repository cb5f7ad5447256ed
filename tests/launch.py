"""Start a Python program on N ranks and wait for it, so that a hang shows where it hangs.

All tests under MPI go through `mpirun`. It finds the launcher of the same environment, makes many ranks on
few cores bearable, prints what the ranks wrote (pytest shows it when the test fails), and on a timeout asks
every rank for the stacks of all its threads before it kills the whole job. Ranks are found by a tag in their
environment, not by process group: launchers give their ranks groups and sessions of their own.

Example
-------
>>> job = mpirun(3, ["tests/mpi/run_tree.py", "--policy", "static"], timeout=60)
>>> assert job.returncode == 0
>>> assert not job.left_over
"""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
import uuid
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

REPOSITORY = Path(__file__).resolve().parent.parent
TAG = "PYRAMIDAI_TEST_JOB"

# MPICH spins 1000 polls before it yields: 180 times slower collectives with more ranks than cores. Open MPI
# refuses to run as root or to oversubscribe. Numerical libraries would start a thread per core in every rank.
DEFAULT_ENVIRONMENT = {
    "MPIR_CVAR_POLLS_BEFORE_YIELD": "0",
    "OMPI_ALLOW_RUN_AS_ROOT": "1",
    "OMPI_ALLOW_RUN_AS_ROOT_CONFIRM": "1",
    "PRTE_MCA_rmaps_default_mapping_policy": ":oversubscribe",
    "OMPI_MCA_rmaps_base_oversubscribe": "1",
    "OMPI_MCA_hwloc_base_binding_policy": "none",
    "OMP_NUM_THREADS": "1",
    "OPENBLAS_NUM_THREADS": "1",
    "PYTHONFAULTHANDLER": "1",  # SIGABRT dumps the stacks of all threads
    "PYTHONUNBUFFERED": "1",
}


@dataclass(frozen=True)
class Job:
    """A finished job, in the words of `subprocess.CompletedProcess`.

    Attributes
    ----------
    args : list of str
        The whole command.
    returncode : int
        As the launcher reports it.
    stdout, stderr : str
        What all ranks wrote, complete.
    left_over : tuple of int
        Processes of the job that were still alive half a second after the launcher had gone (killed since).
    seconds : float
        Wall-clock time.
    """

    args: list[str]
    returncode: int
    stdout: str
    stderr: str
    left_over: tuple[int, ...]
    seconds: float


class JobHangsError(AssertionError):
    """A job did not end in time; the message holds its output and the stacks of its ranks."""


def launcher() -> str:
    """Path of ``mpirun``: the one beside this interpreter, else the first on PATH.

    Raises
    ------
    FileNotFoundError
        When there is none.
    """
    beside = Path(sys.executable).parent / "mpirun"
    found = str(beside) if beside.exists() else shutil.which("mpirun")
    if found is None:
        raise FileNotFoundError("no mpirun beside this Python nor on PATH: pip install mpich")
    return found


def mpirun(
    n: int,
    args: Sequence[str | os.PathLike[str]],
    *,
    timeout: float = 120,
    env: Mapping[str, str] | None = None,
    cwd: str | os.PathLike[str] | None = None,
    launcher_args: Sequence[str] = (),
    under: Sequence[str] = (),
) -> Job:
    """Run ``python *args`` on `n` ranks.

    Parameters
    ----------
    n : int
        Number of ranks.
    args : sequence of str or path
        Arguments of this Python interpreter: a script and its arguments, ``-m ...`` or ``-c ...``.
    timeout : float
        Seconds until the job counts as hung; generous, since the machine is shared.
    env : mapping, optional
        Added to (and before) the environment of the caller and `DEFAULT_ENVIRONMENT`.
    cwd : path, optional
        Working folder; the root of the repository unless given. The repository is importable either way.
    launcher_args : sequence of str
        Further options of mpirun.
    under : sequence of str
        A command that runs mpirun for us, elsewhere: what it is given follows these words.

    Returns
    -------
    Job
        Whatever the exit code; the output is also printed, so that pytest shows it when an assertion fails.

    Raises
    ------
    JobHangsError
        After the timeout, with the output and stacks; nothing of the job is left.
    """
    tag = uuid.uuid4().hex
    command = [*under, launcher(), *launcher_args, "-n", str(n), sys.executable, *(os.fspath(a) for a in args)]
    environment = DEFAULT_ENVIRONMENT | dict(os.environ) | dict(env or {}) | {TAG: tag}
    environment["PYTHONPATH"] = os.pathsep.join(p for p in (str(REPOSITORY), environment.get("PYTHONPATH")) if p)
    start = time.monotonic()
    # Files rather than pipes: a process that outlives the launcher cannot keep us waiting for the end.
    with (
        tempfile.TemporaryFile("w+", errors="replace") as out,
        tempfile.TemporaryFile("w+", errors="replace") as err,
    ):
        process = subprocess.Popen(
            command,
            env=environment,
            cwd=cwd or REPOSITORY,
            stdin=subprocess.DEVNULL,
            stdout=out,
            stderr=err,
            start_new_session=True,
        )
        try:
            process.wait(timeout)
            hung = False
        except subprocess.TimeoutExpired:
            hung = True
            _ask_for_stacks(tag)
        finally:
            left_over = _kill_what_is_left(tag, process)
        out.seek(0)
        err.seek(0)
        stdout, stderr = out.read(), err.read()
    report = f"$ {' '.join(command)}\n{stdout}\n--- stderr ---\n{stderr}"
    if hung:
        raise JobHangsError(f"no end after {timeout} s\n{report}")
    print(report)
    return Job(command, process.returncode, stdout, stderr, left_over, time.monotonic() - start)


def processes_of(tag: str) -> list[int]:
    """Process numbers of all live processes with `tag` in their environment, youngest last."""
    wanted = f"{TAG}={tag}".encode()
    found = []
    for folder in Path("/proc").glob("[0-9]*"):
        try:
            if wanted in (folder / "environ").read_bytes().split(b"\0") and _is_alive(folder):
                found.append(int(folder.name))
        except OSError:  # gone meanwhile, or not ours
            continue
    return sorted(found)


def _is_alive(folder: Path) -> bool:
    """Whether a /proc folder is of a process that is no zombie."""
    return (folder / "stat").read_text().rpartition(")")[2].split()[0] not in "ZX"


def _ask_for_stacks(tag: str) -> None:
    """SIGABRT every Python process of the job: faulthandler dumps the stacks of all threads, then it dies."""
    python = Path(sys.executable).resolve()
    ranks = []
    for pid in processes_of(tag):
        try:
            if Path(f"/proc/{pid}/exe").resolve() == python:
                ranks.append(pid)
        except OSError:
            continue
    # All stop first: the launcher kills the others as soon as one rank dies, before they could speak.
    launchers = [pid for pid in processes_of(tag) if pid not in ranks]
    for pid in launchers:
        _signal(pid, signal.SIGSTOP)
    for pid in ranks:
        _signal(pid, signal.SIGABRT)
    end = time.monotonic() + 5
    while time.monotonic() < end and any(_is_listed(pid) for pid in ranks):
        time.sleep(0.05)
    for pid in launchers:
        _signal(pid, signal.SIGCONT)  # passes on what it holds of the ranks' output
    time.sleep(0.5)


def _is_listed(pid: int) -> bool:
    try:
        return _is_alive(Path(f"/proc/{pid}"))
    except OSError:
        return False


def _kill_what_is_left(tag: str, process: subprocess.Popen[bytes]) -> tuple[int, ...]:
    """Give processes half a second to go, then SIGKILL the rest until none is left; return those killed."""
    killed: set[int] = set()
    grace = time.monotonic() + 0.5
    while left := [pid for pid in processes_of(tag) if _is_listed(pid)]:
        if time.monotonic() > grace:
            killed.update(left)
            for pid in left:
                _signal(pid, signal.SIGKILL)
        time.sleep(0.02)
        process.poll()  # reaps the launcher, if it was among them
    process.wait()
    return tuple(sorted(killed))


def _signal(pid: int, number: signal.Signals) -> None:
    try:
        os.kill(pid, number)
    except ProcessLookupError:
        return
