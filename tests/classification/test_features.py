"""Features of drawn heatmaps, counted by hand and from second moments."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.spatial import ConvexHull

from pyramidai_mpi.classification.features import FeatureKind, feature_names, heatmap_features, histogram_features

NAMES = feature_names(FeatureKind.HEATMAP, 20)


def named(score: np.ndarray) -> dict[str, float]:
    return dict(zip(NAMES, heatmap_features(score.astype(np.float32)).tolist(), strict=True))


@pytest.fixture
def two_regions() -> np.ndarray:
    """A map of 20 x 30 tiles, 100 of them glass, with a bar of 3 x 8, a square of 4 x 4 and a single tile."""
    score = np.full((20, 30), 0.125)
    score[:, :5] = np.nan
    score[2:5, 10:18] = 0.75  # the bar
    score[3, 12] = 1.0
    score[10:14, 10:14] = 0.625
    score[18, 25] = 0.5
    return score


def test_there_are_thirty():
    assert len(NAMES) == len(set(NAMES)) == 30


def test_shares_and_excesses_are_counted_over_the_tissue(two_regions):
    found = named(two_regions)
    assert found["area_share_0.5"] == (24 + 16 + 1) / 500
    assert found["area_share_0.7"] == 24 / 500
    assert found["area_share_0.9"] == 1 / 500
    assert found["excess_0.5"] == pytest.approx((23 * 0.25 + 0.5 + 16 * 0.125) / 500, abs=1e-12)
    assert found["excess_0.9"] == pytest.approx(0.1 / 500, abs=1e-12)


def test_the_two_largest_regions_are_described(two_regions):
    found = named(two_regions)
    # the centres of a rectangle of a x b tiles have variances (a^2 - 1) / 12 and (b^2 - 1) / 12
    bar = {
        "area": 24, "extent": 1, "bbox_area": 24, "major_axis": 4 * np.sqrt(63 / 12), "max_score": 1.0,
        "min_score": 0.75, "mean_score": (23 * 0.75 + 1) / 24, "aspect": 3 / 8, "solidity": 1,
        "eccentricity": np.sqrt(1 - 8 / 63),
    }  # fmt: skip
    square = {
        "area": 16, "extent": 1, "bbox_area": 16, "major_axis": 4 * np.sqrt(15 / 12), "max_score": 0.625,
        "min_score": 0.625, "mean_score": 0.625, "aspect": 1, "solidity": 1, "eccentricity": 0,
    }  # fmt: skip
    assert {name: found[f"region1_{name}"] for name in bar} == pytest.approx(bar, abs=1e-9)
    assert {name: found[f"region2_{name}"] for name in square} == pytest.approx(square, abs=1e-9)


def test_a_ragged_region_agrees_with_moments_and_hull_computed_here():
    rng = np.random.default_rng(6)
    rows, cols = np.mgrid[:40, :60]
    inside = (np.hypot((rows - 20) / 9, (cols - 30) / 20) < 1) & (rng.random((40, 60)) < 0.93)
    score = np.where(inside, rng.uniform(0.5, 1, inside.shape), 0.1).astype(np.float32)
    found = named(score)
    points = np.argwhere(inside).astype(float)  # hangs together: few holes in a filled ellipse
    small, large = np.linalg.eigvalsh(np.cov(points.T, bias=True))
    assert found["region1_area"] == len(points)
    assert found["region1_major_axis"] == pytest.approx(4 * np.sqrt(large), abs=1e-9)
    assert found["region1_eccentricity"] == pytest.approx(np.sqrt(1 - small / large), abs=1e-9)
    height, width = np.ptp(points, axis=0) + 1
    assert found["region1_bbox_area"] == height * width
    assert found["region1_extent"] == pytest.approx(len(points) / (height * width), abs=1e-12)
    assert found["region1_aspect"] == pytest.approx(height / width, abs=1e-12)
    values = score[inside].astype(float)
    assert found["region1_max_score"] == values.max()
    assert found["region1_min_score"] == values.min()
    assert found["region1_mean_score"] == pytest.approx(values.mean(), abs=1e-9)
    # skimage counts the pixels whose centre lies in the hull of the pixels' edge midpoints; compare with that count
    edges = np.concatenate([points + step for step in ([0.5, 0], [-0.5, 0], [0, 0.5], [0, -0.5])])
    hull = ConvexHull(edges)
    grid = np.stack([rows.ravel(), cols.ravel()], axis=1)
    covered = (grid @ hull.equations[:, :2].T + hull.equations[:, 2] <= 1e-9).all(axis=1).sum()
    assert found["region1_solidity"] == pytest.approx(len(points) / covered, abs=1e-9)


def test_tiles_that_touch_at_corners_are_one_region():
    score = np.zeros((4, 4))
    score[0, 0] = score[1, 1] = 0.9
    assert named(score)["region1_area"] == 2
    assert named(score)["region2_area"] == 0


def test_a_slide_without_tissue_or_tumour_is_all_zero():
    assert not heatmap_features(np.full((5, 5), np.nan, np.float32)).any()
    assert not histogram_features(np.full((5, 5), np.nan, np.float32), 10).any()
    assert not heatmap_features(np.full((5, 5), 0.4, np.float32)).any()


def test_the_histogram_is_numpys_over_the_tiles():
    rng = np.random.default_rng(1)
    score = rng.random((30, 40)).astype(np.float32)
    score[:, :7] = np.nan
    score[3, 10:14] = [0, 1, 0.5, 0.25]
    values = score[~np.isnan(score)]
    expected = np.histogram(values.astype(float), bins=8, range=(0, 1))[0] / len(values)
    np.testing.assert_allclose(histogram_features(score, 8), expected, atol=1e-12)
    assert len(feature_names(FeatureKind.HISTOGRAM, 8)) == 8


@pytest.mark.parametrize("times", [2, 5])
def test_of_finer_cells_areas_and_lengths_are_those_in_windows(two_regions, times):
    whole = named(two_regions)
    fine = np.kron(two_regions, np.ones((times, times))).astype(np.float32)
    found = dict(zip(NAMES, heatmap_features(fine, 1 / times).tolist(), strict=True))
    for name, value in whole.items():
        if name.endswith(("major_axis", "eccentricity")):
            continue
        assert found[name] == pytest.approx(value, abs=1e-6), name
    # the bar's cells have the variances of (a k)^2 - 1 over 12, in cells of 1 / k
    assert found["region1_major_axis"] == pytest.approx(4 * np.sqrt((64 - 1 / times**2) / 12), abs=1e-9)
