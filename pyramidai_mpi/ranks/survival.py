"""Going on without the ranks that died, where the MPI can: ULFM, which is Open MPI 5 under ``mpirun --with-ft ulfm``.

What a run has finished lies in its journal, so survivors need no other state of the dead: each leaves what it was
doing, they shrink the communicator to those alive, and begin the run again as one that is resumed. Whoever of them is
rank 0 then does what rank 0 does.

An attempt counts only when all survivors say that it was through. Without that agreement a rank that had seen no
failure would be gone when the others start again.
"""

from __future__ import annotations

import logging
import os
from typing import TYPE_CHECKING, TypeVar

from pyramidai_mpi.base.errors import PyramidError
from pyramidai_mpi.process.watch import Watch
from pyramidai_mpi.ranks.watching import watch_each_other

if TYPE_CHECKING:
    from collections.abc import Callable

    from mpi4py import MPI

T = TypeVar("T")

log = logging.getLogger(__name__)

_LAUNCHED_WITH_ULFM = "OMPI_MCA_mpi_ft_enable"


def can_survive() -> bool:
    """Whether the ranks were started so that they outlive each other."""
    return os.environ.get(_LAUNCHED_WITH_ULFM, "") not in {"", "0"}


def through_losses(
    comm: MPI.Intracomm, attempt: Callable[[MPI.Intracomm, bool], T], say_error: Callable[[str], None]
) -> tuple[T, MPI.Intracomm]:
    """Attempt something that can be resumed until no rank is lost meanwhile. Collective.

    Parameters
    ----------
    comm
        The ranks.
    attempt
        Called with the ranks that are left, and whether it is to go on from an earlier attempt. Collective.
    say_error
        How an error that all ranks share reaches the user when the rank that would have said it is dead.

    Returns
    -------
    value, comm
        What the last attempt returned, and the ranks that are left.

    Raises
    ------
    PyramidError
        Of the last attempt, on all ranks that are left.
    """
    from pyramidai_mpi.sched.transport import is_loss

    first_rank, again = comm.rank, False
    while True:
        value, error, is_through = None, None, False
        try:
            if again and Watch.of_this_process is not None:
                watch_each_other(comm, Watch.of_this_process)
            value = attempt(comm, again)
            is_through = True
        except PyramidError as caught:
            if not caught.agreed:
                raise
            error, is_through = caught, True
        except Exception as caught:
            if not (can_survive() and is_loss(caught)):
                raise
            comm.Revoke()  # whoever waits in it for somebody who has left learns of it
        if not can_survive() or _all_are_through(comm, is_through):
            if error is not None:
                if comm.rank == 0 and first_rank != 0:
                    say_error(str(error))
                raise error
            return value, comm  # type: ignore[return-value]  # an attempt that was through has a value
        comm = _survivors(comm)
        again = True


def _all_are_through(comm: MPI.Intracomm, is_through: bool) -> bool:
    """Whether every rank says so and none has died: the same answer on all that are left. Collective."""
    from pyramidai_mpi.sched.transport import is_loss

    try:
        return bool(comm.Agree(int(is_through)))
    except Exception as failure:
        if not is_loss(failure):
            raise
        return False


def _survivors(comm: MPI.Intracomm) -> MPI.Intracomm:
    """The ranks that are left, in the same order. Collective among them."""
    left: MPI.Intracomm = comm.Shrink()  # type: ignore[assignment]  # declared for any kind of communicator
    if left.rank == 0:
        lost = comm.size - left.size
        others = f"the other {left.size} go" if left.size > 1 else "the last one goes"
        log.warning("%d of %d ranks died; %s on from the journal", lost, comm.size, others)
    return left
