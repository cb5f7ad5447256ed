"""What is measured of nuclei, against counting one by one, scikit-image and closed forms."""

import math

import numpy as np
import pytest
from skimage.draw import ellipse
from skimage.feature import graycomatrix, graycoprops

from pyramidai_mpi.explain.concepts.measures import (
    GREY_LEVELS,
    MEASURES,
    colourfulness,
    cooccurrences,
    grey_levels,
    haralick,
    measure,
)

RNG = np.random.default_rng(5)


def blobs(side=24):
    labels = np.zeros((side, side), np.int32)
    for number, (row, col, a, b) in enumerate([(6, 6, 5, 4), (8, 14, 6, 5), (18, 18, 6, 3), (19, 7, 3, 6)]):
        labels[ellipse(row, col, a, b, labels.shape)] = 3 * number + 2
    return labels


@pytest.mark.parametrize("offset", [(0, 1), (0, 5), (3, 0), (2, 2)])
def test_pairs_inside_a_mask_are_those_that_counting_finds(offset):
    labels, grey = blobs(), RNG.integers(0, 8, (24, 24)).astype(np.uint8)
    numbers = [number for number in np.unique(labels) if number]
    expected = np.zeros((len(numbers), 8, 8), int)
    for row in range(24):
        for col in range(24):
            for sign in (1, -1):
                r, c = row + sign * offset[0], col + sign * offset[1]
                if 0 <= r < 24 and 0 <= c < 24 and labels[row, col] and labels[row, col] == labels[r, c]:
                    expected[numbers.index(labels[row, col]), grey[row, col], grey[r, c]] += 1
    np.testing.assert_array_equal(cooccurrences(grey, labels, offset, levels=8), expected)


@pytest.mark.parametrize(("offset", "angle"), [((0, 5), 0), ((5, 0), np.pi / 2)])
def test_a_full_square_is_what_scikit_image_counts(offset, angle):
    grey = RNG.integers(0, GREY_LEVELS, (40, 40)).astype(np.uint8)
    theirs = graycomatrix(grey, [5], [angle], levels=GREY_LEVELS, symmetric=True)
    ours = cooccurrences(grey, np.ones((40, 40), np.int32), offset)
    np.testing.assert_array_equal(ours[0], theirs[..., 0, 0])
    found = haralick(ours)
    shares = theirs / theirs.sum()
    for name, prop in (("asm", "ASM"), ("contrast", "contrast"), ("correlation", "correlation")):
        assert getattr(found, name)[0] == pytest.approx(graycoprops(shares, prop)[0, 0], rel=1e-9)


def test_specks_and_pairs_wider_than_the_patch_have_no_texture():
    grey = RNG.integers(0, 256, (16, 16, 3)).astype(np.uint8)
    labels = np.zeros((16, 16), np.int32)
    labels[2:14, 2:14] = 2
    alone = measure(grey, labels, 1.25)
    assert alone["asm"] > 0
    labels[0, ::2] = np.arange(10, 18)  # cut, and nothing
    labels[15, 1::2] = np.arange(20, 28)
    labels[1, 3] = labels[14, 5] = 9
    assert measure(grey, labels, 1.25)["asm"] == alone["asm"]
    assert math.isnan(measure(grey, labels, 1.25 / 40)["asm"])  # pairs 40 px apart
    assert measure(grey, labels, 1.25 / 40)["count"] == 10.0


def test_one_grey_has_the_correlation_that_scikit_image_gives_it():
    grey = np.full((9, 9), 7, np.uint8)
    found = haralick(cooccurrences(grey, np.ones((9, 9), np.int32), (0, 1)))
    theirs = graycomatrix(grey, [1], [0], levels=GREY_LEVELS, symmetric=True, normed=True)
    assert found.correlation[0] == graycoprops(theirs, "correlation")[0, 0] == 1
    assert (found.asm[0], found.contrast[0]) == (1, 0)


def test_size_and_shape_are_those_of_the_ellipses_that_were_drawn():
    labels = np.zeros((200, 200), np.int32)
    labels[ellipse(60, 60, 30, 18, labels.shape)] = 4
    labels[ellipse(140, 120, 30, 18, labels.shape)] = 9
    labels[ellipse(100, 199, 40, 40, labels.shape)] = 11  # cut by the border: no shape, half a nucleus
    found = measure(np.full((200, 200, 3), 90, np.uint8), labels, 0.5)
    assert found["area"] == pytest.approx(np.pi * 30 * 18 / 4, rel=0.02)
    assert found["eccentricity"] == pytest.approx(math.sqrt(1 - (18 / 30) ** 2), abs=0.01)
    ramanujan = np.pi * (3 * 48 - math.sqrt((3 * 30 + 18) * (30 + 3 * 18)))
    assert found["perimeter"] == pytest.approx(ramanujan / 2, rel=0.06)
    assert found["count"] == 2.5
    assert set(found) == set(MEASURES)


def test_texture_is_the_mean_over_nuclei_of_two_directions():
    labels, pixels = blobs(30), RNG.integers(0, 256, (30, 30, 3)).astype(np.uint8)
    found = measure(pixels, labels, 0.5)  # pairs of 1.25 um: 2 pixels
    grey = grey_levels(pixels)
    each = []
    for number in np.unique(labels)[1:]:
        one = np.where(labels == number, 1, 0).astype(np.int32)
        counts = cooccurrences(grey, one, (0, 2)) + cooccurrences(grey, one, (2, 0))
        each.append(haralick(counts).contrast[0])
    assert found["contrast"] == pytest.approx(np.mean(each), rel=1e-12)


def test_a_patch_without_nuclei_has_a_count_and_colours_alone():
    pixels = RNG.integers(0, 256, (24, 24, 3)).astype(np.uint8)
    found = measure(pixels, np.zeros((24, 24), np.int32), 0.5)
    assert {name for name, value in found.items() if not math.isnan(value)} == {"count", "colourfulness"}
    assert found["count"] == 0


def test_greys_are_not_colourful_and_opposites_are():
    assert colourfulness(np.full((5, 5, 3), 77, np.uint8)) == 0
    pixels = np.zeros((2, 2, 3), np.uint8)
    pixels[0, :, 0] = pixels[1, :, 1] = 255  # red over green
    # rg = 255 and -255; yb = 127.5 everywhere
    assert colourfulness(pixels) == pytest.approx(255 + 0.3 * 127.5)
