"""A child process that does first what might crash or hang a rank, or take all memory.

Libraries in C meet damaged or hostile files with crashes that no `except` catches, and a rank that crashes takes the
job with it. The child works under limits of time and memory; whatever becomes of it is one line for the user, with the
last that the child wrote to stderr. A crash and a limit of time speak against the file; an exception that nobody
foresaw, a library that is not there and a want of memory do not. Nor does a crash where the system grants fewer
addresses than the trial would (``ulimit -v``, which SGE's h_vmem sets): libraries in C crash for want of them, too.

A child ends with its parent, whatever ends that: the system closes the parent's end of a pipe, and tells the child so
by a signal, which needs no thread of the child's to come to its turn.
"""

from __future__ import annotations

import fcntl
import os
import resource
import select
import signal
import subprocess
import sys
import threading
import time
import traceback
from pathlib import Path
from typing import TYPE_CHECKING

from pyramidai_mpi.base.errors import (
    ERROR_OF_EXIT_CODE,
    ExitCode,
    InputError,
    InternalError,
    PyramidError,
    StorageError,
    address_limit,
    machine_failure,
    printable,
)
from pyramidai_mpi.process.stop import SIGNALS

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from types import TracebackType

_GRACE_S = 5.0
_TURN_S = 0.5
_STDERR_KEPT_BYTES = 4096
_LINES_TOLD, _LETTERS_TOLD = 3, 400
_WANT = ("bad_alloc", "cannot allocate memory", "out of memory", "failed to allocate")
_DO_NOT_USE = "do not use this file: it is damaged or malicious"


class Trial:
    """One trial, running from its making on; leaving the context ends it.

    Parameters
    ----------
    subject
        The file in question, for messages.
    module
        Module of this package whose ``main`` is handed `arguments`; see `run_under_limits`.
    arguments
        Texts for it.
    seconds, memory_bytes
        Most wall time, of which none is counted while this process is suspended, and address space; of the latter less
        where the system grants less.
    """

    def __init__(
        self, subject: object, module: str, arguments: Sequence[str], *, seconds: int, memory_bytes: int
    ) -> None:
        self._subject = subject
        self._seconds = seconds
        granted = address_limit()
        self._is_short = granted is not None and granted < memory_bytes
        self._wanted_bytes = memory_bytes
        self._memory_bytes = memory_bytes if granted is None else min(granted, memory_bytes)
        package_folder = str(Path(__file__).resolve().parents[2])
        # this very package, wherever it was imported from; not what happens to lie in the current folder
        program = f"import sys; sys.path.insert(0, {package_folder!r}); from {module} import main; main()"
        # A terminal and SLURM signal all processes of a job: who stops a run has not shown that its slide is bad.
        mask = signal.pthread_sigmask(signal.SIG_BLOCK, SIGNALS)
        stderr, its_end = os.pipe()
        held_by_child, held_here = os.pipe()
        self._lifeline = os.fdopen(held_here, "wb", buffering=0)
        try:
            self._process = subprocess.Popen(
                [sys.executable, "-P", "-c", program, str(self._memory_bytes), *arguments],
                stdin=held_by_child,
                stdout=subprocess.PIPE,
                stderr=its_end,
            )
        finally:
            signal.pthread_sigmask(signal.SIG_SETMASK, mask)
            os.close(its_end)
            os.close(held_by_child)
        self._answer: str | None = None
        self._stderr = b""
        # at once, or a child that writes more than a pipe holds would wait for `check`
        self._listener = threading.Thread(target=self._listen, args=[stderr], name="trial-stderr", daemon=True)
        self._listener.start()
        self._is_over = threading.Event()
        self._took_too_long = False
        threading.Thread(target=self._limit_time, name="trial-limit", daemon=True).start()

    def __enter__(self) -> Trial:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._is_over.set()
        self._process.kill()
        if self._process.stdout is not None and not self._process.stdout.closed:  # else its end was seen
            self._process.communicate()
        self._lifeline.close()

    def check(self) -> str:
        """Wait for the end; returns the child's answer, see `run_under_limits`.

        Raises
        ------
        PyramidError
            What the child raised: `InputError` when it found the file wanting.
        InputError
            When the child crashed or took too long.
        StorageError
            When it ran out of memory, was killed, or crashed under a limit of addresses that is not ours; when the
            machine failed it otherwise.
        InternalError
            When it failed of anything else.
        """
        if self._answer is not None:
            return self._answer
        said, _ = self._process.communicate()
        self._is_over.set()
        self._lifeline.close()
        code = self._process.returncode
        if code == ExitCode.OK:
            self._answer = os.fsdecode(said)
            return self._answer
        if said and code in ERROR_OF_EXIT_CODE:
            raise ERROR_OF_EXIT_CODE[code](os.fsdecode(said))
        raise self._failure(code)

    def _limit_time(self) -> None:
        """Kill the child once its time is over. A suspended job, whose processes all stand still, loses none."""
        counted_s, last = 0.0, time.monotonic()
        while not self._is_over.wait(_TURN_S):
            now = time.monotonic()
            counted_s, last = counted_s + min(now - last, 2 * _TURN_S), now
            if counted_s > self._seconds and self._process.poll() is None:
                self._took_too_long = True
                self._process.kill()
                return

    def _failure(self, code: int) -> PyramidError:
        """What to raise for a child that has ended with `code` and has not said why."""
        tried = f"{self._subject}: a process that tried it under {self._memory_bytes / 2**30:.3g} GiB of memory"
        said = self._last_lines()
        if self._took_too_long or code == -signal.SIGXCPU:
            return InputError(f"{tried} took more than {self._seconds} s; {_DO_NOT_USE}{said}")
        if code == -signal.SIGBUS:
            return StorageError(f"{tried} could not read a file that it had mapped (SIGBUS); see to the disk{said}")
        wants_memory = code == ExitCode.IO or _tells_of_want(self._stderr)
        if code < 0 and code != -signal.SIGKILL and not wants_memory and not self._is_short:
            return InputError(f"{tried} crashed with {signal.Signals(-code).name}; {_DO_NOT_USE}{said}")
        if code < 0 or wants_memory:
            end = "ran out of it" if wants_memory else "was killed" if code == -signal.SIGKILL else "crashed"
            return StorageError(f"{tried} {end}; {self._more_memory()}{said}")
        return InternalError(f"{tried} failed; a library is missing, or this is a bug, not the file's fault{said}")

    def _more_memory(self) -> str:
        """What to do about a want of memory."""
        if not self._is_short:
            return "see that the machine has as much to spare"
        return (
            f"the system grants no more addresses (ulimit -v, h_vmem): ask for {self._wanted_bytes >> 30} GiB a rank, "
            "to know whether that or the file is at fault"
        )

    def _last_lines(self) -> str:
        """What the child wrote to stderr last, for the end of a message."""
        self._listener.join(_GRACE_S)  # a process that the child has started may keep the pipe open
        lines = [line.strip() for line in os.fsdecode(self._stderr).splitlines() if line.strip()]
        told = printable(" / ".join(lines[-_LINES_TOLD:]))[-_LETTERS_TOLD:]
        return f" (its last lines: {told})" if told else ""

    def _listen(self, stderr: int) -> None:
        with open(stderr, "rb", buffering=0) as stream:
            while piece := stream.read(_STDERR_KEPT_BYTES):
                self._stderr = (self._stderr + piece)[-_STDERR_KEPT_BYTES:]


def _tells_of_want(stderr: bytes) -> bool:
    """Whether the last that a child wrote says that it lacked memory, as libraries in C do before they abort."""
    text = os.fsdecode(stderr).casefold()
    return any(words in text for words in _WANT)


def run_under_limits(work: Callable[[list[str]], str | None]) -> None:
    """Do `work` in the child: under limits, with the arguments, and with an exit code that says how it went.

    The text that it returns is the answer that `Trial.check` gives, for what it is worth. What a `PyramidError` says is
    passed on; of any other exception the traceback goes to stderr.
    """
    memory_bytes, *arguments = sys.argv[1:]
    _end_with_parent()
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    resource.setrlimit(resource.RLIMIT_AS, (int(memory_bytes), int(memory_bytes)))
    said = ""
    try:
        code, said = ExitCode.OK, work(arguments) or ""
    except PyramidError as error:
        code, said = error.exit_code, str(error)
    except Exception as error:
        failure = machine_failure(error)
        code = ExitCode.INTERNAL
        if failure is not None:
            code = failure.exit_code
            if not isinstance(error, MemoryError):  # of that the parent knows how to say more
                said = ": ".join([*arguments[:1], str(failure)])
        traceback.print_exc()
    sys.stdout.buffer.write(os.fsencode(said))
    sys.stdout.flush()
    os._exit(code)  # no library's destructors: they are not what is tried


def _end_with_parent() -> None:
    """Have SIGIO, which nobody here waits for, end this process once no other end of the pipe at stdin is left."""
    stdin = sys.stdin.fileno()
    fcntl.fcntl(stdin, fcntl.F_SETOWN, os.getpid())
    fcntl.fcntl(stdin, fcntl.F_SETFL, fcntl.fcntl(stdin, fcntl.F_GETFL) | os.O_ASYNC)
    state = select.poll()
    state.register(stdin, 0)
    if any(event & select.POLLHUP for _, event in state.poll(0)):  # it has ended meanwhile
        os._exit(ExitCode.INTERNAL)
