"""Waiting asleep: what is asked, what is done meanwhile, and how long the pauses are."""

from __future__ import annotations

import itertools

import pytest

from pyramidai_mpi.sched import waiting


@pytest.fixture
def pauses(monkeypatch):
    """Seconds of each pause; the clock goes on by them alone."""
    made = []
    monkeypatch.setattr(waiting.time, "sleep", made.append)
    monkeypatch.setattr(waiting.time, "perf_counter", lambda: sum(made))
    return made


def test_what_is_done_is_not_waited_for(pauses):
    waiting.wait_until(lambda: True, meanwhile=pytest.fail)
    assert pauses == []


def test_pauses_are_a_tenth_of_the_wait_from_50_us_to_5_ms(pauses):
    waiting.wait_until(lambda: sum(pauses) > 0.2)
    waited = list(itertools.accumulate(pauses, initial=0.0))[:-1]
    assert pauses == [min(max(50e-6, 0.1 * seconds), 5e-3) for seconds in waited]
    assert pauses[0] == 50e-6
    assert pauses[-1] == 5e-3


def test_something_else_is_done_before_each_pause(pauses):
    work = iter("abc")
    done = []
    waiting.wait_until(lambda: len(done) == 3, meanwhile=lambda: done.append((next(work), len(pauses))))
    assert done == [("a", 0), ("b", 1), ("c", 2)]


def test_what_fails_meanwhile_ends_the_wait(pauses):
    with pytest.raises(ZeroDivisionError):
        waiting.wait_until(lambda: False, meanwhile=lambda: 1 // 0)
