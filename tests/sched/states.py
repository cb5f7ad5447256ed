"""States of ranks for tests: made, checked after every event, and what they want sent."""

from __future__ import annotations

import numpy as np

from pyramidai_mpi.sched.events import MessageArrived, Send
from pyramidai_mpi.sched.messages import Push, StealReply
from pyramidai_mpi.sched.policy import RULES, Policy
from pyramidai_mpi.sched.state import RankState
from pyramidai_mpi.sched.workload import Batches

TASK = np.dtype([("number", "<i4")])


def tasks(*numbers: int) -> np.ndarray:
    return np.array([(n,) for n in numbers], TASK)


def numbers(array: np.ndarray | None) -> list[int] | None:
    return None if array is None else array["number"].tolist()


class CheckedState(RankState):
    """Checks itself after every event."""

    def take_batch(self):
        batch = super().take_batch()
        self.check()
        return batch

    def finish_batch(self, children):
        super().finish_batch(children)
        self.check()

    def handle(self, event):
        super().handle(event)
        self.check()


def rank(policy=Policy.STEAL_HALF, *, number=1, size=4, held=0, batch_size=4, grain=1) -> RankState:
    batches = Batches(TASK, batch_size, grain=grain)
    return CheckedState(number, size, RULES[policy], batches, tasks(*range(held)))


def sent(state: RankState) -> list[tuple[int, object]]:
    """Messages that the rank wants sent, with tasks as lists."""
    out = []
    for action in state.take_actions():
        if isinstance(action, Send):
            message = action.message
            if isinstance(message, StealReply | Push):
                out.append((action.destination, numbers(message.tasks)))
            else:
                out.append((action.destination, message))
    return out


def arrive(state: RankState, source: int, message) -> None:
    state.handle(MessageArrived(source, message))


def compute(state: RankState, leaving: int) -> None:
    """Take a batch so that the worker computes and `leaving` tasks stay queued."""
    assert state.take_batch() is not None
    assert state.counts().queued == leaving
    state.take_actions()
