"""Zoom in at the threshold and above; what is not finite is never below it."""

from __future__ import annotations

import ast
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import pyramidai_mpi
from pyramidai_mpi.base.types import Decision
from pyramidai_mpi.pyramid.decision import decide, looks_closer, passes, reached


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


def test_scores_alone_are_compared_by_the_same_rule():
    score = np.array([0.3, 0.7, 0.2, np.nan], np.float32)
    for threshold in (0.3, 0.7):
        zooms = decide(score[:, None], 0, threshold) == Decision.ZOOM
        assert passes(score, threshold).tolist() == passes(score.astype(float), threshold).tolist() == zooms.tolist()


def test_an_unreadable_tile_hides_nothing_below_it():
    decisions = np.array([Decision.STOP, Decision.ZOOM, Decision.UNREADABLE], np.uint8)
    assert looks_closer(decisions).tolist() == [False, True, True]
    below, none = np.array([0, 1, 2, 2]), np.full(3, -1)
    assert [mask.tolist() for mask in reached([decisions], [below, none])] == [[False, True, True, True], [True] * 3]


def test_a_tile_is_reached_when_all_above_it_look_closer():
    stop, zoom = Decision.STOP, Decision.ZOOM
    decisions = [np.array([zoom, zoom], np.uint8), np.array([stop, zoom], np.uint8)]
    masks = reached(decisions, [np.array([0, 1]), np.array([0, 1]), np.array([-1, -1])])
    assert [mask.tolist() for mask in masks] == [[False, True], [False, True], [True, True]]


def test_of_one_level_all_is_reached():
    assert [mask.tolist() for mask in reached([], [np.full(2, -1)])] == [[True, True]]


def test_no_other_place_compares_scores_with_thresholds():
    found = []
    for path in sorted(Path(pyramidai_mpi.__file__).parent.rglob("*.py")):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.Compare) and isinstance(node.ops[0], ast.GtE):
                left, right = ast.unparse(node.left), ast.unparse(node.comparators[0])
                if "score" in left and "threshold" in right:
                    found.append(path.stem)
    assert found == ["decision"]
