"""The check of the promise."""

from __future__ import annotations

from bench.paper.guarantee import Check, check_guarantee
from tests.bench.small_cohort import small_cohort


def test_the_promise_holds_on_a_small_cohort() -> None:
    found = check_guarantee(small_cohort(slides=30).slides, 0.2, paths=4, splits=25)
    assert found.splits == 100
    assert found.miss_rate > 0
    assert found.holds


def test_a_promise_is_broken_beyond_two_standard_errors() -> None:
    assert Check(0.1, 500, 0.119, 0.01, 0.5, 2.0).holds
    assert not Check(0.1, 500, 0.121, 0.01, 0.5, 2.0).holds
