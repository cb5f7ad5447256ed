"""How a rank ends the whole job: what it says before, in time to be read, and leaving while other threads compute.

A launcher reads each rank's stderr through a pipe, and passes on what it has read. The order to end the job takes
another way, so it can overtake the words that explain it: the job is over, with its exit code and without a reason.
"""

from __future__ import annotations

import array
import contextlib
import ctypes
import errno
import fcntl
import gc
import os
import socket
import stat
import sys
import termios
import time

from pyramidai_mpi.process.system_timer import SystemTimer

PATIENCE_S = 2.0
"""Longest wait for a reader that may be gone, or for the launcher to end this process."""
_MOST_SPEAKING_S = 10.0
_POLL_S = 2e-3
_PASSING_ON_S = 0.05
"""For the launcher to pass on what it has just read; it is idle otherwise."""


def say_before_leaving(text: str, code: int) -> None:
    """Write `text` to stderr in one piece, and wait until whoever reads the streams has taken it (2 s each at most).

    Nobody may read, and a write to a pipe that is full waits for ever: then the process ends with `code` here.
    """
    timer = SystemTimer("_exit", code)
    timer.set(_MOST_SPEAKING_S)
    for stream in (sys.stdout, sys.stderr):
        with contextlib.suppress(OSError, ValueError):
            stream.flush()
    sys.stderr.write(text)
    sys.stderr.flush()
    wait_until_read(sys.stdout)
    wait_until_read(sys.stderr)
    timer.set(0)


def wait_until_read(stream: object) -> None:
    """Wait until nothing is left in the pipe that `stream` writes to; at once where it is no pipe."""
    try:
        descriptor = stream.fileno()  # type: ignore[attr-defined]
        if not stat.S_ISFIFO(os.fstat(descriptor).st_mode):
            return
        end = time.monotonic() + PATIENCE_S
        unread = array.array("i", [0])
        fcntl.ioctl(descriptor, termios.FIONREAD, unread)
        while unread[0] and time.monotonic() < end:
            time.sleep(_POLL_S)
            fcntl.ioctl(descriptor, termios.FIONREAD, unread)
    except (OSError, ValueError, AttributeError):  # closed, replaced, or a pipe that cannot be asked
        return
    time.sleep(_PASSING_ON_S)


def speaks_for_its_job() -> bool:
    """Whether this process is the first of its job on this host that asks; it stays that as long as it lives.

    A launcher tells all ranks to stop, and each would say so. Ranks of a host are children of one process, unless each
    is in a container. What they share is the name of a socket, which the system forgets with the process.
    """
    numbers = ""  # those of another container's processes are not ours
    with contextlib.suppress(OSError):
        numbers = os.readlink("/proc/self/ns/pid")  # noqa: PTH115 - its text names no file
    name = f"\0pyramidai-{os.getuid()}-{os.getppid()}-{numbers}"
    try:
        mark = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        mark.bind(name)
    except OSError as error:
        return error.errno != errno.EADDRINUSE
    mark.detach()  # closed by the end of the process alone
    return True


def tell_launcher_of_mpich(code: int) -> bool:
    """Hand an exit code to MPICH's mpirun over the line that it keeps with each of its ranks, if that can be done.

    It kills all ranks and leaves with that code, also before MPI has started. MPI_Abort of MPICH 5 does not use the
    line: it tells the ranks, which exit by themselves. The first one gone has the launcher kill the rest, and the job's
    code then is that of the signal, 9; or a rank on another host, not told yet, sends to one that is gone, and crashes
    within MPICH. The message is the one that PMI-1 has for this. With MPI_Abort 10 of 150 jobs on one host and one of
    90 over three ended with the code of a signal; told like this, all of 110 and of 100 ended with the failure's.
    """
    descriptor = os.environ.get("PMI_FD", "")
    if not descriptor.isdecimal() or "PMI_HOSTNAME" not in os.environ:
        return False  # not by Hydra: another launcher, or none
    try:
        if not stat.S_ISSOCK(os.fstat(int(descriptor)).st_mode):
            return False  # a process in between kept the line for itself, and the number is another file's
        os.write(int(descriptor), f"cmd=abort exitcode={code}\n".encode())
    except OSError:
        return False  # it is gone
    return True


def leave_memory_to_the_system() -> None:
    """Let the interpreter end without collecting what it holds, and where MPI is not loaded `exit` without destructors.

    For a program whose work is done: the system takes all memory back at once, and freeing it object by object takes
    longer than all the rest of the end. Handlers of `atexit` run, and streams are flushed.

    MPICH takes leave of its launcher in a handler of the C library's `exit`, after MPI is finalised. Without it the
    launcher may kill the other ranks, and the code of a job whose files are all in place is 9: 2 of 6 jobs under
    strace, none of 12 since.
    """
    gc.freeze()
    if "mpi4py.MPI" not in sys.modules:
        skip_destructors_at_exit()


def skip_destructors_at_exit() -> None:
    """Let the C library's `exit` end the process, with its code, without the destructors that are registered by now.

    They run while other threads go on using what they destroy: it takes long, prints errors of networks that were well,
    and may end in a segmentation fault. MPI_Abort calls `exit`.

    For a process that is about to abort its job, as MPICH, for one, ends a healthy job by such a destructor; or that
    has no MPI. What C code has left in its output buffers is written first. Without effect where the C library has no
    `on_exit`, which is not in POSIX: glibc has.
    """
    library = ctypes.CDLL(None)
    try:
        on_exit, flush, leave = library.on_exit, library.fcloseall, library._exit
    except AttributeError:
        return
    # the last one registered runs first; `flush` takes no argument and `leave` one, of the two that each is called with
    on_exit(leave, None)
    on_exit(flush, None)
