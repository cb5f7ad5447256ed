"""Figures of merit in closed form."""

from __future__ import annotations

import pytest

from pyramidai_mpi.pyramid.metrics import busiest_over_ideal, speedup_in_tiles


def test_speedup_is_reference_over_analysed():
    assert speedup_in_tiles(1600, 2100) == 16 / 21
    assert speedup_in_tiles(300, 100) == 3


def test_an_empty_run_is_neither_faster_nor_slower():
    assert speedup_in_tiles(0, 0) == 1


@pytest.mark.parametrize(("busy", "ratio"), [([5], 1), ([2, 2, 2], 1), ([3, 1], 1.5), ([4, 0, 0, 0], 4), ([0, 0], 1)])
def test_balance_is_the_busiest_over_the_mean(busy, ratio):
    assert busiest_over_ideal(busy) == ratio
