"""Integrated gradients of functions whose integrals are known."""

from __future__ import annotations

import numpy as np
import pytest

from pyramidai_mpi.explain.integrated import integrated_gradients

RNG = np.random.default_rng(6)
SIDE = 8
PIXELS = RNG.integers(0, 256, (SIDE, SIDE, 3)).astype(np.uint8)
BASELINE = RNG.integers(0, 256, (SIDE, SIDE, 3)).astype(np.uint8)
WEIGHTS = RNG.normal(size=(SIDE, SIDE, 3)).astype(np.float32)


@pytest.mark.parametrize("steps", [1, 3, 17])
def test_of_a_linear_function_it_is_weight_times_difference(steps):
    found = integrated_gradients(PIXELS, lambda at: np.broadcast_to(WEIGHTS, at.shape), steps, BASELINE)
    expected = (WEIGHTS.astype(np.float64) * (PIXELS.astype(np.float64) - BASELINE)).sum(axis=2)
    assert found.dtype == np.float32
    assert np.allclose(found, expected, rtol=1e-5, atol=1e-4)


def test_of_a_cubic_function_two_steps_are_exact():
    # f = sum w (x/255)^3, of which the integral is w (x^3 - b^3) / 255^3 pixel by pixel
    def gradients_at(at):
        return (3 * WEIGHTS * (at / 255) ** 2 / 255).astype(np.float32)

    x, b = PIXELS / 255, BASELINE / 255
    expected = (WEIGHTS * (x**3 - b**3)).sum(axis=2)
    assert np.allclose(integrated_gradients(PIXELS, gradients_at, 2, BASELINE), expected, atol=1e-5)
    assert not np.allclose(integrated_gradients(PIXELS, gradients_at, 1, BASELINE), expected, atol=1e-2)


def test_it_is_complete_where_pixels_depend_on_each_other():
    """Sums to the difference of the outputs: a bilinear form and a sigmoid."""
    half = (SIDE * SIDE * 3) // 2

    def logit(at):
        flat = at.reshape(len(at), -1).astype(np.float64) / 255
        return 3 / (1 + np.exp(-0.3 * (flat[:, :half] * flat[:, half:]).sum(axis=1) + 7))

    def gradients_at(at):
        flat = at.reshape(len(at), -1).astype(np.float64) / 255
        s = logit(at) / 3
        slope = (3 * s * (1 - s) * 0.3 / 255)[:, None]
        return (slope * np.concatenate([flat[:, half:], flat[:, :half]], axis=1)).reshape(at.shape).astype(np.float32)

    found = integrated_gradients(PIXELS, gradients_at, 24, BASELINE)
    difference = float(logit(PIXELS[None])[0] - logit(BASELINE[None])[0])
    assert abs(difference) > 0.01
    assert float(found.sum(dtype=np.float64)) == pytest.approx(difference, abs=1e-5)


def test_where_tile_and_baseline_are_the_same_nothing_is_added():
    baseline = BASELINE.copy()
    baseline[2:4] = PIXELS[2:4]
    found = integrated_gradients(PIXELS, lambda at: np.broadcast_to(WEIGHTS, at.shape), 4, baseline)
    assert (found[2:4] == 0).all()
    assert (found[4:] != 0).all()


def test_no_more_pictures_than_eight_are_asked_for_at_once():
    asked = []

    def gradients_at(at):
        asked.append(len(at))
        return np.zeros_like(at)

    integrated_gradients(PIXELS, gradients_at, 19, BASELINE)
    assert sum(asked) == 19
    assert max(asked) <= 8
