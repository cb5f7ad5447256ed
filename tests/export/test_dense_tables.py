"""Tables, outlines and pictures of windows of results with strides are those of the file's tables."""

from __future__ import annotations

import csv
import gzip
import json

import h5py
import numpy as np
import pytest
import shapely
from PIL import Image

import pyramidai_mpi
from pyramidai_mpi.base.errors import UsageError
from pyramidai_mpi.base.types import WindowState
from pyramidai_mpi.cli.main import run_command_line
from pyramidai_mpi.export import cell_squares
from pyramidai_mpi.export.cells import STATE_WORDS
from pyramidai_mpi.export.clam import write_clam
from pyramidai_mpi.export.csv_table import write_csv
from pyramidai_mpi.export.geojson import write_flat, write_geojson
from pyramidai_mpi.export.outlines import write_outlines
from pyramidai_mpi.export.tiles import write_tiles
from pyramidai_mpi.export.top_tiles import highest_windows
from pyramidai_mpi.store.results.reader import open_result
from pyramidai_mpi.store.results.tables import read_header
from tests.dense import MPP, THRESHOLDS, WINDOW, hill, painted, windows_in


def n_levels(path):
    with h5py.File(path) as file:
        return len(file["levels"])


def attributes_of(path, level):
    with h5py.File(path) as file:
        return dict(file[f"levels/{level}"].attrs)


def test_csv_has_a_line_a_window_with_the_score_of_its_centre(dense, tmp_path):
    write_csv(dense, tmp_path / "out.csv")
    with (tmp_path / "out.csv").open(newline="") as file:
        lines = list(csv.DictReader(file))
    expected = [(level, *one) for level in range(n_levels(dense)) for one in windows_in(dense, level)]
    assert len(lines) == len(expected)
    for line, (level, col, row, x, y, score, state) in zip(lines, expected, strict=True):
        said = tuple(float(line[name]) for name in ("level", "col", "row", "centre_x", "centre_y"))
        assert said == (level, col, row, x, y)
        assert (line["state"], line["stride"]) == (STATE_WORDS[state], str(attributes_of(dense, level)["cell_px"]))
        assert float(line["minx"]) + float(line["width"]) / 2 == x
        assert float(line["miny"]) + float(line["height"]) / 2 == y
        if state == WindowState.UNREADABLE:
            assert (line["prob_tumor"], line["outcome"]) == ("", "unreadable")
        else:
            assert np.float32(line["prob_tumor"]) == np.float32(score) == np.float32(hill(x, y))


def test_csv_of_one_level_is_the_data_frame(dense, tmp_path):
    write_csv(dense, tmp_path / "out.csv", levels=(0,))
    pandas = pytest.importorskip("pandas")
    frame = pyramidai_mpi.open_result(dense).levels[0].to_pandas()
    read = pandas.read_csv(tmp_path / "out.csv")
    assert list(read.columns) == list(frame.columns)
    assert np.allclose(read["prob_tumor"], frame["prob_tumor"], equal_nan=True)
    assert (read.drop(columns="prob_tumor") == frame.drop(columns="prob_tumor")).all(axis=None)


def test_clam_gets_corners_of_windows_and_how_far_apart_they_lie(dense, tmp_path):
    write_clam(dense, tmp_path)
    for level in range(n_levels(dense)):
        attributes = attributes_of(dense, level)
        (path,) = (tmp_path / f"level{level}").iterdir()
        with h5py.File(path) as file:
            coords, said = file["coords"][...], dict(file["coords"].attrs)
        expected = windows_in(dense, level)
        half = WINDOW / 2 * attributes["downsample"]
        assert coords.tolist() == [[x - half, y - half] for _, _, x, y, _, _ in expected]
        assert (said["patch_size"], said["patch_level"]) == (WINDOW, attributes["network"])
        assert said["patch_size_level0"] == WINDOW * attributes["downsample"]
        assert said["stride"] == attributes["cell_px"]
        assert said["overlap"] == WINDOW - attributes["cell_px"]
        assert said["stride_level0"] == attributes["cell_px"] * attributes["downsample"]


@pytest.mark.parametrize("write", [write_outlines, write_geojson])
def test_outlines_are_those_of_positive_cells(dense, tmp_path, write):
    write(dense, tmp_path / "out.geojson.gz")
    document = json.loads(gzip.decompress((tmp_path / "out.geojson.gz").read_bytes()))
    score, look = painted(dense)
    networks = [attributes_of(dense, level)["network"] for level in range(n_levels(dense))]
    side = attributes_of(dense, 0)["cell_px"]
    positive = (score >= THRESHOLDS[0]) & np.isin(look, np.flatnonzero(np.array(networks) == 0))
    found = document["features"]
    assert len(found) > 1
    measured = [one["properties"]["measurements"] for one in found]
    assert sum(one["n_cells"] for one in measured) == positive.sum()
    assert sum(one["area_um2"] for one in measured) == pytest.approx(positive.sum() * (side * MPP) ** 2)
    assert max(one["max_probability"] for one in measured) == pytest.approx(float(score[positive].max()))
    covered = shapely.union_all([shapely.geometry.shape(one["geometry"]) for one in found])
    for y, x in np.ndindex(positive.shape):  # corners alone are cut
        assert covered.contains(shapely.Point((x + 0.5) * side, (y + 0.5) * side)) == positive[y, x]


def test_squares_are_cells_where_they_are_asked_for(dense, tmp_path):
    write_flat(dense, tmp_path / "out.geojson", levels=(0,))
    found = json.loads((tmp_path / "out.geojson").read_text())["features"]
    side = attributes_of(dense, 0)["cell_px"]
    for one, (col, row, _, _, score, state) in zip(found, windows_in(dense, 0), strict=True):
        assert shapely.geometry.shape(one["geometry"]).bounds == tuple(k * side for k in (col, row, col + 1, row + 1))
        properties = one["properties"]
        if state == WindowState.UNREADABLE:
            assert (properties["classification"]["name"], "measurements" in properties) == ("unreadable", False)
        else:
            assert properties["classification"]["name"] == ("tumor" if score >= THRESHOLDS[0] else "normal")
            assert properties["measurements"] == {
                "prob_tumor": pytest.approx(score, rel=1e-8),
                "level": 0,
                "stride": side,
            }


def test_more_squares_than_programs_open_are_refused(dense, tmp_path, monkeypatch):
    monkeypatch.setattr(cell_squares, "MOST_SQUARES", 10)
    with pytest.raises(UsageError, match="leave --flat out for outlines"):
        write_flat(dense, tmp_path / "out.geojson")
    assert not (tmp_path / "out.geojson").exists()


def test_levels_of_outlines_are_refused(dense, tmp_path):
    with pytest.raises(UsageError, match="give --flat as well"):
        write_geojson(dense, tmp_path / "out.geojson", levels=(0,))
    assert not (tmp_path / "out.geojson").exists()


def highest_apart(path, most):
    """The highest windows of level 0's network, by trying all; none nearer than half a window to a higher one."""
    windows = [
        (-score, y, x, level, col, row)
        for level in range(n_levels(path))
        if attributes_of(path, level)["network"] == 0
        for col, row, x, y, score, state in windows_in(path, level)
        if state == WindowState.LOOKED
    ]
    chosen = []
    for one in sorted(windows):
        if len(chosen) < most and all(
            max(abs(one[1] - other[1]), abs(one[2] - other[2])) >= WINDOW / 2 for other in chosen
        ):
            chosen.append(one)
    return chosen


@pytest.mark.parametrize("top", [3, 1000])
def test_the_highest_windows_are_cut_and_none_twice(dense, lossless_slide, stored_images, tmp_path, top):
    write_tiles(dense, tmp_path / "out", lossless_slide, top=top)
    with (tmp_path / "out/tiles.csv").open(newline="") as file:
        lines = list(csv.DictReader(file))
    expected = highest_apart(dense, top)
    assert len(expected) >= 3
    canvas = np.full((768 + 4 * WINDOW, 1024 + 4 * WINDOW, 3), 255, np.uint8)
    canvas[2 * WINDOW : -2 * WINDOW, 2 * WINDOW : -2 * WINDOW] = stored_images[0]
    for line, (score, y, x, level, col, row) in zip(lines, expected, strict=True):
        assert [int(line[name]) for name in ("level", "col", "row")] == [level, col, row]
        assert np.float32(line["score"]) == np.float32(-score)
        assert line["prob_normal"] == ""
        left, upper = int(x - WINDOW / 2), int(y - WINDOW / 2)
        assert (int(line["l0_x"]), int(line["l0_y"]), int(line["l0_side"])) == (left, upper, WINDOW)
        assert line["outcome"] == ("positive" if -score >= THRESHOLDS[0] else "negative")
        pixels = np.asarray(Image.open(tmp_path / "out" / line["file"]))
        part = canvas[upper + 2 * WINDOW : upper + 3 * WINDOW, left + 2 * WINDOW : left + 3 * WINDOW]
        assert np.array_equal(pixels, part)


@pytest.mark.parametrize("most", [1, 2, 7])
def test_the_blocks_of_the_highest_windows_are_enough_to_find_them(dense, most):
    with open_result(dense) as file:
        found = highest_windows(file, read_header(file), most)
    assert [(one.level, one.col, one.row) for one in found] == [one[3:] for one in highest_apart(dense, most)]


def test_info_says_stride_blocks_windows_and_the_way(dense, capsys):
    assert run_command_line(["info", str(dense)]) == 0
    lines = [line for line in capsys.readouterr().out.splitlines() if line.startswith("level ")]
    assert len(lines) == n_levels(dense)
    for level, line in enumerate(reversed(lines)):
        attributes = attributes_of(dense, level)
        block, n_looked = attributes["block_cells"], sum(one[5] in (1, 4) for one in windows_in(dense, level))
        assert f"{n_looked} window" in line
        assert (f"stride {attributes['cell_px']}, " in line) == (block > 1 or attributes["cell_px"] != WINDOW)
        assert (f" of {block} x {block} cells (computed by " in line) == (block > 1)
    way = "adaptive" if dense.stem == "adaptive" else "window"
    assert dense.stem == "wide" or f"computed by {way}" in lines[-1]
