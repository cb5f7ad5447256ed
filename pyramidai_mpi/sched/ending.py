"""How a rank takes part in finding the end: when waves are started, how they spread, what follows from them.

Rank 0 starts a wave every 0.2 s, which also serves the progress report, and sooner when it hears that some rank has
become idle. What the sums of a wave mean is decided in `termination`; this is the part of the state machine that moves
them.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from pyramidai_mpi.base.errors import InternalError
from pyramidai_mpi.sched.events import Action, ReportProgress, Send, SetTimer, Timer
from pyramidai_mpi.sched.messages import CensusAnswer, CensusAsk, Counts, Finished, RankIsIdle, StopAsked
from pyramidai_mpi.sched.progress import Progress
from pyramidai_mpi.sched.termination import Census, Verdict, judge

if TYPE_CHECKING:
    from collections.abc import Callable

CENSUS_PAUSE_S = 0.2
"""Between two waves while no rank becomes idle: often enough to report progress."""
CENSUS_PAUSE_NEAR_THE_END_S = 0.005
"""Between two waves when some rank has become idle since the one before began, or all are to stop."""


class Ending:
    """One rank's share in the agreement on the end.

    Parameters
    ----------
    rank, size : int
        This rank's number, and how many there are.
    counts : callable
        This rank's counts at the instant of the call.
    act : callable
        Takes the actions that follow.

    Attributes
    ----------
    stopping : bool
        The run is to stop, as far as this rank has heard.
    finished : bool
        All ranks have agreed on the end.
    stopped : bool
        Finished, with tasks left undone.
    """

    def __init__(self, rank: int, size: int, counts: Callable[[], Counts], act: Callable[[Action], None]) -> None:
        self.stopping = self.finished = self.stopped = False
        self._rank, self._size, self._counts, self._act = rank, size, counts, act
        self._census = Census(rank, size)
        self._previous: Counts | None = None
        self._wave_runs = False
        self._wave_is_soon = False
        self._a_rank_is_idle = False  # since the last wave, and the parent knows
        if rank == 0:
            self._pause(CENSUS_PAUSE_NEAR_THE_END_S)

    def stop(self) -> None:
        """From now on this rank takes no batch and gives nothing away; the waves see when all stand still."""
        if self.stopping:
            return
        self.stopping = True
        if self._rank:
            self._act(Send(0, StopAsked()))
        else:
            self._pause(0.0)

    def hear_of_an_idle_rank(self) -> None:
        """Some rank of this subtree has become idle: hasten the next wave.

        Between two waves one message goes over each branch of the tree, however many ranks become idle.
        """
        if self._size == 1:
            self._begin_wave()
        elif self._a_rank_is_idle:
            return
        elif self._census.parent is not None:
            self._act(Send(self._census.parent, RankIsIdle()))
        elif not self._wave_runs and not self._wave_is_soon:
            self._pause(CENSUS_PAUSE_NEAR_THE_END_S)
        self._a_rank_is_idle = True

    def hear_the_timer(self) -> None:
        """Rank 0: the pause between two waves is over."""
        self._wave_is_soon = False
        if not self._wave_runs:
            self._begin_wave()

    def hear_the_question(self, wave: int, stopping: bool) -> None:
        """The parent asks for the counts of this subtree."""
        self._open(wave, stopping)

    def hear_an_answer(self, child: int, wave: int, counts: Counts) -> None:
        """A child sends the counts of its subtree."""
        self._census.add(child, wave, counts)
        self._close_if_complete()

    def finish(self, stopped: bool) -> None:
        """All is over; pass it on."""
        for child in self._census.children:
            self._act(Send(child, Finished(stopped)))
        self.finished, self.stopped = True, stopped

    def check(self) -> None:
        """Check what must hold between two events.

        Raises
        ------
        InternalError
            It does not.
        """
        if self.stopped and not self.finished:
            raise InternalError(f"rank {self._rank} has stopped and not finished")
        if self._rank and (self._wave_runs or self._wave_is_soon):
            raise InternalError(f"rank {self._rank} starts waves, as only rank 0 does")
        if not self._rank and not self.finished and self._wave_runs == self._census.is_complete:
            raise InternalError(f"rank 0 says wave runs: {self._wave_runs}, all heard: {self._census.is_complete}")

    def _pause(self, seconds: float) -> None:
        self._wave_is_soon = seconds < CENSUS_PAUSE_S
        self._act(SetTimer(Timer.CENSUS, seconds))

    def _begin_wave(self) -> None:
        self._wave_runs = True
        self._open(self._census.wave + 1, self.stopping)

    def _open(self, wave: int, stopping: bool) -> None:
        if stopping:
            self.stopping = True
        self._a_rank_is_idle = False
        self._census.begin(wave)
        for child in self._census.children:
            self._act(Send(child, CensusAsk(wave, stopping)))
        self._close_if_complete()

    def _close_if_complete(self) -> None:
        if not self._census.is_complete:
            return
        total = self._census.total(self._counts())
        if self._census.parent is not None:
            self._act(Send(self._census.parent, CensusAnswer(self._census.wave, total)))
        else:
            self._conclude(total)

    def _conclude(self, total: Counts) -> None:
        """Rank 0: a wave has ended with `total`."""
        self._wave_runs = False
        progress = Progress(
            done=total.completed,
            known=max(total.created, total.completed),  # a wave is no instant, see `termination`
            idle_ranks=total.idle,
            ranks=self._size,
            tally=total.tally,
        )
        self._act(ReportProgress(progress))
        verdict = judge(self._previous, total, self._size)
        self._previous = total
        match verdict:
            case Verdict.NOTHING_IS_LEFT:
                self.finish(stopped=False)
            case Verdict.ALL_FROZEN:
                self.finish(stopped=True)
            case Verdict.LOOKS_EMPTY:
                self._begin_wave()
            case Verdict.WORK_IS_LEFT:
                near = self.stopping or self._a_rank_is_idle
                self._pause(CENSUS_PAUSE_NEAR_THE_END_S if near else CENSUS_PAUSE_S)
