"""Zoom in at the threshold and above; what is not finite is never below it."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pyramidai_mpi.base.types import Decision
from pyramidai_mpi.pyramid.decision import decide


def rows(*scores: float) -> np.ndarray:
    return np.array([[1 - s, s] for s in scores], np.float32)


def test_a_score_equal_to_the_threshold_zooms_in():
    assert decide(rows(0.5), 1, 0.5).tolist() == [Decision.ZOOM]


def test_a_score_just_below_the_threshold_stops():
    just_below = float(np.nextafter(np.float32(0.5), np.float32(0)))
    assert decide(rows(just_below), 1, 0.5).tolist() == [Decision.STOP]


def test_the_comparison_is_made_in_double_precision():
    # float32(0.3) is 0.300000012, above 0.3; float32(0.7) is 0.699999988, below 0.7
    assert decide(rows(0.3, 0.7), 1, 0.3).tolist() == [Decision.ZOOM, Decision.ZOOM]
    assert decide(rows(0.7), 1, 0.7).tolist() == [Decision.STOP]


def test_threshold_0_zooms_everywhere_and_1_only_when_certain():
    assert decide(rows(0, 1e-30, 1), 1, 0.0).tolist() == [Decision.ZOOM] * 3
    assert decide(rows(0, 0.999, 1), 1, 1.0).tolist() == [Decision.STOP, Decision.STOP, Decision.ZOOM]


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
@pytest.mark.parametrize("column", [0, 1])
@pytest.mark.parametrize("threshold", [0.0, 0.5, 1.0])
def test_a_probability_that_is_not_finite_is_unreadable_in_any_class(bad, column, threshold):
    probability = rows(0.1, 0.9, 0.4)
    probability[1, column] = bad
    decision = decide(probability, 1, threshold)
    assert decision[1] == Decision.UNREADABLE
    assert (decision[[0, 2]] != Decision.UNREADABLE).all()


@given(st.lists(st.floats(0, 1, width=32), max_size=20), st.floats(0, 1))
def test_the_rule_is_score_at_least_threshold(scores, threshold):
    expected = [int(float(np.float32(s)) >= threshold) for s in scores]
    probability = np.array([[0.5, s, 0.25] for s in scores], np.float32).reshape(-1, 3)
    decision = decide(probability, 1, threshold)
    assert decision.tolist() == expected
    assert decision.dtype == np.uint8


def test_the_numbers_of_decisions_are_those_of_the_result_file():
    assert (Decision.STOP, Decision.ZOOM, Decision.UNREADABLE) == (0, 1, 2)
