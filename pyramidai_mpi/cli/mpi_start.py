"""Starting MPI, once it is seen that it can."""

from __future__ import annotations

import os
import sys
from typing import TYPE_CHECKING

from pyramidai_mpi.base.errors import InternalError, StorageError
from pyramidai_mpi.cli.launcher import launched_size
from pyramidai_mpi.process.shared_memory import shared_memory_trouble

if TYPE_CHECKING:
    from types import ModuleType

_HERE_VARIABLES = ("MPI_LOCALNRANKS", "PMI_LOCAL_SIZE")
"""Ranks of this host, as the launchers of MPICH tell; others tell all."""


def start_mpi() -> ModuleType:
    """Start MPI, unless it runs; returns mpi4py's module.

    Raises
    ------
    InternalError
        No MPI library can be loaded.
    StorageError
        It is MPICH, which would end this process, as it cannot share memory with other ranks here. Alone it tries, too.
    """
    try:
        from mpi4py import rc

        rc.thread_level = "funneled"  # without effect where MPI runs already
        trouble = "" if "mpi4py.MPI" in sys.modules else shared_memory_trouble(_ranks_here())
        if not trouble:
            from mpi4py import MPI

            return MPI
        rc.initialize, rc.finalize = False, True
        from mpi4py import MPI
    except (ImportError, RuntimeError) as error:
        raise InternalError(
            f"no MPI library can be loaded ({' '.join(str(error).split())}); load your cluster's MPI module, "
            "or: pip install 'pyramidai-mpi[mpi]'"
        ) from error
    if not MPI.Is_initialized():
        if "MPICH" in MPI.Get_library_version():
            raise StorageError(
                f"{trouble}, and MPICH needs it: give the container more (--shm-size), or mount it; Open MPI does without"
            )
        MPI.Init_thread(MPI.THREAD_FUNNELED)
    return MPI


def _ranks_here() -> int:
    told = [os.environ[name] for name in _HERE_VARIABLES if os.environ.get(name, "").isdigit()]
    return int(told[0]) if told else launched_size()
