"""What a run says on the way."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Progress:
    """How far the whole cluster is; some milliseconds old.

    Attributes
    ----------
    done : int
        Tasks expanded.
    known : int
        Tasks created so far, roots included; grows until the end.
    idle_ranks : int
        Ranks that compute nothing and hold nothing.
    ranks : int
        All ranks.
    tally : tuple of int
        What the workload counts of its own, summed over all ranks; see `workload.Tallies`.
    """

    done: int
    known: int
    idle_ranks: int
    ranks: int
    tally: tuple[int, ...] = ()
