"""How long the main thread of a rank sleeps between two looks at its messages, or at a request that is not done.

Ranks may share cores, so waiting must cost next to nothing; but whoever waits for an answer of a sleeping rank waits
for it to wake up. A pause costs 15 to 30 us of CPU (timer, two switches, one look), so pauses of 1 ms are 2 to 3 % of a
core, and pauses of 5 ms half a percent.
"""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable

SHORTEST_S = 50e-6
COMPUTING_S = 0.8e-3
"""While the worker computes: a thief's request waits so long at most."""
COMPUTING_UNDISTURBED_S = 5e-3
"""While the worker computes and nobody has wanted work for `UNDISTURBED_S`. Two ranks with InceptionV3 in integers took
1.5 % less time on two cores than with 2 ms (medians of six, in turn); 20 ms gained no more."""
UNDISTURBED_S = 1.0
ASKING_S = 0.4e-3
"""At most, while an answer is on its way."""
PATIENCE_S = 0.02
"""A thief expects its answer within this time; by some policies it comes after a whole batch."""
IDLE_S = 5e-3
"""At most, with nothing to do, or in a step that all ranks take together."""
ALONE_S = 50e-3
"""On a single rank, where only timers matter; the worker rings when it is done."""


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


def longest_pause(*, steals: bool, computing: bool, asked_s: float | None, unwanted_s: float) -> float:
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
    """
    if not steals:
        return IDLE_S
    if asked_s is not None and asked_s < PATIENCE_S:
        return ASKING_S
    if computing:
        return COMPUTING_S if unwanted_s < UNDISTURBED_S else COMPUTING_UNDISTURBED_S
    return IDLE_S
