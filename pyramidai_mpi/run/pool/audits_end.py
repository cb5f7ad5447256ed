"""The end of an audit: what is left to be done again once no tile is done any more, and whose work is set aside."""

from __future__ import annotations

from concurrent.futures import Future, ThreadPoolExecutor
from typing import TYPE_CHECKING, Self

import numpy as np

from pyramidai_mpi.base.errors import PyramidError, StorageError
from pyramidai_mpi.ranks.collectives import allgather, share_bytes

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from mpi4py import MPI

    from pyramidai_mpi.analyses.base import SlideAnalysis
    from pyramidai_mpi.run.pool.audit import AuditBook
    from pyramidai_mpi.run.pool.recomputing import Recomputer
    from pyramidai_mpi.run.resume import Journals


class AuditsEnd:
    """Does orders in a thread of its own, as the worker has ended, while the main thread carries messages.

    Parameters
    ----------
    book
        Of the slides that this rank owns.
    recomputer
        Has the orders.
    at_hand
        See `Recomputer.serve`.
    is_asked
        Whether to stop.
    """

    def __init__(
        self,
        book: AuditBook,
        recomputer: Recomputer,
        at_hand: Callable[[int], SlideAnalysis],
        is_asked: Callable[[], bool],
    ) -> None:
        self._book, self._recomputer, self._at_hand, self._is_asked = book, recomputer, at_hand, is_asked
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="pyramidai-audit")
        self._in_hand: Future[None] | None = None

    def __enter__(self) -> Self:
        return self

    def __exit__(self, failure: type[BaseException] | None, *_: object) -> None:
        if failure is not None:
            self._recomputer.give_up()
        self._thread.shutdown(cancel_futures=True)
        self._recomputer.close()

    @property
    def is_given_up(self) -> bool:
        """Whether this rank's slides will not be finished."""
        return self._book.has_given_up or self._book.failure is not None

    @property
    def is_idle(self) -> bool:
        """Whether nobody waits for this rank, nor this rank for an answer."""
        return self._in_hand is None and not self._recomputer.has_orders and not self._book.waits

    def go_on(self) -> None:
        """See what is done, and begin the next. From the main thread; raises what went wrong in the other."""
        if self._is_asked():
            self._book.give_up()
        if self._in_hand is not None and self._in_hand.done():
            done, self._in_hand = self._in_hand, None
            done.result()
        if self._in_hand is None and self._recomputer.has_orders:
            self._in_hand = self._thread.submit(self._recomputer.serve, self._at_hand, refuse=self._is_asked())


def set_aside(comm: MPI.Intracomm, suspects: Iterable[int], journals: Journals) -> PyramidError | None:
    """Set aside what suspects have journalled in this start, so that no other goes on from it. Collective.

    Parameters
    ----------
    suspects
        Ranks, as this one knows.

    Returns
    -------
    PyramidError or None
        What kept this rank's from being set aside.
    """
    named = np.zeros(comm.size, np.int64)
    named[[rank for rank in suspects if rank >= 0]] = 1
    if allgather(comm, named)[:, comm.rank].any():
        try:
            journals.home.set_aside(journals.of_rank(comm.rank))
        except PyramidError as error:
            return error
    return None


def raise_failure(comm: MPI.Intracomm, failure: PyramidError | None) -> None:
    """Raise on all ranks what the audit of any has found wrong, in its own words. Collective.

    Raises
    ------
    StorageError
        The lowest such rank's.
    """
    failing = np.flatnonzero(allgather(comm, np.array([failure is not None]))[:, 0])
    if len(failing):
        first = int(failing[0])
        own = str(failure).encode(errors="surrogateescape") if comm.rank == first else None
        error = StorageError(share_bytes(comm, own, root=first).decode(errors="surrogateescape"))
        error.agreed = True
        raise error
