"""The colour baseline, against problems with a known answer."""

import numpy as np
import pytest

from pyramidai_mpi.training.colour import ColourClassifier, balanced_accuracy, colour_features


def test_features_are_means_and_variances_of_the_colours():
    pixels = np.random.default_rng(0).integers(0, 256, (3, 20, 20, 3), dtype=np.uint8)
    features = colour_features(pixels)
    np.testing.assert_allclose(features[:, :3], pixels.mean(axis=(1, 2)) / 255, rtol=1e-5)
    np.testing.assert_allclose(features[:, 3:], (pixels / 255).var(axis=(1, 2)), rtol=1e-4)


def test_two_gaussians_are_told_apart_as_well_as_can_be():
    # means 2 deviations apart: the best rule errs as often as a normal deviate exceeds 1, 15.9 %
    rng = np.random.default_rng(0)
    positive = rng.random(20000) < 0.3
    features = rng.standard_normal((20000, 6))
    features[:, 2] += 2 * positive
    predicted = ColourClassifier(features, positive).predict(features)
    assert balanced_accuracy(predicted, positive) == pytest.approx(0.841, abs=0.01)


def test_noise_is_not_told_apart():
    rng = np.random.default_rng(1)
    features, positive = rng.standard_normal((5000, 6)), rng.random(5000) < 0.5
    half = ColourClassifier(features[:2500], positive[:2500])
    assert balanced_accuracy(half.predict(features[2500:]), positive[2500:]) == pytest.approx(0.5, abs=0.04)


def test_balanced_accuracy_does_not_reward_the_larger_class():
    positive = np.array([True] + [False] * 99)
    assert balanced_accuracy(np.zeros(100, bool), positive) == 0.5
