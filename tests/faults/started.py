"""Jobs that are looked at, signalled and killed while they run."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import tempfile
import time
import uuid
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import IO, TYPE_CHECKING

from tests.launch import DEFAULT_ENVIRONMENT, REPOSITORY, TAG, launcher, processes_of

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping, Sequence

_RANK_VARIABLES = (b"PMI_RANK", b"OMPI_COMM_WORLD_RANK")
_PATIENCE_S = 60.0


@dataclass
class StartedJob:
    """A job that may still run.

    Attributes
    ----------
    launcher
        The process of mpirun, or of the single rank without it.
    """

    launcher: subprocess.Popen[bytes]
    _tag: str
    _output: IO[bytes]

    def ranks(self) -> dict[int, int]:
        """Process numbers of the ranks that are alive."""
        found = {}
        for pid in processes_of(self._tag):
            try:
                words = Path(f"/proc/{pid}/environ").read_bytes().split(b"\0")
                is_python = Path(f"/proc/{pid}/exe").resolve() == Path(sys.executable).resolve()
            except OSError:
                continue
            variables = dict(word.partition(b"=")[::2] for word in words)
            number = next((variables[name] for name in _RANK_VARIABLES if name in variables), b"0")
            if is_python:
                found.setdefault(int(number), pid)  # the oldest: ranks have children of their own
        return found

    def wait(self, timeout: float = _PATIENCE_S) -> int:
        """Exit code of the launcher."""
        return self.launcher.wait(timeout)

    def wait_until(self, condition: Callable[[], bool], timeout: float = _PATIENCE_S) -> bool:
        """Look every 2 ms until `condition` holds; False when the job ends before that."""
        end = time.monotonic() + timeout
        while not condition():
            if self.launcher.poll() is not None:
                return condition()
            assert time.monotonic() < end, f"waited in vain\n{self.output()}"
            time.sleep(2e-3)
        return True

    def output(self) -> str:
        """What all ranks have written so far."""
        self._output.seek(0)
        return self._output.read().decode(errors="replace")

    def end(self) -> None:
        """Kill what is left."""
        while left := processes_of(self._tag):
            for pid in left:
                kill(pid)
            self.launcher.poll()
            time.sleep(5e-3)
        self.launcher.wait()
        self._output.close()


@contextmanager
def started(
    ranks: int | None, arguments: Sequence[str | os.PathLike[str]], env: Mapping[str, str] | None = None
) -> Iterator[StartedJob]:
    """Start ``python *arguments`` on some ranks, or without mpirun; nothing of it is left at the end."""
    tag = uuid.uuid4().hex
    environment = DEFAULT_ENVIRONMENT | dict(os.environ) | dict(env or {}) | {TAG: tag}
    environment["PYTHONPATH"] = os.pathsep.join(p for p in (str(REPOSITORY), environment.get("PYTHONPATH")) if p)
    start = [] if ranks is None else [launcher(), "-n", str(ranks)]
    output = tempfile.TemporaryFile()  # noqa: SIM115 - closed by end()
    process = subprocess.Popen(
        [*start, sys.executable, *map(os.fspath, arguments)],
        env=environment,
        cwd=REPOSITORY,
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
    try:
        os.kill(pid, number)
    except ProcessLookupError:
        return


def stand_still(pid: int) -> None:
    """Stop a process, and wait until each of its threads has stopped: the signal alone lets them go on for a moment."""
    os.kill(pid, signal.SIGSTOP)
    end = time.monotonic() + 10
    while not all(_state(task) == "T" for task in Path(f"/proc/{pid}/task").iterdir()):
        assert time.monotonic() < end, f"process {pid} does not stop"
        time.sleep(1e-3)


def _state(task: Path) -> str:
    try:
        return (task / "stat").read_text().rpartition(")")[2].split()[0]
    except (FileNotFoundError, ProcessLookupError):  # a thread that has ended since
        return "T"
