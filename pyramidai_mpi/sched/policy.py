"""What distinguishes the policies of load balancing, as data.

The state machine reads `Rules` and never asks for the name of a policy, so that a new policy is a new row here.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pyramidai_mpi.sched.workload import Batches


class Policy(StrEnum):
    """How work finds its rank."""

    STATIC = "static"
    """No stealing: every rank does the roots it was dealt and all that grows from them."""

    STEAL_ONE = "steal-one"
    """One task a steal, as in the PyramidAI paper (Reinbigler et al., Euro-Par 2025, doi
    10.1007/978-3-031-99872-0_21).

    Full batches. A rank that has become idle asks a random victim. Requests are answered between batches, with one leaf
    (the newest task) if more than one task remains, else with nothing. The victim strikes the thief from its own list
    of victims: whoever asks has become idle.

    What the paper leaves open is decided so: a struck rank stays struck, also after it found work; an empty reply
    strikes nobody; after one round of empty replies (as many as victims are listed) the thief rests for 10 ms, then
    twice as long each time up to 160 ms; a rank with an empty list asks no more and waits for the end.
    """

    STEAL_HALF = "steal-half"
    """Half a queue a steal, oldest tasks first, answered while computing; lifelines; near the end small batches, roots
    first."""


@dataclass(frozen=True, slots=True)
class Rules:
    """A policy in the terms of the state machine.

    Attributes
    ----------
    steals : bool
        Whether an idle rank asks others for work at all.
    takes_half : bool
        A reply holds half the victim's queue, oldest first; otherwise the newest task alone.
    answers_while_computing : bool
        Requests are answered at once; otherwise between two batches.
    asks_while_computing : bool
        Asks as soon as the queue is empty, while the last batch is computed, and so hides the time of the reply.
    strikes_thieves : bool
        A thief is taken from the victim's own list of victims.
    attempts : int or None
        Empty replies in a row before a thief rests; None for as many as there are victims.
    lifelines : bool
        A resting thief asks its neighbours in the hypercube to send work when they have some (Saraswat et al., PPoPP
        2011).
    batch_divisor : int
        A batch holds at most this part of the own queue, rounded up, so that batches shrink as work gets scarce; on
        fewer ranks than that, one part for each.
    shallow_batches : int
        A queue of less than so many full batches is worked off from the roots: what may bring more work comes first, so
        that leaves are left for the end, when all ranks have to be done at once.
    """

    steals: bool
    takes_half: bool = False
    answers_while_computing: bool = True
    asks_while_computing: bool = False
    strikes_thieves: bool = False
    attempts: int | None = None
    lifelines: bool = False
    batch_divisor: int = 1
    shallow_batches: int = 0

    def batch_of(self, held: int, ranks: int, batches: Batches) -> int:
        """Tasks of the next batch out of a queue of `held` on one of `ranks` ranks, in whole grains where it can be."""
        return min(batches.whole(-(-held // min(self.batch_divisor, ranks))), batches.size, held)

    def works_off_shallow(self, held: int, ranks: int, batches: Batches) -> bool:
        """Whether the next batch out of a queue of `held` on one of `ranks` ranks is of its shallowest tasks."""
        return ranks > 1 and held < self.shallow_batches * batches.size


RULES: dict[Policy, Rules] = {
    Policy.STATIC: Rules(steals=False),
    Policy.STEAL_ONE: Rules(steals=True, answers_while_computing=False, strikes_thieves=True),
    Policy.STEAL_HALF: Rules(
        steals=True,
        takes_half=True,
        asks_while_computing=True,
        attempts=4,
        lifelines=True,
        batch_divisor=8,
        shallow_batches=2,
    ),
}


def hypercube_neighbours(rank: int, size: int) -> list[int]:
    """Ranks whose number differs from `rank` in one binary digit; the graph is connected for every `size`."""
    neighbours = (rank ^ (1 << digit) for digit in range((size - 1).bit_length()))
    return [neighbour for neighbour in neighbours if neighbour < size]
