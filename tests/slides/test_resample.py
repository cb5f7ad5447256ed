"""Resampling: the same bytes however it is cut, and the right ones."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pyramidai_mpi.slides.resample import axis_weights, resample, source_range

RATIOS = st.one_of(
    st.sampled_from([1 / 3, 0.5, 25 / 27, 1.0, 25 / 23, 1.25, 1.3844936708860758, 2.0, 2.5, 3.0, 3.999999, 4.0]),
    st.floats(0.3, 6),
)


def sample(image: np.ndarray, out_origin: tuple[int, int], size: tuple[int, int], ratio: float) -> np.ndarray:
    """Resample part of an endless image: its rows and columns repeat."""
    x0, x1 = source_range(out_origin[0], out_origin[0] + size[0], ratio)
    y0, y1 = source_range(out_origin[1], out_origin[1] + size[1], ratio)
    rows = np.arange(y0, y1) % image.shape[0]
    cols = np.arange(x0, x1) % image.shape[1]
    return resample(image[rows][:, cols], (x0, y0), out_origin, size, ratio)


def noise(seed: int, side: int = 97) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 256, (side, side, 3), dtype=np.uint8)


@settings(max_examples=60)
@given(
    ratio=RATIOS,
    x=st.integers(0, 5000),
    y=st.integers(0, 200_000),
    width=st.integers(2, 24),
    height=st.integers(2, 24),
    split=st.tuples(st.floats(0, 1), st.floats(0, 1)),
)
def test_one_large_read_and_four_small_ones_give_identical_bytes(ratio, x, y, width, height, split):
    image = noise(1)
    left, top = 1 + int(split[0] * (width - 2)), 1 + int(split[1] * (height - 2))
    whole = sample(image, (x, y), (width, height), ratio)
    parts = np.vstack(
        [
            np.hstack(
                [sample(image, (x, y), (left, top), ratio), sample(image, (x + left, y), (width - left, top), ratio)]
            ),
            np.hstack(
                [
                    sample(image, (x, y + top), (left, height - top), ratio),
                    sample(image, (x + left, y + top), (width - left, height - top), ratio),
                ]
            ),
        ]
    )
    assert whole.tobytes() == parts.tobytes()


@settings(max_examples=60)
@given(ratio=RATIOS, value=st.integers(0, 255), x=st.integers(0, 100_000))
def test_flat_areas_stay_flat(ratio, value, x):
    flat = np.full((50, 50, 3), value, np.uint8)
    assert (sample(flat, (x, x), (20, 20), ratio) == value).all()


@pytest.mark.parametrize("ratio", [1, 2, 3, 4, 5, 6, 7, 8])
def test_a_whole_ratio_gives_the_block_means_rounded_half_up(ratio):
    side = 96 // ratio
    image = noise(2, side * ratio)
    found = sample(image, (0, 0), (side, side), float(ratio))
    sums = image.reshape(side, ratio, side, ratio, 3).astype(int).sum(axis=(1, 3))
    assert (found == (sums + ratio**2 // 2) // ratio**2).all()


def covered(low: float, high: float, n: int) -> np.ndarray:
    """Length of each unit interval [i, i + 1) that [low, high) covers."""
    edges = np.arange(n + 1)
    return np.diff(np.clip(edges, low, high))


@settings(max_examples=40)
@given(ratio=st.floats(1, 6), x=st.integers(0, 10), y=st.integers(0, 10))
def test_shrinking_is_the_mean_over_the_covered_area_within_one_grey_level(ratio, x, y):
    image = noise(4)
    found = sample(image, (x, y), (5, 5), ratio)
    rows = np.array([covered((y + j) * ratio, (y + j + 1) * ratio, 97) for j in range(5)]) / ratio
    cols = np.array([covered((x + i) * ratio, (x + i + 1) * ratio, 97) for i in range(5)]) / ratio
    expected = np.einsum("jr,ic,rck->jik", rows, cols, image.astype(float))
    assert np.abs(found - expected).max() <= 1


@settings(max_examples=40)
@given(ratio=st.floats(0.3, 0.999), x=st.integers(4, 60), y=st.integers(4, 60))
def test_enlarging_interpolates_between_pixel_centres_within_one_grey_level(ratio, x, y):
    image = noise(5)

    def interpolated(index: int) -> tuple[int, float]:
        centre = (index + 0.5) * ratio - 0.5
        return int(np.floor(centre)), centre - np.floor(centre)

    found = sample(image, (x, y), (4, 4), ratio)
    for j in range(4):
        for i in range(4):
            (c, across), (r, down) = interpolated(x + i), interpolated(y + j)
            p = image[r : r + 2, c : c + 2].astype(float)
            expected = (p[0, 0] * (1 - across) + p[0, 1] * across) * (1 - down) + (
                p[1, 0] * (1 - across) + p[1, 1] * across
            ) * down
            assert np.abs(found[j, i] - expected).max() <= 1


@given(ratio=RATIOS, x=st.integers(0, 1_000_000))
def test_weights_are_never_negative_and_have_one_sum(ratio, x):
    _, weights = axis_weights(np.arange(x, x + 50), ratio)
    assert (weights >= 0).all()
    assert (weights.sum(axis=1) == (ratio if float(ratio).is_integer() else 2048)).all()


def test_black_and_white_do_not_overflow():
    image = np.zeros((64, 64, 3), np.uint8)
    image[::2] = 255
    assert set(np.unique(sample(image, (0, 0), (20, 20), 3.0))) <= {85, 170}
    assert (sample(np.full((64, 64, 3), 255, np.uint8), (0, 0), (9, 9), 7.3) == 255).all()


@pytest.mark.parametrize(("ratio", "channels"), [(1, 3), (2, 3), (3, 1), (32, 3), (2048, 1)])
def test_by_whole_numbers_it_is_the_mean_of_each_block_rounded(ratio, channels):
    rng = np.random.default_rng(ratio)
    source = rng.integers(0, 256, (3 * ratio + 5, 2 * ratio + 7, channels), np.uint8)
    got = resample(source, (4 * ratio - 3, 7 * ratio - 2), (4, 7), (2, 3), ratio)
    for row in range(3):
        for col in range(2):
            block = source[2 + row * ratio : 2 + (row + 1) * ratio, 3 + col * ratio : 3 + (col + 1) * ratio]
            exact = block.reshape(-1, channels).astype(np.int64).sum(axis=0)
            np.testing.assert_array_equal(got[row, col], (2 * exact + ratio**2) // (2 * ratio**2))
