"""A cluster under a virtual clock: the real scheduler's state machine, imagined ranks, wires and seconds.

What is real: every decision, by `sched.state.RankState`, one for each rank; the pauses of the main threads, by
`sched.waiting`; the size of messages. What is imagined: seconds of work, latency, bandwidth. What is left out: the time
that a core takes to handle a message, cores shared by ranks, and the start and the end of MPI itself.

**Waves.** A real run counts its tasks every 0.2 s and oftener (`sched.ending`). Waves move no work, and 4096 ranks send
8190 messages in each. So rank 0's timer is held back until the last task is done, and then rings when it would have
rung next; from there on the end is found as in reality.
"""

from __future__ import annotations

import heapq
import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from pyramidai_mpi.base.errors import InternalError
from pyramidai_mpi.sched.ending import CENSUS_PAUSE_NEAR_THE_END_S
from pyramidai_mpi.sched.events import MessageArrived, Send, SetTimer, Timer, TimerRang, WakeWorker
from pyramidai_mpi.sched.messages import CensusAnswer, Lifeline, Push, StealReply, StealRequest, encode
from pyramidai_mpi.sched.policy import RULES, Policy
from pyramidai_mpi.sched.state import RankState
from pyramidai_mpi.sched.workload import Batches
from pyramidai_mpi.simulate.forest import LEVELS, TASK
from pyramidai_mpi.simulate.rank import SimulatedRank

if TYPE_CHECKING:
    import numpy.typing as npt

    from pyramidai_mpi.sched.events import Event
    from pyramidai_mpi.sched.messages import Message
    from pyramidai_mpi.simulate.costs import Network
    from pyramidai_mpi.simulate.forest import Forest

_ARRIVES, _LOOKS, _RINGS, _COMPUTED = range(4)
_HEADER_BYTES = len(encode(Lifeline(wanted=True)))


@dataclass(frozen=True)
class Simulated:
    """A simulated run.

    Attributes
    ----------
    makespan_s
        Seconds until the last rank knew that nothing is left.
    worked_s
        Seconds until the last task was done.
    worker
        int32 (N,), who did each task of the forest.
    busy_s
        float64 (workers,), seconds of work.
    began_s, ended_s
        float64 (workers,), when each began its first batch and had done its last; the makespan if it had none.
    batches, requests, steals, pushes, tasks_moved
        Sums over all ranks, as in `sched.Stats`.
    messages
        Messages sent, without the waves left out.
    """

    makespan_s: float
    worked_s: float
    worker: npt.NDArray[np.int32]
    busy_s: npt.NDArray[np.float64]
    began_s: npt.NDArray[np.float64]
    ended_s: npt.NDArray[np.float64]
    batches: int
    requests: int
    steals: int
    pushes: int
    tasks_moved: int
    messages: int


def simulate_run(
    forest: Forest,
    seconds: npt.NDArray[np.float64],
    owners: npt.NDArray[np.int64],
    workers: int,
    policy: Policy,
    network: Network,
    *,
    batch_size: int = 16,
    batch_s: float = 0.0,
    grain: int = 1,
    seed: int = 0,
) -> Simulated:
    """Run the scheduler on `workers` imagined ranks; equal arguments, equal outcome.

    Parameters
    ----------
    forest
        The work.
    seconds
        float64 (N,), of each task.
    owners
        int64 (n_roots,), rank that each root is dealt to.
    workers
        Number of ranks.
    policy, seed
        As for `sched.run`.
    network
        Latency, bandwidth and late wake-ups.
    batch_size
        Most tasks in one batch.
    batch_s
        Seconds a batch on top of its tasks.
    grain
        Fewer tiles than that in one batch take as long as so many.

    Raises
    ------
    InternalError
        A task was done twice or never.
    """
    return _Cluster(forest, seconds, owners, workers, policy, network, batch_size, batch_s, grain, seed).to_the_end()


class _Cluster:
    """All ranks, and what will happen next to any of them."""

    def __init__(
        self,
        forest: Forest,
        seconds: npt.NDArray[np.float64],
        owners: npt.NDArray[np.int64],
        workers: int,
        policy: Policy,
        network: Network,
        batch_size: int,
        batch_s: float,
        grain: int,
        seed: int,
    ) -> None:
        self._tasks = forest.tasks()
        self._first_child, self._n_children = forest.first_child, forest.n_children
        self._seconds, self._batch_s = seconds, batch_s
        self._grain, self._is_tile = grain, forest.is_tile
        opening = forest.opening_level
        batches = Batches(
            TASK, batch_size, "group", grain, lambda group: isinstance(group, int) and group % LEVELS == opening
        )
        self._latency_s, self._bandwidth = network.latency_s, network.bandwidth
        self._ranks = [
            SimulatedRank(
                RankState(
                    number,
                    workers,
                    RULES[policy],
                    batches,
                    share,
                    seed,
                ),
                network.late_s,
            )
            for number, share in enumerate(shares(self._tasks[: forest.n_roots], owners, workers))
        ]
        self._coming: list[tuple[float, int, int, SimulatedRank, Any]] = []
        self._n_events = 0
        self._left = len(forest)
        self._unfinished = workers
        self._census_at = math.inf
        self._worker = np.full(len(forest), -1, np.int32)
        self._busy_s = np.zeros(workers)
        self._began_s = np.full(workers, math.inf)
        self._ended_s = np.full(workers, math.inf)
        self._worked_s = 0.0
        self._messages = 0

    def to_the_end(self) -> Simulated:
        for rank in self._ranks:
            self._compute(rank, 0.0)
            self._turn(rank, 0.0, [])
        coming = self._coming
        while self._unfinished:
            if not coming:
                raise InternalError("nothing can happen any more, and not all ranks have finished")
            now, _, kind, rank, what = heapq.heappop(coming)
            if kind == _COMPUTED:
                self._computed(rank, now, *what)
            elif kind == _ARRIVES:
                self._arrives(rank, now, what)
            elif kind == _LOOKS:
                if rank.look_at == now:
                    self._look(rank, now)
            elif rank.ring_at == now:
                self._ring(rank, now)
        return self._account()

    def _soon(self, instant: float, kind: int, rank: SimulatedRank, what: Any = None) -> None:
        self._n_events += 1  # also puts what happens in the same instant in the order of its causes
        heapq.heappush(self._coming, (instant, self._n_events, kind, rank, what))

    # The worker

    def _compute(self, rank: SimulatedRank, now: float) -> bool:
        """Let the worker take its next batch; whether there was one."""
        batch = rank.state.take_batch()
        if batch is None:
            return False
        numbers = batch["number"].astype(np.int64)
        if self._worker[numbers].max() >= 0:
            raise InternalError(f"rank {rank.number} does tasks {numbers} that were done before")
        self._worker[numbers] = rank.number
        seconds = float(self._seconds[numbers].sum())
        if self._grain > 1 and self._is_tile[numbers[0]]:
            seconds *= -(-len(numbers) // self._grain) * self._grain / len(numbers)
        seconds += self._batch_s
        self._busy_s[rank.number] += seconds
        if not rank.state.batches:
            self._began_s[rank.number] = now
        self._soon(now + seconds, _COMPUTED, rank, (seconds, numbers))
        return True

    def _computed(self, rank: SimulatedRank, now: float, seconds: float, numbers: npt.NDArray[np.int64]) -> None:
        rank.first_look(now)  # the pause under way was begun while it computed
        rank.batch_s = seconds
        rank.state.finish_batch(self._children(numbers))
        self._compute(rank, now)
        self._ended_s[rank.number] = now
        self._left -= len(numbers)
        if not self._left:
            self._worked_s = now
            self._release_census(now)
        if rank.state.has_actions:  # the bell of the main thread
            self._look(rank, now)

    def _children(self, numbers: npt.NDArray[np.int64]) -> npt.NDArray[Any]:
        count = self._n_children[numbers]
        parents = count > 0
        if not parents.any():
            return self._tasks[:0]
        starts = self._first_child[numbers[parents]].tolist()
        families = [self._tasks[start : start + n] for start, n in zip(starts, count[parents].tolist(), strict=True)]
        return families[0] if len(families) == 1 else np.concatenate(families)

    # The main thread

    def _arrives(self, rank: SimulatedRank, now: float, what: tuple[int, Message]) -> None:
        if rank.finished_at < math.inf:
            return
        rank.inbox.append(what)
        if rank.look_at == math.inf:
            rank.look_at = rank.first_look(now)
            self._soon(rank.look_at, _LOOKS, rank)

    def _ring(self, rank: SimulatedRank, now: float) -> None:
        rank.ring_at = math.inf
        if min(rank.timers.values(), default=math.inf) <= now:
            self._look(rank, now)
        else:
            self._set_alarm(rank)

    def _look(self, rank: SimulatedRank, now: float) -> None:
        """Look at everything that has happened to the rank."""
        if rank.finished_at < math.inf:
            return
        rank.look_at = math.inf
        events: list[Event] = []
        for source, message in rank.inbox:
            if isinstance(message, StealRequest | Lifeline):
                rank.wanted_at = now
            events.append(MessageArrived(source, message))
        rank.inbox.clear()
        if rank.timers:
            for timer in [timer for timer, deadline in rank.timers.items() if deadline <= now]:
                del rank.timers[timer]
                events.append(TimerRang(timer))
        self._turn(rank, now, events)

    def _turn(self, rank: SimulatedRank, now: float, events: list[Event]) -> None:
        state = rank.state
        for event in events:
            state.handle(event)
        while state.has_actions:
            for action in state.take_actions():
                match action:
                    case Send(destination, message):
                        self._send(rank, now, destination, message)
                    case SetTimer(timer, seconds):
                        self._set_timer(rank, now, timer, seconds)
                    case WakeWorker():
                        self._compute(rank, now)
        if state.finished:
            rank.finished_at = now
            self._unfinished -= 1
            return
        rank.begin_pause(now)
        if rank.timers:
            self._set_alarm(rank)

    def _send(self, rank: SimulatedRank, now: float, destination: int, message: Message) -> None:
        size = _HEADER_BYTES
        if isinstance(message, StealReply | Push):
            size += message.tasks.nbytes
            rank.wanted_at = now
        elif isinstance(message, StealRequest):
            rank.asked_at = now
        elif isinstance(message, CensusAnswer):
            size = len(encode(message))
        # one after the other, so that what goes to one rank stays in order
        rank.wire_free_at = max(now, rank.wire_free_at) + size / self._bandwidth
        self._messages += 1
        self._soon(rank.wire_free_at + self._latency_s, _ARRIVES, self._ranks[destination], (rank.number, message))

    def _set_timer(self, rank: SimulatedRank, now: float, timer: Timer, seconds: float) -> None:
        if timer is Timer.CENSUS and self._left:
            self._census_at = now + seconds
        else:
            rank.timers[timer] = now + seconds

    def _release_census(self, now: float) -> None:
        """All is done: let rank 0's timer ring when it would have rung next."""
        if self._census_at < math.inf:
            pauses = math.ceil(max(now - self._census_at, 0.0) / CENSUS_PAUSE_NEAR_THE_END_S)
            rank = self._ranks[0]
            rank.timers[Timer.CENSUS] = self._census_at + pauses * CENSUS_PAUSE_NEAR_THE_END_S
            self._set_alarm(rank)

    def _set_alarm(self, rank: SimulatedRank) -> None:
        """See to it that the first timer wakes the rank; one that rings without need is cheaper than one a request."""
        first = min(rank.timers.values(), default=math.inf)
        if first < rank.ring_at:
            rank.ring_at = first
            self._soon(first, _RINGS, rank)

    def _account(self) -> Simulated:
        if self._left or (self._worker < 0).any():
            raise InternalError(f"{(self._worker < 0).sum()} tasks were never done")
        states = [rank.state for rank in self._ranks]
        makespan_s = max(rank.finished_at for rank in self._ranks)
        return Simulated(
            makespan_s=makespan_s,
            worked_s=self._worked_s,
            worker=self._worker,
            busy_s=self._busy_s,
            began_s=np.minimum(self._began_s, makespan_s),
            ended_s=np.minimum(self._ended_s, makespan_s),
            batches=sum(state.batches for state in states),
            requests=sum(state.requests_sent for state in states),
            steals=sum(state.steals_with_work for state in states),
            pushes=sum(state.pushes for state in states),
            tasks_moved=sum(state.tasks_stolen for state in states),
            messages=self._messages,
        )


def shares(roots: npt.NDArray[Any], owners: npt.NDArray[np.int64], workers: int) -> list[npt.NDArray[Any]]:
    """What each worker begins with, in the order of `roots` (n,); `owners` (n,) are their workers."""
    order = np.argsort(owners, kind="stable")
    return np.split(roots[order], np.searchsorted(owners[order], np.arange(1, workers)))
