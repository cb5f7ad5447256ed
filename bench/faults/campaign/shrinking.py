"""A failing plan made smaller while it still fails: fewer faults, fewer ranks, fewer slides, plain surroundings."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

from bench.faults.campaign.faults import KINDS, LAUNCHER

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from bench.faults.campaign.plans import Plan

FEWEST_RANKS = 2


def smaller(plan: Plan, *, fewest_slides: int) -> Iterator[Plan]:
    """Plans that are one step smaller, those that save most first."""
    for index in range(len(plan.faults)):
        yield replace(plan, faults=plan.faults[:index] + plan.faults[index + 1 :])
    if plan.habit:
        yield replace(plan, habit="")
    if plan.over_hosts and not any(KINDS[fault.kind].is_of_hosts for fault in plan.faults):
        yield replace(plan, over_hosts=False)
    if plan.slides > fewest_slides:
        yield replace(plan, slides=plan.slides - 1)
    if plan.ranks > FEWEST_RANKS and not plan.over_hosts:
        ranks = plan.ranks - 1
        kept = tuple(
            replace(
                fault,
                victims=tuple(
                    sorted({min(victim, ranks - 1) for victim in fault.victims}, key=lambda v: v == LAUNCHER)
                ),
            )
            for fault in plan.faults
        )
        yield replace(plan, ranks=ranks, faults=kept)
    for index, fault in enumerate(plan.faults):
        if fault.runs > 2:
            less = replace(fault, runs=2)
            if fault.kind == "several runs at once":
                yield replace(plan, faults=(*plan.faults[:index], less, *plan.faults[index + 1 :]))


def shrunk(plan: Plan, fails: Callable[[Plan], bool], *, fewest_slides: int, tries: int = 2) -> Plan:
    """The smallest plan on the way that still fails.

    Parameters
    ----------
    fails
        Whether a plan does; as moments of a machine differ, each is asked so often.
    fewest_slides
        Of its kind of work.
    """
    going_on = True
    while going_on:
        going_on = False
        for one in smaller(plan, fewest_slides=fewest_slides):
            if any(fails(one) for _ in range(tries)):
                plan, going_on = one, True
                break
    return plan
