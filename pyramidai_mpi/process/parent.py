"""Whether the process that has started this one lives, from the first moment on: a rank without a launcher has no job.

Some launchers end their ranks when they are killed, others (Open MPI's) do not. While a rank loads libraries, which
takes long where many ranks share a core, nothing else would notice: it would find out when it starts MPI.
"""

from __future__ import annotations

import os
import threading
from contextlib import suppress
from typing import ClassVar

from pyramidai_mpi.base.errors import ExitCode
from pyramidai_mpi.process.exit import tell_launcher_of_mpich

FAREWELL = "the process that has started this one is gone"
_TURN_S = 0.5
_INIT = 1
_AT_FIRST = [os.getppid()]


def _begin_anew() -> None:
    """A child that this process forks has another parent."""
    _AT_FIRST[0] = os.getppid()


os.register_at_fork(after_in_child=_begin_anew)


def has_gone() -> bool:
    """Whether the parent is another one than at first; or was process 1 by then, which takes orphans.

    In a container process 1 may be a launcher, a shell or an init that has started this one: in a session of its own.
    """
    now = os.getppid()
    return now != _AT_FIRST[0] or (now == _INIT and os.getsid(0) > _INIT)


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
        self._thread.start()
        ParentWatch.of_this_process = self

    def end(self) -> None:
        """Somebody else watches from now on."""
        self._is_over.set()
        self._thread.join()
        ParentWatch.of_this_process = None

    def _watch(self) -> None:
        while not self._is_over.wait(_TURN_S):
            if has_gone():
                self._leave()

    def _leave(self) -> None:
        with suppress(OSError):
            os.write(2, f"pyramidai: error: {FAREWELL} ({self._who})\n".encode())
        tell_launcher_of_mpich(ExitCode.INTERNAL)
        os._exit(ExitCode.INTERNAL)
