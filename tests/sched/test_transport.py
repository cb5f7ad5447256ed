"""What an MPI library says of a rank that died, also where it does not say so."""

from __future__ import annotations

from types import SimpleNamespace

import pytest
from mpi4py import MPI

from pyramidai_mpi.ranks.collectives import share_bytes
from pyramidai_mpi.sched.transport import MpiTransport, is_loss


def request_that_fails(error: int):
    def test() -> bool:
        raise MPI.Exception(error)

    return SimpleNamespace(Test=test)


def comm_of(error: int, *, revoked: bool, n_failed: int):
    """A communicator whose collectives fail, and which knows of so many ranks that died."""
    request = request_that_fails(error)
    return SimpleNamespace(
        Get_rank=lambda: 0,
        Get_size=lambda: 2,
        Ibarrier=lambda: request,
        Ibcast=lambda *_: request,
        Is_revoked=lambda: revoked,
        Get_failed=lambda: SimpleNamespace(Get_size=lambda: n_failed),
    )


def failures_of(comm):
    """What the barrier of the scheduler and a collective raise."""
    transport = MpiTransport(comm)
    transport.enter_barrier()
    for call in (transport.barrier_passed, lambda: share_bytes(comm, b"abc")):
        with pytest.raises(MPI.Exception) as caught:
            call()
        yield caught.value


@pytest.mark.parametrize(("revoked", "n_failed"), [(True, 0), (False, 1)])
def test_an_unknown_error_of_ranks_of_which_one_died_is_its_death(revoked, n_failed):
    for failure in failures_of(comm_of(MPI.ERR_OTHER, revoked=revoked, n_failed=n_failed)):
        assert is_loss(failure)
        assert failure.__cause__.Get_error_class() == MPI.ERR_OTHER


def test_an_unknown_error_while_all_live_stays_one():
    for failure in failures_of(comm_of(MPI.ERR_OTHER, revoked=False, n_failed=0)):
        assert failure.Get_error_class() == MPI.ERR_OTHER
        assert not is_loss(failure)


def test_a_library_that_cannot_say_who_died_is_not_asked_twice():
    comm = comm_of(MPI.ERR_OTHER, revoked=False, n_failed=0)

    def refuse():
        raise NotImplementedError

    comm.Is_revoked = refuse
    for failure in failures_of(comm):
        assert failure.Get_error_class() == MPI.ERR_OTHER
