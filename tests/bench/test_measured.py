"""Measures over slides and the comparison at equal retention, by hand."""

from __future__ import annotations

import numpy as np
import pytest

from bench.paper.measured import Measured, tiles_at_equal_retention


def choice(kept, analysed, true_positives=(10, 10, 0), reference=(100, 300, 50)) -> Measured:
    tiles = np.array(analysed)
    return Measured(
        np.stack([tiles - 1, np.ones_like(tiles)], axis=1), *map(np.array, (reference, true_positives, kept))
    )


def test_both_means_of_speedup_and_retention_leave_out_what_has_no_tumour() -> None:
    measured = choice((5, 9, 0), (50, 100, 50))
    assert measured.retention.mean_of_ratios.value == pytest.approx((0.5 + 0.9) / 2)
    assert measured.retention.mean_of_ratios.n_slides == 2
    assert measured.speedup.mean_of_ratios.value == pytest.approx((2 + 3 + 1) / 3)
    assert measured.speedup.ratio_of_means.value == pytest.approx(450 / 200)


def test_tiles_at_equal_retention_are_read_between_two_objectives() -> None:
    # retention 0.5 for 100 tiles, 0.9 for 180: 0.8 costs 160
    path = [choice((5, 5, 0), (40, 40, 20)), choice((9, 9, 0), (80, 70, 30))]
    assert tiles_at_equal_retention(path, choice((8, 8, 0), (100, 80, 20))).value == pytest.approx(160 / 200)


def test_an_objective_that_keeps_less_for_more_does_not_count() -> None:
    path = [choice((5, 5, 0), (400, 40, 20)), choice((9, 9, 0), (80, 70, 30))]
    assert tiles_at_equal_retention(path, choice((8, 8, 0), (100, 80, 20))).value == pytest.approx(180 / 200)


def test_a_retention_that_no_objective_reaches_has_no_ratio() -> None:
    assert np.isnan(tiles_at_equal_retention([choice((5, 5, 0), (40, 40, 20))], choice((8, 8, 0), (9, 9, 9))).value)


def test_the_interval_of_a_choice_against_itself_has_no_width() -> None:
    same = choice((5, 9, 0), (50, 100, 50))
    found = tiles_at_equal_retention([same], same)
    assert (found.value, found.low, found.high) == (1, 1, 1)
