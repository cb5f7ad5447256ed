"""What a rank did last can be read afterwards."""

from __future__ import annotations

import gc
import weakref

import numpy as np

from pyramidai_mpi.sched.events import MessageArrived, Send, SetTimer, StopRequested, Timer, TimerRang, WakeWorker
from pyramidai_mpi.sched.history import MOST_BATCHES, MOST_EVENTS, History
from pyramidai_mpi.sched.messages import Push, StealReply, StealRequest

TASKS = np.zeros(3, [("number", "<i4")])


def test_every_event_and_action_has_a_line_in_the_order_of_time():
    history = History()
    history.note_batch(0.25, "batch taken, tasks", 4)
    history.note(0.5, MessageArrived(2, StealRequest(7)))
    history.note(0.5, Send(2, StealReply(7, TASKS)))
    history.note(0.5, SetTimer(Timer.RETRY, 0.01))
    history.note(0.5, WakeWorker())
    history.note(1, TimerRang(Timer.RETRY))
    history.note(1, MessageArrived(3, StealReply(9, TASKS)), stale=True)
    history.note(1, StopRequested())
    assert [line.split(maxsplit=1) for line in history.text().splitlines()] == [
        ["0.250000", "batch taken, tasks 4"],
        ["0.500000", "from rank 2 StealRequest(identity=7)"],
        ["0.500000", "to rank 2 StealReply of 3 tasks"],
        ["0.500000", "timer set RETRY 0.01"],
        ["0.500000", "wake the worker"],
        ["1.000000", "timer rang RETRY"],
        ["1.000000", "stale from rank 3 StealReply of 3 tasks"],
        ["1.000000", "stop requested"],
    ]


def test_only_the_last_events_are_kept():
    history = History()
    for number in range(MOST_EVENTS + 20):
        history.note(number, MessageArrived(1, StealRequest(number)))
    lines = history.text().splitlines()
    assert len(lines) == MOST_EVENTS
    assert lines[0].endswith("StealRequest(identity=20)")


def test_many_batches_push_out_no_message():
    history = History()
    history.note(0, MessageArrived(1, StealRequest(7)))
    for number in range(1000):
        history.note_batch(number, "batch taken, tasks", number)
    lines = history.text().splitlines()
    assert len(lines) == 1 + 2 * MOST_BATCHES
    assert "from rank 1 StealRequest(identity=7)" in lines[0]


def test_a_note_keeps_no_tasks_alive():
    class Pixels(np.ndarray):
        """An array that can be watched."""

    tasks = TASKS.view(Pixels)
    watch = weakref.ref(tasks)
    history = History()
    history.note(0, MessageArrived(1, Push(tasks)))
    del tasks
    gc.collect()
    assert watch() is None
