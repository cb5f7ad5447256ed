"""Starting MPI for a command, and ending all ranks together."""

from __future__ import annotations

import logging
import os
import signal
import sys
import threading
import time
from contextlib import contextmanager
from typing import TYPE_CHECKING, NoReturn

from pyramidai_mpi import __version__
from pyramidai_mpi.base.errors import (
    ExitCode,
    PyramidError,
    StorageError,
    address_limit,
    exit_code_of,
    failure_report,
)
from pyramidai_mpi.cli.launcher import check_world_size, launched_rank, launched_size
from pyramidai_mpi.cli.mpi_start import start_mpi
from pyramidai_mpi.process.exit import PATIENCE_S, say_before_leaving, speaks_for_its_job
from pyramidai_mpi.process.host import host_name, program_mark
from pyramidai_mpi.process.parent import ParentWatch
from pyramidai_mpi.process.stop import was_interrupted
from pyramidai_mpi.process.watch import Watch
from pyramidai_mpi.ranks.survival import can_survive

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from mpi4py import MPI

_LET_RANK_0_SPEAK_S = 0.1
_LEAST_ADDRESSES = 768 << 20
"""What a rank's libraries take of addresses: with 650 MiB a small slide was analysed, with 600 MiB OpenBLAS went round
for ever as it was loaded."""


@contextmanager
def mpi_session(farewell: str = "interrupted", arguments: Sequence[str] | None = None) -> Iterator[MPI.Intracomm]:
    """Start MPI and give its world.

    An error that all ranks share passes through. Any other exception, in any thread of any rank, would leave the others
    waiting: it is printed with its rank and host and ends all of them. What is the user's to mend gets one line and its
    own exit code, a bug its traceback.

    Parameters
    ----------
    farewell
        What to say when a signal ends all ranks.
    arguments
        What this rank was started with, to be compared with the others'; see `tell_other_ranks`. None for whatever.
    """
    comm, watch = _start_mpi()
    check_world_size(comm.size)
    if signal.getsignal(signal.SIGTERM) is signal.SIG_DFL:
        # like Ctrl-C: leaves no half-written file behind and ends all ranks with the same code
        signal.signal(signal.SIGTERM, signal.default_int_handler)
    threading.excepthook = lambda args: _end_all(comm, args.exc_value or args.exc_type())
    try:
        _check_addresses()
        if arguments is not None:
            _meet(comm, arguments)
        if watch is not None:
            from pyramidai_mpi.ranks.watching import watch_each_other

            watch_each_other(comm, watch)
        try:
            yield comm
        except PyramidError as error:
            if error.agreed:
                _leave_together(comm, watch)
            raise
        _leave_together(comm, watch)
    except KeyboardInterrupt:
        _end_all_as_asked(comm, farewell)
    except PyramidError as error:
        if comm.size > 1 and not error.agreed:
            _end_all(comm, error)
        raise
    except Exception as error:
        if was_interrupted(error):
            _end_all_as_asked(comm, farewell)
        _end_all(comm, error)


def _end_all_as_asked(comm: MPI.Intracomm, farewell: str) -> NoReturn:
    # a launcher tells all ranks, so rank 0 speaks for them; where it was not told, the first one that was
    time.sleep(_LET_RANK_0_SPEAK_S if comm.rank else 0)
    if comm.size == 1 or speaks_for_its_job():
        say_before_leaving(f"pyramidai: {farewell}\n", ExitCode.STOPPED)
    else:
        time.sleep(PATIENCE_S)  # the one that speaks ends the job, once its words are read
    _abort_job(comm, ExitCode.STOPPED)


def tell_other_ranks(arguments: Sequence[str], trouble: Exception) -> NoReturn:
    """Raise on all ranks what this one has met before its session began, where the others may wait for it for ever.

    MPICH's launcher does not notice a rank that leaves before MPI has started. So it starts MPI for this, and does what
    the others do first in a session with the same `arguments`.
    """
    comm, _ = _start_mpi()
    if comm.size == 1:  # the launcher is of another MPI: nobody waits
        if isinstance(trouble, PyramidError):
            trouble.agreed = True
        raise trouble
    if isinstance(trouble, PyramidError):
        _meet(comm, arguments, trouble)  # raises
    _end_all(comm, trouble)


def leave_after_losses(code: int) -> NoReturn:
    """Leave without finalising MPI, which may wait for the dead for ever; all that was to be written is in place."""
    logging.shutdown()
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(code)


def leaves_after_losses() -> bool:
    """Whether this process has outlived others of its job."""
    if not can_survive():
        return False
    from mpi4py import MPI

    from pyramidai_mpi.sched.transport import knows_of_a_loss

    return MPI.Is_initialized() and not MPI.Is_finalized() and knows_of_a_loss(MPI.COMM_WORLD)


def _leave_together(comm: MPI.Intracomm, watch: Watch | None) -> None:
    """Wait until all have done what they had to, rank 0 its exports too, and watch no more. Collective.

    MPI_Finalize waits for the others as well, but awake, and where nobody can watch.
    """
    if watch is None:
        return
    from pyramidai_mpi.sched.transport import is_loss
    from pyramidai_mpi.sched.waiting import wait_until

    try:
        wait_until(comm.Ibarrier().Test)
    except Exception as failure:
        if not is_loss(failure):
            raise
    watch.end()


def _start_mpi() -> tuple[MPI.Intracomm, Watch | None]:
    """Start MPI; of several ranks each is watched from before that on, as it waits for all of them."""
    who = f"rank {launched_rank()}, host {host_name()}"
    watch = Watch(who, survives=can_survive()) if launched_size() > 1 else None
    if ParentWatch.of_this_process is not None:
        ParentWatch.of_this_process.end()
    comm: MPI.Intracomm = start_mpi().COMM_WORLD
    if comm.size == 1:
        if watch is not None:
            watch.end()
        return comm, None
    watch = watch or Watch(who, survives=can_survive())  # by a launcher that tells nothing
    watch.mpi_has_started()
    return comm, watch


def _meet(comm: MPI.Intracomm, arguments: Sequence[str], trouble: PyramidError | None = None) -> None:
    """The first thing that ranks do together: see that all were started alike, and hear of each other's troubles."""
    if comm.size == 1:
        return
    from pyramidai_mpi.ranks.alike import agree_alike

    facts = {
        "program": [f"{__version__} ({program_mark()})"],
        "arguments": list(arguments),
        "surviving the loss of ranks": [str(can_survive())],
    }
    agree_alike(comm, facts, trouble)


def _check_addresses() -> None:
    """See that the system grants this process what its libraries take; they may crash or hang without.

    Raises
    ------
    StorageError
        Less is granted.
    """
    granted = address_limit()
    if granted is not None and granted < _LEAST_ADDRESSES:
        raise StorageError(
            f"a rank's libraries take {_LEAST_ADDRESSES >> 20} MiB of addresses, and the system grants "
            f"{granted >> 20} MiB (ulimit -v, h_vmem); ask for more a rank"
        )


def _end_all(comm: MPI.Intracomm, error: BaseException) -> NoReturn:
    code = exit_code_of(error)
    say_before_leaving(failure_report(error, comm.rank, comm.size, host_name()), code)
    _abort_job(comm, code)


def _abort_job(comm: MPI.Intracomm, code: int) -> NoReturn:
    from pyramidai_mpi.sched.transport import abort_job  # imports MPI, which has started by now

    abort_job(comm, code)
