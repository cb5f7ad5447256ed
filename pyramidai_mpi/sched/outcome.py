"""What a run leaves behind."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pyramidai_mpi.sched.workload import Tasks


@dataclass(frozen=True, slots=True)
class Stats:
    """Account of one rank.

    Attributes
    ----------
    tasks, batches : int
        Tasks expanded here, in so many calls.
    steal_requests : int
        Requests sent.
    steals_with_work : int
        Requests that brought tasks.
    pushes : int
        Messages with tasks that came over a lifeline, unasked.
    tasks_stolen : int
        Tasks that came from other ranks by either way.
    stale_messages : int
        Messages that came too late to mean what they meant when they were sent.
    mean_reply_s : float
        From sending a request to having its reply, seconds; NaN without requests.
    busy_s : float
        Wall time inside `expand`.
    idle_s : float
        Wall time outside `expand`, until all ranks had agreed on the end.
    wall_s, cpu_s : float
        Of the whole run on this rank; CPU of all its threads.
    """

    tasks: int
    batches: int
    steal_requests: int
    steals_with_work: int
    pushes: int
    tasks_stolen: int
    stale_messages: int
    mean_reply_s: float
    busy_s: float
    idle_s: float
    wall_s: float
    cpu_s: float


@dataclass(frozen=True, slots=True)
class Outcome:
    """End of a run on one rank.

    Attributes
    ----------
    stats : Stats
        Of this rank.
    stopped : bool
        The run was asked to stop and left tasks undone somewhere; equal on all ranks.
    unfinished : ndarray (n,)
        Tasks that this rank still held, none unless stopped. Those of all ranks, with all that would grow from them,
        are what is missing.
    """

    stats: Stats
    stopped: bool
    unfinished: Tasks
