"""A thread that ends this process when the job it belongs to is over and nobody says so.

Where a launcher notices that a rank has died, it ends the others within seconds. Some do not (`srun` without -K1), none
notices a process that stands still or a cable that is cut, and a launcher may be killed itself. Then the others would
wait for ever, in whatever call of MPI they are. This thread makes no call of MPI. It ends the process when

- a neighbour has been silent for two minutes (see `beats`), or another process says that this has happened;
- the ranks have not all met two minutes after MPI has started here;
- the process that has started this one is gone;
- this very thread has not come to its turn for nearly two minutes, as a call keeps the interpreter's lock (MPI_Init and
  MPI_Finalize, which wait for all ranks, do): a timer of the system's then asks for SIGALRM, which shows the stack.

What counts is that a process lives, not how far it is: whoever works alone for an hour goes on giving signs. A job that
is suspended as a whole goes on when it is resumed, since a turn counts a few seconds as silence at most.
"""

from __future__ import annotations

import faulthandler
import os
import signal
import sys
import threading
import time
from contextlib import suppress
from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar, NoReturn

from pyramidai_mpi.base.errors import ExitCode
from pyramidai_mpi.process.exit import PATIENCE_S, tell_launcher_of_mpich, wait_until_read
from pyramidai_mpi.process.identity import start_of
from pyramidai_mpi.process.parent import FAREWELL, has_gone
from pyramidai_mpi.process.system_timer import SystemTimer

if TYPE_CHECKING:
    from pyramidai_mpi.process.beats import Beats

STDERR = 2
RESUME = "what was done is kept; the same command with --resume goes on"


@dataclass(frozen=True)
class Limits:
    """Seconds.

    Attributes
    ----------
    turn
        Between two looks.
    beat
        Between two signs of life.
    silence
        Of a neighbour that is given up. Of ranks that outlive each other a dead one is silent as well, while the others
        finish their batches and find each other: `silence_of_survivors`.
    start
        From the start of MPI on this rank until all have met.
    standstill
        Of this thread itself.
    grace
        After a standstill: what a job has to come to itself that was suspended and is resumed.
    slowness
        Limits for start and standstill are no shorter, until all have met, than so many times what this process has
        taken until its watch began: on a machine with far more ranks than cores others take long as well.
    """

    turn: float = 2.5
    beat: float = 10.0
    silence: float = 120.0
    silence_of_survivors: float = 600.0
    start: float = 120.0
    standstill: float = 80.0
    grace: int = 30
    slowness: float = 4.0


class Watch:
    """The watch of this process, from its making to `end`.

    Parameters
    ----------
    who
        This process, for messages.
    survives
        Whether processes of the job outlive each other.

    Attributes
    ----------
    of_this_process
        The last that was made here, if any.
    """

    of_this_process: ClassVar[Watch | None] = None

    def __init__(self, who: str, *, survives: bool = False, limits: Limits | None = None) -> None:
        self.limits = limits or Limits()
        self._who, self._survives = who, survives
        self._beats: Beats | None = None
        least_s = self.limits.slowness * _age_s()
        self._start_s = max(self.limits.start, least_s)
        self._standstill_s = max(self.limits.standstill, least_s)
        self._started = False
        self._unmet_s = 0.0
        self._is_over = threading.Event()
        signal.signal(signal.SIGALRM, signal.SIG_DFL)  # whoever has started us may have it ignored or held back
        signal.pthread_sigmask(signal.SIG_UNBLOCK, {signal.SIGALRM})
        faulthandler.register(signal.SIGALRM, file=STDERR, all_threads=True, chain=True)
        self._standstill = SystemTimer("alarm", self.limits.grace)
        self._standstill.set(self._standstill_s)
        self._thread = threading.Thread(target=self._watch, name="pyramidai-watch", daemon=True)
        self._thread.start()
        Watch.of_this_process = self

    def mpi_has_started(self) -> None:
        """From now on the others have to be met in time."""
        self._started = True

    def over(self, beats: Beats | None) -> None:
        """Watch these, in place of any before; None where this job's processes cannot give each other signs."""
        self._standstill_s = self.limits.standstill
        self._started = False
        before, self._beats = self._beats, beats
        if before is not None:
            before.close()

    def end(self) -> None:
        """All has gone well: say so to the neighbours, and watch no more."""
        self._is_over.set()
        self._thread.join()
        self._standstill.set(0)
        signal.alarm(0)
        if self._beats is not None:
            self._beats.say_farewell()
            self._beats.close()

    def _watch(self) -> None:
        last = last_beat = time.monotonic()
        while not self._is_over.wait(self.limits.turn):
            self._standstill.set(self._standstill_s)
            signal.alarm(0)  # of a standstill that is over
            now = time.monotonic()
            counted_s, last = min(now - last, 2 * self.limits.turn), now
            if has_gone():
                self._give_up(FAREWELL, tell=not self._survives)
            beats = self._beats
            if beats is None:
                self._unmet_s += counted_s if self._started else 0.0
                if self._unmet_s > self._start_s:
                    self._give_up(f"the ranks have not all started within {self._start_s:.0f} s: one has died")
                continue
            beats.count(counted_s)
            beats.receive()
            if now - last_beat >= self.limits.beat:
                last_beat = now
                beats.send()
            if beats.is_over:
                self._leave()  # whoever says so has said why
            number, silent_s = beats.most_silent()
            limit = self.limits.silence_of_survivors if self._survives else self.limits.silence
            if silent_s > limit:
                self._give_up(f"nothing was heard of rank {number} for {limit:.0f} s, so it died or stands still")

    def _give_up(self, why: str, *, tell: bool = True) -> NoReturn:
        """Say why, and end the job."""
        SystemTimer("_exit", ExitCode.INTERNAL).set(2 * PATIENCE_S)  # whoever reads stderr may be gone, or stopped
        with suppress(OSError):
            os.write(STDERR, f"pyramidai: error: {why}; {RESUME} ({self._who})\n".encode())
        wait_until_read(sys.stderr)
        if tell and self._beats is not None:
            self._beats.end_all()
        self._leave()

    def _leave(self) -> NoReturn:
        tell_launcher_of_mpich(ExitCode.INTERNAL)
        os._exit(ExitCode.INTERNAL)


def _age_s() -> float:
    """Seconds since this process was started, 0 where the system does not tell."""
    ticks = start_of(os.getpid())
    if ticks is None:
        return 0.0
    return max(time.clock_gettime(time.CLOCK_BOOTTIME) - ticks / os.sysconf("SC_CLK_TCK"), 0.0)
