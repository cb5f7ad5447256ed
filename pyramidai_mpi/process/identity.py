"""Which process made a file: told apart from any other on any host, and seen to have ended."""

from __future__ import annotations

import os
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from pyramidai_mpi.process.host import pid_space


@dataclass(frozen=True)
class ProcessIdentity:
    """A process of any host.

    Attributes
    ----------
    machine
        Its running system and the name space of its process numbers, where `pid` means something; empty where the
        system does not tell.
    pid, started
        Process number and its start, in clock ticks since the system's: numbers come back.
    """

    machine: str
    pid: int
    started: int

    def is_here(self) -> bool:
        """Whether the process belongs to this machine, where it can be looked for."""
        return bool(self.machine) and self.machine == pid_space()

    def is_gone(self) -> bool:
        """Whether a process of this machine has ended."""
        if self.pid <= 0:  # no process at all; to the system it would mean a group of them
            return True
        try:
            os.kill(self.pid, 0)
        except PermissionError:  # another user's
            pass
        except (ProcessLookupError, OverflowError):
            return True
        return start_of(self.pid) not in {None, self.started}


def this_process() -> ProcessIdentity:
    """The process that asks."""
    pid = os.getpid()
    return ProcessIdentity(pid_space(), pid, start_of(pid) or 0)


def start_of(pid: int) -> int | None:
    """Start of a process in ticks since that of the system, -1 when it has ended; None when that cannot be seen."""
    with suppress(OSError):
        fields = Path("/proc", str(pid), "stat").read_bytes().rpartition(b")")[2].split()
        # a zombie has ended; its parent has not asked for it yet
        return -1 if fields[0] in b"ZX" else int(fields[19])
    return None
