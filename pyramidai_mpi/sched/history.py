"""The last events of a rank, for whoever has to find out why a run stood still or failed.

Noting one costs well under a microsecond: nothing is formatted until it is printed, and no task is kept alive by it.
"""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from pyramidai_mpi.sched.events import MessageArrived, ReportProgress, Send, SetTimer, StopRequested, TimerRang
from pyramidai_mpi.sched.messages import Push, StealReply

if TYPE_CHECKING:
    from pyramidai_mpi.sched.events import Action, Event
    from pyramidai_mpi.sched.messages import Message

MOST_EVENTS = 100
MOST_BATCHES = 20
"""Kept apart: while a rank waits for another one, its own batches would push out what it last heard."""


class History:
    """What a rank heard and did last.

    Every event has an instant, by any clock: the loop notes seconds since the start of the run, a cluster in memory the
    number of the step.
    """

    def __init__(self) -> None:
        self._events: deque[tuple[float, str, Any, Any]] = deque(maxlen=MOST_EVENTS)
        self._batches: deque[tuple[float, str, Any, Any]] = deque(maxlen=2 * MOST_BATCHES)

    def note_batch(self, instant: float, what: str, tasks: int) -> None:
        """Note that the worker has taken or finished a batch, in words, of so many tasks."""
        self._batches.append((instant, what, tasks, None))

    def note_event(self, instant: float, event: Event, *, stale: bool = False) -> None:
        """Note what happened; `stale` says that it came too late to mean anything."""
        match event:
            case MessageArrived(source, message):
                what = "stale from rank" if stale else "from rank"
                self._events.append((instant, what, source, _without_tasks(message)))
            case TimerRang(timer):
                self._events.append((instant, "timer rang", timer.name, None))
            case StopRequested():
                self._events.append((instant, "stop requested", None, None))

    def note_action(self, instant: float, action: Action) -> None:
        """Note what the rank wants done."""
        match action:
            case Send(destination, message):
                self._events.append((instant, "to rank", destination, _without_tasks(message)))
            case SetTimer(timer, seconds):
                self._events.append((instant, "timer set", timer.name, seconds))
            case ReportProgress(progress):
                self._events.append((instant, "progress", progress, None))
            case _:
                self._events.append((instant, "wake the worker", None, None))

    def text(self) -> str:
        """Return a line for each event, oldest first."""
        return "\n".join(
            " ".join([f"{instant:12.6f}", *(str(part) for part in parts if part is not None)])
            for instant, *parts in sorted([*self._batches, *self._events], key=lambda event: event[0])
        )


@dataclass(frozen=True, slots=True)
class _Carrier:
    """Stands for a message with tasks, which a note must not keep alive."""

    kind: str
    tasks: int

    def __str__(self) -> str:
        return f"{self.kind} of {self.tasks} tasks"


def _without_tasks(message: Message) -> Message | _Carrier:
    if isinstance(message, StealReply | Push):
        return _Carrier(type(message).__name__, len(message.tasks))
    return message
