"""Tiles changed at random: each change against its closed form."""

from __future__ import annotations

import numpy as np
import pytest
from skimage.color import rgb_from_hed

from pyramidai_mpi.base.errors import UsageError
from pyramidai_mpi.training.augment import (
    LIGHT_STAIN,
    NO_CHANGE,
    STAINS,
    AugmentSettings,
    augmented,
    changed,
    drawn_changes,
)

SIDE = 24


def rng(seed: int = 5) -> np.random.Generator:
    return np.random.default_rng(seed)


@pytest.fixture
def tiles() -> np.ndarray:
    return rng(0).integers(0, 256, (40, SIDE, SIDE, 3), np.uint8)


def pixels_of(density: np.ndarray) -> np.ndarray:
    """Grey values, not rounded, of optical densities."""
    return 256 * np.exp(-density) - 1


def densities_of(pixels: np.ndarray) -> np.ndarray:
    return -np.log((pixels.astype(np.float64) + 1) / 256)


def test_without_strength_nothing_changes(tiles):
    np.testing.assert_array_equal(augmented(tiles, rng(), NO_CHANGE), tiles)


def test_the_same_generator_gives_the_same_tiles_and_leaves_those_given(tiles):
    settings, before = AugmentSettings(True, 0.1, 0.1, 0.2, 0.2, 0.2), tiles.copy()
    first = augmented(tiles, rng(), settings)
    np.testing.assert_array_equal(first, augmented(tiles, rng(), settings))
    np.testing.assert_array_equal(tiles, before)
    assert (first != augmented(tiles, rng(6), settings)).any()


def test_a_tile_does_not_depend_on_those_beside_it(tiles):
    settings = AugmentSettings(True, 0.1, 0.1, 0.2, 0.2, 0.2)
    together = augmented(tiles, rng(), settings)
    alone = np.concatenate([augmented(tile[None], generator, settings) for generator in [rng()] for tile in tiles])
    np.testing.assert_array_equal(together, alone)


def test_tiles_lie_in_all_eight_orientations_and_in_no_other(tiles):
    one = np.repeat(tiles[:1], 400, axis=0)
    found = {tile.tobytes() for tile in augmented(one, rng(), AugmentSettings())}
    turned = [np.rot90(one[0], way) for way in range(4)]
    group = {tile.tobytes() for way in turned for tile in (way, way.transpose(1, 0, 2))}
    assert len(group) == 8
    assert found == group


def test_what_is_switched_off_does_not_change_what_else_is_drawn(tiles):
    every = drawn_changes(40, rng(), AugmentSettings(True, 0.1, 0.1, 0.2, 0.2, 0.2))
    few = drawn_changes(40, rng(), AugmentSettings(stain_factor=0.2))
    np.testing.assert_array_equal(every.orientation, few.orientation)
    np.testing.assert_array_equal(every.factors, few.factors)
    assert not few.offsets.any()


@pytest.mark.parametrize("stain", [0, 1], ids=["haematoxylin", "eosin"])
def test_density_of_a_pure_stain_scales_by_the_drawn_factor(stain):
    strengths = np.linspace(0.3, 1.5, SIDE * SIDE).reshape(SIDE, SIDE, 1)
    tile = np.rint(pixels_of(strengths * STAINS[stain])).astype(np.uint8)
    settings = AugmentSettings(orientations=False, stain_factor=0.2)
    changes = drawn_changes(30, rng(), settings)
    assert np.ptp(changes.factors[:, stain]) > 0.3
    for n, found in enumerate(augmented(np.repeat(tile[None], 30, axis=0), rng(), settings)):
        wanted = pixels_of(strengths * STAINS[stain] * changes.factors[n, stain])
        assert np.abs(found - wanted).max() < 2.2  # tile and result are rounded to whole grey values


def test_of_mixed_stains_each_gets_its_own_factor_and_offset():
    strengths = rng(1).uniform([0.2, 0.2, 0.0], [0.8, 0.8, 0.02], (SIDE, SIDE, 3))
    tile = np.rint(pixels_of(strengths @ STAINS)).astype(np.uint8)
    changes = drawn_changes(20, rng(), AugmentSettings(False, stain_factor=0.1, stain_offset=0.1, brightness=0.1))
    strengths = densities_of(tile) @ np.linalg.inv(STAINS)  # of the rounded pixels
    for n, found in enumerate(changed(np.repeat(tile[None], 20, axis=0), changes)):
        density = (strengths * changes.factors[n] + changes.offsets[n]) @ STAINS
        wanted = np.clip((256 * np.exp(-density)) * changes.light[n] - 1, 0, 255)
        assert np.abs(found - wanted).max() < 0.51


def test_light_is_multiplied(tiles):
    settings = AugmentSettings(orientations=False, brightness=0.3)
    light = drawn_changes(40, rng(), settings).light
    wanted = np.clip((tiles + 1.0) * light[:, None, None, None] - 1, 0, 255)
    assert np.abs(augmented(tiles, rng(), settings) - wanted).max() < 0.51
    assert np.ptp(light) > 0.5


def test_stains_are_the_published_ones():
    np.testing.assert_allclose(STAINS[:2], rgb_from_hed[:2] / np.linalg.norm(rgb_from_hed[:2], axis=1)[:, None])
    np.testing.assert_allclose(STAINS[2] @ STAINS[:2].T, 0, atol=1e-12)


def test_a_shift_moves_by_whole_pixels_and_mirrors_at_the_border(tiles):
    settings = AugmentSettings(orientations=False, shift=0.2)
    moves = np.rint(drawn_changes(40, rng(), settings).shift * SIDE).astype(int)
    padded = np.pad(tiles, ((0, 0), (8, 8), (8, 8), (0, 0)), mode="reflect")
    for n, found in enumerate(augmented(tiles, rng(), settings)):
        top, left = 8 - moves[n]
        np.testing.assert_array_equal(found, padded[n, top : top + SIDE, left : left + SIDE])


def test_zoom_makes_a_square_larger_by_the_drawn_factor():
    side = 200
    tile = np.zeros((side, side, 3), np.uint8)
    tile[50:150, 50:150] = 255
    settings = AugmentSettings(orientations=False, zoom=0.3)
    zooms = drawn_changes(20, rng(), settings).zoom
    for zoom, found in zip(zooms, augmented(np.repeat(tile[None], 20, axis=0), rng(), settings), strict=True):
        assert abs((found[100, :, 0] > 0).sum() - 100 * zoom) <= 2


@pytest.mark.parametrize(("name", "value"), [("shift", 0.6), ("zoom", -0.1), ("stain_factor", 1.0)])
def test_a_strength_out_of_range_is_named(name, value):
    with pytest.raises(UsageError, match=f"{name} of augmentation is {value:g}"):
        AugmentSettings(**{name: value})


def test_light_variation_is_slight():
    tile = np.full((200, 8, 8, 3), (180, 120, 170), np.uint8)
    difference = np.abs(augmented(tile, rng(), LIGHT_STAIN).astype(int) - tile).mean()
    assert 1 < difference < 12
