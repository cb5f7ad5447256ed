"""The real command in which ranks die: run_dying.py RANK,MODULE,DOTTED.NAME,CALL[;...] ARGUMENTS...

Rank RANK kills itself (SIGKILL) at the CALL-th call of the function, counted from 1.
"""

from __future__ import annotations

import importlib
import os
import signal
import sys
from functools import reduce
from typing import Any

import mpi4py

mpi4py.rc.thread_level = "funneled"

from mpi4py import MPI  # noqa: E402

from pyramidai_mpi.cli.main import main  # noqa: E402


def plant(module_name: str, dotted: str, call: int) -> None:
    *owners, name = dotted.split(".")
    owner = reduce(getattr, owners, importlib.import_module(module_name))
    real, calls = getattr(owner, name), 0

    def deadly(*arguments: Any, **options: Any) -> Any:
        nonlocal calls
        calls += 1
        if calls == call:
            os.kill(os.getpid(), signal.SIGKILL)
        return real(*arguments, **options)

    setattr(owner, name, deadly)


if __name__ == "__main__":
    for death in sys.argv[1].split(";"):
        rank, module, dotted, call = death.split(",")
        if MPI.COMM_WORLD.rank == int(rank):
            plant(module, dotted, int(call))
    main(sys.argv[2:])
