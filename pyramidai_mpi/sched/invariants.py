"""What must hold of a rank's state between two events, whatever has happened."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence


def claims_about(state: Any, neighbours: Sequence[int]) -> Iterator[tuple[str, bool]]:
    """Claims about a `RankState` in words, and whether each holds.

    Parameters
    ----------
    state
        A `RankState`, whose module imports this one.
    neighbours
        Ranks that its lifelines may hang on.
    """
    counts, rules = state.counts(), state.rules
    others = set(range(state.size)) - {state.rank}
    in_hand, queued = state._in_hand, counts.queued
    victims, lifelines, waiting = list(state._victims), state._lifelines, state._waiting
    takes_no_work = state._ending.stopping or state.finished

    came, went = counts.created + state.tasks_stolen, counts.completed + in_hand + queued + state.tasks_given
    yield "no task is lost or made", came == went
    yield "a batch is of 0 to batch_size tasks", 0 <= in_hand <= state._batches.size
    yield "a worker that waits computes nothing", not (state._worker_waits and in_hand)
    yield "a worker waits for no tasks that are there", not (state._worker_waits and queued) or takes_no_work
    yield "at the end nothing is computed", not (state.finished and in_hand)
    yield "at the end nothing is left, but for a stop", not (state.finished and queued) or state.stopped

    yield "victims are other ranks, in order", victims == sorted(others.intersection(victims))
    yield "without stealing nobody is asked", rules.steals or not (victims or state.requests_sent or lifelines)
    yield "the open request is the last one", state._request in {0, state.requests_sent}
    yield "an open request is to another rank", not state._request or state._victim in others
    yield "silent ranks are others", state._silent <= others
    yield "rests have their bounds", state._rest_s > 0 and state._failures >= 0

    yield "my lifelines hang on neighbours", set(neighbours).issuperset(lifelines if rules.lifelines else ())
    yield "without lifelines none hangs", rules.lifelines or not lifelines
    yield "a lifeline hangs once", len(set(lifelines)) == len(lifelines) and len(set(waiting)) == len(waiting)
    yield "lifelines are held for other ranks", others.issuperset(waiting)
    may_postpone = in_hand > 0 and not rules.answers_while_computing
    yield "a request is postponed only during a batch", may_postpone or not state._postponed
