"""The process launcher: what it tells through the environment, before and without MPI, and becoming one."""

from __future__ import annotations

import os
import sys
from pathlib import Path

from pyramidai_mpi.base.counts import counted
from pyramidai_mpi.base.errors import InternalError, UsageError
from pyramidai_mpi.process.cores import usable_cores
from pyramidai_mpi.process.ranks import STARTED_RANKS, command_for_ranks, environment_for_ranks

# MPICH and Slurm's pmi2; Open MPI; PMIx; Slurm steps
_RANK_VARIABLES = ("PMI_RANK", "OMPI_COMM_WORLD_RANK", "PMIX_RANK", "SLURM_PROCID")
_THREAD_VARIABLES = ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS")
_LAUNCHERS = frozenset({"mpirun", "mpiexec", "mpiexec.hydra", "orterun", "prterun", "srun"})
_MOST_ANCESTORS = 8
_USUAL_COLUMNS = 80
"""Of terminals that do not tell, as in containers and under programs that imitate one."""
_MOST_RANKS, _MOST_RANKS_A_CORE = 64, 8
"""What ``--ranks`` starts at most, the larger of the two: 1000 processes on two cores leave no room for a Ctrl-C."""
_MOST_DIGITS = 9
_SIZE_VARIABLES = ("PMI_SIZE", "OMPI_COMM_WORLD_SIZE", "SLURM_STEP_NUM_TASKS")


def prepare_environment() -> None:
    """Set what libraries read once, when they are loaded: before numpy and MPI are.

    One rank a core, one thread a rank; and ranks that share a core give it away while they wait (MPICH otherwise polls
    through its time slice: 8 ms a collective instead of 44 µs with 8 ranks on 2 cores).
    """
    for variable in _THREAD_VARIABLES:
        os.environ.setdefault(variable, "1")
    os.environ.setdefault("MPIR_CVAR_POLLS_BEFORE_YIELD", "0")


def insist_on_one_thread() -> None:
    """Let linear algebra use one thread whatever the user's environment says, where numpy has not been loaded yet.

    How many threads there are decides the last bits of what they solve.
    """
    for variable in _THREAD_VARIABLES:
        os.environ[variable] = "1"


def launched_rank() -> int:
    """Rank that the launcher gave this process, 0 without a launcher: who prints what all would print."""
    return _first_number(_RANK_VARIABLES, 0)


def launched_size() -> int:
    """How many processes the launcher started, 1 without a launcher."""
    return _first_number(_SIZE_VARIABLES, 1)


def was_launched() -> bool:
    """Whether a launcher has started this process as one of its ranks, if the only one.

    The script of a SLURM batch job has a rank among SLURM's own variables, and is none.
    """
    return launched_size() > 1 or any(os.environ.get(variable, "").isdigit() for variable in _RANK_VARIABLES[:-1])


def parse_ranks(asked: str) -> int:
    """Number of ranks that ``--ranks`` asks for; ``auto`` is one a core.

    Raises
    ------
    UsageError
        It is neither, or more than this machine could hold.
    """
    cores = usable_cores()
    if asked == "auto":
        return cores
    if not (asked.isascii() and asked.isdigit() and asked.strip("0")):
        raise UsageError(f"--ranks {asked:.40}: expected a number from 1 on, or auto for one a core")
    most = max(_MOST_RANKS, _MOST_RANKS_A_CORE * cores)
    if len(asked) > _MOST_DIGITS or int(asked) > most:
        raise UsageError(
            f"--ranks {asked:.40}: more than {most} would bring this machine to a halt; "
            f"it has {counted(cores, 'core')}, and one rank a core is fastest"
        )
    return int(asked)


def become_ranks(asked: str) -> None:
    """Let a launcher take this process's place, which starts the same command on as many ranks as asked for.

    So signals, terminal and exit code are those of the launcher, as if the user had called it. Returns where this
    process already is one of so many ranks, or is to be the only one.

    Raises
    ------
    UsageError
        A launcher has started another number of ranks; or there is no launcher that could be called.
    InternalError
        We have started ranks, and their launcher does not tell them so.
    """
    n = parse_ranks(asked)
    if was_launched():
        if asked != "auto" and n != launched_size():
            raise UsageError(
                f"--ranks {asked}: the launcher has started {launched_size()}; leave --ranks out, which starts ranks "
                "where no launcher has"
            )
        return
    if n == 1:
        return
    if STARTED_RANKS in os.environ:
        raise InternalError(
            f"the launcher was told to start {os.environ[STARTED_RANKS]} ranks and does not tell them; start them with "
            "the launcher of your MPI, without --ranks"
        )
    # the very command: as a script, with -m, or with options of Python
    command = command_for_ranks(n, [sys.executable, *sys.orig_argv[1:]])
    sys.stdout.flush()
    sys.stderr.flush()
    os.execve(command[0], command, environment_for_ranks(n))


def advice_on_cores() -> str:
    """How a process that was started alone, without a word about ranks, could use the other cores; empty for no way."""
    cores = usable_cores()
    if was_launched() or cores < 2:
        return ""
    try:
        command_for_ranks(cores, [])
    except UsageError as error:
        return f"1 of {cores} cores is used; more ranks would share the work ({error})"
    return f"1 of {cores} cores is used; --ranks {cores} shares the work among all of them, with the same result"


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
        return os.get_terminal_size(sys.stderr.fileno()).columns or _USUAL_COLUMNS
    for ancestor in _ancestors():
        try:
            if (ancestor / "comm").read_text().strip() not in _LAUNCHERS:
                continue
            device = (ancestor / "fd" / "2").readlink()
            if not str(device).startswith(("/dev/pts/", "/dev/tty")):
                return None
            with device.open() as terminal:
                return os.get_terminal_size(terminal.fileno()).columns or _USUAL_COLUMNS
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
