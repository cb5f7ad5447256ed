"""Maps and pictures of results with strides have every cell's score in its place, by the file's tables."""

from __future__ import annotations

import base64
import io
import re

import h5py
import numpy as np
import pytest
import tifffile
from PIL import Image

import pyramidai_mpi
from pyramidai_mpi.export import cell_look
from pyramidai_mpi.export.cell_look import CellLook
from pyramidai_mpi.export.heatmap import write_heatmap
from pyramidai_mpi.export.overlay import write_overlay
from pyramidai_mpi.export.picture import open_picture
from pyramidai_mpi.export.report import write_report
from pyramidai_mpi.export.summary import read_report_summary
from pyramidai_mpi.export.tile_table import level_table
from pyramidai_mpi.store.results.dense import read_dense_map
from pyramidai_mpi.store.results.reader import open_result
from pyramidai_mpi.store.results.summary import read_account
from pyramidai_mpi.store.results.tables import read_header
from tests.dense import MPP, THRESHOLDS, dense_file, hill, mask_at_cells, painted, windows_in


def test_the_map_is_that_of_the_tables_in_any_bands(dense, monkeypatch):
    monkeypatch.setattr(cell_look, "_KEPT_BYTES", 2000)  # a few blocks at a time
    monkeypatch.setattr(cell_look, "_CHUNK_ROWS", 8)
    score, look = painted(dense)
    with open_result(dense) as file:
        found = CellLook(file, read_header(file))
        for step in (7, len(score)):
            bands = [found.rows(top, min(top + step, len(score))) for top in range(0, len(score), step)]
            assert np.array_equal(np.concatenate([band.score for band in bands]), score, equal_nan=True)
            assert np.array_equal(np.concatenate([band.look for band in bands]), look)
        dense_map = read_dense_map(file)
    known = np.isfinite(dense_map.score)
    assert np.array_equal(dense_map.score[known], score[known])


def test_the_heatmap_has_a_pixel_a_cell_where_there_is_tissue(dense, tmp_path):
    write_heatmap(dense, tmp_path / "map.tif")
    score, _ = painted(dense)
    with tifffile.TiffFile(tmp_path / "map.tif") as tiff:
        exact, pixels = tiff.series[0].asarray(), re.search('PhysicalSizeX="([^"]*)"', tiff.ome_metadata)
    expected = np.where(mask_at_cells(dense, score.shape), score, np.nan)
    assert np.array_equal(exact, expected, equal_nan=True)
    side = {"uniform": 16, "uneven": 20, "wide": 50, "adaptive": 8}[dense.stem]
    assert float(pixels[1]) == side * MPP
    assert exact.shape == (-(-768 // side), -(-1024 // side))


def test_the_heatmap_says_where_in_a_pixel_its_windows_centre_lies(lossless_slide, tmp_path):
    uneven = dense_file("uneven", lossless_slide, tmp_path)
    write_heatmap(uneven, tmp_path / "map.tif")
    with tifffile.TiffFile(tmp_path / "map.tif") as tiff:
        exact, text = tiff.series[0].asarray(), tiff.ome_metadata
    side, shift = map(float, re.search(r"level-0 pixel \((\S+) x \+ (\S+), ", text).groups())
    for y, x in np.argwhere(np.isfinite(exact)).tolist():
        assert exact[y, x] == np.float32(hill(side * x + shift, side * y + shift))


def test_its_grey_values_and_smaller_levels_are_those_of_the_map(dense, tmp_path):
    write_heatmap(dense, tmp_path / "map.tif")
    with tifffile.TiffFile(tmp_path / "map.tif") as tiff:
        exact, grey = (series.asarray() for series in tiff.series)
    assert np.array_equal(grey, np.where(np.isnan(exact), 0, np.rint(1 + 254 * np.nan_to_num(exact.astype(float)))))


def test_python_gives_the_map_and_the_highest_of_each_larger_pixel(dense):
    result = pyramidai_mpi.open_result(dense)
    score, _ = painted(dense)
    tissue = mask_at_cells(dense, score.shape)
    side = result.levels[0].record.cell
    fine = result.heatmap()
    assert fine.spacing_um_px == side * MPP
    assert np.array_equal(fine.values, np.where(tissue, score, np.nan), equal_nan=True)
    coarse = result.heatmap(3 * side * MPP).values
    for y, x in np.ndindex(coarse.shape):
        if np.isfinite(coarse[y, x]):
            assert coarse[y, x] == np.nanmax(score[3 * y : 3 * y + 3, 3 * x : 3 * x + 3])
    dense_map = result.dense_map()
    assert dense_map.cell == side
    assert result.areas.positive == pytest.approx(
        ((dense_map.score >= THRESHOLDS[0]) & tissue).sum() * (side * MPP / 1000) ** 2
    )


def test_windows_in_python_have_their_centres_and_scores(dense):
    result = pyramidai_mpi.open_result(dense)
    assert "stride" in repr(result)
    for level in result.levels:
        windows = level.windows
        expected = windows_in(dense, level.number)
        assert windows["col"].tolist() == [one[0] for one in expected]
        assert windows["row"].tolist() == [one[1] for one in expected]
        assert windows["l0_centre"].tolist() == [[one[2], one[3]] for one in expected]
        assert np.array_equal(windows["score"], np.array([one[4] for one in expected], np.float32), equal_nan=True)


def test_pictures_outline_positive_cells(dense):
    score, look = painted(dense)
    with open_picture(dense, None, downsample=2.0) as picture:
        drawn = picture.last_look.positives(0, picture.size[1], picture.size[0], 2.0)
        levels = picture.header.levels
        n_positive = picture.last_look.n_positive
    own = np.isin(look, [n for n, level in enumerate(levels) if level.network == 0])
    positive = (score >= THRESHOLDS[0]) & own
    assert n_positive == positive.sum() > 0
    times = levels[0].cell // 2
    height, width = drawn.shape
    assert np.array_equal(drawn, positive.repeat(times, axis=0).repeat(times, axis=1)[:height, :width])


def test_a_pixel_of_many_cells_shows_the_highest(dense):
    score, _ = painted(dense)
    with open_picture(dense, None, downsample=100.0) as picture:
        width, height = picture.size
        drawn = picture.last_look.scores(0, height, width, 100.0)
        side = picture.last_look.l0_tile_side
    for y, x in np.ndindex(drawn.shape):
        # a cell that lies under two pixels counts in the second
        rows, cols = (slice(int(k * 100 / side), int((k + 1) * 100 / side)) for k in (y, x))
        under = score[rows, cols]
        assert np.array_equal(drawn[y, x], np.nanmax(under) if np.isfinite(under).any() else np.nan, equal_nan=True)


def test_overlay_and_report_are_drawn_and_zoom_in(dense, lossless_slide, tmp_path):
    write_overlay(dense, tmp_path / "out.png", lossless_slide)
    assert Image.open(tmp_path / "out.png").size[0] >= 1024
    write_report(dense, tmp_path / "out.html", lossless_slide)
    page = (tmp_path / "out.html").read_text(encoding="utf-8")
    closer = page[page.index('<section id="closer">') : page.index('<section id="top">')]
    picture = Image.open(io.BytesIO(base64.b64decode(re.search('base64,([^"]+)"', closer)[1])))
    pixels = np.asarray(picture.convert("RGB")).astype(int)
    plain, coloured = pixels[:, :440], pixels[:, -440:]
    assert (coloured - plain)[..., 2].min() < -40  # red takes the blue away where scores are high
    score, look = painted(dense)
    levels = pyramidai_mpi.open_result(dense).levels
    own = np.isin(look, [level.number for level in levels if level.record.network == 0])
    highest = np.nanmax(np.where(own, score, np.nan))
    assert f"up to {highest:.4f}" in closer


def test_the_report_counts_windows(dense):
    with open_result(dense) as file:
        summary = read_report_summary(file, read_header(file))
    for level in summary.levels:
        own = [one for one in windows_in(dense, level.number) if one[5] in (1, 4)]
        assert level.analysed == len(own)
        threshold = level.threshold
        assert level.zoomed == sum(one[4] >= threshold for one in own)
        assert level.unreadable == sum(one[5] == 4 for one in own)
        assert sum(level.stopped_scores) + sum(level.zoomed_scores) == level.analysed - level.unreadable
        with h5py.File(dense) as file:
            group = file[f"levels/{level.number}"]
            states = group["state"][...] if "state" in group else np.zeros((0, 0, 0))
        in_all = int(np.isin(states, (1, 4)).sum())
        assert level.around == (in_all - len(own) if level.stride else 0)
    assert (dense.stem == "adaptive") == any(level.around for level in summary.levels)
    looked = [one for one in windows_in(dense, 0) if one[5] == 1]
    assert read_account(dense).positives == sum(one[4] >= summary.levels[-1].threshold for one in looked)
    if dense.stem == "uneven":  # all that there is was looked at
        assert summary.n_reference == summary.n_tiles


def test_windows_without_the_pyramid_are_those_of_a_run_without(lossless_slide, tmp_path):
    made = dense_file("uniform", lossless_slide, tmp_path)
    score, _ = painted(made)
    with open_result(made) as file:
        header = read_header(file)
        n_reference = read_report_summary(file, header).n_reference
        roots = file[f"levels/{len(header.levels) - 1}/index"][...].tolist()
        mask = file["tissue/mask"][...].astype(bool)
    expected = 0
    for y, x in np.ndindex(score.shape):
        square = mask[y * 16 // 64 * 2 : y * 16 // 64 * 2 + 2, x * 16 // 64 * 2 : x * 16 // 64 * 2 + 2]
        expected += square.any() and [x * 16 // 256, y * 16 // 256] in roots
    assert n_reference == expected


def test_what_a_page_tells_of_places_are_cells(dense):
    with open_result(dense) as file:
        header = read_header(file)
        tables = [level_table(file, header, n) for n in range(len(header.levels))]
    for level, table in enumerate(tables):
        there = np.unpackbits(np.frombuffer(base64.b64decode(table.there), np.uint8), bitorder="little")
        codes = np.frombuffer(base64.b64decode(table.codes), "<u2")
        cells = np.flatnonzero(there[: table.rows * table.cols])
        told = dict(zip(cells.tolist(), codes.tolist(), strict=True))
        expected = windows_in(dense, level)
        assert len(told) == len(expected)
        for col, row, _, _, score, state in expected:
            code = told[row * table.cols + col]
            assert (code == 1) == (state == 4)
            if state != 4:
                assert ((code >> 2) - 1) / 10000 == pytest.approx(score, abs=6e-5)
                assert table.outcomes[code & 3].split(" at")[0] in ("positive", "negative", "stopped", "zoomed into")
