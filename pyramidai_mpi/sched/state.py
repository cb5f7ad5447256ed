"""The state machine of one rank: events in, actions out.

Everything that decides who works on what happens here, and nothing else: no clock, no MPI, no threads. Whoever drives
it calls its methods one at a time (the loop holds a lock) and carries out the actions in order. So the same code serves
the real run and a simulated cluster of thousands of ranks.

The worker's two events are the methods `take_batch` and `finish_batch`; all others go through `handle`. Either kind may
leave actions, which `take_actions` collects.

A rank that becomes idle asks a random victim, one request at a time. After some empty replies it rests: it hangs
lifelines on its neighbours in the hypercube and asks again now and then. Tasks are accepted whenever and however they
arrive, but an empty reply to an earlier request changes nothing. A victim that does not answer (stopped, or its host
swaps) is passed over until it is heard of again, so that it delays nothing but what it holds.
"""

from __future__ import annotations

import random
from array import array
from bisect import bisect_left
from typing import TYPE_CHECKING, Any

from pyramidai_mpi.base.errors import InternalError
from pyramidai_mpi.sched.ending import Ending
from pyramidai_mpi.sched.events import (
    Action,
    Event,
    MessageArrived,
    Send,
    SetTimer,
    StopRequested,
    Timer,
    TimerRang,
    WakeWorker,
)
from pyramidai_mpi.sched.invariants import claims_about
from pyramidai_mpi.sched.messages import (
    CensusAnswer,
    CensusAsk,
    Counts,
    Finished,
    Lifeline,
    Push,
    RankIsIdle,
    StealReply,
    StealRequest,
    StopAsked,
)
from pyramidai_mpi.sched.policy import hypercube_neighbours
from pyramidai_mpi.sched.task_queue import TaskQueue

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from pyramidai_mpi.sched.policy import Rules
    from pyramidai_mpi.sched.workload import Batches, Tasks

FIRST_REST_S = 0.01
LONGEST_REST_S = 0.16
PATIENCE_S = 0.25
"""How long a thief waits for an answer that should come at once; a hundred times what busy hosts take."""


class RankState:
    """State machine of one rank.

    Parameters
    ----------
    rank, size : int
        This rank's number, and how many there are.
    rules : Rules
        The policy.
    batches : Batches
        What the workload wants.
    roots : ndarray (n,)
        This rank's share.
    seed : int
        Of the choice of victims; each rank derives its own sequence.
    tally : callable
        What the workload counts of its own at the instant of the call; the waves sum it, and nothing here reads it.

    Attributes
    ----------
    tasks_done, batches, requests_sent, steals_with_work, pushes, tasks_stolen : int
        The account (see `outcome.Stats`).
    tasks_given : int
        Tasks that went to other ranks.
    stale : dict of str to int
        Messages that came too late to mean what they meant when they were sent, by kind. Tasks in them are kept.
    """

    def __init__(
        self,
        rank: int,
        size: int,
        rules: Rules,
        batches: Batches,
        roots: Tasks,
        seed: int = 0,
        tally: Callable[[], tuple[int, ...]] = tuple,
    ) -> None:
        self.rank, self.size, self.rules = rank, size, rules
        self.tasks_done = self.batches = self.requests_sent = 0
        self.steals_with_work = self.pushes = self.tasks_stolen = self.tasks_given = 0
        self.stale: dict[str, int] = {}

        self._queue = TaskQueue(batches.dtype, batches.by, batches.comes_last)
        self._queue.push(roots)
        self._created = len(roots)
        self._batches = batches
        self._in_hand = 0
        self._worker_waits = False
        self._actions: list[Action] = []

        self._random = random.Random(f"{seed} {rank} 0")  # the 0: one seed gives one simulation, as it did before
        # sorted, and four bytes a rank: a simulation of 4096 ranks holds as many lists of them
        self._victims = array("i", range(size) if rules.steals else ())
        if rules.steals:
            del self._victims[rank]
        self._request = 0  # identity of the open request, 0 for none
        self._failures = 0  # empty replies in a row
        self._victim = -1  # of the open request
        self._silent: set[int] = set()  # victims that owe an answer for too long
        self._rest_s = FIRST_REST_S
        self._lifelines: list[int] = []  # where mine hang
        self._waiting: list[int] = []  # whose lifelines I hold, longest first
        self._postponed: list[tuple[int, int]] = []  # (thief, identity) until the batch is done

        self._tally = tally
        self._idleness_is_known = False  # upwards in the tree, since this rank last worked
        self._ending = Ending(rank, size, self.counts, self._act)

    # The worker

    def take_batch(self) -> Tasks | None:
        """Tasks that the worker is to expand now; None when there are none, until the next `WakeWorker`."""
        queue = self._queue
        held = len(queue)
        if not held or self._ending.stopping or self._ending.finished:
            self._become_idle()
            return None
        self._worker_waits = self._idleness_is_known = False
        limit, shallow = self._next_batch(held)
        batch = queue.take_batch(limit, shallow=shallow)
        self._in_hand = len(batch)
        left = held - self._in_hand
        if left and self._waiting:
            self._feed_the_waiting()
            left = len(queue)
        if left:
            self._failures = 0
        elif self.rules.asks_while_computing:
            self._look_for_work()
        return batch

    def peek_batch(self) -> Tasks | None:
        """Copy of the tasks that `take_batch` would give now, which stay anybody's; None when there are none."""
        held = len(self._queue)
        if not held or self._ending.stopping or self._ending.finished:
            return None
        limit, shallow = self._next_batch(held)
        return self._queue.peek_batch(limit, shallow=shallow)

    def _next_batch(self, held: int) -> tuple[int, bool]:
        """Most tasks of the batch to be taken of `held`, and whether of the shallowest."""
        rules, batches = self.rules, self._batches
        return rules.batch_of(held, self.size, batches), rules.works_off_shallow(held, self.size, batches)

    def finish_batch(self, children: Tasks) -> None:
        """The batch taken last was expanded and gave `children` (n,)."""
        self.tasks_done += self._in_hand
        self.batches += 1
        self._in_hand = 0
        if children.size:
            self._created += len(children)
            self._queue.push_children(children)
        if self._postponed:
            for thief, identity in self._postponed:
                self._answer(thief, identity)
            self._postponed.clear()

    # Everything else

    def handle(self, event: Event) -> None:
        """Take one event; what is to be done about it waits in `take_actions`."""
        if isinstance(event, MessageArrived):
            why = self._why_stale(event.source, event.message)
            if why is not None:
                self.stale[why] = self.stale.get(why, 0) + 1
        if self.finished:
            return
        match event:
            case MessageArrived(source, message):
                self._silent.discard(source)
                self._take_message(source, message)
            case TimerRang(Timer.CENSUS):
                self._ending.hear_the_timer()
            case TimerRang(Timer.RETRY):
                if self._is_idle() and not self._request:
                    self._ask_a_victim()
            case TimerRang(Timer.PATIENCE):
                self._give_up_on_the_victim()
            case StopRequested():
                self._ending.stop()

    @property
    def finished(self) -> bool:
        """Whether all ranks have agreed on the end; messages are ignored from now on."""
        return self._ending.finished

    @property
    def stopped(self) -> bool:
        """Whether it has finished with tasks left undone."""
        return self._ending.stopped

    @property
    def stale_messages(self) -> int:
        """How many messages came too late so far."""
        return sum(self.stale.values())

    @property
    def has_actions(self) -> bool:
        """Whether `take_actions` would return any."""
        return bool(self._actions)

    @property
    def is_computing(self) -> bool:
        """Whether the worker has a batch in hand."""
        return self._in_hand > 0

    @property
    def awaits_reply(self) -> bool:
        """Whether a steal request is open."""
        return self._request > 0

    def take_actions(self) -> list[Action]:
        """Actions since the last call, to be carried out in order."""
        actions, self._actions = self._actions, []
        return actions

    def take_unfinished(self) -> Tasks:
        """Tasks (n,) left in the queue of a finished rank."""
        return self._queue.take_oldest(len(self._queue))

    def counts(self) -> Counts:
        """Counts of this rank at this instant."""
        queued = len(self._queue)
        return Counts(
            created=self._created,
            completed=self.tasks_done,
            queued=queued,
            idle=int(not queued and not self._in_hand),
            frozen=int(self._ending.stopping and not self._in_hand),
            tally=self._tally(),
        )

    def check(self) -> None:
        """Check what must hold between two events; for tests, after every one of them.

        Raises
        ------
        InternalError
            Says everything that does not hold.
        """
        self._queue.check()
        self._ending.check()
        broken = [claim for claim, holds in claims_about(self, hypercube_neighbours(self.rank, self.size)) if not holds]
        if broken:
            raise InternalError(f"rank {self.rank} of {self.size}, {self.counts()}: broken: {'; '.join(broken)}")

    def _take_message(self, source: int, message: object) -> None:
        match message:
            case StealRequest(identity):
                self._take_request(source, identity)
            case StealReply(identity, tasks):
                self._take_reply(identity, tasks)
            case Push(tasks):
                self.pushes += 1
                if source in self._lifelines:
                    self._lifelines.remove(source)
                self._take_in(tasks)
            case Lifeline(wanted):
                if source in self._waiting:
                    self._waiting.remove(source)
                if wanted:
                    self._waiting.append(source)
                    self._feed_the_waiting()
            case CensusAsk(wave, stopping):
                self._ending.hear_the_question(wave, stopping)
            case CensusAnswer(wave, counts):
                self._ending.hear_an_answer(source, wave, counts)
            case RankIsIdle():
                self._ending.hear_of_an_idle_rank()
            case StopAsked():
                self._ending.stop()
            case Finished(stopped):
                self._finish(stopped)
            case _:
                raise InternalError(f"rank {self.rank} cannot read {message!r} from rank {source}")

    def _why_stale(self, source: int, message: object) -> str | None:
        if self.finished:
            return "after the end"
        match message:
            case StealReply(identity, _) if identity != self._request:
                return "reply to a request given up"
            case StealReply(_, tasks) | Push(tasks) if self._ending.stopping and tasks.size:
                return "tasks for a rank that stops"
            case Push() if source not in self._lifelines:
                return "push over a lifeline taken down"
            case Lifeline(wanted=False) if source not in self._waiting:
                return "end of a lifeline used up"
        return None

    # The victim

    def _take_request(self, thief: int, identity: int) -> None:
        if self.rules.strikes_thieves:
            self._strike(thief)
        if self._in_hand and not self.rules.answers_while_computing:
            self._postponed.append((thief, identity))
        else:
            self._answer(thief, identity)

    def _strike(self, thief: int) -> None:
        place = bisect_left(self._victims, thief)
        if place < len(self._victims) and self._victims[place] == thief:
            del self._victims[place]

    def _answer(self, thief: int, identity: int) -> None:
        tasks = self._tasks_for_a_thief()
        self.tasks_given += len(tasks)
        self._send(thief, StealReply(identity, tasks))

    def _tasks_for_a_thief(self) -> Tasks:
        held = len(self._queue)
        if self._ending.stopping:
            return self._queue.take_oldest(0)
        if self.rules.takes_half:
            # What the worker has in hand is its share of an odd number, also of a single task, or grain of them.
            return self._queue.take_oldest(self._batches.whole((held + 1) // 2) if self._in_hand else held // 2)
        return self._queue.take_leaf() if held > 1 else self._queue.take_oldest(0)

    def _feed_the_waiting(self) -> None:
        """Send equal shares to all whose lifelines I hold, one of the shares being mine unless I have work in hand."""
        while self._waiting and not self._ending.stopping:
            held = len(self._queue)
            own_share = 0 if self._in_hand else 1
            share = -(-held // (len(self._waiting) + 1))
            if held <= own_share:
                return
            tasks = self._queue.take_oldest(self._batches.whole(share) if self._in_hand else share)
            self.tasks_given += len(tasks)
            self._send(self._waiting.pop(0), Push(tasks))

    # The thief

    def _is_idle(self) -> bool:
        return not self._in_hand and not len(self._queue) and not self._ending.stopping

    def _become_idle(self) -> None:
        self._worker_waits = True
        if self._ending.stopping or self.finished:
            return
        if not self._idleness_is_known:
            self._idleness_is_known = True
            self._ending.hear_of_an_idle_rank()
        self._look_for_work()

    def _look_for_work(self) -> None:
        """Ask, or rest after too many empty replies; while the last batch is computed, only ask."""
        if self._request or self._ending.stopping or not self._victims:
            return
        attempts = self.rules.attempts or len(self._victims)
        if self._failures < attempts:
            self._ask_a_victim()
        elif not self._in_hand:
            self._rest()

    def _ask_a_victim(self) -> None:
        victims: Sequence[int] = self._victims
        if self._silent:
            victims = [victim for victim in victims if victim not in self._silent]
        if not victims:
            if self._victims and not self._in_hand:
                self._rest()
            return
        self.requests_sent += 1
        self._request = self.requests_sent
        self._victim = self._random.choice(victims)
        self._send(self._victim, StealRequest(self._request))
        if self.rules.answers_while_computing:
            self._act(SetTimer(Timer.PATIENCE, PATIENCE_S))

    def _give_up_on_the_victim(self) -> None:
        """The answer to the open request is overdue; should it come with tasks, they are welcome all the same."""
        if not self._request:
            return
        self._silent.add(self._victim)
        self._take_an_empty_reply(self._request)

    def _take_reply(self, identity: int, tasks: Tasks) -> None:
        if not tasks.size:
            self._take_an_empty_reply(identity)
            return
        if identity == self._request:
            self._request = 0
        self.steals_with_work += 1
        self._take_in(tasks)

    def _take_an_empty_reply(self, identity: int) -> None:
        if identity == self._request:
            self._request = 0
            self._failures += 1
        if not len(self._queue) and (self._worker_waits or self.rules.asks_while_computing):
            self._look_for_work()

    def _take_in(self, tasks: Tasks) -> None:
        """Tasks have come from another rank."""
        self._queue.push(tasks)
        self.tasks_stolen += len(tasks)
        self._failures = 0
        self._rest_s = FIRST_REST_S
        for neighbour in self._lifelines:
            self._send(neighbour, Lifeline(wanted=False))
        self._lifelines.clear()
        if self._worker_waits and not self._ending.stopping:
            self._worker_waits = False
            self._act(WakeWorker())

    def _rest(self) -> None:
        if self.rules.lifelines and not self._lifelines:
            self._lifelines = hypercube_neighbours(self.rank, self.size)
            for neighbour in self._lifelines:
                self._send(neighbour, Lifeline(wanted=True))
        self._act(SetTimer(Timer.RETRY, self._rest_s))
        self._rest_s = min(2 * self._rest_s, LONGEST_REST_S)

    def _finish(self, stopped: bool) -> None:
        if not stopped and (len(self._queue) or self._in_hand):
            raise InternalError(f"rank {self.rank} was told that nothing is left, and holds {self.counts()}")
        self._ending.finish(stopped)

    def _send(self, destination: int, message: Any) -> None:
        self._act(Send(destination, message))

    def _act(self, action: Action) -> None:
        self._actions.append(action)
