"""Numbered units of work that the ranks share, steal from each other, and whose results they all get.

What a unit gives must follow from its number alone: never from the rank that does it, or what that did before.
"""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, TypeVar

import numpy as np

from pyramidai_mpi.base.errors import PyramidError
from pyramidai_mpi.ranks.collectives import agree, agree_on, allgather, on_all, on_rank0, wait_for
from pyramidai_mpi.ranks.exact_sums import ExactSum
from pyramidai_mpi.sched import Policy, run

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    import numpy.typing as npt
    from mpi4py import MPI

T = TypeVar("T")

_PIECE = 64 << 20
_UNIT = np.dtype([("number", "<i8")])


class PoolStoppedError(Exception):
    """All ranks were told to stop before all units were done: what these gave is lost. Raised on every rank."""


class UnitPool:
    """The ranks of a communicator, who do units together. All methods but `rank` and `size` are collective.

    Parameters
    ----------
    comm
        The ranks; None for this process alone.
    policy, seed
        How work finds its rank, see `sched.run`. Neither changes a result.
    stop
        Polled: once it is true on any rank, `PoolStoppedError` is raised on all.

    Attributes
    ----------
    busy_s
        Seconds that this rank has spent on units.
    units
        How many it has done.
    """

    def __init__(
        self,
        comm: MPI.Intracomm | None = None,
        *,
        policy: Policy = Policy.STEAL_HALF,
        seed: int = 0,
        stop: Callable[[], bool] | None = None,
    ) -> None:
        self.comm = comm
        self.busy_s, self.units = 0.0, 0
        self._policy, self._seed, self._stop = policy, seed, stop

    @property
    def rank(self) -> int:
        """Number of this rank."""
        return 0 if self.comm is None else self.comm.rank

    @property
    def size(self) -> int:
        """How many ranks there are."""
        return 1 if self.comm is None else self.comm.size

    def do(self, n_units: int, work: Callable[[int], None]) -> None:
        """Call ``work(number)`` for each number below `n_units` once, on one rank.

        A rank calls it from one thread at a time, which is not the main one where there are several ranks.

        Raises
        ------
        PyramidError
            On all ranks, when `work` raised one on any. Other exceptions end the job.
        PoolStoppedError
            See there.
        """
        doing = _Doing(work)
        stopped = False
        if self.comm is None or self.comm.size == 1:
            for number in range(n_units):
                if stopped := self._stop is not None and self._stop():
                    break
                doing.do(number)
        else:
            roots = np.zeros(len(range(self.comm.rank, n_units, self.comm.size)), _UNIT)
            roots["number"] = range(self.comm.rank, n_units, self.comm.size)
            stopped = run(self.comm, doing, roots, self._policy, self._seed, stop=self._stop).stopped
        self.busy_s += doing.busy_s
        self.units += doing.done
        if self.comm is None:
            if doing.error is not None:
                raise doing.error
        else:
            agree(self.comm, doing.error)
        if stopped:
            raise PoolStoppedError

    def sums(
        self,
        n_units: int,
        term_of: Callable[[int], Sequence[npt.NDArray[np.floating]]],
        sizes: Mapping[str, int],
        bits: int = 40,
        what: str = "unit",
    ) -> list[npt.NDArray[np.float64]]:
        """Exact sums over all units of the arrays that ``term_of(number)`` gives, on all ranks: see `ExactSum`.

        Raises
        ------
        InputError
            A number is not finite or too large.
        PyramidError, PoolStoppedError
            See `do`.
        """
        total = self.exact_sum(n_units, term_of, sizes, bits, what)
        return total.values(total.whole)

    def exact_sum(
        self,
        n_units: int,
        term_of: Callable[[int], Sequence[npt.NDArray[np.floating]]],
        sizes: Mapping[str, int],
        bits: int = 40,
        what: str = "unit",
        memory: npt.NDArray[np.int64] | None = None,
    ) -> ExactSum:
        """As `sums`, in whole numbers yet: of large arrays only what is asked for is then made real.

        Parameters
        ----------
        memory
            Where they are kept, see `ExactSum`.
        """
        total = ExactSum(sizes, n_units, bits, what, memory)
        self.do(n_units, lambda number: total.add(number, term_of(number)))
        self._combine(total.whole, "SUM", on_all=True)
        return total

    def rows(
        self,
        counts: Sequence[int],
        rows_of: Callable[[int], npt.NDArray[np.generic]],
        dtype: npt.DTypeLike,
        row_shape: tuple[int, ...] = (),
        *,
        on_all: bool = True,
    ) -> npt.NDArray[np.generic]:
        """Rows of all units, in the order of their numbers.

        Parameters
        ----------
        counts
            Rows of each unit.
        rows_of
            Gives those of a unit, (counts[number], *row_shape).
        dtype, row_shape
            Of the rows.
        on_all
            False brings them to rank 0 only; the others then get what they did themselves, and zeros.

        Raises
        ------
        PyramidError, PoolStoppedError
            See `do`.
        """
        ends = np.cumsum([0, *counts])
        everything = np.zeros((int(ends[-1]), *row_shape), dtype)

        def keep(number: int) -> None:
            everything[ends[number] : ends[number + 1]] = rows_of(number)

        self.do(len(counts), keep)
        # each row is zero on all ranks but one, so these are its very bits
        self._combine(everything.reshape(-1).view(np.uint8), "BOR", on_all=on_all)
        return everything

    def on_all(self, action: Callable[[], T]) -> T:
        """Do something on every rank; all learn whether it worked everywhere: see `collectives.on_all`."""
        return action() if self.comm is None else on_all(self.comm, action)

    def on_rank0(self, action: Callable[[], T]) -> T | None:
        """Do something on rank 0 alone; all learn whether it worked: see `collectives.on_rank0`."""
        return action() if self.comm is None else on_rank0(self.comm, action)

    def agree_on(self, fingerprint: bytes, what: str) -> None:
        """Raise on all ranks when any has another fingerprint than most: see `collectives.agree_on`."""
        if self.comm is not None:
            agree_on(self.comm, fingerprint, what)

    def busiest_over_ideal(self) -> float:
        """Busy seconds of the busiest rank over the mean, since the pool was made; NaN before any unit."""
        if self.comm is None:
            return 1.0
        busy = allgather(self.comm, np.array([round(self.busy_s * 1e6)]))[:, 0]
        return float(busy.max() / busy.mean()) if busy.any() else float("nan")

    def _combine(self, array: npt.NDArray[np.generic], operation: str, *, on_all: bool) -> None:
        """Combine the ranks' arrays in place, piece by piece, asleep."""
        if self.comm is None or self.comm.size == 1:
            return
        from mpi4py import MPI

        op = getattr(MPI, operation)
        step = max(_PIECE // max(array.itemsize, 1), 1)
        for start in range(0, len(array), step):
            piece = array[start : start + step]
            if on_all:
                request = self.comm.Iallreduce(MPI.IN_PLACE, piece, op)
            elif self.comm.rank == 0:
                request = self.comm.Ireduce(MPI.IN_PLACE, piece, op, 0)
            else:
                request = self.comm.Ireduce(piece, None, op, 0)
            wait_for(self.comm, request)


class _Doing:
    """One pass over the units, as work for the scheduler."""

    dtype = _UNIT
    batch_size = 1

    def __init__(self, work: Callable[[int], None]) -> None:
        self._work = work
        self.error: PyramidError | None = None
        self.busy_s, self.done = 0.0, 0

    def expand(self, tasks: npt.NDArray[np.void]) -> npt.NDArray[np.void]:
        """Do them; after an error only take them, as all ranks will hear of it at the end."""
        for number in tasks["number"].tolist():
            self.do(number)
        return tasks[:0]

    def do(self, number: int) -> None:
        """Do one."""
        if self.error is not None:
            return
        start = time.perf_counter()
        try:
            self._work(number)
        except PyramidError as error:
            self.error = error
        self.busy_s += time.perf_counter() - start
        self.done += 1
