"""Starting MPI, once it is seen that it can."""

from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import TYPE_CHECKING

from pyramidai_mpi.base.errors import InternalError, StorageError
from pyramidai_mpi.process.shared_memory import shared_memory_trouble

if TYPE_CHECKING:
    from types import ModuleType

_HERE_VARIABLES = ("MPI_LOCALNRANKS", "PMI_LOCAL_SIZE")
"""Ranks of this host, as launchers of MPICH tell; SLURM tells those of all hosts."""


def start_mpi() -> ModuleType:
    """Start MPI, unless it runs; returns mpi4py's module.

    Raises
    ------
    InternalError
        No MPI library can be loaded.
    StorageError
        It is MPICH, which would end this process, as there is no memory to share with other ranks, or no /proc. It
        wants both of a single process, too.
    """
    try:
        from mpi4py import rc

        rc.thread_level = "funneled"  # without effect where MPI runs already
        loaded = sys.modules.get("mpi4py.MPI")
        trouble = "" if loaded and loaded.Is_initialized() else _trouble_of_host()
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
            raise StorageError(f"{trouble}, and MPICH needs it: see to the container, or use Open MPI")
        MPI.Init_thread(MPI.THREAD_FUNNELED)
    return MPI


def _trouble_of_host() -> str:
    """What this host lacks that MPICH dies without, in words; nothing where nothing is known to lack."""
    if not Path("/proc/self").exists():
        return "/proc: is not mounted"
    told = [os.environ[name] for name in _HERE_VARIABLES if os.environ.get(name, "").isdigit()]
    return shared_memory_trouble(int(told[0]) if told else 1)
