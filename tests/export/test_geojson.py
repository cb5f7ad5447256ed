"""QuPath and any GeoJSON reader find the tiles where they are."""

from __future__ import annotations

import gzip
import json
from dataclasses import replace

import geojson
import geopandas
import numpy as np
import pytest
import shapely

from pyramidai_mpi.base.types import Decision, Mode
from pyramidai_mpi.export.geojson import write_geojson
from tests.results import result_of, write_file

# What QuPath reads, from qupath-core/src/main/java/qupath/lib/io (v0.4 and later):
# - PathObjectTypeAdapters.PathObjectTypeAdapter.parseObject: objectType is one of these, anything else becomes an
#   annotation; measurements must be an object (before 0.4 an array); children are looked for in childObjects.
OBJECT_TYPES = {"annotation", "detection", "tile", "cell", "tmaCore", "root"}


# - MeasurementListTypeAdapter: a map of names to doubles.
# - GsonTools.PathClassTypeAdapter.read: an object with name and color; PathClassProxy declares `int[] color`, and
#   arrayToRgb takes 3 numbers (or 4 with alpha).
def assert_qupath_reads(feature):
    properties = feature["properties"]
    assert properties["objectType"] in OBJECT_TYPES
    assert isinstance(properties["classification"]["name"], str)
    color = properties["classification"]["color"]
    assert len(color) == 3
    assert all(type(value) is int and 0 <= value <= 255 for value in color)
    measurements = properties.get("measurements", {})
    assert isinstance(measurements, dict)
    assert all(isinstance(value, int | float) and np.isfinite(value) for value in measurements.values())
    for child in properties.get("childObjects", []):
        assert_qupath_reads(child)


def loaded(path):
    """The file as JSON without NaN and Infinity, which JSON does not have."""

    def refuse(word):
        raise AssertionError(word)

    text = gzip.decompress(path.read_bytes()) if path.suffix == ".gz" else path.read_bytes()
    return json.loads(text, parse_constant=refuse)


def walked(features, parent=None):
    """All features at any depth with their parents."""
    for feature in features:
        yield feature, parent
        yield from walked(feature["properties"].get("childObjects", []), feature)


def corner_of(feature):
    xs, ys = np.array(feature["geometry"]["coordinates"][0]).T
    return int(xs.min()), int(ys.min()), int(xs.max() - xs.min()), int(ys.max() - ys.min())


def expected_tiles(result):
    """Corner and side of every tile, counted from its index, with its level and row."""
    bounds = result.slide.l0_bounds
    return {
        (int(col) * 64 * 2**n - bounds[0], int(row) * 64 * 2**n - bounds[1], 64 * 2**n, 64 * 2**n): (n, i)
        for n, level in result.tree.levels.items()
        for i, (col, row) in enumerate(level.index)
    }


@pytest.fixture(scope="module")
def result():
    """Of a slide with bounds at (7, 9)."""
    return result_of()


@pytest.fixture(scope="module")
def path(result, tmp_path_factory):
    return write_file(tmp_path_factory.mktemp("result") / "out.h5", result)


@pytest.fixture
def collection(path, tmp_path):
    write_geojson(path, tmp_path / "tiles.geojson")
    return loaded(tmp_path / "tiles.geojson")


def test_it_is_valid_geojson_at_every_depth(collection):
    assert geojson.loads(json.dumps(collection)).is_valid
    for feature, _ in walked(collection["features"]):
        assert geojson.loads(json.dumps(feature)).is_valid


def test_rings_are_closed_and_counter_clockwise_as_rfc_7946_asks(collection):
    for feature, _ in walked(collection["features"]):
        (ring,) = feature["geometry"]["coordinates"]
        assert len(ring) == 5
        assert ring[0] == ring[-1]
        assert shapely.LinearRing(ring).is_ccw


def test_it_follows_qupaths_rules(collection):
    for feature in collection["features"]:
        assert_qupath_reads(feature)
    assert {feature["properties"]["objectType"] for feature, _ in walked(collection["features"])} == {"tile"}


def test_tiles_lie_where_the_slides_pixels_are_seen_from_the_corner_of_its_bounds(collection, result):
    assert result.slide.l0_bounds == (7, 9)
    found = [corner_of(feature) for feature, _ in walked(collection["features"])]
    assert sorted(found) == sorted(expected_tiles(result))


def test_children_are_within_the_parent_that_the_result_names(collection, result):
    tiles = expected_tiles(result)
    for feature, parent in walked(collection["features"]):
        level, row = tiles[corner_of(feature)]
        named = int(result.tree.levels[level].parent[row])
        assert (parent is None) == (named == -1)
        if parent is not None:
            assert tiles[corner_of(parent)] == (level + 1, named)
            assert shapely.geometry.shape(parent["geometry"]).covers(shapely.geometry.shape(feature["geometry"]))


def test_measurements_are_the_probabilities_and_unreadable_tiles_have_none(collection, result):
    tiles = expected_tiles(result)
    for feature, _ in walked(collection["features"]):
        level, row = tiles[corner_of(feature)]
        probability = result.tree.levels[level].probability[row]
        measurements = feature["properties"].get("measurements")
        if result.tree.levels[level].decision[row] == Decision.UNREADABLE:
            assert measurements is None
            assert feature["properties"]["classification"]["name"] == "unreadable"
        else:
            assert set(measurements) == {"prob_normal", "prob_tumor", "level"}
            assert measurements["level"] == level
            assert np.float32(measurements["prob_tumor"]) == probability[1]
            assert np.float32(measurements["prob_normal"]) == probability[0]


def test_the_class_is_what_was_decided(collection, result):
    tiles = expected_tiles(result)
    names = {Decision.STOP: "normal", Decision.ZOOM: "tumor", Decision.UNREADABLE: "unreadable"}
    for feature, _ in walked(collection["features"]):
        level, row = tiles[corner_of(feature)]
        decision = Decision(int(result.tree.levels[level].decision[row]))
        assert feature["properties"]["classification"]["name"] == names[decision]


def test_compressed_it_holds_the_same(path, collection, tmp_path):
    write_geojson(path, tmp_path / "tiles.geojson.gz")
    assert loaded(tmp_path / "tiles.geojson.gz") == collection


def test_geopandas_loads_the_flat_form_and_finds_every_tile(path, result, tmp_path):
    write_geojson(path, tmp_path / "flat.geojson", flat=True)
    frame = geopandas.read_file(tmp_path / "flat.geojson")
    bounds = frame.geometry.bounds.astype(int)
    found = list(zip(bounds.minx, bounds.miny, bounds.maxx - bounds.minx, bounds.maxy - bounds.miny, strict=True))
    assert sorted(found) == sorted(expected_tiles(result))
    assert frame.geometry.is_valid.all()


def test_geopandas_loads_the_nested_form_and_finds_the_roots(path, result, tmp_path):
    write_geojson(path, tmp_path / "tiles.geojson")
    frame = geopandas.read_file(tmp_path / "tiles.geojson")
    assert len(frame) == len(result.tree.levels[2])
    bounds = frame.geometry.bounds
    assert (bounds.maxx - bounds.minx).eq(256).all()


def test_a_reference_run_has_no_roots_so_its_tiles_stand_alone(tmp_path):
    result = result_of(mode=Mode.REFERENCE)
    write_geojson(write_file(tmp_path / "out.h5", result), tmp_path / "tiles.geojson")
    features = loaded(tmp_path / "tiles.geojson")["features"]
    assert len(features) == len(result.tree.levels[0])
    assert all("childObjects" not in feature["properties"] for feature in features)


def test_any_name_of_a_class_is_written_as_it_is(tmp_path):
    made = result_of()
    names = ('50 % "sure"', "Tümör\\n")
    result = replace(made, model=replace(made.model, classes=names, positive_class=names[1]))
    write_geojson(write_file(tmp_path / "out.h5", result), tmp_path / "tiles.geojson")
    seen = {
        name
        for feature, _ in walked(loaded(tmp_path / "tiles.geojson")["features"])
        for name in feature["properties"].get("measurements", {})
    }
    assert seen == {f"prob_{names[0]}", f"prob_{names[1]}", "level"}


def test_a_result_without_tiles_is_an_empty_collection(tmp_path):
    write_geojson(write_file(tmp_path / "out.h5", result_of(np.zeros((10, 12), bool))), tmp_path / "tiles.geojson")
    assert loaded(tmp_path / "tiles.geojson") == {"type": "FeatureCollection", "features": []}
