"""Clusters inside one process: the in-memory twin of the transport, and a player that needs no time at all.

`MemoryNetwork` delays messages at random by seed, so that messages between different pairs of ranks overtake each
other, while those of one pair stay in order, as under MPI. Its endpoints serve the real loop, one thread a rank.

`play` drives the state machines themselves, in one thread: at each step the seed chooses what happens next among all
that could happen anywhere. So a run is an arbitrary interleaving, harsher than a real machine's, and repeatable.
"""

from __future__ import annotations

import random
import threading
from collections import deque
from dataclasses import dataclass
from typing import TYPE_CHECKING, NoReturn

import numpy as np

from pyramidai_mpi.base.errors import InternalError
from pyramidai_mpi.sched.events import (
    MessageArrived,
    Send,
    SetTimer,
    StopRequested,
    Timer,
    TimerRang,
    WakeWorker,
)
from pyramidai_mpi.sched.history import History
from pyramidai_mpi.sched.messages import decode, encode
from pyramidai_mpi.sched.policy import RULES, Policy
from pyramidai_mpi.sched.state import RankState
from pyramidai_mpi.sched.workload import batches_of

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from pyramidai_mpi.sched.events import Event
    from pyramidai_mpi.sched.workload import Tasks, Workload


class JobAbortedError(Exception):
    """A rank of an in-memory cluster has ended the whole job.

    Attributes
    ----------
    rank : int
        The one that did.
    code : int
        Its exit code.
    """

    def __init__(self, rank: int, code: int) -> None:
        super().__init__(f"rank {rank} has aborted the job with exit code {code}")
        self.rank, self.code = rank, code


class MemoryNetwork:
    """Wires between `size` ranks; `seed` decides about the order of arrival.

    Attributes
    ----------
    messages_sent : int
        So far, over all ranks.
    aborted_by : JobAbortedError or None
        Raised by every call of every endpoint once it is set.
    """

    def __init__(self, size: int, seed: int = 0) -> None:
        self.size = size
        self.messages_sent = 0
        self.aborted_by: JobAbortedError | None = None
        # destination -> source -> messages; without empty entries, and ordered, so that a seed means one run
        self._wires: dict[int, dict[int, deque[bytes]]] = {}
        self._sent_by = [0] * size  # and not yet taken
        self._random = random.Random(seed)
        self._in_barrier: set[int] = set()
        self._lock = threading.RLock()

    def endpoint(self, rank: int) -> MemoryTransport:
        """Transport of one rank."""
        return MemoryTransport(self, rank)

    def put(self, source: int, destination: int, data: bytes) -> None:
        """Send `data` on its way."""
        with self._lock:
            self._check_life()
            self._wires.setdefault(destination, {}).setdefault(source, deque()).append(data)
            self._sent_by[source] += 1
            self.messages_sent += 1

    def take(self, destination: int, *, may_delay: bool) -> tuple[int, bytes] | None:
        """Source and data of some message to `destination`; None if none arrives now."""
        with self._lock:
            self._check_life()
            wires = self._wires.get(destination)
            if wires is None or (may_delay and self._random.random() < 0.3):
                return None
            source = self._random.choice(list(wires))
            data = wires[source].popleft()
            self._sent_by[source] -= 1
            if not wires[source]:
                del wires[source]
            if not wires:
                del self._wires[destination]
            return source, data

    def destinations(self) -> list[int]:
        """Ranks that messages are on the way to."""
        with self._lock:
            return list(self._wires)

    def has_from(self, source: int) -> bool:
        """Whether messages from `source` are on the way."""
        with self._lock:
            self._check_life()
            return self._sent_by[source] > 0

    def enter_barrier(self, rank: int) -> None:
        """Count `rank` as having entered."""
        with self._lock:
            self._in_barrier.add(rank)

    def barrier_passed(self) -> bool:
        """Whether all ranks have entered."""
        with self._lock:
            self._check_life()
            return len(self._in_barrier) == self.size

    def abort(self, rank: int, code: int) -> NoReturn:
        """End the job on all endpoints."""
        with self._lock:
            if self.aborted_by is None:
                self.aborted_by = JobAbortedError(rank, code)
            raise self.aborted_by

    def _check_life(self) -> None:
        if self.aborted_by is not None:
            raise self.aborted_by


class MemoryTransport:
    """One rank's end of a `MemoryNetwork` (see `transport.Transport`)."""

    def __init__(self, network: MemoryNetwork, rank: int) -> None:
        self.rank, self.size, self.host = rank, network.size, "memory"
        self._network = network

    def send(self, destination: int, data: bytes) -> None:
        """Send `data`."""
        self._network.put(self.rank, destination, data)

    def receive(self) -> tuple[int, bytes] | None:
        """Next message that has arrived, with its source."""
        return self._network.take(self.rank, may_delay=True)

    def all_sent(self) -> bool:
        """Whether every message sent so far was taken by its receiver."""
        return not self._network.has_from(self.rank)

    def enter_barrier(self) -> None:
        """Say that this rank will send no more."""
        self._network.enter_barrier(self.rank)

    def barrier_passed(self) -> bool:
        """Whether all ranks have entered the barrier."""
        return self._network.barrier_passed()

    def close(self) -> None:
        """Leave no message behind, as a communicator must be empty when it is freed."""
        if not self.all_sent():
            raise InternalError(f"rank {self.rank} closes while its messages are on the way")

    def abort(self, code: int) -> NoReturn:
        """End all ranks."""
        self._network.abort(self.rank, code)

    def is_loss(self, failure: BaseException) -> bool:
        """Never: ranks in memory die together."""
        return False

    def abandon(self) -> None:
        """Nothing to leave behind."""


@dataclass(frozen=True, slots=True)
class Played:
    """End of a played run.

    Attributes
    ----------
    states : tuple of RankState
        All finished.
    unfinished : tuple of ndarray
        What each rank still held.
    steps : int
        Events that happened.
    messages : int
        Messages sent.
    """

    states: tuple[RankState, ...]
    unfinished: tuple[Tasks, ...]
    steps: int
    messages: int


def play(
    workloads: Sequence[Workload],
    shares: Sequence[Tasks],
    policy: Policy = Policy.STEAL_HALF,
    seed: int = 0,
    *,
    stop_at_step: int | None = None,
    most_steps: int = 1_000_000,
) -> Played:
    """Run one workload a rank to its end, in an order that `seed` chooses.

    Parameters
    ----------
    workloads : sequence of Workload
        One for each rank.
    shares : sequence of ndarray
        The roots of each rank.
    policy, seed
        As for `loop.run`; the seed also orders the events.
    stop_at_step : int, optional
        When a randomly chosen rank is asked to stop.
    most_steps : int
        A run that takes more counts as hung.

    Raises
    ------
    InternalError
        Some rank has finished while tasks were left and nobody had asked to stop; or the run hangs; or a state breaks
        what must hold after every event (`RankState.check`). Its notes hold the last events of each rank.
    """
    player = _Player(workloads, shares, policy, seed)
    try:
        steps = player.to_the_end(stop_at_step, most_steps)
    except InternalError as failure:
        for state, history in zip(player.states, player.histories, strict=True):
            failure.add_note(f"rank {state.rank}, {state.counts()}, last events by step:\n{history.text()}")
        raise
    unfinished = tuple(state.take_unfinished() for state in player.states)
    return Played(tuple(player.states), unfinished, steps, player.network.messages_sent)


class _Player:
    """All that could happen next in a cluster, and the dice that choose."""

    def __init__(self, workloads: Sequence[Workload], shares: Sequence[Tasks], policy: Policy, seed: int) -> None:
        size = len(workloads)
        self.network = MemoryNetwork(size, seed)
        self.states = [
            RankState(
                rank,
                size,
                RULES[policy],
                batches_of(workload),
                share,
                seed,
            )
            for rank, (workload, share) in enumerate(zip(workloads, shares, strict=True))
        ]
        self.histories = [History() for _ in range(size)]
        self._steps = 0
        self._workloads = workloads
        self._random = random.Random(f"play {seed}")
        # Ordered, as sets are not.
        self._can_take: dict[int, None] = dict.fromkeys(range(size))
        self._in_hand: dict[int, Tasks] = {}
        self._timers: dict[tuple[int, Timer], None] = {}
        for rank in range(size):
            self._carry_out(rank)

    def to_the_end(self, stop_at_step: int | None, most_steps: int) -> int:
        """Let things happen until all ranks have finished; how many did."""
        while not all(state.finished for state in self.states):
            if self._steps == most_steps:
                raise InternalError(f"no end after {most_steps} events")
            if self._steps == stop_at_step:
                rank = self._random.randrange(len(self.states))
                self._handle(rank, StopRequested())
                self._carry_out(rank)
            self._step()
            self._steps += 1
        return self._steps

    def _handle(self, rank: int, event: Event) -> None:
        self.histories[rank].note(self._steps, event)
        self.states[rank].handle(event)

    def _step(self) -> None:
        kinds: list[tuple[Callable[[int], None], list[int]]] = [
            (self._deliver, self.network.destinations()),
            (self._take_batch, list(self._can_take)),
            (self._finish_batch, list(self._in_hand)),
        ]
        possible = sum(len(ranks) for _, ranks in kinds)
        # Timers are slower than messages, but not always.
        if self._timers and (not possible or self._random.random() < 0.1):
            rank, timer = self._random.choice(list(self._timers))
            del self._timers[rank, timer]
            self._handle(rank, TimerRang(timer))
            self._carry_out(rank)
            return
        if not possible:
            raise InternalError("nothing can happen any more, and not all ranks have finished")
        chosen = self._random.randrange(possible)
        for happens, ranks in kinds:
            if chosen < len(ranks):
                happens(ranks[chosen])
                self._carry_out(ranks[chosen])
                return
            chosen -= len(ranks)

    def _deliver(self, rank: int) -> None:
        arrived = self.network.take(rank, may_delay=False)
        if arrived is not None:
            source, data = arrived
            message = decode(data, np.dtype(self._workloads[rank].dtype))
            self._handle(rank, MessageArrived(source, message))

    def _take_batch(self, rank: int) -> None:
        del self._can_take[rank]
        batch = self.states[rank].take_batch()
        self.histories[rank].note_batch(self._steps, "batch taken, tasks", 0 if batch is None else len(batch))
        if batch is not None:
            self._in_hand[rank] = batch

    def _finish_batch(self, rank: int) -> None:
        children = self._workloads[rank].expand(self._in_hand.pop(rank))
        self.states[rank].finish_batch(children)
        self.histories[rank].note_batch(self._steps, "batch finished, children", len(children))
        self._can_take[rank] = None

    def _carry_out(self, rank: int) -> None:
        state = self.states[rank]
        state.check()
        for action in state.take_actions():
            self.histories[rank].note(self._steps, action)
            match action:
                case Send(destination, message):
                    self.network.put(rank, destination, encode(message))
                case SetTimer(timer, _):
                    self._timers[rank, timer] = None
                case WakeWorker():
                    self._can_take[rank] = None
        if state.finished:
            self._timers = {key: None for key in self._timers if key[0] != rank}
            if not state.stopped:
                self._check_nothing_is_left(rank)

    def _check_nothing_is_left(self, rank: int) -> None:
        created = sum(state.counts().created for state in self.states)
        completed = sum(state.counts().completed for state in self.states)
        if created != completed:
            raise InternalError(f"rank {rank} has finished with {created - completed} tasks left")
