"""The figures of the bench of attributions, where they are known."""

from __future__ import annotations

import numpy as np
import pytest

from bench.explain.faithfulness import on_nuclei, over_slides


def test_a_map_that_knows_nothing_has_one_and_one_that_knows_all_the_inverse_of_the_area():
    nuclei = np.zeros((40, 40), bool)
    nuclei[8:16, 8:28] = True
    assert on_nuclei(np.ones((5, 5)), nuclei) == pytest.approx(1)
    assert on_nuclei(nuclei.astype(float), nuclei) == pytest.approx(10)
    assert on_nuclei(nuclei - 1.0 * ~nuclei, nuclei) == pytest.approx(10)  # what speaks against counts for nothing
    assert on_nuclei(np.where(nuclei, 3.0, 1.0), nuclei) == pytest.approx(3 * 160 / (3 * 160 + 1440) / 0.1)
    assert np.isnan(on_nuclei(-nuclei.astype(float), nuclei))


def test_intervals_are_over_slides():
    value = over_slides([1.0, 3.0, 2.0, float("nan")], [4, 4, 9, 9])
    assert (value.value, value.n_slides) == (2.0, 2)
    # draws of two slides: both of one, or one of each
    assert (value.low, value.high) == (2.0, 2.0)
    spread = over_slides([0.0, 0.0, 6.0], [1, 1, 2])
    assert (spread.value, spread.low, spread.high) == (2.0, 0.0, 6.0)
    assert np.isnan(over_slides([1.0, 2.0], [1, 1]).low)
