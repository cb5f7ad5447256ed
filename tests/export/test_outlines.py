"""Outlines go round the positive tiles, smoothly, and measure them rightly."""

from __future__ import annotations

import json
from dataclasses import replace

import geojson
import h5py
import numpy as np
import pytest
import shapely
from scipy import ndimage
from shapely.geometry import shape

from pyramidai_mpi.export import outlines
from pyramidai_mpi.export.outlines import find_regions, write_outlines
from pyramidai_mpi.pyramid.tree import TreeLevel
from pyramidai_mpi.store.results.tables import iter_rows, read_header
from tests.results import result_of, write_file
from tests.trees import TILE

MPP = 0.2528


def result_with(positive: np.ndarray):
    """A result whose level-0 tiles are positive where a picture of them says so; scores grow along the rows."""
    rows, cols = positive.shape
    made = result_of(np.ones((rows * 2, cols * 2), bool))
    index = np.argwhere(np.ones_like(positive))[:, ::-1].astype(np.uint32)
    score = np.linspace(0.25, 0.75, len(index), dtype=np.float32)
    level = TreeLevel(
        index, np.stack([1 - score, score], axis=1), positive.ravel().astype(np.uint8), np.zeros(len(index), np.int64)
    )
    levels = dict(made.tree.levels) | {0: level}
    coords = (index.astype(np.int64) * TILE, *made.l0_coords[1:])
    return replace(made, tree=replace(made.tree, levels=levels), l0_coords=coords), score.reshape(positive.shape)


def regions_of(tmp_path, result):
    path = write_file(tmp_path / "out.h5", result)
    with h5py.File(path) as file:
        return list(find_regions(file, read_header(file)))


@pytest.mark.parametrize("seed", range(4))
@pytest.mark.parametrize("share", [0.1, 0.5, 0.7])
def test_regions_are_the_connected_components_that_scipy_finds(tmp_path, seed, share):
    positive = np.random.default_rng(seed).random((19, 23)) < share
    result, score = result_with(positive)
    regions = regions_of(tmp_path, result)
    labels, n_regions = ndimage.label(positive)
    sizes = ndimage.sum_labels(positive, labels, range(1, n_regions + 1))
    peaks = ndimage.maximum(score, labels, range(1, n_regions + 1))
    found = sorted((region.n_tiles, np.float32(region.max_probability)) for region in regions)
    assert found == sorted(zip(sizes.astype(int).tolist(), np.asarray(peaks, np.float32), strict=True))
    for region in regions:
        assert region.area_um2 == pytest.approx(region.n_tiles * (TILE * MPP) ** 2)
    assert [region.n_tiles for region in regions] == sorted((region.n_tiles for region in regions), reverse=True)


@pytest.mark.parametrize("block_rows", [1, 7, 50])
def test_regions_do_not_depend_on_where_blocks_of_rows_end(tmp_path, block_rows, monkeypatch):
    result, _ = result_with(np.random.default_rng(2).random((20, 30)) < 0.7)
    whole = regions_of(tmp_path, result)
    monkeypatch.setattr(outlines, "iter_rows", lambda file, level: iter_rows(file, level, block_rows))
    in_blocks = regions_of(tmp_path, result)
    assert len(whole) > 1
    assert [(one.n_tiles, one.max_probability, one.outline.wkb) for one in in_blocks] == [
        (one.n_tiles, one.max_probability, one.outline.wkb) for one in whole
    ]


@pytest.mark.parametrize("seed", range(4))
def test_an_outline_holds_the_middle_of_its_tiles_and_of_no_other(tmp_path, seed):
    positive = np.random.default_rng(seed).random((17, 21)) < 0.55
    result, _ = result_with(positive)
    outlines = [region.outline for region in regions_of(tmp_path, result)]
    assert all(outline.is_valid for outline in outlines)
    everything = shapely.union_all(outlines)
    rows, cols = np.indices(positive.shape)
    inside = shapely.contains_xy(everything, (cols + 0.5) * TILE, (rows + 0.5) * TILE)
    assert np.array_equal(inside, positive)


def test_corners_are_cut_a_little_and_only_there(tmp_path):
    positive = np.zeros((12, 12), bool)
    positive[2:10, 3:9] = True
    result, _ = result_with(positive)
    (region,) = regions_of(tmp_path, result)
    square = shapely.box(3 * TILE, 2 * TILE, 9 * TILE, 10 * TILE)
    assert square.covers(region.outline)
    assert 0.99 < region.outline.area / square.area < 1
    assert square.difference(region.outline).distance(shapely.Point(6 * TILE, 2 * TILE)) > TILE
    assert len(region.outline.exterior.coords) - 1 == 16


def test_a_single_tile_keeps_most_of_its_area(tmp_path):
    positive = np.zeros((5, 5), bool)
    positive[2, 2] = True
    result, _ = result_with(positive)
    (region,) = regions_of(tmp_path, result)
    assert region.outline.area / TILE**2 == pytest.approx(0.83, abs=0.01)


def test_a_region_keeps_its_hole(tmp_path):
    positive = np.ones((6, 6), bool)
    positive[2:4, 2:4] = False
    result, _ = result_with(positive)
    (region,) = regions_of(tmp_path, result)
    (hole,) = region.outline.interiors
    assert not hole.is_ccw
    assert shapely.Polygon(hole).contains(shapely.Point(3 * TILE, 3 * TILE))


def test_the_file_holds_annotations_in_qupaths_words_from_the_bounds_on(tmp_path):
    positive = np.zeros((8, 8), bool)
    positive[2:5, 3:7] = True
    result, score = result_with(positive)
    write_outlines(write_file(tmp_path / "out.h5", result), tmp_path / "regions.geojson")
    collection = json.loads((tmp_path / "regions.geojson").read_text())
    assert geojson.loads(json.dumps(collection)).is_valid
    (feature,) = collection["features"]
    properties = feature["properties"]
    assert properties["objectType"] == "annotation"
    assert properties["classification"]["name"] == "tumor"
    assert properties["measurements"]["n_tiles"] == 12
    assert properties["measurements"]["area_um2"] == pytest.approx(12 * (TILE * MPP) ** 2)
    assert np.float32(properties["measurements"]["max_probability"]) == score[positive].max()
    outline = shape(feature["geometry"])
    assert outline.exterior.is_ccw
    assert outline.bounds == (3 * TILE - 7, 2 * TILE - 9, 7 * TILE - 7, 5 * TILE - 9)


def test_without_positive_tiles_there_is_nothing_to_outline(tmp_path):
    result, _ = result_with(np.zeros((5, 5), bool))
    write_outlines(write_file(tmp_path / "out.h5", result), tmp_path / "regions.geojson")
    assert json.loads((tmp_path / "regions.geojson").read_text())["features"] == []
