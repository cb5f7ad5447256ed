"""The queue against a plain list, and its order over several values."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pyramidai_mpi.sched.task_queue import TaskQueue

TASK = np.dtype([("level", "i1"), ("number", "<i4")])


def tasks(*pairs: tuple[int, int]) -> np.ndarray:
    return np.array(list(pairs), TASK)


def pairs(array: np.ndarray) -> list[tuple[int, int]]:
    assert array.dtype == TASK
    return array.tolist()


@given(
    st.lists(
        st.one_of(
            st.tuples(st.just("push"), st.lists(st.integers(0, 99), max_size=9)),
            st.tuples(st.sampled_from(["batch", "oldest"]), st.integers(1, 7)),
            st.tuples(st.just("leaf"), st.just(1)),
        )
    )
)
def test_with_one_value_it_is_a_double_ended_list(operations):
    queue, model = TaskQueue(TASK, None), []
    for name, argument in operations:
        if name == "push":
            queue.push(tasks(*((0, n) for n in argument)))
            model += argument
        elif name == "oldest":
            assert [n for _, n in pairs(queue.take_oldest(argument))] == model[:argument]
            del model[:argument]
        elif name == "leaf":
            assert [n for _, n in pairs(queue.take_leaf())] == model[-1:]
            del model[-1:]
        elif model:
            assert [n for _, n in pairs(queue.take_batch(argument))] == model[-argument:]
            del model[-argument:]
        assert len(queue) == len(model)


@given(st.lists(st.lists(st.tuples(st.integers(0, 3), st.integers(0, 99)), max_size=9)), st.randoms())
def test_with_many_values_nothing_is_lost_or_mixed(pushes, dice):
    queue, model = TaskQueue(TASK, "level"), []
    for push in pushes:
        queue.push(tasks(*push))
        model += push
        if model and dice.random() < 0.5:
            batch = pairs(queue.take_batch(dice.randint(1, 5)))
            assert len({level for level, _ in batch}) == 1
        else:
            batch = pairs(queue.take_oldest(dice.randint(0, 5)))
        for task in batch:
            model.remove(task)
    assert sorted(pairs(queue.take_oldest(len(queue)))) == sorted(model)
    assert len(queue) == 0


def queue_of_three_levels() -> TaskQueue:
    """Level 2: 0..9, level 1: 10..13, level 0: 20, 21; the levels' depth is known from the pushes."""
    queue = TaskQueue(TASK, "level")
    queue.push(tasks(*((2, n) for n in range(11))))
    queue.take_batch(1)
    queue.push_children(tasks((1, 10), (1, 11), (1, 12), (1, 13), (1, 14)))
    assert pairs(queue.take_batch(1)) == [(1, 14)]
    queue.push_children(tasks((0, 20), (0, 21)))
    return queue


@pytest.mark.parametrize(
    ("limit", "expected"),
    [
        pytest.param(2, [(0, 20), (0, 21)], id="the deepest level that fills the batch"),
        pytest.param(3, [(1, 11), (1, 12), (1, 13)], id="not a deeper level with too few"),
        pytest.param(20, [(2, n) for n in range(10)], id="the largest when none has enough"),
    ],
)
def test_a_batch_comes_from(limit, expected):
    assert pairs(queue_of_three_levels().take_batch(limit)) == expected


def test_a_shallow_batch_comes_from_the_roots():
    queue = queue_of_three_levels()
    assert pairs(queue.peek_batch(2, shallow=True)) == [(2, 8), (2, 9)]
    assert pairs(queue.take_batch(99, shallow=True)) == [(2, n) for n in range(10)]
    assert pairs(queue.take_batch(1, shallow=True)) == [(1, 13)]


@pytest.mark.parametrize(
    ("count", "expected"),
    [
        pytest.param(0, [], id="nothing"),
        pytest.param(3, [(2, 0), (2, 1), (2, 2)], id="roots first"),
        pytest.param(12, [*((2, n) for n in range(10)), (1, 10), (1, 11)], id="then their children"),
        pytest.param(
            99,
            [*((2, n) for n in range(10)), (1, 10), (1, 11), (1, 12), (1, 13), (0, 20), (0, 21)],
            id="no more than there are",
        ),
    ],
)
def test_thieves_get(count, expected):
    assert pairs(queue_of_three_levels().take_oldest(count)) == expected


def test_the_leaf_is_the_newest_task_of_the_deepest_level():
    assert pairs(queue_of_three_levels().take_leaf()) == [(0, 21)]
    assert pairs(TaskQueue(TASK, "level").take_leaf()) == []


def test_a_level_that_comes_back_keeps_its_place():
    queue = queue_of_three_levels()
    queue.take_batch(4)  # all of level 1
    queue.push(tasks((1, 15)))
    queue.take_oldest(10)
    assert pairs(queue.take_oldest(1)) == [(1, 15)]


def test_what_is_taken_is_a_writable_copy():
    roots = tasks((0, 1), (0, 2))
    queue = TaskQueue(TASK, None)
    queue.push(roots)
    roots["number"] = 9
    batch = queue.take_batch(1)
    batch["number"] = 7
    assert pairs(queue.take_oldest(1)) == [(0, 1)]


def test_a_queue_of_a_million_tasks_needs_little_more_than_their_records():
    queue = TaskQueue(TASK, None)
    chunk = np.zeros(1000, TASK)
    for _ in range(1000):
        queue.push(chunk)
    held = sum(stack.__sizeof__() for stack in queue._stacks.values())
    assert held <= 1.3 * 1_000_000 * TASK.itemsize
