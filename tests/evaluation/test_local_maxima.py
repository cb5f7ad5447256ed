"""Local maxima of maps, against the plain loop over sorted cells and against scikit-image."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.ndimage import gaussian_filter
from skimage.feature import peak_local_max

from pyramidai_mpi.evaluation.local_maxima import take_maxima


def plain(score: np.ndarray, cell: float, radius: float) -> list[tuple[int, int]]:
    """By falling score, then row-major; kept when no kept one is near."""
    kept = np.empty((0, 2), np.int64)
    for at in sorted(np.argwhere(score > -np.inf).tolist(), key=lambda at: (-score[at[0], at[1]], at)):
        if (np.hypot(*((kept - at) * cell).T) > radius).all():
            kept = np.vstack([kept, at])
    return [(row, col) for row, col in kept.tolist()]


@given(
    st.integers(0, 999),
    st.tuples(st.integers(1, 40), st.integers(1, 40)),
    st.sampled_from([0.0, 3.9, 4.0, 5.7, 20.0, 44.0, 300.0]),
    st.sampled_from([1, 4, 1000]),
)
def test_they_are_those_of_the_plain_loop(seed, shape, radius, values):
    rng = np.random.default_rng(seed)
    score = (rng.integers(0, values + 1, shape) / max(values, 1)).astype(np.float32)  # few values: many are equal
    score[rng.random(shape) < 0.3] = -np.inf
    place, value = take_maxima(score.copy(), 4.0, radius)
    expected = plain(score, 4.0, radius)
    assert place.tolist() == [list(at) for at in expected]
    assert value.tolist() == [score[at] for at in expected]


@pytest.mark.parametrize("radius", [2.0, 9.0, 30.0])
def test_of_smooth_maps_larger_than_many_blocks_too(radius):
    rng = np.random.default_rng(int(radius))
    score = gaussian_filter(rng.standard_normal((210, 170)), 4).astype(np.float32)
    score = np.round(score / score.max(), 2)  # plateaus
    score[score < 0.1] = -np.inf
    place, _ = take_maxima(score.copy(), 1.0, radius)
    assert len(place) > 10
    assert place.tolist() == [list(at) for at in plain(score, 1.0, radius)]


def test_hills_far_apart_are_scikit_images_peaks():
    rng = np.random.default_rng(3)
    rows, cols = np.mgrid[:300, :300]
    centres = (np.stack(np.mgrid[:5, :5], axis=-1).reshape(-1, 2) * 60 + 30 + rng.integers(-8, 9, (25, 2))).tolist()
    height = rng.permutation(25) / 50 + 0.5
    hills = np.max(
        [top * np.exp(-np.hypot(rows - r, cols - c) / 12) for (r, c), top in zip(centres, height, strict=True)], axis=0
    )
    peaks = peak_local_max(hills, min_distance=20, threshold_abs=0.4, exclude_border=False)
    score = hills.astype(np.float32)
    score[score < 0.4] = -np.inf
    place, _ = take_maxima(score, 1.0, 25.0)
    assert place.tolist() == peaks.tolist()
    assert sorted(place.tolist()) == sorted(centres)


def test_it_leaves_no_candidate_behind():
    score = np.random.default_rng(0).random((50, 70)).astype(np.float32)
    take_maxima(score, 1.0, 7.0)
    assert (score == -np.inf).all()


def test_an_empty_map_has_none():
    for shape in ((0, 0), (5, 5)):
        place, value = take_maxima(np.full(shape, -np.inf, np.float32), 1.0, 3.0)
        assert (place.shape, value.shape) == ((0, 2), (0,))
