"""The real command in which ranks die: run_dying.py RANK,MODULE,DOTTED.NAME,CALL[,host][;...] ARGUMENTS...

Rank RANK kills itself (SIGKILL) at the CALL-th call of the function, counted from 1; with ``host`` after that all
processes of the job on its host too, those of the launcher among them.
"""

from __future__ import annotations

import importlib
import os
import sys
from functools import reduce
from pathlib import Path
from typing import Any

from pyramidai_mpi.testing.launch import TAG, kill, processes_of

WITH_HOST = "host"


def die(*, with_host: bool) -> None:
    """Kill this process, or all of this job that shares its network."""
    own = os.getpid()
    for pid in processes_of(os.environ[TAG]) if with_host else []:
        if pid != own and Path(f"/proc/{pid}/ns/net").readlink() == Path("/proc/self/ns/net").readlink():
            kill(pid)
    kill(own)


def plant(module_name: str, dotted: str, call: int, *, with_host: bool) -> None:
    *owners, name = dotted.split(".")
    owner = reduce(getattr, owners, importlib.import_module(module_name))
    real, calls = getattr(owner, name), 0

    def deadly(*arguments: Any, **options: Any) -> Any:
        nonlocal calls
        calls += 1
        if calls == call:
            die(with_host=with_host)
        return real(*arguments, **options)

    setattr(owner, name, deadly)


if __name__ == "__main__":
    import mpi4py

    mpi4py.rc.thread_level = "funneled"

    from mpi4py import MPI

    from pyramidai_mpi.cli.main import main

    for death in sys.argv[1].split(";"):
        rank, module, dotted, call, *rest = death.split(",")
        if MPI.COMM_WORLD.rank == int(rank):
            plant(module, dotted, int(call), with_host=rest == [WITH_HOST])
    main(sys.argv[2:])
