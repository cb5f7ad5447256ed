"""Memory that the processes of a host share: MPICH cannot do without, and says so in words about everything else."""

from __future__ import annotations

import os

from pyramidai_mpi.base.counts import counted

_FOLDER = "/dev/shm"
"""Where glibc puts it."""
_LEAST_BYTES = 1_200_000
"""What MPICH 5 takes for each rank of a host: 1035 KiB were seen. With less it dies of SIGBUS."""


def shared_memory_trouble(n_ranks: int, folder: str = _FOLDER) -> str:
    """Why so many ranks of this host could not share memory, in words; nothing when they could.

    Ranks that start together take of it while others look, so what they need together is compared with its size, and
    with what is free only what one of them needs.
    """
    if not os.access(folder, os.W_OK | os.X_OK):
        return f"{folder}: is missing, or nothing can be written there"
    status = os.statvfs(folder)
    size, free = (blocks * status.f_frsize for blocks in (status.f_blocks, status.f_bavail))
    needed = n_ranks * _LEAST_BYTES
    if size and (size < needed or free < _LEAST_BYTES):
        asked = f"{counted(n_ranks, 'rank')} would share {-(-needed >> 20)} MiB there"
        return f"{folder}: {asked}; it has {size >> 20}, of which {free >> 20} are free"
    return ""
