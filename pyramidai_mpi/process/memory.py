"""Memory of this process: how much it has held at most, and giving back what it no longer needs."""

from __future__ import annotations

import ctypes
import resource
from contextlib import suppress
from pathlib import Path

_STATUS = Path("/proc/self/status")


def peak_resident_bytes() -> int:
    """Most memory that this process has held at a time, shared pages and libraries included.

    Of the program alone: the kernel's ``ru_maxrss`` begins with that of the process which started it.
    """
    with suppress(OSError):
        for line in _STATUS.read_text().splitlines():
            if line.startswith("VmHWM:"):
                return int(line.split()[1]) << 10
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss << 10


def trim_heap() -> None:
    """Give freed memory back to the system, where the C library can: after work that took much for a short while.

    Loading a network leaves as much freed memory on glibc's heap as the network takes, in pieces too small for what
    comes after it.
    """
    trim = getattr(ctypes.CDLL(None), "malloc_trim", None)
    if trim is not None:
        trim(0)


def available_bytes() -> int | None:
    """Memory that the machine could give to a process now without swapping; None where it does not say (no Linux)."""
    with suppress(OSError):
        for line in Path("/proc/meminfo").read_text().splitlines():
            if line.startswith("MemAvailable:"):
                return int(line.split()[1]) << 10
    return None
