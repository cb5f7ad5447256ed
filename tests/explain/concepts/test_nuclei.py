"""Nuclei that are found, on discs whose places are known, and how agreement is counted."""

import numpy as np
import pytest
from skimage.draw import disk

from pyramidai_mpi.explain.concepts.nuclei import Agreement, agreement, find_nuclei

PINK, PURPLE = (232, 170, 205), (110, 70, 150)
MIDDLES = [(30, 30), (30, 90), (80, 60), (120, 40), (120, 64), (150, 130)]


def picture(mpp):
    labels = np.zeros((180, 180), np.int32)
    for number, middle in enumerate(MIDDLES):
        labels[disk(middle, 13 * 0.25 / mpp, shape=labels.shape)] = number + 1
    pixels = np.where(labels[..., None] > 0, PURPLE, PINK).astype(np.uint8)
    noise = np.random.default_rng(1).normal(0, 4, pixels.shape)
    return np.clip(pixels + noise, 0, 255).astype(np.uint8), labels


def test_discs_are_found_and_those_that_touch_are_told_apart():
    pixels, labels = picture(0.25)
    found = agreement(find_nuclei(pixels, 0.25), labels)
    assert (found.n_found, found.n_known, found.n_matched) == (6, 6, 6)
    assert found.dice > 0.95


@pytest.mark.parametrize("colour", [PINK, PURPLE, (255, 255, 255)])
def test_nothing_is_found_where_there_is_one_colour(colour):
    noise = np.random.default_rng(1).normal(0, 2, (100, 100, 3))
    pixels = np.clip(np.array(colour) + noise, 0, 255).astype(np.uint8)
    assert not find_nuclei(pixels, 0.25).any()


def test_agreement_counts_pairs_that_share_more_than_half():
    known = np.zeros((10, 30), np.int32)
    known[:, :10], known[:, 10:20] = 5, 9
    found = np.zeros((10, 30), np.int32)
    found[:, :8], found[:, 14:26] = 1, 2  # 80 of 100; 60 of 160
    assert agreement(found, known) == Agreement(2, 2, 1, 140, 200, 200)
    assert agreement(found, known).f1 == 0.5
    assert agreement(found, known).dice == 0.7


def test_a_patch_that_is_all_nucleus_has_no_background():
    full = np.ones((4, 4), np.int32)
    assert agreement(full, full) == Agreement(1, 1, 1, 16, 16, 16)
    assert agreement(full, full) + agreement(full, 0 * full) == Agreement(2, 1, 1, 16, 32, 16)
