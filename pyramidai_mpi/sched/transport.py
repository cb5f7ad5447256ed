"""Messages between ranks: the one place of the scheduler that knows MPI.

Sends are synchronous and nonblocking (`Issend`): a send completes when its receiver has taken the message. So a rank
whose sends have completed knows that nothing of its own is in the network, and once all ranks have entered a
nonblocking barrier after that, the communicator is empty and may be freed (the algorithm NBX of Hoefler, Siebert and
Lumsdaine, PPoPP 2010). Nothing is ever cancelled.

Receiving goes through matched probes: the length of a message is known before it is taken, and no other thread or
library can take it in between. All calls come from one thread, so the level FUNNELED is enough.
"""

from __future__ import annotations

import sys
import time
from typing import NoReturn, Protocol, Self

from mpi4py import MPI

from pyramidai_mpi.process.exit import PATIENCE_S, skip_destructors_at_exit, tell_launcher_of_mpich
from pyramidai_mpi.process.system_timer import SystemTimer
from pyramidai_mpi.sched.sealing import sealed, unsealed
from pyramidai_mpi.sched.waiting import wait_until

_TAG = 0
_MOST_ABORTING_S = 10.0
"""For MPI_Abort, which tells a launcher that may not answer."""


class Transport(Protocol):
    """Point-to-point messages among the ranks of one run.

    Messages from one rank to another arrive in the order in which they were sent; nothing else is promised.

    Attributes
    ----------
    rank, size : int
        This rank's number, and how many there are.
    host : str
        Name of the computer, for messages to the user.
    """

    rank: int
    size: int
    host: str

    def send(self, destination: int, data: bytes) -> None:
        """Send `data` to another rank; returns at once."""
        ...

    def receive(self) -> tuple[int, bytes | bytearray] | None:
        """Next message that has arrived, with its source; None if there is none now."""
        ...

    def all_sent(self) -> bool:
        """Whether every message sent so far was taken by its receiver."""
        ...

    def enter_barrier(self) -> None:
        """Say that this rank will send no more; call once, when `all_sent`."""
        ...

    def barrier_passed(self) -> bool:
        """Whether all ranks have entered the barrier."""
        ...

    def close(self) -> None:
        """Give everything back; only after `barrier_passed`."""
        ...

    def abort(self, code: int) -> NoReturn:
        """End all ranks at once with this exit code."""
        ...

    def is_loss(self, failure: BaseException) -> bool:
        """Whether `failure` says that a rank has died, and this one may outlive it."""
        ...

    def abandon(self) -> None:
        """Leave after a loss: the others learn of it, and nothing is waited for."""
        ...


def is_loss(failure: BaseException) -> bool:
    """Whether an exception of MPI says that a rank has died, or that another one has found that out."""
    if not isinstance(failure, MPI.Exception):
        return False
    return failure.Get_error_class() in {MPI.ERR_PROC_FAILED, MPI.ERR_PROC_FAILED_PENDING, MPI.ERR_REVOKED}


def call_it_a_loss(comm: MPI.Intracomm, failure: BaseException) -> None:
    """Raise what says that a rank has died, where that is why a request of all ranks together has failed.

    Of a rank that dies while one of its non-blocking collectives is under way, Open MPI 5 says "known error not in
    list" (`MPI.ERR_OTHER`) now and then, while a communicator is duplicated "internal error" (`MPI.ERR_INTERN`), and
    the right error from then on only.
    """
    if isinstance(failure, MPI.Exception) and not is_loss(failure) and knows_of_a_loss(comm):
        raise MPI.Exception(MPI.ERR_PROC_FAILED) from failure


def knows_of_a_loss(comm: MPI.Intracomm) -> bool:
    """Whether a rank is known to have died, which this one has outlived."""
    try:
        return comm.Is_revoked() or comm.Get_failed().Get_size() > 0
    except (MPI.Exception, NotImplementedError):  # a library whose ranks do not outlive each other
        return False


def abort_job(comm: MPI.Intracomm, code: int) -> NoReturn:
    """End all ranks of the job at once, with this exit code, from any thread."""
    if MPI.Get_library_version().startswith("MPICH") and tell_launcher_of_mpich(code):
        time.sleep(PATIENCE_S)  # it ends this process as well
    skip_destructors_at_exit()
    SystemTimer("_exit", code).set(_MOST_ABORTING_S)
    comm.Abort(code)
    raise SystemExit(code)  # not reached; Abort is not declared to never return


class MpiTransport:
    """Transport over a private duplicate of an MPI communicator."""

    def __init__(self, comm: MPI.Intracomm) -> None:
        self._comm = comm
        self.rank = comm.Get_rank()
        self.size = comm.Get_size()
        self.host = MPI.Get_processor_name()
        self._status = MPI.Status()
        # A request knows only the address of its data, so both are kept until it completes.
        self._sends: list[tuple[MPI.Request, bytes]] = []
        self._barrier: MPI.Request | None = None

    @classmethod
    def open(cls, comm: MPI.Intracomm) -> Self:
        """Duplicate `comm`, so that messages of the run meet no others; collective."""
        try:
            duplicate, request = comm.Idup()
            wait_until(request.Test)
        except MPI.Exception as failure:
            call_it_a_loss(comm, failure)
            raise
        return cls(duplicate)

    def send(self, destination: int, data: bytes) -> None:
        """Send `data`; returns at once."""
        data = sealed(data)
        self._sends.append((self._comm.Issend([data, MPI.BYTE], destination, _TAG), data))

    def receive(self) -> tuple[int, bytearray] | None:
        """Next message that has arrived, with its source; raises `StorageError` for one that was changed on its way."""
        message = self._comm.Improbe(MPI.ANY_SOURCE, _TAG, self._status)
        if message is None:
            return None
        data = bytearray(self._status.Get_count(MPI.BYTE))
        source = self._status.Get_source()
        message.Recv([data, MPI.BYTE])
        return source, unsealed(data, source)

    def all_sent(self) -> bool:
        """Whether every message sent so far was taken by its receiver."""
        if self._sends:
            self._sends = [send for send in self._sends if not send[0].Test()]
        return not self._sends

    def enter_barrier(self) -> None:
        """Say that this rank will send no more."""
        self._barrier = self._comm.Ibarrier()

    def barrier_passed(self) -> bool:
        """Whether all ranks have entered the barrier."""
        try:
            return self._barrier is not None and self._barrier.Test()
        except MPI.Exception as failure:
            call_it_a_loss(self._comm, failure)
            raise

    def close(self) -> None:
        """Free the duplicate."""
        self._comm.Free()

    def abort(self, code: int) -> NoReturn:
        """End all ranks at once with this exit code."""
        sys.stdout.flush()
        sys.stderr.flush()
        abort_job(self._comm, code)

    def is_loss(self, failure: BaseException) -> bool:
        """See `is_loss`."""
        return is_loss(failure)

    def abandon(self) -> None:
        """Revoke the duplicate; its requests are given up with it."""
        self._comm.Revoke()
