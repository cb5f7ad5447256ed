"""The last events of a rank, for whoever has to find out why a run stood still or failed.

Noting one costs one to two microseconds: nothing is formatted until it is printed. No task is kept alive by it.
"""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass
from typing import TYPE_CHECKING

from pyramidai_mpi.sched.events import (
    MessageArrived,
    ReportProgress,
    Send,
    SetTimer,
    StopRequested,
    TimerRang,
    WakeWorker,
)
from pyramidai_mpi.sched.messages import Push, StealReply

if TYPE_CHECKING:
    from pyramidai_mpi.sched.events import Action, Event

MOST_EVENTS = 100
MOST_BATCHES = 20
"""Kept apart: while a rank waits for another one, its own batches would push out what it last heard."""


class History:
    """What a rank heard and did last.

    Every event has an instant, by any clock: the loop notes seconds of the host's clock, a cluster in memory the number
    of the step.
    """

    def __init__(self) -> None:
        self._events: deque[tuple[float, object, bool]] = deque(maxlen=MOST_EVENTS)
        self._batches: deque[tuple[float, str, int]] = deque(maxlen=2 * MOST_BATCHES)

    def note_batch(self, instant: float, what: str, tasks: int) -> None:
        """Note that the worker has taken or finished a batch, in words, of so many tasks."""
        self._batches.append((instant, what, tasks))

    def note(self, instant: float, what: Event | Action, *, stale: bool = False) -> None:
        """Note what happened, or what the rank wants done; `stale` says of a message that it came too late."""
        kept: object = what
        if isinstance(what, MessageArrived | Send) and isinstance(what.message, StealReply | Push):
            kept = _without_tasks(what, what.message)
        self._events.append((instant, kept, stale))

    def text(self) -> str:
        """Return a line for each event, oldest first."""
        lines = [(instant, f"{what} {tasks}") for instant, what, tasks in list(self._batches)]
        lines += [(instant, _in_words(what, stale)) for instant, what, stale in list(self._events)]
        return "\n".join(f"{instant:12.6f} {words}" for instant, words in sorted(lines, key=lambda line: line[0]))


@dataclass(frozen=True, slots=True)
class _Tasks:
    """Stands for a message with tasks."""

    kind: str
    tasks: int

    def __str__(self) -> str:
        return f"{self.kind} of {self.tasks} tasks"


def _without_tasks(what: MessageArrived | Send, message: StealReply | Push) -> tuple[bool, int, _Tasks]:
    """Whether it arrived, from or to whom, and what stands for the message."""
    told = _Tasks(type(message).__name__, len(message.tasks))
    return (True, what.source, told) if isinstance(what, MessageArrived) else (False, what.destination, told)


def _in_words(what: object, stale: bool) -> str:
    match what:
        case MessageArrived(source, message) | (True, source, message):
            return f"{'stale ' if stale else ''}from rank {source} {message}"
        case Send(destination, message) | (False, destination, message):
            return f"to rank {destination} {message}"
        case TimerRang(timer):
            return f"timer rang {timer.name}"
        case SetTimer(timer, seconds):
            return f"timer set {timer.name} {seconds}"
        case StopRequested():
            return "stop requested"
        case WakeWorker():
            return "wake the worker"
        case ReportProgress(progress):
            return str(progress)
        case _:
            return str(what)
