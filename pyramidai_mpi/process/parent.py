"""Whether the process that has started this one lives, from the first moment on: a rank without a launcher has no job.

Some launchers end their ranks when they are killed, others (Open MPI's) do not. While a rank loads libraries, which
takes long where many ranks share a core, nothing else would notice: it would find out when it starts MPI.
"""

from __future__ import annotations

import os
import threading
from contextlib import suppress
from pathlib import Path
from typing import ClassVar

from pyramidai_mpi.base.errors import ExitCode
from pyramidai_mpi.process.exit import PATIENCE_S, tell_launcher_of_mpich
from pyramidai_mpi.process.system_timer import SystemTimer

FAREWELL = "the process that has started this one is gone"
_TURN_S = 0.5
_INIT = 1
_SYSTEMS = ("systemd", "init")
_AT_FIRST = [os.getppid()]


def _begin_anew() -> None:
    """A child that this process forks has another parent."""
    _AT_FIRST[0] = os.getppid()


os.register_at_fork(after_in_child=_begin_anew)


def has_gone() -> bool:
    """Whether the parent is another one than at first; or was process 1 by then, which takes orphans.

    In a container process 1 may be what has started this one, so there that tells nothing.
    """
    now = os.getppid()
    return now != _AT_FIRST[0] or (now == _INIT and os.getsid(0) > _INIT and _is_of_a_system())


def _is_of_a_system() -> bool:
    """Whether process 1 is what machines are started with, as far as can be seen."""
    with suppress(OSError):
        return Path(f"/proc/{_INIT}/comm").read_text().strip() in _SYSTEMS
    return False


class ParentWatch:
    """Ends this process, which a launcher has started, with its parent; from its making to `end`, by a thread.

    Parameters
    ----------
    who
        This process, for its last line.

    Attributes
    ----------
    of_this_process
        The one that is at it, if any.
    """

    of_this_process: ClassVar[ParentWatch | None] = None

    def __init__(self, who: str) -> None:
        self._who = who
        self._is_over = threading.Event()
        if has_gone():
            self._leave()
        self._thread = threading.Thread(target=self._watch, name="pyramidai-parent", daemon=True)
        with suppress(RuntimeError):  # the limit of threads: whoever needs one says so
            self._thread.start()
        ParentWatch.of_this_process = self

    def end(self) -> None:
        """Somebody else watches from now on."""
        self._is_over.set()
        if self._thread.is_alive():
            self._thread.join()
        ParentWatch.of_this_process = None

    def _watch(self) -> None:
        while not self._is_over.wait(_TURN_S):
            if has_gone():
                self._leave()

    def _leave(self) -> None:
        SystemTimer("_exit", ExitCode.INTERNAL).set(PATIENCE_S)  # whoever reads stderr may have stopped
        with suppress(OSError):
            os.write(2, f"pyramidai: error: {FAREWELL} ({self._who})\n".encode())
        tell_launcher_of_mpich(ExitCode.INTERNAL)
        os._exit(ExitCode.INTERNAL)
