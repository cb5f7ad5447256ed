"""How many ranks a cohort needs to be done in time."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from pyramidai_mpi.simulate.dealing import Dealing
from pyramidai_mpi.simulate.study import Balancing, Row, Setting, Work, row_of

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence


@dataclass(frozen=True)
class Plan:
    """Answer to "how many ranks are done within the limit".

    Attributes
    ----------
    limit_s
        Seconds that are allowed.
    serial_s
        Seconds of them that no rank shortens.
    answer
        The fewest ranks that are in time, as simulated; None when none of those tried is.
    at_least
        Fewer ranks than these cannot be in time, however the work is shared; None when even the most that were allowed
        cannot.
    tried
        All that was simulated, by ranks.
    """

    limit_s: float
    serial_s: float
    answer: Row | None
    at_least: int | None
    tried: tuple[Row, ...]


def plan_ranks(
    works: Sequence[Work],
    limit_s: float,
    setting: Setting,
    balancing: Balancing = Balancing.STEAL_HALF,
    dealing: Dealing = Dealing.ROUND_ROBIN,
    *,
    serial_s: float = 0.0,
    most: int = 4096,
) -> Plan:
    """Search the fewest ranks that do `works` within `limit_s` seconds.

    No sharing is better than the oracle's, so the search begins at its number of ranks and goes up in steps that
    double, then halves the last step. It takes for granted that more ranks are not slower.

    Parameters
    ----------
    works
        Done one after the other.
    limit_s
        Seconds from start to end.
    setting
        Costs, network and seed.
    balancing, dealing
        How the work is shared.
    serial_s
        Seconds that are spent whatever the number of ranks.
    most
        Ranks that are tried at most.
    """
    allowed = limit_s - serial_s
    tried: dict[int, Row] = {}

    def could_be_in_time(ranks: int) -> bool:
        return row_of(works, ranks, Balancing.ORACLE, dealing, setting).makespan_s <= allowed

    def is_in_time(ranks: int) -> bool:
        if ranks not in tried:
            tried[ranks] = row_of(works, ranks, balancing, dealing, setting)
        return tried[ranks].makespan_s <= allowed

    def plan(answer: Row | None, at_least: int | None) -> Plan:
        return Plan(limit_s, serial_s, answer, at_least, tuple(tried[n] for n in sorted(tried)))

    if not could_be_in_time(most):
        return plan(None, None)
    at_least = _fewest(could_be_in_time, 0, most)
    failing, ranks, step = at_least - 1, at_least, 1
    while not is_in_time(ranks):
        if ranks == most:
            return plan(None, at_least)
        failing, ranks, step = ranks, min(ranks + step, most), 2 * step
    return plan(tried[_fewest(is_in_time, failing, ranks)], at_least)


def _fewest(is_enough: Callable[[int], bool], failing: int, enough: int) -> int:
    """Smallest number above `failing`, and up to `enough`, that is enough."""
    while enough - failing > 1:
        middle = (failing + enough) // 2
        if is_enough(middle):
            enough = middle
        else:
            failing = middle
    return enough
