"""A run in real time: the main thread of each rank carries messages, its worker thread computes.

The main thread makes all calls of the transport. It polls until nothing arrives, hands what arrived to the state,
carries out what the state wants, and sleeps (see `waiting`): less than 1 ms while its rank computes and others look for
work, since they may wait for an answer, and up to 50 ms when there is plenty; from 50 us on and longer and longer while
nothing happens on an idle rank. Ranks may share cores, so an idle one must cost nearly nothing.
"""

from __future__ import annotations

import logging
import sys
import threading
import time
from typing import TYPE_CHECKING

import numpy as np

from pyramidai_mpi.base.errors import ExitCode, LostRankError, exit_code_of, failure_report
from pyramidai_mpi.process.exit import say_before_leaving
from pyramidai_mpi.sched import waiting
from pyramidai_mpi.sched.events import (
    MessageArrived,
    ReportProgress,
    Send,
    SetTimer,
    StopRequested,
    Timer,
    TimerRang,
    WakeWorker,
)
from pyramidai_mpi.sched.history import History
from pyramidai_mpi.sched.messages import CensusAsk, Lifeline, Push, StealReply, StealRequest, decode, encode
from pyramidai_mpi.sched.outcome import Outcome, Stats
from pyramidai_mpi.sched.policy import RULES, Policy
from pyramidai_mpi.sched.state import RankState
from pyramidai_mpi.sched.waiting import wait_until
from pyramidai_mpi.sched.worker import Bell, Worker
from pyramidai_mpi.sched.workload import (
    HearsOfLoss,
    IsPolled,
    ReportsProgress,
    Tallies,
    Tasks,
    Wakes,
    Workload,
    batches_of,
    checked_tasks,
)

if TYPE_CHECKING:
    from collections.abc import Callable

    from mpi4py import MPI

    from pyramidai_mpi.sched.events import Action
    from pyramidai_mpi.sched.progress import Progress
    from pyramidai_mpi.sched.transport import Transport

log = logging.getLogger(__name__)

STOP_POLL_S = 20e-3
WORKLOAD_POLL_S = 20e-3
"""Not oftener than that, and at looks that are due anyway."""
WORKLOAD_BUSY_POLL_S = 5e-3
"""While the workload says that it waits for something."""
PROGRESS_PERIOD_S = 0.2
MOST_SILENCE_S = 120.0
"""A rank that sees no wave for so long gives up. Rank 0 starts one every 0.2 s and all ranks take part, unless one
has died where no launcher ends the others (`srun` without -K1), or stands still."""
_LONGEST_TURN_S = 1.0
"""What a turn counts at most as silence: a job that was suspended as a whole goes on."""
SWITCH_INTERVAL_S = 0.25e-3
"""How long a thread may keep the interpreter's lock. The main thread needs it several times to answer one request: when
`expand` never releases it, answers took 7.5 ms on average with Python's 5 ms, and 2.5 to 3.5 ms with this, on two busy
cores."""


def run(
    comm: MPI.Intracomm,
    workload: Workload,
    roots: Tasks,
    policy: Policy = Policy.STEAL_HALF,
    seed: int = 0,
    *,
    stop: Callable[[], bool] | None = None,
) -> Outcome:
    """Expand `roots` and all that grows from them, every task once, on the ranks of `comm`.

    Collective. When anything raises on any rank, its traceback (of a `PyramidError`, its line), rank and host go to
    stderr and the whole job ends (``MPI_Abort``, with the code of `exit_code_of`); on a single rank the
    exception is passed on. So is, on all ranks, one of MPI that says that a rank has died, where the MPI tells: what
    the survivors had expanded is then for the workload to know.

    Parameters
    ----------
    comm : communicator
        Its ranks share the work. Not used itself but for a duplicate.
    workload : Workload
        The work, the same on all ranks.
    roots : ndarray (n,)
        This rank's share of the first tasks, may be empty (see `deal_round_robin`).
    policy : Policy
        How work finds its rank, the same on all ranks.
    seed : int
        Of the random choice of victims. The set of expanded tasks does not depend on it.
    stop : callable, optional
        Polled every 20 ms on the main thread; once it is true on any rank, all ranks finish their batches and return.

    Returns
    -------
    Outcome
        Of this rank.
    """
    from pyramidai_mpi.sched.transport import MpiTransport  # MPI starts with its import

    return run_on(MpiTransport.open(comm), workload, roots, policy, seed, stop)


def run_on(
    transport: Transport,
    workload: Workload,
    roots: Tasks,
    policy: Policy = Policy.STEAL_HALF,
    seed: int = 0,
    stop: Callable[[], bool] | None = None,
) -> Outcome:
    """Like `run`, over any transport."""
    switch_interval = sys.getswitchinterval()
    sys.setswitchinterval(SWITCH_INTERVAL_S)
    running = None
    try:
        running = _Run(transport, workload, roots, policy, seed, stop)
        return running.to_the_end()
    except BaseException as failure:
        if running is not None and not isinstance(failure, LostRankError):  # that one has printed it
            running.log_history()
        if transport.size == 1:
            if running is not None:
                running.end_worker()  # whoever takes the exception may close what the batch still reads
            transport.close()
            raise
        if transport.is_loss(failure):
            transport.abandon()
            if running is not None:
                running.end_worker()
            raise
        if running is not None:
            running.dismiss_worker()
        if isinstance(failure, KeyboardInterrupt):  # the user's wish, no failure to report
            transport.abort(ExitCode.STOPPED)
        _report(failure, transport)
        transport.abort(int(exit_code_of(failure)))
    finally:
        sys.setswitchinterval(switch_interval)


def _report(failure: BaseException, transport: Transport) -> None:
    """Write what happened, and where."""
    report = failure_report(failure, transport.rank, transport.size, transport.host)
    say_before_leaving(report, int(exit_code_of(failure)))


class _Run:
    """One rank's main thread between start and end of a run."""

    def __init__(
        self,
        transport: Transport,
        workload: Workload,
        roots: Tasks,
        policy: Policy,
        seed: int,
        stop: Callable[[], bool] | None,
    ) -> None:
        self._start_wall, self._start_cpu = time.perf_counter(), time.process_time()
        dtype = np.dtype(workload.dtype)
        self._dtype = dtype
        self._transport = transport
        self._rules = RULES[Policy(policy)]
        self._state = RankState(
            transport.rank,
            transport.size,
            self._rules,
            batches_of(workload),
            checked_tasks(roots, dtype, "roots"),
            seed,
            workload.tally if isinstance(workload, Tallies) else tuple,
        )
        self._lock = threading.Lock()
        self._bell = Bell()
        self._history = History()
        self._worker = Worker(self._state, self._lock, workload, dtype, self._history, self._bell)
        self._on_progress = workload.on_progress if isinstance(workload, ReportsProgress) else None
        self._on_poll = workload.on_poll if isinstance(workload, IsPolled) else None
        self._on_loss = workload.on_loss if isinstance(workload, HearsOfLoss) else None
        if isinstance(workload, Wakes):
            workload.on_start(self._wake_for_poll)
        self._next_poll = 0.0
        self._polls_busily = False
        self._progress: Progress | None = None
        self._next_progress = 0.0
        self._stop = stop
        self._next_stop = 0.0
        self._timers: dict[Timer, float] = {}
        self._last_wanted = time.perf_counter()  # when somebody last wanted work of this rank
        self._batches_seen, self._busy_seen_s, self._batch_s = 0, 0.0, 0.0
        self._asked_at = 0.0
        self._reply_s = 0.0
        self._replies = 0
        self._last_turn = time.perf_counter()
        self._silence_s = 0.0

    def to_the_end(self) -> Outcome:
        """Run, leave together with the others, and give account."""
        self._worker.start()
        self._work()
        self._worker.close()
        self._raise_if_worker_failed()
        if self._on_progress is not None and self._progress is not None:
            self._on_progress(self._progress)
        self._leave()  # last of all that may fail: without the transport nobody could tell the others
        self.log_history()
        return Outcome(
            stats=self._stats(),
            stopped=self._state.stopped,
            unfinished=self._state.take_unfinished(),
        )

    def log_history(self) -> None:
        """Log, at level debug, what this rank saw and did last, and which messages came too late."""
        if log.isEnabledFor(logging.DEBUG):
            for line in self._diagnosis().splitlines():  # a record a line: the command line escapes line breaks
                log.debug("%s", line)

    def _diagnosis(self) -> str:
        stale = ", ".join(f"{count} {why}" for why, count in self._state.stale.items()) or "none"
        return (
            f"rank {self._transport.rank} of {self._transport.size} on host {self._transport.host}: "
            f"stale messages: {stale}; {self._state.counts()}; last events, in seconds of this host's clock, "
            f"now {time.perf_counter():.6f}:\n{self._history.text()}"
        )

    def dismiss_worker(self) -> None:
        """Let the worker end with its batch, without waiting: ranks that share a process do not end with the job."""
        self._worker.dismiss()

    def end_worker(self) -> None:
        """Wait for the worker's batch, before its journal is read; whom it waits for itself may never answer."""
        if self._on_loss is not None:
            self._on_loss()
        if self._worker.is_alive():
            self._worker.close()

    def _wake_for_poll(self) -> None:
        """From the worker's thread: it waits for what only a poll brings."""
        self._next_poll = 0.0
        self._bell.ring()

    def _work(self) -> None:
        pause = waiting.SHORTEST_S
        while True:
            now = time.perf_counter()
            self._silence_s += min(now - self._last_turn, _LONGEST_TURN_S)
            self._last_turn = now
            something_happened = self._turn(now)
            if self._state.finished:
                return
            if self._silence_s > MOST_SILENCE_S and self._transport.size > 1:
                sys.stderr.write(f"{self._diagnosis()}\n")
                raise LostRankError(
                    f"the ranks have not all been heard of for {MOST_SILENCE_S:.0f} s, so one died or stands still; "
                    "the same command with --resume goes on from what was done"
                )
            longest = self._longest_pause(now - self._last_wanted)
            if self._state.is_computing and not self._state.awaits_reply:
                pause = longest  # what happened was a question, and it was answered: nothing follows soon
            else:
                pause = waiting.SHORTEST_S if something_happened else min(2 * pause, longest)
            deadline = min(self._timers.values(), default=now + 1.0)
            if self._polls_busily:
                deadline = min(deadline, self._next_poll)
            self._bell.wait(min(pause, max(deadline - now, 0.0)))
            self._raise_if_worker_failed()

    def _turn(self, now: float) -> bool:
        """Look once at everything that may have happened, and act on it; whether there was anything."""
        events: list[MessageArrived | TimerRang | StopRequested] = []
        if self._transport.size > 1:
            self._receive(events)
        for timer in [timer for timer, deadline in self._timers.items() if deadline <= now]:
            del self._timers[timer]
            events.append(TimerRang(timer))
        if self._stop is not None and now >= self._next_stop:
            self._next_stop = now + STOP_POLL_S
            if self._stop():
                self._stop = None
                events.append(StopRequested())
        if self._on_poll is not None and now >= self._next_poll:
            self._polls_busily = self._on_poll()
            self._next_poll = now + (WORKLOAD_BUSY_POLL_S if self._polls_busily else WORKLOAD_POLL_S)
        if not events and not self._state.has_actions:
            self._transport.all_sent()
            return False
        with self._lock:
            for event in events:
                stale_before = self._state.stale_messages
                self._state.handle(event)
                self._history.note(now, event, stale=self._state.stale_messages > stale_before)
            actions = self._state.take_actions()
        for action in actions:
            self._history.note(now, action)
            self._carry_out(action, now)
        return True

    def _receive(self, events: list[MessageArrived | TimerRang | StopRequested]) -> None:
        """Take all messages that have arrived; a single look misses what MPI only begins to move at that look."""
        misses = 0
        while misses < 2:
            arrived = self._transport.receive()
            if arrived is None:
                misses += 1
                continue
            misses = 0
            source, data = arrived
            message = decode(data, self._dtype)
            if isinstance(message, StealRequest | Lifeline):
                self._last_wanted = time.perf_counter()
            elif isinstance(message, StealReply):
                self._reply_s += time.perf_counter() - self._asked_at
                self._replies += 1
            elif isinstance(message, CensusAsk):
                self._silence_s = 0.0
            events.append(MessageArrived(source, message))

    def _carry_out(self, action: Action, now: float) -> None:
        match action:
            case Send(destination, message):
                if isinstance(message, StealRequest):
                    self._asked_at = time.perf_counter()
                elif isinstance(message, Push):  # who was waiting for it comes again soon
                    self._last_wanted = time.perf_counter()
                self._transport.send(destination, encode(message))
            case SetTimer(timer, seconds):
                self._timers[timer] = now + seconds
            case WakeWorker():
                self._worker.bell.ring()
            case ReportProgress(progress):  # rank 0: a wave has come back
                self._silence_s = 0.0
                self._progress = progress
                if self._on_progress is not None and now >= self._next_progress:
                    self._next_progress = now + PROGRESS_PERIOD_S
                    self._on_progress(progress)

    def _longest_pause(self, unwanted_s: float) -> float:
        if self._transport.size == 1:
            return STOP_POLL_S if self._stop is not None else waiting.ALONE_S
        return waiting.longest_pause(
            steals=self._rules.steals,
            computing=self._state.is_computing,
            asked_s=time.perf_counter() - self._asked_at if self._state.awaits_reply else None,
            unwanted_s=unwanted_s,
            batch_s=self._seconds_of_last_batch(),
        )

    def _seconds_of_last_batch(self) -> float:
        """Of the batches done since the last call the mean, else what it was."""
        batches, busy_s = self._state.batches, self._worker.busy_s
        if batches > self._batches_seen:
            self._batch_s = (busy_s - self._busy_seen_s) / (batches - self._batches_seen)
            self._batches_seen, self._busy_seen_s = batches, busy_s
        return self._batch_s

    def _raise_if_worker_failed(self) -> None:
        if self._worker.failure is not None:
            raise self._worker.failure

    def _leave(self) -> None:
        """Take what is still under way, until all ranks know that nothing is; then give the transport back."""
        transport = self._transport
        wait_until(transport.all_sent, meanwhile=self._take_late_messages)
        transport.enter_barrier()
        wait_until(transport.barrier_passed, meanwhile=self._take_late_messages)
        transport.close()

    def _take_late_messages(self) -> None:
        while (arrived := self._transport.receive()) is not None:
            self._state.handle(MessageArrived(arrived[0], decode(arrived[1], self._dtype)))

    def _stats(self) -> Stats:
        wall = time.perf_counter() - self._start_wall
        state = self._state
        return Stats(
            tasks=state.tasks_done,
            batches=state.batches,
            steal_requests=state.requests_sent,
            steals_with_work=state.steals_with_work,
            pushes=state.pushes,
            tasks_stolen=state.tasks_stolen,
            stale_messages=state.stale_messages,
            mean_reply_s=self._reply_s / self._replies if self._replies else float("nan"),
            busy_s=self._worker.busy_s,
            idle_s=wall - self._worker.busy_s,
            wall_s=wall,
            cpu_s=time.process_time() - self._start_cpu,
        )
