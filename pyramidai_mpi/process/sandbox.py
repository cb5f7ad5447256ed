"""A child process that does first what might crash or hang a rank, or take all memory.

Libraries in C meet damaged or hostile files with crashes that no `except` catches, and a rank that crashes takes the
job with it. The child works under limits of time and memory; whatever becomes of it is one line for the user.
"""

from __future__ import annotations

import os
import resource
import signal
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING

from pyramidai_mpi.base.errors import ExitCode, InputError
from pyramidai_mpi.process.stop import SIGNALS

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from types import TracebackType

_GRACE_S = 5.0


class Trial:
    """One trial, running from its making on; leaving the context ends it.

    Parameters
    ----------
    subject
        The file in question, for messages.
    module
        Module of this package whose ``main`` is handed `arguments`; see `conduct`.
    arguments
        Texts for it.
    seconds, memory_bytes
        Most wall time and address space.
    """

    def __init__(
        self, subject: object, module: str, arguments: Sequence[str], *, seconds: int, memory_bytes: int
    ) -> None:
        self._subject = subject
        self._seconds, self._memory_bytes = seconds, memory_bytes
        package_folder = str(Path(__file__).resolve().parents[2])
        # this very package, wherever it was imported from; not what happens to lie in the current folder
        program = f"import sys; sys.path.insert(0, {package_folder!r}); from {module} import main; main()"
        # A terminal and SLURM signal all processes of a job: who stops a run has not shown that its slide is bad.
        mask = signal.pthread_sigmask(signal.SIG_BLOCK, SIGNALS)
        try:
            self._process = subprocess.Popen(
                [sys.executable, "-P", "-c", program, str(seconds), str(memory_bytes), *arguments],
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                stderr=subprocess.DEVNULL,
            )
        finally:
            signal.pthread_sigmask(signal.SIG_SETMASK, mask)
        self._answer: str | None = None

    def __enter__(self) -> Trial:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._process.kill()
        self._process.communicate()

    def check(self) -> str:
        """Wait for the end; returns the child's answer, see `conduct`.

        Raises
        ------
        InputError
            When the child found the file wanting, or did not survive it.
        """
        if self._answer is not None:
            return self._answer
        try:
            said, _ = self._process.communicate(timeout=self._seconds + _GRACE_S)
        except subprocess.TimeoutExpired:
            self._process.kill()
            said, _ = self._process.communicate()
        code = self._process.returncode
        if code == ExitCode.OK:
            self._answer = os.fsdecode(said)
            return self._answer
        if code == ExitCode.BAD_INPUT:
            raise InputError(os.fsdecode(said))
        ended = f"ended with exit code {code}"
        if code in (-signal.SIGALRM, -signal.SIGKILL, -signal.SIGXCPU):
            ended = f"took more than {self._seconds} s, or was killed"
        elif code < 0:
            ended = f"crashed with {signal.Signals(-code).name}"
        raise InputError(
            f"{self._subject}: a process that tried it under {self._memory_bytes >> 30} GiB of memory {ended}; "
            "do not use this file: it is damaged, or made to harm"
        )


def conduct(work: Callable[[list[str]], str | None]) -> None:
    """Do `work` in the child: under limits, with the arguments, and with an exit code that says how it went.

    The text that it returns is the answer that `Trial.check` gives, for what it is worth. What `InputError` says is
    passed on. Running out of memory is the file's fault too.
    """
    seconds, memory_bytes, *arguments = sys.argv[1:]
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    resource.setrlimit(resource.RLIMIT_AS, (int(memory_bytes), int(memory_bytes)))
    signal.alarm(int(seconds))  # also when nobody waits for us any more
    try:
        code, said = ExitCode.OK, work(arguments) or ""
    except InputError as error:
        code, said = ExitCode.BAD_INPUT, str(error)
    sys.stdout.buffer.write(os.fsencode(said))
    sys.stdout.flush()
    os._exit(code)  # no library's destructors: they are not what is tried
