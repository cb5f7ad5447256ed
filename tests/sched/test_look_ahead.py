"""Preparing goes on beside computing, costs a thief nothing, and is handed to whoever expands what was prepared."""

from __future__ import annotations

import threading
import weakref

import numpy as np
import pytest

from pyramidai_mpi.sched import Policy
from pyramidai_mpi.sched.look_ahead import PORTION, STORED_BATCHES
from tests.sched.test_loop import round_robin, run_in_threads
from tests.sched.uts import S4_NODES, TreeSearch, s4_roots

PATIENCE_S = 20
"""What a test waits for comes at once, or never."""


class Prepared:
    """Stands for what a task needs."""

    def __init__(self, task):
        self.key = task.tobytes()


class PreparingSearch(TreeSearch):
    """Search of S4 that checks that it is handed its own preparations."""

    def __init__(self, **options):
        super().__init__(**options)
        self.handed = self.missed = 0

    def prepare(self, tasks):
        return [Prepared(task) for task in tasks]

    def expand(self, nodes, prepared=None):
        assert len(prepared) == len(nodes)
        for node, found in zip(nodes, prepared, strict=True):
            if found is None:
                self.missed += 1
            else:
                assert found.key == node.tobytes()
                self.handed += 1
        return super().expand(nodes)


class Flat:
    """Numbered tasks without children."""

    dtype = np.dtype("<i4")

    def __init__(self, batch_size=2):
        self.batch_size = batch_size
        self.done = []
        self.preparing = []

    def prepare(self, tasks):
        self.preparing.append(tasks.tolist())
        return [f"prepared {task}" for task in tasks]

    def expand(self, tasks, prepared=None):
        self.done += tasks.tolist()
        return tasks[:0]


def numbers(count):
    return np.arange(count, dtype=Flat.dtype)


@pytest.mark.parametrize("policy", Policy)
@pytest.mark.parametrize("size", [1, 2, 3, 5])
def test_the_whole_tree_is_searched_once_with_preparation(size, policy):
    works = [PreparingSearch() for _ in range(size)]
    ends = run_in_threads(works, round_robin(size), policy)
    assert all(not isinstance(end, BaseException) for end in ends), ends
    assert 1 + sum(work.nodes for work in works) == S4_NODES
    assert [work.handed + work.missed for work in works] == [work.nodes for work in works]


def test_what_is_prepared_is_the_next_batch_and_is_handed_to_it():
    class Work(Flat):
        def __init__(self):
            super().__init__(batch_size=3)
            self.handed = []
            self.prepares = threading.Condition()

        def prepare(self, tasks):
            with self.prepares:
                self.prepares.notify_all()
                return super().prepare(tasks)

        def expand(self, tasks, prepared=None):
            following = [int(tasks[0]) - 3 + n for n in range(3)]
            with self.prepares:
                assert following[0] < 0 or self.prepares.wait_for(lambda: following in self.preparing, PATIENCE_S)
            self.handed.append(prepared)
            return super().expand(tasks)

    work = Work()
    run_in_threads([work], [numbers(12)])
    assert work.done == [9, 10, 11, 6, 7, 8, 3, 4, 5, 0, 1, 2]
    assert work.handed[1:] == [[f"prepared {first + n}" for n in range(3)] for first in (6, 3, 0)]


@pytest.mark.parametrize(("gives", "largest"), [(None, 16), ("pixels", PORTION)])
def test_portions_are_whole_batches_where_nothing_comes_of_preparing(gives, largest):
    class Work(Flat):
        def __init__(self):
            super().__init__(batch_size=16)
            self.prepares = threading.Condition()

        def prepare(self, tasks):
            with self.prepares:
                super().prepare(tasks)
                self.prepares.notify_all()
            return [gives] * len(tasks)

        def expand(self, tasks, prepared=None):
            first = int(tasks[0]) - 16  # of the next batch, whose last portion is waited for
            with self.prepares:
                assert first < 0 or self.prepares.wait_for(
                    lambda: any(first + 15 in p for p in self.preparing), PATIENCE_S
                )
            return super().expand(tasks)

    work = Work()
    run_in_threads([work], [numbers(96)])
    assert {len(portion) for portion in work.preparing if portion[-1] < 48} == {largest}


def test_preparing_and_expanding_happen_at_the_same_time():
    computing, prepared_meanwhile = threading.Event(), threading.Event()

    class Work(Flat):
        def prepare(self, tasks):
            if tasks[-1] < 18:  # not of the first batch, which may be prepared before it is taken
                assert computing.wait(PATIENCE_S)
                prepared_meanwhile.set()
            return super().prepare(tasks)

        def expand(self, tasks, prepared=None):
            computing.set()
            assert prepared_meanwhile.wait(PATIENCE_S)
            return super().expand(tasks)

    work = Work()
    run_in_threads([work], [numbers(20)])
    assert len(work.done) == 20


def test_tasks_being_prepared_can_be_stolen():
    all_stolen = threading.Event()

    class Victim(Flat):
        def prepare(self, tasks):
            prepared = super().prepare(tasks)
            assert all_stolen.wait(PATIENCE_S)
            return prepared

        def expand(self, tasks, prepared=None):
            assert all_stolen.wait(PATIENCE_S)
            return super().expand(tasks)

    class Thief(Flat):
        def expand(self, tasks, prepared=None):
            children = super().expand(tasks)
            if len(self.done) == 18:
                all_stolen.set()
            return children

    victim, thief = Victim(), Thief()
    run_in_threads([victim, thief], [numbers(20), numbers(0)])
    assert sorted(victim.done + thief.done) == list(range(20))
    assert len(victim.done) <= 2  # of the last two, one may be stolen while the other is computed
    assert victim.preparing, "nothing was prepared, so nothing was shown"


@pytest.mark.parametrize("size", [1, 3])
def test_an_exception_in_prepare_ends_the_job_like_one_in_expand(size, capfd):
    class Work(Flat):
        def __init__(self):
            super().__init__()
            self.has_begun = threading.Event()

        def prepare(self, tasks):
            self.has_begun.set()
            raise RuntimeError("the disk is on fire")

        def expand(self, tasks, prepared=None):
            assert self.has_begun.wait(PATIENCE_S)
            return tasks  # for ever, were it not for the failure

    ends = run_in_threads([Work() for _ in range(size)], [numbers(40) for _ in range(size)])
    assert all(isinstance(end, BaseException) for end in ends)
    if size == 1:
        assert "on fire" in str(ends[0])
    else:
        assert "the disk is on fire" in capfd.readouterr().err


def test_a_result_too_few_is_a_bug_that_is_named():
    class Work(Flat):
        def prepare(self, tasks):
            return []

        def expand(self, tasks, prepared=None):
            return tasks

    (end,) = run_in_threads([Work()], [numbers(9)])
    assert isinstance(end, ValueError)
    assert "prepare() returned 0 results" in str(end)


def test_few_results_are_kept_however_many_tasks_there_are():
    alive = weakref.WeakSet()

    class Work(PreparingSearch):
        most_alive = 0

        def prepare(self, tasks):
            results = super().prepare(tasks)
            alive.update(results)
            self.most_alive = max(self.most_alive, len(alive))
            return results

    work = Work(batch_size=8)
    run_in_threads([work], [s4_roots()])
    assert 1 + work.nodes == S4_NODES
    # the store, the batch in hand, and a portion on the way in
    assert 0 < work.most_alive <= STORED_BATCHES * 8 + 8 + 2 * PORTION
