"""What the process launcher tells through the environment, before and without MPI."""

from __future__ import annotations

import os
import sys
from pathlib import Path

from pyramidai_mpi.base.errors import InternalError

# MPICH and Slurm's pmi2; Open MPI; PMIx; Slurm steps
_RANK_VARIABLES = ("PMI_RANK", "OMPI_COMM_WORLD_RANK", "PMIX_RANK", "SLURM_PROCID")
_THREAD_VARIABLES = ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS")
_LAUNCHERS = frozenset({"mpirun", "mpiexec", "mpiexec.hydra", "orterun", "prterun", "srun"})
_MOST_ANCESTORS = 8
_SIZE_VARIABLES = ("PMI_SIZE", "OMPI_COMM_WORLD_SIZE", "SLURM_STEP_NUM_TASKS")


def prepare_environment() -> None:
    """Set what libraries read once, when they are loaded: before numpy and MPI are.

    One rank a core, one thread a rank; and ranks that share a core give it away while they wait (MPICH otherwise polls
    through its time slice: 8 ms a collective instead of 44 µs with 8 ranks on 2 cores).
    """
    for variable in _THREAD_VARIABLES:
        os.environ.setdefault(variable, "1")
    os.environ.setdefault("MPIR_CVAR_POLLS_BEFORE_YIELD", "0")


def launched_rank() -> int:
    """Rank that the launcher gave this process, 0 without a launcher: who prints what all would print."""
    return _first_number(_RANK_VARIABLES, 0)


def launched_size() -> int:
    """How many processes the launcher started, 1 without a launcher."""
    return _first_number(_SIZE_VARIABLES, 1)


def check_world_size(size: int) -> None:
    """Compare what MPI says with what the launcher said.

    With a launcher of another MPI than the one that mpi4py found, every process believes to be alone: all would do the
    whole work and write the same file.

    Raises
    ------
    InternalError
        When the launcher started several processes and MPI sees one.
    """
    launched = launched_size()
    if size == 1 and launched > 1:
        raise InternalError(
            f"the launcher started {launched} processes, but each one's MPI sees only itself: mpirun or srun belongs "
            "to another MPI than mpi4py uses; call the mpirun of this Python environment, or give srun --mpi=pmi2 or "
            "--mpi=pmix"
        )


def terminal_width() -> int | None:
    """Columns of the terminal that shows this process's standard error, None when no terminal does.

    Launchers read what their ranks write through a pipe and pass it on, so it is the launcher's standard error that
    tells; it is found among this process's ancestors.
    """
    if sys.stderr.isatty():
        return os.get_terminal_size(sys.stderr.fileno()).columns
    for ancestor in _ancestors():
        try:
            if (ancestor / "comm").read_text().strip() not in _LAUNCHERS:
                continue
            device = (ancestor / "fd" / "2").readlink()
            if not str(device).startswith(("/dev/pts/", "/dev/tty")):
                return None
            with device.open() as terminal:
                return os.get_terminal_size(terminal.fileno()).columns
        except OSError:  # another user's process, or one that has just ended
            return None
    return None


def _ancestors() -> list[Path]:
    """Folders in /proc of this process's parent, grandparent and so on; none where there is no /proc."""
    folders: list[Path] = []
    pid = os.getppid()
    while pid > 1 and len(folders) < _MOST_ANCESTORS:
        folder = Path("/proc", str(pid))
        try:
            # the name in parentheses may hold blanks; the parent is the second field after it
            pid = int((folder / "stat").read_text().rpartition(")")[2].split()[1])
        except OSError:
            break
        folders.append(folder)
    return folders


def _first_number(variables: tuple[str, ...], default: int) -> int:
    for variable in variables:
        if os.environ.get(variable, "").isdigit():
            return int(os.environ[variable])
    return default
