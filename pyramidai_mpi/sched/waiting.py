"""How long the main thread of a rank sleeps between two looks at its messages, or at a request that is not done.

Ranks may share cores, so waiting must cost next to nothing; but whoever waits for an answer of a sleeping rank waits
for it to wake up. A pause costs 15 to 60 us of CPU (timer, two switches, one look with cold caches), so pauses of 1 ms
are 2 to 3 % of a core, and pauses of 50 ms a tenth of a percent. So a rank that computes looks often while others look
for work, and seldom while there is plenty for all.
"""

from __future__ import annotations

import math
import time
from bisect import bisect_right
from operator import itemgetter
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable

_SINCE = itemgetter(0)
SHORTEST_S = 50e-6
COMPUTING_S = 0.8e-3
"""While the worker computes and others look for work: a thief's request waits so long at most."""
COMPUTING_UNWANTED_S = (10e-3, 50e-3)
"""At most, while the worker computes and nobody has wanted work for long: an eighth of its last batch, within these
bounds. Ranks ask for work while they do their last batch, so that an answer so late is still in time, and batches get
short as work gets scarce. Waves wait for it as well, and records on their way to a slide's owner; the worker rings."""
_BATCH_SHARE = 8
_WANTED_SHARE = 16
"""A pause is at most this part of the time since somebody wanted work: thieves that find none come again soon."""
ASKING_S = 0.4e-3
"""At most, while an answer is on its way, or an eighth of the wait so far."""
_ASKED_SHARE = 8
PATIENCE_S = 0.02
"""A thief expects its answer within this time; by some policies it comes after a whole batch."""
IDLE_S = 5e-3
"""At most, with nothing to do, or in a step that all ranks take together."""
ALONE_S = 50e-3
"""On a single rank, where only timers matter; the worker rings when it is done."""


def _steps(shortest: float, longest: float, share: float) -> tuple[tuple[float, float], ...]:
    """(seconds waited, pause from then on): pauses that double, each at most so small a part of the wait."""
    pauses = [shortest]
    while pauses[-1] < longest:
        pauses.append(2 * pauses[-1])
    return ((0.0, shortest), *((share * pause, pause) for pause in pauses[1:]))


UNWANTED_STEPS = _steps(COMPUTING_S, COMPUTING_UNWANTED_S[1], _WANTED_SHARE)
ASKED_STEPS = (*_steps(ASKING_S, PATIENCE_S / _ASKED_SHARE / 2, _ASKED_SHARE), (PATIENCE_S, math.inf))


def _at(steps: tuple[tuple[float, float], ...], waited_s: float) -> float:
    # who was asked during the look that the pause follows has waited less than nothing
    return steps[bisect_right(steps, max(waited_s, 0.0), key=_SINCE) - 1][1]


def wait_until(is_done: Callable[[], bool], meanwhile: Callable[[], object] | None = None) -> None:
    """Wait asleep: blocking calls of MPI poll, and take the cores from the ranks that all wait for.

    A pause lasts a tenth of the wait so far, within bounds: what ranks do together goes through several rounds of
    messages, and pauses that doubled would delay each round by as long as all before it. Measured with 24 ranks on 2
    cores: 7 ms instead of 14 for an Idup.

    Parameters
    ----------
    is_done
        Asked before each pause.
    meanwhile
        Called before each pause, when given: what others may need of this rank.
    """
    start = time.perf_counter()
    while not is_done():
        if meanwhile is not None:
            meanwhile()
        time.sleep(min(max(SHORTEST_S, 0.1 * (time.perf_counter() - start)), IDLE_S))


def longest_pause(*, steals: bool, computing: bool, asked_s: float | None, unwanted_s: float, batch_s: float) -> float:
    """Most seconds that a rank among others sleeps between two looks.

    Parameters
    ----------
    steals
        Whether ranks ask each other for work.
    computing
        Whether the rank's worker has a batch in hand.
    asked_s
        How long its open request has waited for an answer; None when there is none.
    unwanted_s
        How long nobody has wanted work of it.
    batch_s
        What its worker took for the batch before, 0 when there was none.
    """
    if computing:
        least, most = COMPUTING_UNWANTED_S
        longest = min(max(batch_s / _BATCH_SHARE, least), most)
        if steals:
            longest = min(longest, _at(UNWANTED_STEPS, unwanted_s))
    else:
        longest = IDLE_S
    return longest if asked_s is None else min(longest, _at(ASKED_STEPS, asked_s))
