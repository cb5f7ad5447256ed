"""Starting ranks on this machine: the launcher of the very MPI that mpi4py uses, and the environment that it needs."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING

from pyramidai_mpi.base.errors import UsageError

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

STARTED_RANKS = "PYRAMIDAI_STARTED_RANKS"
"""Variable that tells ranks how many were started: one that sees no launcher around it must not start them again."""

_INSTALL = "pip install 'pyramidai-mpi[mpi]'"
_LAUNCHERS = ("mpirun", "mpiexec", "mpirun.mpich", "mpirun.openmpi", "mpiexec.hydra")
_PATIENCE_S = 60.0
_LIBRARY_VERSION = (
    "import mpi4py; mpi4py.rc.initialize = mpi4py.rc.finalize = False; "
    "from mpi4py import MPI; print(MPI.Get_library_version())"
)
# what says of which family a library or a launcher is: Hydra, MPICH's launcher, starts what derives from MPICH
_FAMILIES = {
    "Open MPI": ("open mpi", "openrte", "prrte"),
    "MPICH": ("mpich", "hydra", "intel(r) mpi", "mvapich"),
}
_OF_A_LAUNCHER = ("PMI_", "PMIX_", "OMPI_COMM_WORLD_", "HYDI_")


def command_for_ranks(n: int, program: Sequence[str]) -> list[str]:
    """What starts `program` on `n` ranks of this machine; to be run with `environment_for_ranks`.

    MPI is not started in this process, which may have started it or not.

    Parameters
    ----------
    n
        Number of ranks, at least 1.
    program
        Words of a command, such as ``[sys.executable, "-m", "pyramidai_mpi", "slide.tif"]``.

    Raises
    ------
    UsageError
        There is no launcher of the MPI that mpi4py uses, or no such MPI; or a SLURM job is to use ``srun``.
    """
    if n < 1:
        raise UsageError(f"{n} ranks: expected at least 1")
    if os.environ.get("SLURM_JOB_ID"):
        raise UsageError(
            f"{n} ranks: this is a SLURM job, where srun starts ranks: srun -n {n} python -m pyramidai_mpi ..., "
            "without --ranks"
        )
    return [find_launcher(n), "-n", str(n), *program]


def environment_for_ranks(n: int) -> dict[str, str]:
    """Environment in which a launcher starts `n` ranks as told, on however many cores, and also as root.

    Open MPI refuses root and more ranks than cores unless told otherwise, and binds the ranks of each job to the first
    cores, so that two jobs would share them. What the caller has set himself stays.
    """
    environment = {
        "PRTE_MCA_rmaps_default_mapping_policy": ":oversubscribe",
        "PRTE_MCA_hwloc_default_binding_policy": "none",
        "OMPI_MCA_rmaps_base_oversubscribe": "1",  # the same two of Open MPI 4
        "OMPI_MCA_hwloc_base_binding_policy": "none",
        "MPIR_CVAR_POLLS_BEFORE_YIELD": "0",
    }
    if os.geteuid() == 0:
        environment |= {"OMPI_ALLOW_RUN_AS_ROOT": "1", "OMPI_ALLOW_RUN_AS_ROOT_CONFIRM": "1"}
    # MPI that was started without a launcher, as in a notebook, may have left what would make children its ranks
    own = {name: value for name, value in os.environ.items() if not name.startswith(_OF_A_LAUNCHER)}
    return environment | own | {STARTED_RANKS: str(n)}


def find_launcher(n: int = 2) -> str:
    """Path of the launcher that belongs to mpi4py's MPI: beside this Python, else the first such on PATH.

    Raises
    ------
    UsageError
        There is none, or no MPI. The line speaks of `n` ranks.
    """
    library = _output_of([sys.executable, "-P", "-c", _LIBRARY_VERSION])
    if library is None:
        raise UsageError(f"{n} ranks: no MPI library can be loaded; {_INSTALL}")
    family = _family_of(library)
    others: dict[str, Path] = {}  # the first of each
    for path in _candidates():
        found = _family_of(_output_of([str(path), "--version"]) or "")
        if family is not None and found == family:
            return str(path)
        others.setdefault(found or "an unknown MPI", path)
    uses = f"{n} ranks: mpi4py uses {family or ' '.join(library.split())[:60]}"
    if others:
        strangers = ", ".join(f"{path} belongs to {found}" for found, path in others.items())
        raise UsageError(f"{uses}, and {strangers}; start the ranks with the launcher of your MPI, without --ranks")
    raise UsageError(f"{uses}, and there is no mpirun beside {sys.executable} or on PATH; {_INSTALL}")


def _candidates() -> Iterator[Path]:
    """Launchers, those of this Python's environment first; each file once."""
    seen = set()
    for folder in (str(Path(sys.executable).parent), *os.get_exec_path()):
        for name in _LAUNCHERS:
            path = Path(folder, name)
            if os.access(path, os.X_OK) and path.is_file() and path.resolve() not in seen:
                seen.add(path.resolve())
                yield path


def _family_of(version: str) -> str | None:
    """Family of a library or a launcher by what it says of its version."""
    text = version.casefold()
    return next((family for family, words in _FAMILIES.items() if any(word in text for word in words)), None)


def _output_of(command: Sequence[str]) -> str | None:
    """What a command prints, None when it fails."""
    try:
        done = subprocess.run(
            command,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            errors="replace",
            env=environment_for_ranks(1),
            timeout=_PATIENCE_S,
            check=False,
        )
    except (OSError, subprocess.TimeoutExpired):
        return None
    return done.stdout if done.returncode == 0 else None
