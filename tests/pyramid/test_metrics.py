"""Figures of merit in closed form."""

from __future__ import annotations

import math

import pytest

from pyramidai_mpi.pyramid.metrics import busiest_over_ideal, speedup_in_tiles, tiles_against_reference


def test_speedup_is_reference_over_analysed():
    assert speedup_in_tiles(1600, 2100) == 16 / 21
    assert speedup_in_tiles(300, 100) == 3


def test_an_empty_run_is_neither_faster_nor_slower():
    assert speedup_in_tiles(0, 0) == 1


@pytest.mark.parametrize(
    ("reference", "analysed", "said"),
    [
        (300, 100, (3, "fewer tiles")),
        (300, 400, (4 / 3, "as many tiles")),
        (300, 300, (1, "as many tiles")),
        (0, 0, (1, "as many tiles")),
        (0, 5, (math.inf, "as many tiles")),
    ],
)
def test_more_tiles_than_the_reference_are_never_called_fewer(reference, analysed, said):
    assert tiles_against_reference(reference, analysed) == (pytest.approx(said[0]), said[1])


@pytest.mark.parametrize(("busy", "ratio"), [([5], 1), ([2, 2, 2], 1), ([3, 1], 1.5), ([4, 0, 0, 0], 4), ([0, 0], 1)])
def test_balance_is_the_busiest_over_the_mean(busy, ratio):
    assert busiest_over_ideal(busy) == ratio
