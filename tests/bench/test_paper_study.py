"""Every strategy on one small cohort."""

from __future__ import annotations

import numpy as np
import pytest

from bench.paper.geometry_cohort import halve
from bench.paper.paper_study import METHODS, OBJECTIVE, Study, balanced_accuracies, optimal_over_halvings, study_cohort
from pyramidai_mpi.truth.labelled_tree import LabelledLevel, LabelledTree
from tests.bench.small_cohort import small_cohort


@pytest.fixture(scope="module")
def study() -> Study:
    cohort = small_cohort()
    return study_cohort("small", cohort.train, cohort.test, 0.5)


def test_every_strategy_keeps_the_objective_on_the_slides_that_chose(study) -> None:
    for name in METHODS:
        assert study.on_train[name].retention.mean_of_ratios.value >= OBJECTIVE - 1e-9


def test_optimal_analyses_no_more_than_the_others_on_the_slides_that_chose(study) -> None:
    tiles = {name: int(study.on_train[name].tiles.sum()) for name in METHODS}
    assert tiles["optimal"] == min(tiles.values())


def test_one_level_alone_passes_everything_at_the_other(study) -> None:
    for alone, free in ((1, 2), (2, 1)):
        thresholds = study.more[f"level {alone}"]
        assert thresholds[alone] == study.chosen["metric"].thresholds[alone]
        assert np.isneginf(thresholds[free])


def test_the_halves_share_no_slide_and_each_has_tumour_and_none(study) -> None:
    halves = [{tree.slide for tree in half} for half in (study.train, study.test)]
    assert not halves[0] & halves[1]
    assert [sum(name.startswith("free") for name in half) for half in halves] == [1, 1]


def test_halves_are_random_but_hold_as_many_slides_of_either_kind(study) -> None:
    slides = study.train + study.test
    seen = set()
    for seed in range(5):
        first, second = halve(slides, np.random.default_rng(seed))
        names = [{tree.slide for tree in half} for half in (first, second)]
        assert names[0] | names[1] == {tree.slide for tree in slides}
        assert [sum(name.startswith("free") for name in half) for half in names] == [1, 1]
        assert len(first) == len(second) == len(slides) // 2
        seen.add(frozenset(names[0]))
    assert len(seen) > 1


def test_every_halving_compares_optimal_with_both_strategies_of_the_paper(study) -> None:
    found = optimal_over_halvings(study, 2)
    assert {method: len(ratios) for method, ratios in found.items()} == {"metric": 2, "empirical": 2}


def test_balanced_accuracy_weighs_both_classes_alike() -> None:
    score, positive = np.array([0.9, 0.4, 0.6, 0.1, 0.1, 0.1], np.float32), np.array([1, 1, 0, 0, 0, 0], bool)
    level = LabelledLevel(np.zeros((6, 2), np.uint32), score, positive, np.full(6, -1))
    assert balanced_accuracies([LabelledTree("x", (level,))], [0.5]) == [(1 / 2 + 3 / 4) / 2]
