"""How the ranks find out that nothing is left.

A rank that has become idle cannot know whether the run is over: another may hold work, and so may a message on its way.
"All ranks are idle" does not settle it either, because no two ranks are looked at in the same instant:

- Ask each rank in turn whether it is idle. Rank 1 says yes; then rank 2 sends it tasks, has none left and says yes.
- Mend it with colours, as Dijkstra, Feijen and van Gasteren (1983) do for instant messages: a rank that sent work turns
  black and spoils the round. With messages that take time this is still wrong. Rank 2 sends tasks and turns black; the
  round takes the colour along and washes the rank white; a second round finds everybody idle and white while the tasks
  are still in the network, and ends the run. The tasks arrive after the end.

What is in flight shows in no rank's state, only in a balance, so one has to count. Safra's token counts messages sent
and received. Here tasks are counted, which needs less: each rank counts the tasks that it **created** (roots and
children) and **completed** (expanded, whoever created them). Both only grow. A task in flight, queued or in the hands
of a worker is created and not completed; the run is over exactly when the sums are equal at one instant.

Sums over one wave are no instant. Let a task be created on rank 1 after it was counted, stolen by rank 2 and completed
before that one is counted: the sums may agree while another task is still open. Two waves settle it (Mattern's four
counters, 1987). Let wave 2 start after wave 1 has ended, and T be an instant between the two. Then

    completed in wave 1  <=  completed at T  <=  created at T  <=  created in wave 2,

and if the outer two are equal, all four are: at T every task that existed was completed, and nothing can create
tasks any more. The converse holds too: once nothing is left, two waves see it. No rank has to be idle, silent or slow
while it is counted, and it never matters how a task travelled.

A **stop** needs the other balance. A rank that has heard of the stop and computes nothing is frozen: it expands nothing
and sends no tasks, but tasks may still arrive. When a wave finds all ranks frozen, created and completed are exact, and
the tasks queued can only grow by arrivals. So if as many are queued as are outstanding, none is in flight, and one wave
is enough.

A wave runs down and up a tree of ranks with 8 children each, so that it takes 2 hops each way for 48 ranks and 4 for
4096; a ring would take as many hops as ranks, each of them a sleeping rank's pause. The same counts tell the progress.
"""

from __future__ import annotations

from enum import Enum, auto

from pyramidai_mpi.base.errors import InternalError
from pyramidai_mpi.sched.messages import Counts

FAN_OUT = 8


class Verdict(Enum):
    """What a finished wave says, together with the one before it."""

    WORK_IS_LEFT = auto()
    LOOKS_EMPTY = auto()
    """Created equals completed in this wave: another wave at once would settle it."""
    NOTHING_IS_LEFT = auto()
    ALL_FROZEN = auto()
    """All have stopped, tasks are left, and none of them is in flight."""


def judge(previous: Counts | None, now: Counts, size: int) -> Verdict:
    """Verdict over the sums of two successive waves (`previous` is None for the first) over `size` ranks."""
    if previous is not None and previous.completed == now.created:
        return Verdict.NOTHING_IS_LEFT
    if now.frozen == size and now.outstanding > 0 and now.queued == now.outstanding:
        return Verdict.ALL_FROZEN
    return Verdict.LOOKS_EMPTY if now.outstanding == 0 else Verdict.WORK_IS_LEFT


class Census:
    """The part of one rank in the waves: ask the subtree, add up the answers.

    Attributes
    ----------
    parent : int or None
        Rank to answer to; None for rank 0, which starts the waves.
    children : range
        Ranks to ask.
    """

    def __init__(self, rank: int, size: int) -> None:
        self.parent = (rank - 1) // FAN_OUT if rank else None
        self.children = range(min(rank * FAN_OUT + 1, size), min(rank * FAN_OUT + FAN_OUT + 1, size))
        self.wave = 0
        self._missing: set[int] = set()
        self._sum = Counts()

    def begin(self, wave: int) -> None:
        """Open `wave`: every child is to be heard.

        Raises
        ------
        InternalError
            The wave before is still open here.
        """
        if self._missing:
            raise InternalError(f"census {wave} begins while {self.wave} waits for ranks {self._missing}")
        self.wave = wave
        self._missing = set(self.children)
        self._sum = Counts()

    def add(self, child: int, wave: int, counts: Counts) -> None:
        """Add what `child` answered.

        Raises
        ------
        InternalError
            The answer was not expected.
        """
        if wave != self.wave or child not in self._missing:
            raise InternalError(f"rank {child} answers census {wave} out of turn, now is {self.wave}")
        self._missing.remove(child)
        self._sum += counts

    @property
    def is_complete(self) -> bool:
        """Whether all children have answered."""
        return not self._missing

    def total(self, own: Counts) -> Counts:
        """Sum over the subtree, with the rank's `own` counts of this instant."""
        return self._sum + own
