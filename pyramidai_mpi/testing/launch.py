"""Start a Python program on N ranks: wait for it so that a hang shows where it hangs, or watch, signal and kill it.

All tests under MPI go through `mpirun` or `started`. Both find the launcher of the same environment and make many ranks
on few cores bearable. `mpirun` prints what the ranks wrote (pytest shows it when the test fails), and on a timeout asks
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
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import IO, TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping, Sequence

REPOSITORY = Path(__file__).resolve().parents[2]
"""The folder that holds the package, importable on all ranks: the repository, or site-packages of an installation."""
WORKING_FOLDER = REPOSITORY if (REPOSITORY / "pyproject.toml").is_file() else None
"""Where jobs run unless told otherwise: the repository; the caller's own folder where the package is installed."""
TAG = "PYRAMIDAI_TEST_JOB"
_RANK_VARIABLES = (b"PMI_RANK", b"OMPI_COMM_WORLD_RANK")
_PATIENCE_S = 60.0

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
        Processes of the job that were alive half a second, or `grace_s`, after the launcher had gone (killed since).
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
    show: bool = True,
    grace_s: float = 0.5,
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
        `WORKING_FOLDER` unless given. What is in `REPOSITORY` is importable either way.
    launcher_args : sequence of str
        Further options of mpirun.
    under : sequence of str
        A command that runs mpirun for us, elsewhere: what it is given follows these words.
    show : bool
        Print the output.
    grace_s : float
        How long after the launcher's end its processes may live on.

    Returns
    -------
    Job
        Whatever the exit code; the output is printed, too, so that pytest shows it when an assertion fails.

    Raises
    ------
    JobHangsError
        After the timeout, with the output and stacks; nothing of the job is left.
    """
    tag = uuid.uuid4().hex
    command = [*under, launcher(), *launcher_args, "-n", str(n), sys.executable, *(os.fspath(a) for a in args)]
    start = time.monotonic()
    # Files rather than pipes: a process that outlives the launcher cannot keep us waiting for the end.
    with (
        tempfile.TemporaryFile("w+", errors="replace") as out,
        tempfile.TemporaryFile("w+", errors="replace") as err,
    ):
        process = subprocess.Popen(
            command,
            env=_environment(tag, env),
            cwd=cwd or WORKING_FOLDER,
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
            left_over = _kill_what_is_left(tag, process, grace_s=grace_s)
        out.seek(0)
        err.seek(0)
        stdout, stderr = out.read(), err.read()
    report = f"$ {' '.join(command)}\n{stdout}\n--- stderr ---\n{stderr}"
    if hung:
        raise JobHangsError(f"no end after {timeout} s\n{report}")
    if show:
        print(report)
    return Job(command, process.returncode, stdout, stderr, left_over, time.monotonic() - start)


@dataclass
class StartedJob:
    """A job that may still run.

    Attributes
    ----------
    launcher : subprocess.Popen
        The process of mpirun, or of the single rank without it.
    tag : str
        What all its processes have in their environment, see `processes_of`.
    """

    launcher: subprocess.Popen[bytes]
    tag: str
    _output: IO[bytes]

    def ranks(self) -> dict[int, int]:
        """Process numbers of the ranks that are alive."""
        found: dict[int, int] = {}
        for pid in _python_processes_of(self.tag):
            with suppress(OSError):
                words = Path(f"/proc/{pid}/environ").read_bytes().split(b"\0")
                variables = dict(word.partition(b"=")[::2] for word in words)
                number = next((variables[name] for name in _RANK_VARIABLES if name in variables), b"0")
                found.setdefault(int(number), pid)  # the oldest: ranks have children of their own
        return found

    def processes(self) -> list[int]:
        """Process numbers of all that is alive of it, the launcher's own included."""
        return processes_of(self.tag)

    def ask_for_stacks(self) -> None:
        """Let all its ranks say where they stand, in `output`, and die of it."""
        _ask_for_stacks(self.tag)

    def wait(self, timeout: float = _PATIENCE_S) -> int:
        """Exit code of the launcher."""
        return self.launcher.wait(timeout)

    def wait_until(self, condition: Callable[[], bool], timeout: float = _PATIENCE_S) -> bool:
        """Look every 2 ms until `condition` holds; False when the job ends before that.

        Raises
        ------
        JobHangsError
            After the timeout, with the output.
        """
        end = time.monotonic() + timeout
        while not condition():
            if self.launcher.poll() is not None:
                return condition()
            if time.monotonic() > end:
                raise JobHangsError(f"waited in vain\n{self.output()}")
            time.sleep(2e-3)
        return True

    def output(self) -> str:
        """What all ranks have written so far."""
        self._output.seek(0)
        return self._output.read().decode(errors="replace")

    def end(self) -> None:
        """Kill what is left."""
        _kill_what_is_left(self.tag, self.launcher, grace_s=0.0)
        self._output.close()


@contextmanager
def started(
    ranks: int | None,
    arguments: Sequence[str | os.PathLike[str]],
    env: Mapping[str, str] | None = None,
    under: Sequence[str] = (),
) -> Iterator[StartedJob]:
    """Start ``python *arguments`` on some ranks, or without mpirun; nothing of it is left at the end.

    `under` is a command that runs all that for us, as of `mpirun`.
    """
    tag = uuid.uuid4().hex
    start = [*under] if ranks is None else [*under, launcher(), "-n", str(ranks)]
    output = tempfile.TemporaryFile()  # noqa: SIM115 - closed by end()
    process = subprocess.Popen(
        [*start, sys.executable, *(os.fspath(a) for a in arguments)],
        env=_environment(tag, env),
        cwd=WORKING_FOLDER,
        stdin=subprocess.DEVNULL,
        stdout=output,
        stderr=subprocess.STDOUT,
        start_new_session=True,
    )
    job = StartedJob(process, tag, output)
    try:
        yield job
    finally:
        if sys.exc_info()[0] is not None:
            print(job.output())
        job.end()


def kill(pid: int, number: signal.Signals = signal.SIGKILL) -> None:
    """Signal a process, if it is still there."""
    with suppress(ProcessLookupError):
        os.kill(pid, number)


def stand_still(pid: int) -> None:
    """Stop a process, and wait until each of its threads has stopped: the signal alone lets them go on for a moment.

    Raises
    ------
    JobHangsError
        They have not after ten seconds.
    """
    os.kill(pid, signal.SIGSTOP)
    end = time.monotonic() + 10
    while any(_state(task) not in "TXZ" for task in Path(f"/proc/{pid}/task").iterdir()):
        if time.monotonic() > end:
            raise JobHangsError(f"process {pid} does not stop")
        time.sleep(1e-3)


def processes_of(tag: str) -> list[int]:
    """Process numbers of all live processes with `tag` in their environment, youngest last."""
    wanted = f"{TAG}={tag}".encode()
    found = []
    for folder in Path("/proc").glob("[0-9]*"):
        with suppress(OSError):  # gone meanwhile, or not ours
            if wanted in (folder / "environ").read_bytes().split(b"\0") and _is_alive(int(folder.name)):
                found.append(int(folder.name))
    return sorted(found)


def _environment(tag: str, env: Mapping[str, str] | None) -> dict[str, str]:
    environment = DEFAULT_ENVIRONMENT | dict(os.environ) | dict(env or {}) | {TAG: tag}
    environment["PYTHONPATH"] = os.pathsep.join(p for p in (str(REPOSITORY), environment.get("PYTHONPATH")) if p)
    return environment


def _python_processes_of(tag: str) -> list[int]:
    """Those of them that run this Python: the ranks and their children."""
    python = Path(sys.executable).resolve()
    found = []
    for pid in processes_of(tag):
        with suppress(OSError):
            if Path(f"/proc/{pid}/exe").resolve() == python:
                found.append(pid)
    return found


def _state(folder: Path) -> str:
    """State of a process or thread by its folder in /proc, as `ps` names it; X when it is gone."""
    try:
        return (folder / "stat").read_text().rpartition(")")[2].split()[0]
    except (FileNotFoundError, ProcessLookupError):
        return "X"


def _is_alive(pid: int) -> bool:
    return _state(Path(f"/proc/{pid}")) not in "ZX"


def _is_ending(pid: int) -> bool:
    """Whether its first thread has ended, and others have not."""
    try:
        states = [_state(task) for task in Path(f"/proc/{pid}/task").iterdir()]
    except (FileNotFoundError, ProcessLookupError):
        return False
    return not _is_alive(pid) and any(state not in "ZX" for state in states)


def _ask_for_stacks(tag: str) -> None:
    """SIGABRT every Python process of the job: faulthandler dumps the stacks of all threads, then it dies."""
    ranks = _python_processes_of(tag)
    # All stop first: the launcher kills the others as soon as one rank dies, before they could speak.
    launchers = [pid for pid in processes_of(tag) if pid not in ranks]
    for pid in launchers:
        kill(pid, signal.SIGSTOP)
    for pid in ranks:
        kill(pid, signal.SIGABRT)
        kill(pid, signal.SIGCONT)  # one that was suspended acts on the other signal then
    _wait_for_the_end_of(ranks, 30)
    for pid in launchers:
        kill(pid, signal.SIGCONT)  # passes on what it holds of the ranks' output
    _wait_for_the_end_of(launchers, 5)
    time.sleep(0.5)


def _wait_for_the_end_of(pids: Sequence[int], most_s: float) -> None:
    end = time.monotonic() + most_s
    while time.monotonic() < end and any(_is_alive(pid) for pid in pids):
        time.sleep(0.05)


def _kill_what_is_left(tag: str, process: subprocess.Popen[bytes], grace_s: float = 0.5) -> tuple[int, ...]:
    """Give processes some time to go, then SIGKILL the rest until none is left; return those killed."""
    killed: set[int] = set()
    seen: set[int] = set()
    grace = time.monotonic() + grace_s
    # A process whose first thread has ended shows its environment no more, while its others may still write.
    while (left := processes_of(tag)) or any(map(_is_ending, seen)):
        seen.update(left)
        if time.monotonic() >= grace:
            killed.update(left)
            for pid in left:
                kill(pid)
        time.sleep(0.02)
        process.poll()  # reaps the launcher, if it was among them
    process.wait()
    return tuple(sorted(killed))
