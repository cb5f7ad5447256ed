"""One simulated rank: the real state machine, and the main thread that looks after its messages now and then.

The main thread of a real rank sleeps and looks, sleeps and looks; nearly always there is nothing to see. None of these
looks is an event here: from the length of the pauses (`sched.waiting`) follows when the first one after any instant is.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

from pyramidai_mpi.sched import waiting

if TYPE_CHECKING:
    from pyramidai_mpi.sched.events import Timer
    from pyramidai_mpi.sched.messages import Message
    from pyramidai_mpi.sched.state import RankState

LONG_AGO = -1e9


class SimulatedRank:
    """A rank's state and the clock of its main thread.

    Attributes
    ----------
    state : RankState
        The state machine.
    inbox : list of (int, Message)
        Source and message of what has arrived and was not looked at.
    timers : dict
        When each timer that is set will ring, seconds.
    look_at : float
        When it will next look because something has arrived; infinite when nothing has.
    ring_at : float
        When it will next look because of a timer, or earlier; infinite when none is set.
    wire_free_at : float
        When all that it has sent will be on its way.
    wanted_at, asked_at : float
        When somebody last wanted work of it; when it last asked somebody.
    batch_s : float
        What its last batch took that is done.
    finished_at : float
        When it knew that all is over.
    """

    __slots__ = (
        "_late_s",
        "_next_look",
        "_pause_s",
        "_steals",
        "asked_at",
        "batch_s",
        "finished_at",
        "inbox",
        "look_at",
        "number",
        "ring_at",
        "state",
        "timers",
        "wanted_at",
        "wire_free_at",
    )

    def __init__(self, state: RankState, late_s: float) -> None:
        self.state = state
        self.number = state.rank
        self.inbox: list[tuple[int, Message]] = []
        self.timers: dict[Timer, float] = {}
        self.look_at = self.ring_at = self.finished_at = math.inf
        self.wire_free_at = 0.0
        self.wanted_at, self.asked_at = 0.0, LONG_AGO
        self.batch_s = 0.0
        self._steals = state.rules.steals
        self._late_s = late_s
        self._pause_s = self._next_look = 0.0

    def begin_pause(self, now: float) -> None:
        """Begin a pause after a look that found something, as `sched.loop` does."""
        state = self.state
        flat = state.is_computing and not state.awaits_reply
        self._pause_s = self._longest_pause(now) if flat else waiting.SHORTEST_S
        self._next_look = now + self._pause_s + self._late_s

    def first_look(self, now: float) -> float:
        """When the main thread wakes up first at `now` or after it, if nothing rings before.

        To be called before the state changes at `now`, since the next pauses will be of the new state's length.
        """
        state = self.state
        while self._next_look < now:
            look = self._next_look
            longest = self._longest_pause(look)
            if self._pause_s >= longest or (state.is_computing and not state.awaits_reply):
                self._pause_s = longest
                pace = longest + self._late_s
                until = min(now, self._rule_changes_at(look))
                self._next_look = look + pace * max(1, int((until - look) / pace))
            else:
                self._pause_s = min(2 * self._pause_s, longest)
                self._next_look = look + self._pause_s + self._late_s
        return self._next_look

    def _longest_pause(self, now: float) -> float:
        state = self.state
        return waiting.longest_pause(
            steals=self._steals,
            computing=state.is_computing,
            asked_s=now - self.asked_at if state.awaits_reply else None,
            unwanted_s=now - self.wanted_at,
            batch_s=self.batch_s,
        )

    def _rule_changes_at(self, now: float) -> float:
        """Until when the longest pause stays as it is, if nothing happens."""
        changes = [self.asked_at + since for since, _ in waiting.ASKED_STEPS]
        changes += [self.wanted_at + since for since, _ in waiting.UNWANTED_STEPS]
        return min((instant for instant in changes if instant > now), default=math.inf)
