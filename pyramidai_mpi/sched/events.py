"""The vocabulary of the state machine: what happens to a rank, and what it wants done.

Events come from whoever drives the machine (the loop under MPI, a simulator); actions are for it to carry out, in
order. The two events of the worker, a batch taken and a batch finished, are methods of `state.RankState` instead: they
happen once a batch and must cost next to nothing.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum, auto
from typing import TYPE_CHECKING, TypeAlias

if TYPE_CHECKING:
    from pyramidai_mpi.sched.messages import Message
    from pyramidai_mpi.sched.progress import Progress


class Timer(Enum):
    """Clocks that a rank may set; each has one deadline at a time."""

    CENSUS = auto()
    """Rank 0: time for the next wave."""
    RETRY = auto()
    """A resting thief: time to ask somebody again."""
    PATIENCE = auto()
    """A thief: the answer to its last request should have come."""


@dataclass(frozen=True, slots=True)
class MessageArrived:
    """`message` came from rank `source`."""

    source: int
    message: Message


@dataclass(frozen=True, slots=True)
class TimerRang:
    """The deadline of `timer` has passed."""

    timer: Timer


@dataclass(frozen=True, slots=True)
class StopRequested:
    """Somebody outside told this rank to stop."""


Event: TypeAlias = MessageArrived | TimerRang | StopRequested


@dataclass(frozen=True, slots=True)
class Send:
    """Send `message` to rank `destination`; messages to one rank must stay in order."""

    destination: int
    message: Message


@dataclass(frozen=True, slots=True)
class SetTimer:
    """Deliver `TimerRang` after `seconds`; replaces an earlier deadline of the same timer."""

    timer: Timer
    seconds: float


@dataclass(frozen=True, slots=True)
class WakeWorker:
    """The worker was told that there is nothing to do; let it ask again."""


@dataclass(frozen=True, slots=True)
class ReportProgress:
    """Rank 0 has new counts."""

    progress: Progress


Action: TypeAlias = Send | SetTimer | WakeWorker | ReportProgress
