"""Which tasks a rank takes next, and in what numbers they are taken and given."""

from __future__ import annotations

import numpy as np
import pytest

from pyramidai_mpi.sched.messages import Lifeline, StealRequest
from pyramidai_mpi.sched.policy import RULES, Policy
from pyramidai_mpi.sched.workload import Batches
from tests.sched.states import CheckedState, arrive, compute, numbers, rank, sent


@pytest.mark.parametrize(
    ("policy", "size", "held", "batch"),
    [
        pytest.param(Policy.STEAL_HALF, 4, 40, 8, id="full when there is plenty"),
        pytest.param(Policy.STEAL_HALF, 4, 9, 3, id="a quarter, rounded up, when work is scarce"),
        pytest.param(Policy.STEAL_HALF, 4, 1, 1, id="the last task"),
        pytest.param(Policy.STEAL_HALF, 1, 9, 8, id="full when nobody else is there"),
        pytest.param(Policy.STEAL_ONE, 4, 9, 8, id="always full in the paper"),
        pytest.param(Policy.STATIC, 4, 9, 8, id="always full without stealing"),
    ],
)
def test_a_batch_is(policy, size, held, batch):
    state = rank(policy, number=0, size=size, held=held, batch_size=8)
    assert numbers(state.take_batch()) == list(range(held))[-batch:]


@pytest.mark.parametrize(("size", "taken"), [(1, 32), (2, 16), (3, 11), (8, 4), (48, 4)])
def test_a_batch_leaves_a_part_of_the_queue_to_each_of_up_to_seven_others(size, taken):
    assert len(rank(number=0, size=size, held=32, batch_size=100).take_batch()) == taken


@pytest.mark.parametrize(
    ("held", "taken"),
    [
        pytest.param(3, 3, id="fewer than a grain: all of them, they take as long"),
        pytest.param(32, 4, id="a grain"),
        pytest.param(33, 8, id="whole grains"),
        pytest.param(999, 10, id="never more than the batch size"),
    ],
)
def test_a_batch_is_of_whole_grains_where_it_can_be(held, taken):
    assert len(rank(size=99, held=held, batch_size=10, grain=4).take_batch()) == taken


@pytest.mark.parametrize(
    ("held", "given"),
    [
        pytest.param(9, [0, 1, 2, 3, 4, 5, 6, 7], id="half, rounded up"),
        pytest.param(2, [0, 1], id="all, if they are less than a grain"),
    ],
)
def test_a_victim_with_a_batch_in_hand_gives_whole_grains(held, given):
    state = rank(held=held + 4, batch_size=4, grain=4)
    compute(state, leaving=held)
    arrive(state, 2, StealRequest(9))
    assert sent(state) == [(2, given)]
    arrive(state, 3, Lifeline(wanted=True))
    assert sent(state) == ([(3, [8])] if held == 9 else [])


def levels_of(size, *, roots, children, last=()):
    """Kinds of a rank's second batch, as foreseen and as taken; its first was of roots, kind 1, and left children."""
    task = np.dtype([("kind", "u1")])
    batches = Batches(task, 4, "kind", comes_last=lambda kind: kind in last)
    state = CheckedState(0, size, RULES[Policy.STEAL_HALF], batches, np.full(roots, 1, task))
    state.take_batch()
    state.finish_batch(np.full(children, 2, task))
    return state.peek_batch()["kind"].tolist(), state.take_batch()["kind"].tolist()


@pytest.mark.parametrize(
    ("size", "roots", "children", "last", "kind"),
    [
        pytest.param(2, 3, 5, (), 1, id="a short queue is worked off from the roots"),
        pytest.param(2, 3, 16, (), 2, id="a long one from the leaves"),
        pytest.param(1, 5, 5, (), 2, id="alone always from the leaves, as nobody waits at the end"),
        pytest.param(2, 3, 5, (1,), 2, id="what comes last waits, though it is a root"),
        pytest.param(2, 3, 0, (1,), 1, id="until there is nothing else"),
    ],
)
def test_the_next_batch_is_of(size, roots, children, last, kind):
    seen, taken = levels_of(size, roots=roots, children=children, last=last)
    assert seen == taken
    assert set(taken) == {kind}
