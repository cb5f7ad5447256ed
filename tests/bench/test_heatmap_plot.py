"""The three panels of Fig. 2 on a tree small enough to paint by hand."""

from __future__ import annotations

import numpy as np

from bench.paper.heatmap_plot import heatmap_of, truth_of
from pyramidai_mpi.truth.labelled_tree import LabelledLevel, LabelledTree

NAN = np.nan


def two_roots() -> LabelledTree:
    """Roots (1, 1) and (3, 1), two levels; the left one has all four children, the right one only its upper two."""
    roots = LabelledLevel(
        np.array([[1, 1], [3, 1]], np.uint32), np.array([0.75, 0.25], np.float32), np.zeros(2, bool), np.full(2, -1)
    )
    tiles = LabelledLevel(
        np.array([[2, 2], [3, 2], [6, 2], [7, 2], [2, 3], [3, 3]], np.uint32),
        np.array([0.5, 1.0, 0.125, NAN, 0.0, 0.625], np.float32),
        np.array([True, True, False, True, False, False]),
        np.array([0, 0, 1, 1, 0, 0]),
    )
    return LabelledTree("two", (tiles, roots))


def test_truth_lies_on_tissue_and_glass_is_empty() -> None:
    expected = [[1, 1, NAN, NAN, 0, 1], [0, 0, NAN, NAN, NAN, NAN]]
    assert np.array_equal(truth_of(two_roots()), expected, equal_nan=True)


def test_a_reference_run_shows_level_0_alone() -> None:
    expected = [[0.5, 1, NAN, NAN, 0.125, NAN], [0, 0.625, NAN, NAN, NAN, NAN]]
    assert np.array_equal(heatmap_of(two_roots(), None), expected, equal_nan=True)


def test_a_pyramidal_run_shows_the_last_look_at_every_place() -> None:
    expected = [[0.5, 1, NAN, NAN, 0.25, 0.25], [0, 0.625, NAN, NAN, 0.25, 0.25]]
    assert np.array_equal(heatmap_of(two_roots(), (0.5, 0.5)), expected, equal_nan=True)
