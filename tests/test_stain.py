"""Stain maps against plain recomputation, an independent library's stains, and colours that are known beforehand."""

from __future__ import annotations

import numpy as np
import pytest
from skimage.color import rgb_from_hed

from pyramidai_mpi.errors import InputError
from pyramidai_mpi.stain import LIGHT, MacenkoTarget, ReinhardTarget, StainMap, estimate, lab_of, stain_vectors

HEMATOXYLIN = np.array([0.65, 0.70, 0.29])
EOSIN = np.array([0.07, 0.99, 0.11])
REINHARD = ReinhardTarget((-0.35, 0.01, -0.02), (0.12, 0.03, 0.02))


def stained(hematoxylin=HEMATOXYLIN, eosin=EOSIN, n=20000, seed=0, strength=1.0):
    """Pixels of known stains (n, 3): mixtures from pure to pure."""
    rng = np.random.default_rng(seed)
    amounts = strength * rng.uniform(0.4, 1.6, (n, 1)) * np.stack([share := rng.uniform(0, 1, n), 1 - share], axis=1)
    vectors = np.stack([hematoxylin / np.linalg.norm(hematoxylin), eosin / np.linalg.norm(eosin)])
    return np.rint(np.clip(LIGHT * np.exp(-(amounts @ vectors)) - 1, 0, 255)).astype(np.uint8)


def degrees(one, other):
    return np.rad2deg(np.arccos(one @ other / np.linalg.norm(one) / np.linalg.norm(other)))


def densities_of(pixels):
    densities = -np.log((pixels.astype(float) + 1) / LIGHT)
    return densities[(densities >= 0.15).all(axis=1)]


@pytest.mark.parametrize(
    ("hematoxylin", "eosin"),
    [(HEMATOXYLIN, EOSIN + 0.15), (np.array([0.55, 0.75, 0.40]), np.array([0.20, 0.80, 0.55])), rgb_from_hed[:2]],
    ids=["typical", "Macenko's", "scikit-image's"],
)
def test_stains_that_were_mixed_are_found_again(hematoxylin, eosin):
    found = stain_vectors(densities_of(stained(hematoxylin, np.maximum(eosin, 0.12))))
    assert degrees(found[0], hematoxylin) < 4
    assert degrees(found[1], np.maximum(eosin, 0.12)) < 4


def plain_macenko(pixels, slide_pixels, target):
    """The method in its usual steps, float64."""
    densities = densities_of(slide_pixels)
    vectors = stain_vectors(densities)
    strengths = np.percentile(np.linalg.lstsq(vectors.T, densities.T, rcond=None)[0], 99, axis=1)
    own = np.linalg.lstsq(vectors.T, -np.log((pixels.reshape(-1, 3).astype(float) + 1) / LIGHT).T, rcond=None)[0]
    own *= (np.array(target.strengths) / strengths)[:, None]
    wanted = LIGHT * np.exp(-np.array([target.hematoxylin, target.eosin]).T @ own)
    return np.clip(wanted, 0, 255).T.reshape(pixels.shape)


def plain_reinhard(pixels, slide_pixels, target):
    """The method in its usual steps, float64."""
    densities = -np.log((slide_pixels.astype(float) + 1) / LIGHT)
    tissue = lab_of(slide_pixels[(densities >= 0.15).all(axis=1)])
    lab = (lab_of(pixels.reshape(-1, 3)) - tissue.mean(axis=0)) / tissue.std(axis=0) * target.std + target.mean
    r3, r6, r2 = np.sqrt([3, 6, 2])
    log_lms = lab @ np.array([[r3 / 3, r6 / 6, r2 / 2], [r3 / 3, r6 / 6, -r2 / 2], [r3 / 3, -r6 / 3, 0]]).T
    lms_of_rgb = np.array([[0.3811, 0.5783, 0.0402], [0.1967, 0.7244, 0.0782], [0.0241, 0.1288, 0.8444]])
    return np.clip(256 * np.linalg.solve(lms_of_rgb, (10**log_lms).T).T - 1, 0, 255).reshape(pixels.shape)


@pytest.mark.parametrize(
    ("target", "plain"), [(MacenkoTarget(), plain_macenko), (REINHARD, plain_reinhard)], ids=["macenko", "reinhard"]
)
def test_every_colour_is_within_a_grey_level_of_the_plain_method(target, plain):
    slide_pixels = stained()
    tile = np.random.default_rng(1).integers(0, 256, (224, 224, 3)).astype(np.uint8)
    tile[:2, :128] = np.repeat(np.arange(256, dtype=np.uint8), 3).reshape(2, 128, 3)
    found = estimate(slide_pixels, target).apply(tile)
    assert found.dtype == np.uint8
    assert np.abs(found - plain(tile, slide_pixels, target)).max() < 1


def test_two_slides_of_one_tissue_in_other_stains_become_alike():
    rng = np.random.default_rng(3)
    pink = stained(HEMATOXYLIN, EOSIN + 0.15, seed=4)
    blue = stained(np.array([0.75, 0.60, 0.35]), np.array([0.25, 0.85, 0.40]), seed=4, strength=0.8)
    assert np.abs(pink.astype(int) - blue).mean() > 10
    chosen = rng.integers(0, len(pink), 2500)
    one, other = (
        estimate(pixels, MacenkoTarget()).apply(pixels[chosen].reshape(50, 50, 3)).astype(int)
        for pixels in (pink, blue)
    )
    assert np.abs(one - other).mean() < 5


def test_reinhard_reaches_the_targets_mean_and_spread():
    pixels = stained()
    mapped = estimate(pixels, REINHARD).apply(pixels.reshape(100, 200, 3)).reshape(-1, 3)
    densities = -np.log((pixels.astype(float) + 1) / LIGHT)
    lab = lab_of(mapped[(densities >= 0.15).all(axis=1)])
    assert np.abs(lab.mean(axis=0) - REINHARD.mean).max() < 0.01
    assert np.abs(lab.std(axis=0) - REINHARD.std).max() < 0.01


@pytest.mark.parametrize("target", [MacenkoTarget(), REINHARD], ids=["macenko", "reinhard"])
def test_a_pixel_becomes_the_same_wherever_it_lies(target):
    made = estimate(stained(), target)
    tile = stained(seed=9, n=64 * 64).reshape(64, 64, 3)
    whole = made.apply(tile)
    assert (made.apply(np.ascontiguousarray(tile[::-1, ::-1])) == whole[::-1, ::-1]).all()
    assert (made.apply(tile[3:4, 5:12]) == whole[3:4, 5:12]).all()


def test_a_map_survives_its_way_to_other_ranks_to_the_last_bit():
    made = estimate(stained(), MacenkoTarget())
    assert StainMap.from_json(made.to_json()) == made


@pytest.mark.parametrize(
    ("pixels", "said"),
    [
        (np.full((50000, 3), 250, np.uint8), "0 stained pixels"),
        (stained(n=500), "too few"),
        (stained(HEMATOXYLIN, HEMATOXYLIN), "degrees apart"),
    ],
    ids=["glass", "a speck", "one stain"],
)
def test_what_cannot_be_normalised_is_refused(pixels, said):
    with pytest.raises(InputError, match=said):
        estimate(pixels, MacenkoTarget())


def test_tissue_of_one_colour_cannot_be_given_a_spread():
    with pytest.raises(InputError, match="one colour"):
        estimate(np.tile(np.array([120, 60, 130], np.uint8), (5000, 1)), REINHARD)
