"""Whole clusters in one process, in every order that a seed can think of."""

from __future__ import annotations

from collections import Counter

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pyramidai_mpi.base.errors import InternalError
from pyramidai_mpi.sched import Policy, deal_round_robin
from pyramidai_mpi.testing.memory_cluster import play
from tests.sched.uts import S4, S4_DEPTH, S4_LEAVES, S4_NODES, S4_SUM, TreeSearch, s4_roots

NUMBERED = np.dtype([("kind", "u1"), ("number", "<u8")])


class NumberedTree:
    """Node n has children n*b+1 ... n*b+k, k by a hash of n and the shape; every expansion is recorded."""

    dtype = NUMBERED

    def __init__(
        self, shape: int, last: int, batch_size: int, by_kind: bool, record: Counter[int], grain: int, put_off: int
    ) -> None:
        self.shape, self.last, self.batch_size, self.record = shape, last, batch_size, record
        self.batch_by = "kind" if by_kind else None
        self.batch_grain, self.put_off = grain, put_off

    def comes_last(self, value: object) -> bool:
        return value == self.put_off

    def children_of(self, number: int) -> list[int]:
        count = (number * 2654435761 + self.shape * 40503) % 65536 * 5 // 65536
        return [child for child in range(4 * number + 1, 4 * number + 1 + min(count, 4)) if child <= self.last]

    def tasks(self, numbers: list[int]) -> np.ndarray:
        made = np.empty(len(numbers), NUMBERED)
        made["number"] = numbers
        made["kind"] = [number.bit_length() // 2 % 3 for number in numbers]
        return made

    def expand(self, tasks: np.ndarray) -> np.ndarray:
        numbers = tasks["number"].tolist()
        assert 1 <= len(numbers) <= self.batch_size
        assert self.batch_by is None or len(set(tasks["kind"].tolist())) == 1
        self.record.update(numbers)
        return self.tasks([child for number in numbers for child in self.children_of(number)])

    def all_below(self, roots: list[int]) -> list[int]:
        found, queue = [], list(roots)
        while queue:
            number = queue.pop()
            found.append(number)
            queue += self.children_of(number)
        return found


@st.composite
def clusters(draw: st.DrawFn):
    """Workloads and shares for 1 to 9 ranks; roots round-robin, all on one rank, or none at all."""
    size = draw(st.integers(1, 9))
    record: Counter[int] = Counter()
    tree = NumberedTree(
        draw(st.integers(0, 999)),
        draw(st.integers(0, 3000)),
        draw(st.integers(1, 9)),
        draw(st.booleans()),
        record,
        draw(st.integers(1, 5)),
        draw(st.integers(0, 3)),
    )
    roots = list(range(1, draw(st.integers(0, 12)) + 1))
    roots = [root for root in roots if not any(root in tree.all_below([other])[1:] for other in roots)]
    if draw(st.booleans()):
        shares = [deal_round_robin(tree.tasks(roots), rank, size) for rank in range(size)]
    else:
        holder = draw(st.integers(0, size - 1))
        shares = [tree.tasks(roots if rank == holder else []) for rank in range(size)]
    return tree, roots, [tree] * size, shares


policies = st.sampled_from(Policy)
seeds = st.integers(0, 2**32)


@settings(max_examples=300, deadline=None)
@given(clusters(), policies, seeds)
def test_every_task_is_expanded_once_and_the_end_is_found_neither_early_nor_never(cluster, policy, seed):
    tree, roots, workloads, shares = cluster
    played = play(workloads, shares, policy, seed)  # itself raises when a rank ends early or none does
    assert tree.record == Counter(tree.all_below(roots))
    assert sum(state.tasks_done for state in played.states) == tree.record.total()
    assert not any(len(left) for left in played.unfinished)
    assert not any(state.stopped for state in played.states)


@settings(max_examples=200, deadline=None)
@given(clusters(), policies, seeds, st.integers(0, 400))
def test_a_stop_loses_no_task_and_all_ranks_agree_on_it(cluster, policy, seed, step):
    tree, roots, workloads, shares = cluster
    played = play(workloads, shares, policy, seed, stop_at_step=step)
    left = [number for tasks in played.unfinished for number in tasks["number"].tolist()]
    assert max(tree.record.values(), default=1) == 1
    done = set(tree.record)
    assert len(left) == len(set(left))
    assert not done & set(left)
    assert Counter(list(done) + tree.all_below(left)) == Counter(tree.all_below(roots))
    assert {state.stopped for state in played.states} == {bool(left)}


@pytest.mark.parametrize("policy", Policy)
@pytest.mark.parametrize("size", [1, 5, 64])
def test_the_tree_s4_has_its_published_size_on_any_number_of_ranks(policy, size):
    searches = [TreeSearch(by_depth=True) for _ in range(size)]
    shares = [deal_round_robin(s4_roots(), rank, size) for rank in range(size)]
    play(searches, shares, policy, seed=size)
    assert 1 + sum(search.nodes for search in searches) == S4_NODES
    assert sum(search.found.leaves for search in searches) == S4_LEAVES
    assert max(search.found.depth for search in searches) == S4_DEPTH
    root = int.from_bytes(S4.root()[:8], "big")
    assert (root + sum(search.found.checksum for search in searches)) % 2**64 == S4_SUM


def test_one_seed_gives_one_run():
    def account(seed):
        searches = [TreeSearch() for _ in range(7)]
        shares = [deal_round_robin(s4_roots(), rank, 7) for rank in range(7)]
        played = play(searches, shares, seed=seed)
        return played.steps, played.messages, [search.nodes for search in searches]

    assert account(3) == account(3)
    assert account(3) != account(4)


def test_half_the_queue_spreads_roots_of_one_rank_over_hundreds():
    size = 300
    searches = [TreeSearch(batch_size=4) for _ in range(size)]
    shares = [s4_roots() if rank == 17 else s4_roots()[:0] for rank in range(size)]
    play(searches, shares, seed=1)
    assert 1 + sum(search.nodes for search in searches) == S4_NODES
    assert sum(search.nodes > 0 for search in searches) > size / 2


def test_without_stealing_each_rank_does_what_grew_from_its_roots():
    searches = [TreeSearch() for _ in range(3)]
    shares = [s4_roots(), s4_roots()[:0], s4_roots()[:0]]
    played = play(searches, shares, Policy.STATIC)
    assert [search.nodes for search in searches] == [S4_NODES - 1, 0, 0]
    assert sum(state.tasks_stolen for state in played.states) == 0


def test_a_run_that_cannot_end_is_called_hung():
    search = TreeSearch()
    with pytest.raises(InternalError, match="no end after 10") as caught:
        play([search], [s4_roots()], most_steps=10)
    assert "batch taken, tasks 16" in caught.value.__notes__[0]
