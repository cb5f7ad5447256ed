"""Waiting asleep: what is asked, what is done meanwhile, and how long the pauses are."""

from __future__ import annotations

import itertools

import pytest
from hypothesis import given
from hypothesis import strategies as st

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


def pause_of(*, steals=True, computing=True, asked_s=None, unwanted_s=100.0, batch_s=1.0):
    return waiting.longest_pause(
        steals=steals, computing=computing, asked_s=asked_s, unwanted_s=unwanted_s, batch_s=batch_s
    )


seconds = st.floats(0, 1e6)


@given(seconds, seconds)
def test_a_computing_rank_looks_the_more_often_the_later_it_was_wanted_and_the_shorter_its_batches(unwanted_s, batch_s):
    pause = pause_of(unwanted_s=unwanted_s, batch_s=batch_s)
    assert 0.8e-3 <= pause <= 50e-3
    assert pause == 0.8e-3 or pause <= unwanted_s / 16
    assert pause <= max(batch_s / 8, 10e-3)
    assert pause >= min(max(unwanted_s / 32, 0.8e-3), max(batch_s / 8, 10e-3), 50e-3)


def test_a_thief_that_comes_soon_after_another_waits_less_than_1_ms_and_the_first_of_them_50_ms_at_most():
    assert pause_of(unwanted_s=-1e-6) == pause_of(unwanted_s=0.0) == pause_of(unwanted_s=0.025) == 0.8e-3
    assert pause_of(unwanted_s=0.1) == 3.2e-3
    assert pause_of(unwanted_s=1.0) == 0.05
    assert pause_of(unwanted_s=1.0, batch_s=0.16) == 0.02
    assert pause_of(unwanted_s=1.0, batch_s=0.0) == 0.01


@given(st.booleans(), st.floats(0, 0.0199))
def test_who_waits_for_an_answer_looks_often_though_nobody_wants_work(computing, asked_s):
    pause = pause_of(computing=computing, asked_s=asked_s)
    assert pause == 0.4e-3 or asked_s / 16 <= pause <= asked_s / 8


def test_an_answer_that_is_late_comes_after_a_batch_and_is_not_looked_for():
    assert pause_of(asked_s=0.03) == 0.05
    assert pause_of(asked_s=0.03, computing=False) == 5e-3


def test_where_nobody_steals_a_computing_rank_looks_seldom():
    assert pause_of(unwanted_s=0.0, steals=False) == 0.05
