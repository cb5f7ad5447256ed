"""Grad-CAM and Grad-CAM++ beside the papers' formulas, place by place; captum is asked in tests/training."""

from __future__ import annotations

import numpy as np
import pytest

from pyramidai_mpi.explain.cam import gradcam, gradcam_plus_plus

RNG = np.random.default_rng(5)
GRADIENTS = RNG.normal(size=(6, 5, 4)).astype(np.float32)
RECTIFIED = np.maximum(RNG.normal(size=(6, 5, 4)), 0).astype(np.float32)


def test_gradcam_is_the_papers_formula():
    expected = np.zeros((5, 4))
    for k in range(6):
        weight = sum(float(g) for g in GRADIENTS[k].ravel()) / 20
        expected += weight * RECTIFIED[k].astype(np.float64)
    found = gradcam(RECTIFIED, GRADIENTS)
    assert found.dtype == np.float32
    assert np.allclose(found, np.where(expected > 0, expected, 0), atol=1e-6)
    assert 0 < (found > 0).mean() < 1


def plus_plus(maps, gradients, logit):
    """Equations 5, 11 and 19 word for word: Y = exp(S), and its derivatives by a map, of which the second is that of S
    squared and the third cubed, since S is linear between the kinks of rectifiers."""
    maps, g = maps.astype(np.float64), gradients.astype(np.float64)
    y = np.exp(logit)
    first, second, third = y * g, y * g**2, y * g**3
    weights = np.zeros(len(maps))
    for k in range(len(maps)):
        total = sum(maps[k].ravel())
        for place in np.ndindex(maps[k].shape):
            below = 2 * second[k][place] + total * third[k][place]
            if first[k][place] > 0:  # relu; what is negative there adds nothing
                weights[k] += second[k][place] / below * first[k][place]
    return np.maximum(sum(weight * m for weight, m in zip(weights, maps, strict=True)), 0)


@pytest.mark.parametrize("logit", [0.0, 1.7])
def test_gradcam_plus_plus_is_the_papers_formula_but_for_the_factor_of_its_exponential(logit):
    expected = plus_plus(RECTIFIED, GRADIENTS, logit)
    assert np.allclose(gradcam_plus_plus(RECTIFIED, GRADIENTS) * np.exp(logit), expected, rtol=1e-5, atol=1e-6)


def test_a_place_without_gradient_adds_nothing_and_no_zero_is_divided_by_zero():
    gradients = np.zeros((2, 3, 3), np.float32)
    gradients[0, 1, 1] = 1e-30
    with np.errstate(all="raise", under="ignore"):
        found = gradcam_plus_plus(RECTIFIED[:2, :3, :3], gradients)
    assert np.allclose(found, 0, atol=1e-20)
    assert np.isfinite(found).all()


def test_a_small_spot_counts_as_much_as_a_large_one_in_plus_plus_only():
    """What the paper is about: two maps, each lit on a spot of its own, of which the class depends alike."""
    maps = np.zeros((2, 10, 10), np.float32)
    maps[0, 0, 0], maps[1, 4:8, 4:8] = 4.0, 4.0
    gradients = (maps > 0).astype(np.float32)
    for one, ratio in ((gradcam, 16.0), (gradcam_plus_plus, None)):
        found = one(maps, gradients)
        if ratio:
            assert found[5, 5] / found[0, 0] == pytest.approx(ratio)
        else:
            assert found[5, 5] / found[0, 0] < 16 / 4


def test_maps_that_sum_to_less_than_zero_leave_no_infinity():
    maps = np.full((1, 2, 2), -0.5, np.float32)
    assert (gradcam_plus_plus(maps, np.ones((1, 2, 2), np.float32)) == 0).all()
