"""What goes wrong: kinds of faults, the phases that they hit, and the exit codes that the program then may have."""

from __future__ import annotations

import errno
from dataclasses import dataclass

PHASES = ("opening", "resuming", "running", "finalising", "exporting", "removing", "any")
"""In which a fault is wanted; ``any`` is a moment between the start of the launcher and the usual end."""
ENDS = frozenset({"finalising", "exporting", "removing"})
"""Of a slide: all of it is analysed."""
LONGEST_DELAY_S = {
    "opening": 0.3,
    "resuming": 0.3,
    "running": 0.5,
    "finalising": 0.4,
    "exporting": 0.1,
    "removing": 0.15,
    "any": 4.0,
}
LAUNCHER = -1
"""As a victim: not a rank, but mpirun."""
STOPPED = 75
BUSY = 73
DISK = 74
SLIDES_FAILED = 4
OF_OTHER_THINGS = frozenset({SLIDES_FAILED, 64, 65, BUSY, DISK, STOPPED})
"""Codes that mean something else than that a rank was lost."""


@dataclass(frozen=True)
class FaultKind:
    """One kind of fault.

    Attributes
    ----------
    name, weight
        In tables and plans; how often it is drawn.
    is_of_hosts
        Whether it takes several hosts.
    is_of_disk
        Whether the disk of one rank fails, from some call on.
    errno
        With which that is.
    is_lasting
        Whether all later calls fail as well.
    is_outlived
        Whether the work goes on to its end.
    """

    name: str
    weight: float
    is_of_hosts: bool = False
    is_of_disk: bool = False
    errno: int = 0
    is_lasting: bool = False
    is_outlived: bool = False


KINDS = {
    kind.name: kind
    for kind in (
        FaultKind("kill a rank", 5),
        FaultKind("kill several ranks", 3),
        FaultKind("kill mpirun", 2),
        FaultKind("suspend a rank", 2, is_outlived=True),
        FaultKind("suspend a rank, then kill it", 1.5),
        FaultKind("SIGTERM to mpirun", 1.5),
        FaultKind("SIGINT to mpirun", 1),
        FaultKind("SIGTERM to a rank", 1),
        FaultKind("disk full", 1.5, is_of_disk=True, errno=errno.ENOSPC, is_lasting=True),
        FaultKind("disk error", 2, is_of_disk=True, errno=errno.EIO),
        FaultKind("disk read-only", 1.5, is_of_disk=True, errno=errno.EROFS, is_lasting=True),
        FaultKind("folder renamed away", 1.5),
        FaultKind("stale file handle", 1.5),
        FaultKind("several runs at once", 1.5, is_outlived=True),
        FaultKind("kill a host", 5, is_of_hosts=True),
        FaultKind("cut a cable for a while", 2, is_of_hosts=True, is_outlived=True),
        FaultKind("cut a cable for good", 0.2, is_of_hosts=True),
    )
}
HABITS = {
    "no hard links": f"nolink={errno.EPERM}",
    "links not supported": f"nolink={errno.EOPNOTSUPP}",
    "times of whole seconds": "times=1",
    "times of two seconds": "times=2",
    "silly renames": "silly",
    "all habits of NFS": f"nolink={errno.EPERM},times=1,silly",
    "clock jumps": "clock=",
}
"""Of file systems and clocks, all through a trial: what `surroundings.c` is told."""
SLOW_LINKS = "slow links"
"""A habit of hosts: each frame between them comes `SLOW_LINK_MS` late."""
SLOW_LINK_MS = 5.0


@dataclass(frozen=True)
class Fault:
    """One fault in one start of the work.

    Attributes
    ----------
    kind, phase
        See `KINDS` and `PHASES`.
    nth
        How manieth entry of the phase, by any rank, is waited for.
    delay_s
        From then on.
    victims
        Ranks, or `LAUNCHER`.
    seconds
        That a rank is suspended, or a cable cut.
    call
        Of calls that change the disk, from the phase on: which fails first.
    runs
        How many at once.
    """

    kind: str
    phase: str
    nth: int = 1
    delay_s: float = 0.0
    victims: tuple[int, ...] = ()
    seconds: float = 0.0
    call: int = 0
    runs: int = 1


def allowed_codes(fault: Fault | None, success: int, *, is_cohort: bool, has_failed: bool, hit: str) -> set[int] | None:
    """Exit codes that a start may end with beside `success`; None for any but those that mean something else.

    Parameters
    ----------
    fault
        Of this start; None where nothing was disturbed.
    is_cohort
        Whether one of several slides may fail alone.
    has_failed
        Whether a call was made to fail.
    hit
        The phase in which the fault came.
    """
    if fault is None or (KINDS[fault.kind].is_outlived and fault.kind != "several runs at once"):
        return set()
    if fault.kind.startswith("SIG"):
        # until Python listens, a signal does what it does to any program, and mpirun kills the other ranks
        return {STOPPED} if hit != "starting" else None
    if fault.kind == "several runs at once":
        return {BUSY} | ({SLIDES_FAILED} if is_cohort else set())
    if fault.kind == "folder renamed away" or has_failed:
        return {DISK} | ({SLIDES_FAILED} if is_cohort else set())
    if KINDS[fault.kind].is_of_disk or fault.kind == "stale file handle":
        return set()
    return None
