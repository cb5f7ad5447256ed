"""What waves may conclude, and that they reach every rank."""

from __future__ import annotations

import pytest

from pyramidai_mpi.base.errors import InternalError
from pyramidai_mpi.sched.messages import Counts
from pyramidai_mpi.sched.termination import Census, Verdict, judge


def counts(created: int, completed: int, queued: int = 0, frozen: int = 0) -> Counts:
    return Counts(created, completed, queued, frozen=frozen)


@pytest.mark.parametrize(
    ("previous", "now", "verdict"),
    [
        pytest.param(None, counts(9, 5), Verdict.WORK_IS_LEFT, id="open tasks are work"),
        pytest.param(None, counts(9, 9), Verdict.LOOKS_EMPTY, id="one wave never settles it"),
        pytest.param(None, counts(0, 0), Verdict.LOOKS_EMPTY, id="not even when there never was a task"),
        pytest.param(counts(9, 9), counts(9, 9), Verdict.NOTHING_IS_LEFT, id="two equal waves do"),
        pytest.param(counts(0, 0), counts(0, 0), Verdict.NOTHING_IS_LEFT, id="without any task too"),
        pytest.param(
            counts(9, 9),
            counts(10, 10),
            Verdict.LOOKS_EMPTY,
            id="a task was created behind the first wave and completed ahead of it, another is open",
        ),
        pytest.param(
            counts(10, 9), counts(9, 9), Verdict.NOTHING_IS_LEFT, id="what the first wave created does not matter"
        ),
        pytest.param(
            counts(9, 8), counts(9, 9), Verdict.LOOKS_EMPTY, id="the last task may have been done between the waves"
        ),
        pytest.param(
            None, counts(9, 5, 4, frozen=3), Verdict.ALL_FROZEN, id="all stand still, all tasks are in queues"
        ),
        pytest.param(None, counts(9, 5, 3, frozen=3), Verdict.WORK_IS_LEFT, id="frozen, but a task is in flight"),
        pytest.param(None, counts(9, 5, 4, frozen=2), Verdict.WORK_IS_LEFT, id="one rank still computes"),
        pytest.param(None, counts(9, 9, 0, frozen=3), Verdict.LOOKS_EMPTY, id="a stop that came too late"),
    ],
)
def test_verdict(previous, now, verdict):
    assert judge(previous, now, 3) is verdict


@pytest.mark.parametrize("size", [1, 2, 8, 9, 10, 73, 74, 500])
def test_the_tree_reaches_every_rank_once(size):
    parents = {rank: Census(rank, size).parent for rank in range(size)}
    asked = [(rank, child) for rank in range(size) for child in Census(rank, size).children]
    assert sorted(child for _, child in asked) == list(range(1, size))
    assert all(parents[child] == rank for rank, child in asked)
    assert parents[0] is None


def test_the_tree_is_shallow():
    def hops(rank: int) -> int:
        parent = Census(rank, 4096).parent
        return 0 if parent is None else 1 + hops(parent)

    assert max(hops(rank) for rank in range(48)) == 2
    assert max(hops(rank) for rank in range(4096)) == 4


def test_a_wave_adds_up_the_subtree():
    census = Census(0, 4)
    census.begin(1)
    for child in census.children:
        assert not census.is_complete
        census.add(child, 1, Counts(created=child, idle=1))
    assert census.is_complete
    assert census.total(Counts(created=10, queued=2)) == Counts(created=16, queued=2, idle=3)


def test_a_wave_adds_up_what_the_workload_counts_also_where_a_rank_has_not_begun_to():
    census = Census(0, 4)
    census.begin(1)
    for child, tally in zip(census.children, [(1, 20), (), (3, 40)], strict=True):
        census.add(child, 1, Counts(tally=tally))
    assert census.total(Counts(tally=(100, 200))).tally == (104, 260)


def test_answers_out_of_turn_are_bugs():
    census = Census(0, 4)
    census.begin(1)
    with pytest.raises(InternalError, match="out of turn"):
        census.add(1, 2, Counts())
    census.add(1, 1, Counts())
    with pytest.raises(InternalError, match="out of turn"):
        census.add(1, 1, Counts())
    with pytest.raises(InternalError, match="begins while"):
        census.begin(2)
