"""QuPath and any GeoJSON reader find the tiles where they are."""

from __future__ import annotations

import gzip
import json
from collections import Counter
from dataclasses import replace

import geojson
import geopandas
import numpy as np
import pytest
import shapely

from pyramidai_mpi.base.errors import UsageError
from pyramidai_mpi.base.intended_use import claim_of
from pyramidai_mpi.base.types import Decision, Mode
from pyramidai_mpi.export.geojson import write_flat, write_geojson
from pyramidai_mpi.export.outlines import write_outlines
from pyramidai_mpi.store.results.summary import read_account
from tests.colour_vision import least_difference
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


def classes_of(features):
    return Counter(feature["properties"]["classification"]["name"] for feature, _ in walked(features))


def test_the_class_is_what_was_decided(collection, result):
    tiles = expected_tiles(result)
    for feature, _ in walked(collection["features"]):
        level, row = tiles[corner_of(feature)]
        closer = "zoomed into" if level else "tumor"
        names = {Decision.STOP: "normal", Decision.ZOOM: closer, Decision.UNREADABLE: "unreadable"}
        decision = Decision(int(result.tree.levels[level].decision[row]))
        assert feature["properties"]["classification"]["name"] == names[decision]


@pytest.mark.parametrize("flat", [False, True])
def test_there_are_as_many_of_the_positive_class_as_the_summary_says_positives(path, result, tmp_path, flat):
    write_geojson(path, tmp_path / "tiles.geojson", flat=flat)
    found, zoomed = classes_of(loaded(tmp_path / "tiles.geojson")["features"]), result.tree.count(Decision.ZOOM)
    assert found["tumor"] == read_account(path).positives == zoomed[0] > 0
    assert found["zoomed into"] == zoomed[1] + zoomed[2] > 0


def test_one_class_has_one_colour_and_no_two_look_alike(collection):
    """Seen with each kind of dichromacy; colours of which CIE 1976 differs by less than 20 are taken for each other."""
    colours = {}
    for feature, _ in walked(collection["features"]):
        classification = feature["properties"]["classification"]
        assert colours.setdefault(classification["name"], classification["color"]) == classification["color"]
    assert set(colours) == {"tumor", "normal", "zoomed into", "unreadable"}
    assert least_difference(list(colours.values())) > 20


@pytest.mark.parametrize("flat", [False, True])
@pytest.mark.parametrize("levels", [(0,), (1,), (0, 1), (0, 2), (0, 1, 2)])
def test_of_some_levels_all_tiles_are_there_once_within_parents_that_are(path, result, tmp_path, flat, levels):
    write_geojson(path, tmp_path / "tiles.geojson", flat=flat, levels=levels)
    expected = expected_tiles(result)
    found = list(walked(loaded(tmp_path / "tiles.geojson")["features"]))
    assert sorted(corner_of(feature) for feature, _ in found) == sorted(
        corner for corner, (level, _) in expected.items() if level in levels
    )
    for feature, parent in found:
        level, row = expected[corner_of(feature)]
        named = int(result.tree.levels[level].parent[row])
        within = not flat and level + 1 in levels and named >= 0
        assert (None if parent is None else expected[corner_of(parent)]) == ((level + 1, named) if within else None)


def test_a_level_that_is_not_there_is_named_and_nothing_written(path, tmp_path):
    with pytest.raises(UsageError, match=r"slide\.tif has levels 0 to 2, not 3"):
        write_geojson(path, tmp_path / "tiles.geojson", levels=(0, 3))
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("write", [write_geojson, write_flat, write_outlines])
@pytest.mark.parametrize("use", [None, "research", "demonstration"])
def test_what_the_model_is_for_stands_before_the_features_and_readers_pass_over_it(result, tmp_path, write, use):
    stated = replace(result, model=replace(result.model, intended_use=use))
    write(write_file(tmp_path / "out.h5", stated), tmp_path / "tiles.geojson")
    collection = loaded(tmp_path / "tiles.geojson")
    assert geojson.loads(json.dumps(collection)).is_valid
    assert len(geopandas.read_file(tmp_path / "tiles.geojson")) == len(collection["features"]) > 0
    if use is None:
        assert set(collection) == {"type", "features"}
    else:
        assert collection["model"] == {"name": "colour", "intended_use": use, "note": claim_of(use)}
    if write is write_outlines:  # PathAnnotationObject.getDescription of QuPath
        described = {f["properties"].get("metadata", {}).get("ANNOTATION_DESCRIPTION") for f in collection["features"]}
        assert described == {claim_of(use) if use == "demonstration" else None}


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
