"""The stitched map of explained tiles is what painting them pixel by pixel gives."""

from __future__ import annotations

import numpy as np
import pytest

from pyramidai_mpi.export.explained.stitched import BLOCK, pyramid_of, seen_at, stitched
from tests.explained import TILE, explained_tiles, explanation_of


def painted(explanation, pixel: int) -> np.ndarray:
    """Mean over the level-0 pixels of each pixel, of all maps that lie there; NaN where less than half is covered."""
    tiles, (width, height) = explanation.tiles, explanation.slide.l0_size
    rows, cols = -(-height // pixel), -(-width // pixel)
    margin = 4 * TILE
    total = np.zeros((rows * pixel + 2 * margin, cols * pixel + 2 * margin))
    count = np.zeros_like(total)
    for (x, y), values in zip(tiles.l0_coords.tolist(), tiles.maps, strict=True):
        if np.isnan(values).any():
            continue
        times = TILE // values.shape[0]
        part = np.s_[margin + y : margin + y + TILE, margin + x : margin + x + TILE]
        total[part] += values.astype(np.float64).repeat(times, axis=0).repeat(times, axis=1)
        count[part] += 1
    within = np.s_[margin : margin + rows * pixel, margin : margin + cols * pixel]

    def summed(values):
        return values[within].reshape(rows, pixel, cols, pixel).sum(axis=(1, 3))

    with np.errstate(invalid="ignore", divide="ignore"):
        return np.where(summed(count) >= pixel**2 / 2, summed(total) / summed(count), np.nan).astype(np.float32)


def assert_equal(explanation, picture, *, exactly=False):
    expected = painted(explanation, round(picture.l0_side))
    assert picture.shape == expected.shape
    found = picture.values()
    np.testing.assert_array_equal(np.isnan(found), np.isnan(expected))
    np.testing.assert_allclose(found, expected, rtol=0 if exactly else 1e-6)


GRID = np.array([(col, row) for row in range(3) for col in range(5)])


def test_tiles_side_by_side_have_their_very_numbers():
    explanation = explanation_of(explained_tiles(GRID, map_side=8, unreadable=(7,)))
    picture = stitched(explanation)
    assert picture.l0_side == TILE / 8
    assert_equal(explanation, picture, exactly=True)


@pytest.mark.parametrize("stride", [16, 8, 12, 3])
def test_overlaps_are_averaged(stride):
    """At strides of whole pixels of the maps (4 px), and of parts of them."""
    explanation = explanation_of(explained_tiles(GRID, stride=stride, map_side=8, signed=True))
    assert_equal(explanation, stitched(explanation))


def test_windows_that_reach_beyond_the_slide_are_cut():
    tiles = explained_tiles(GRID, stride=20)
    tiles.l0_coords[:] += np.array([-17, -9])
    explanation = explanation_of(tiles, l0_size=(70, 41))
    assert_equal(explanation, stitched(explanation))


@pytest.mark.parametrize("bounds", [{"most_pixels": 300}, {"most_covered": 100}])
def test_a_picture_of_too_many_pixels_has_larger_ones(bounds):
    explanation = explanation_of(explained_tiles(GRID, map_side=16))
    picture = stitched(explanation, **bounds)
    assert picture.l0_side in {8, 16, 32}
    assert_equal(explanation, picture)


def test_rounded_corners_of_an_uneven_grid_leave_no_gaps():
    """At 2.013 level-0 pixels a pixel, corners are rounded; every number of every map is there once."""
    n, downsample = 40, 2.013
    places = np.array([(col, row) for row in range(n) for col in range(n)])
    tiles = explained_tiles(places, map_side=TILE, seed=4)
    tiles.l0_coords[:] = np.rint(places * TILE * downsample)
    side = int(n * TILE * downsample)
    explanation = explanation_of(tiles, l0_size=(side, side), downsample=downsample)
    expected = tiles.maps.reshape(n, n, TILE, TILE).transpose(0, 2, 1, 3).reshape(n * TILE, n * TILE)
    np.testing.assert_array_equal(stitched(explanation).values(), expected)


def test_a_picture_of_many_blocks_is_that_of_one_array():
    places = np.array([(0, 0), (7, 7), (8, 7), (7, 8), (40, 11), (63, 31)])
    explanation = explanation_of(explained_tiles(places, map_side=TILE), l0_size=(64 * TILE, 32 * TILE))
    picture = stitched(explanation)
    assert len(picture.blocks) == 5  # the first two share one
    assert_equal(explanation, picture, exactly=True)
    part = picture.part(BLOCK - 30, BLOCK + 40, BLOCK - 50, 2 * BLOCK + 3)
    np.testing.assert_array_equal(part, picture.values()[BLOCK - 30 : BLOCK + 40, BLOCK - 50 : 2 * BLOCK + 3])


@pytest.mark.parametrize("signed", [False, True])
def test_no_spot_is_lost_from_an_overview(signed):
    """Each reduced pixel is the largest, or of signed ones the furthest from 0, of those below it."""
    places = np.array([(0, 0), (7, 7), (63, 31)])
    explanation = explanation_of(
        explained_tiles(places, map_side=TILE, signed=signed), l0_size=(64 * TILE - 5, 32 * TILE - 9)
    )
    levels = pyramid_of(stitched(explanation), signed=signed)
    assert [one.shape for one in levels] == [(1015, 2043), (508, 1022), (254, 511), (127, 256)]
    whole = np.full((1024, 2048), np.nan, np.float32)
    whole[:1015, :2043] = levels[0].values()
    for n, level in enumerate(levels):
        blocks = whole.reshape(1024 >> n, 1 << n, 2048 >> n, 1 << n).transpose(0, 2, 1, 3)
        blocks = blocks.reshape(1024 >> n, 2048 >> n, -1)
        weight = np.nan_to_num(np.abs(blocks) if signed else blocks, nan=-1)
        expected = np.take_along_axis(blocks, weight.argmax(axis=2)[..., None], axis=2)[..., 0]
        height, width = level.shape
        np.testing.assert_array_equal(level.values(), expected[:height, :width])


def test_a_part_of_a_picture_shows_the_numbers_at_its_pixels():
    explanation = explanation_of(explained_tiles(GRID, map_side=8))
    levels = pyramid_of(stitched(explanation), signed=False)
    rows, cols = (10, 90), (20, 140)
    found = seen_at(levels, 1.0, rows, cols)
    for row, col in np.random.default_rng(0).integers((0, 0), found.shape, (200, 2)).tolist():
        expected = levels[0].values()[(row + 10) // 4, (col + 20) // 4]
        assert found[row, col] == expected or np.isnan([found[row, col], expected]).all()
    assert seen_at(levels, 1.0, (5, 5), (0, 7)).shape == (0, 7)
