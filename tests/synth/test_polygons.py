"""Outlines: reading, fitting, rasterising; points are checked against scikit-image."""

import gzip
import json
from pathlib import Path

import numpy as np
import pytest
from skimage.measure import points_in_poly

from pyramidai_mpi.base.errors import InputError, UsageError
from pyramidai_mpi.synth import Region, fit_regions, read_regions, to_geojson
from pyramidai_mpi.synth.polygons import CAMELYON_MPP, Outlines

CAMELYON = Path(__file__).parents[3] / "shared/data/camelyon16/train_tumor_polygons.json.gz"
SQUARE = ((10.0, 10.0), (30.0, 10.0), (30.0, 30.0), (10.0, 30.0))
HOLE = ((15.0, 15.0), (20.0, 15.0), (20.0, 20.0), (15.0, 20.0))


def star(seed, points=40):
    rng = np.random.default_rng(seed)
    angle = np.sort(rng.uniform(0, 2 * np.pi, points))
    reach = rng.uniform(20, 60, points)
    return tuple(zip((100 + reach * np.cos(angle)).tolist(), (90 + reach * np.sin(angle)).tolist(), strict=True))


def grid_points(l0_x, l0_y, step, shape):
    rows, cols = np.mgrid[: shape[0], : shape[1]]
    return np.column_stack([(l0_x + cols * step).ravel(), (l0_y + rows * step).ravel()])


@pytest.mark.parametrize("seed", range(8))
def test_a_rasterised_star_is_what_another_library_finds(seed):
    # odd offsets: no point of the grid lies on an edge, where either answer is right
    grid = (20.3, 11.7, 3.1, (50, 60))
    mask = Outlines([Region(star(seed))]).mask(*grid)
    expected = points_in_poly(grid_points(*grid), np.array(star(seed))).reshape(mask.shape)
    assert 0 < mask.sum() < mask.size
    np.testing.assert_array_equal(mask, expected)


def test_windows_of_a_mask_join_without_a_seam():
    outlines = Outlines([Region(star(1)), Region(star(2))])
    whole = outlines.mask(0, 0, 2, (100, 100))
    for r, c in [(0, 0), (30, 17), (64, 50)]:
        part = outlines.mask(2 * c, 2 * r, 2, (30, 30))
        np.testing.assert_array_equal(part, whole[r : r + 30, c : c + 30])


def test_a_hole_is_not_inside():
    mask = Outlines([Region(SQUARE, (HOLE,))]).mask(0.5, 0.5, 1, (40, 40))
    assert mask.sum() == 20 * 20 - 5 * 5


def test_overlapping_regions_are_a_union():
    one = Outlines([Region(SQUARE)]).mask(0.5, 0.5, 1, (40, 40))
    both = Outlines([Region(SQUARE), Region(SQUARE)]).mask(0.5, 0.5, 1, (40, 40))
    np.testing.assert_array_equal(one, both)


def test_geojson_comes_back_as_it_went(tmp_path):
    regions = (Region(SQUARE, (HOLE,)), Region(star(3)))
    path = tmp_path / "truth.geojson"
    path.write_text(to_geojson(regions))
    assert read_regions(path) == (regions, None)


def test_geojson_is_classified_as_in_qupath():
    (feature,) = json.loads(to_geojson([Region(SQUARE)]))["features"]
    assert feature["properties"]["classification"]["name"] == "Tumor"
    ring = feature["geometry"]["coordinates"][0]
    assert ring[0] == ring[-1]
    assert len(ring) == 5


def test_camelyon_outlines_are_read_with_their_holes_and_spacing(tmp_path):
    path = tmp_path / "outlines.json.gz"
    document = {"tumor_x": {"positive": [SQUARE], "negative": [HOLE]}}
    path.write_bytes(gzip.compress(json.dumps(document).encode()))
    assert read_regions(path, "tumor_x") == ((Region(SQUARE, (HOLE,)),), CAMELYON_MPP)


def test_a_slide_that_is_not_in_the_file_is_refused_with_some_that_are(tmp_path):
    path = tmp_path / "outlines.json"
    path.write_text(json.dumps({"tumor_x": {"positive": [SQUARE], "negative": []}}))
    for slide in (None, "tumor_y"):
        with pytest.raises(UsageError, match="tumor_x"):
            read_regions(path, slide)


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"[1, 2]",
        b"\x1f\x8bbroken",
        b'{"type": "FeatureCollection", "features": []}',
        b'{"type": "Polygon", "coordinates": [[[1, 2], [3, 4]]]}',
        b'{"type": "Feature"}',
        b'{"slide": {"positive": 7}}',
    ],
)
def test_a_file_without_polygons_is_bad_input(tmp_path, content):
    path = tmp_path / "bad.json"
    path.write_bytes(content)
    with pytest.raises(InputError):
        read_regions(path, "slide")


def test_regions_keep_their_size_where_they_fit_and_lie_in_the_middle():
    (region,) = fit_regions((Region(SQUARE),), 1000, 600, scale=2.0)
    points = np.array(region.outline)
    assert (np.ptp(points, axis=0) == 40).all()
    assert (points.mean(axis=0) == (500, 300)).all()


def test_regions_larger_than_the_slide_are_shrunk_into_it():
    (region,) = fit_regions((Region(SQUARE),), 100, 1000, scale=50.0)
    points = np.array(region.outline)
    assert np.ptp(points, axis=0) == pytest.approx([80, 80], abs=0.2)


@pytest.mark.real
@pytest.mark.skipif(not CAMELYON.exists(), reason="needs the CAMELYON16 outlines of ../shared/data")
def test_real_outlines_fit_a_slide_of_any_size():
    regions, mpp = read_regions(CAMELYON, "tumor_003")
    assert len(regions) == 13
    fitted = fit_regions(regions, 20000, 20000, mpp / 0.25)
    points = np.concatenate([np.array(region.outline) for region in fitted])
    assert points.min() >= 0
    assert points.max() <= 20000
    assert Outlines(fitted).mask(0, 0, 64, (313, 313)).any()
