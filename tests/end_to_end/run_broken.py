"""The real command with a bug planted in it: run_broken.py RANK MODULE DOTTED.NAME ARGUMENTS..."""

from __future__ import annotations

import importlib
import sys
from functools import reduce
from typing import Any

from mpi4py import MPI

from pyramidai_mpi.cli.main import main


def plant(rank: int, module_name: str, dotted: str) -> None:
    *owners, name = dotted.split(".")
    owner = reduce(getattr, owners, importlib.import_module(module_name))
    real = getattr(owner, name)

    def broken(*arguments: Any, **options: Any) -> Any:
        if MPI.COMM_WORLD.rank == rank:
            raise ZeroDivisionError("a planted bug")
        return real(*arguments, **options)

    setattr(owner, name, broken)


if __name__ == "__main__":
    plant(int(sys.argv[1]), sys.argv[2], sys.argv[3])
    main(sys.argv[4:])
