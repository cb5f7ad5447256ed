"""What the scheduler needs to know of the work."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, Protocol, TypeAlias, runtime_checkable

import numpy as np
import numpy.typing as npt

if TYPE_CHECKING:
    from collections.abc import Callable, Hashable, Sequence

    from pyramidai_mpi.sched.progress import Progress

Tasks: TypeAlias = npt.NDArray[Any]
"""Tasks: shape (N,), of the workload's dtype."""


@runtime_checkable
class Workload(Protocol):
    """Tree-shaped work.

    A workload may also have an attribute ``batch_by`` (a field of `dtype`, or None): one batch then holds one value of
    that field only; an attribute ``batch_grain``, see `Batches.grain`; and methods ``comes_last(value)`` (see
    `PutsOff`), ``on_progress(progress)`` (see `ReportsProgress`), ``tally()`` (see `Tallies`),
    ``on_poll()`` (see `IsPolled`), ``on_start(wake)`` (see `Wakes`), ``on_loss()`` (see `HearsOfLoss`) and
    ``prepare(tasks)`` (see `Prepares`).

    Attributes
    ----------
    dtype : numpy.dtype
        One task: a fixed-size record without objects, sent as raw bytes.
    batch_size : int
        Most tasks handed to one `expand`.
    """

    dtype: np.dtype[Any]
    batch_size: int

    def expand(self, tasks: Tasks) -> Tasks:
        """Do `tasks`, in any order, and return their children.

        Always called from one and the same thread of a rank, which is not the main thread.

        Parameters
        ----------
        tasks : ndarray (n,), 1 <= n <= batch_size
            A writable copy of its own.

        Returns
        -------
        ndarray (m,), m >= 0
            The children, of the same dtype.
        """
        ...


@runtime_checkable
class Prepares(Protocol):
    """A workload that can begin with tasks before their turn, such as reading what they need."""

    def prepare(self, tasks: Tasks) -> Sequence[Any]:
        """Begin with `tasks` (n,), of one value of ``batch_by``; return one result a task.

        Called from one thread of its own, at the same time as `expand`, with tasks that are likely to come next on this
        rank. They may be stolen all the same, or come later or in another batch. The results of those that come are
        handed to ``expand(tasks, prepared)``, a list of one entry a task: its result, None where there is none.
        An exception ends the job, as one in `expand` does.
        """
        ...

    def expand(self, tasks: Tasks, prepared: list[Any] | None = None) -> Tasks:
        """See `Workload.expand`."""
        ...


@runtime_checkable
class ReportsProgress(Protocol):
    """A workload that wants to know how far the whole cluster is."""

    def on_progress(self, progress: Progress) -> None:
        """Look at the counts; called on rank 0's main thread every 0.2 to 1 s, and once at the end."""
        ...


@runtime_checkable
class Tallies(Protocol):
    """A workload that counts something of its own, to be summed over all ranks and reported with the progress."""

    def tally(self) -> tuple[int, ...]:
        """Counts of this rank so far, as many on all ranks, each within 64 bits.

        Called about five times a second on the main thread, at the same time as `expand`; must be quick. Once `expand`
        has returned, it says so.
        """
        ...


@runtime_checkable
class IsPolled(Protocol):
    """A workload with business of its own on the main thread, such as messages on another communicator."""

    def on_poll(self) -> bool:
        """Do what there is to do, at once; called on every rank's main thread again and again, idle or not.

        Returns
        -------
        bool
            Whether something is waited for: it is called again after about 5 ms then, else after 20 to 50 ms.
        """
        ...


@runtime_checkable
class Wakes(Protocol):
    """A workload whose worker may wait for what `IsPolled.on_poll` brings."""

    def on_start(self, wake: Callable[[], None]) -> None:
        """Take what has `on_poll` called at once; `wake` may be called from `expand`, by its thread alone.

        Called on the main thread, before anything is done.
        """
        ...


@runtime_checkable
class HearsOfLoss(Protocol):
    """A workload whose worker may be waiting for another rank, outside the scheduler."""

    def on_loss(self) -> None:
        """Wake a worker that waits for a rank: it may be dead, and will not answer.

        Called once on this rank's main thread when MPI says that a rank was lost, before the loop waits for the
        worker's batch to end. Must not raise.
        """
        ...


@runtime_checkable
class PutsOff(Protocol):
    """A workload with tasks that begin something which is better begun when all else of a rank is done."""

    def comes_last(self, value: Hashable) -> bool:
        """Whether tasks with this value of ``batch_by`` wait for the others, though they are the shallowest."""
        ...


@dataclass(frozen=True)
class Batches:
    """What batches a workload wants.

    Attributes
    ----------
    dtype : numpy.dtype
        Of the tasks.
    size : int
        Most tasks of one.
    by : str or None
        Field of which one holds a single value, None for any mixture.
    grain : int
        Fewer tasks than that take as long as so many do.
    comes_last : callable
        See `PutsOff`.
    """

    dtype: np.dtype[Any]
    size: int
    by: str | None = None
    grain: int = 1
    comes_last: Callable[[Hashable], bool] = lambda _: False

    def whole(self, count: int) -> int:
        """`count` tasks rounded up to whole grains."""
        return -(-count // self.grain) * self.grain


def batches_of(workload: Workload) -> Batches:
    """What batches `workload` wants.

    Raises
    ------
    ValueError
        The dtype holds Python objects, the field is not in it, or the batch size or grain is below 1.
    """
    dtype = np.dtype(workload.dtype)
    if dtype.hasobject or dtype.itemsize == 0:
        raise ValueError(f"tasks must be records of a fixed size without Python objects, not {dtype}")
    if workload.batch_size < 1:
        raise ValueError(f"batch_size must be at least 1, not {workload.batch_size}")
    field: str | None = getattr(workload, "batch_by", None)
    if field is not None and field not in (dtype.names or ()):
        raise ValueError(f"batch_by names {field!r}, which is not a field of the tasks: {dtype}")
    grain: int = getattr(workload, "batch_grain", 1)
    if grain < 1:
        raise ValueError(f"batch_grain must be at least 1, not {grain}")
    batches = Batches(dtype, workload.batch_size, field, grain)
    return replace(batches, comes_last=workload.comes_last) if isinstance(workload, PutsOff) else batches


def checked_tasks(tasks: object, dtype: np.dtype[Any], origin: str) -> Tasks:
    """Return `tasks` itself if it is a flat array of `dtype`.

    Raises
    ------
    TypeError
        It is anything else; `origin` says in the message where it came from.
    """
    if not isinstance(tasks, np.ndarray):
        raise TypeError(f"{origin}: an array of tasks was expected, not {type(tasks).__name__}")
    if tasks.dtype != dtype or tasks.ndim != 1:
        raise TypeError(f"{origin}: tasks have dtype {tasks.dtype} and shape {tasks.shape}, not {dtype} and (n,)")
    return tasks


def deal_round_robin(roots: Tasks, rank: int, size: int) -> Tasks:
    """Share of `roots` (N,) that `rank` of `size` starts with: every `size`-th from its own number on."""
    return roots[rank::size]
