"""Exports of explained tiles, read back by other libraries."""

from __future__ import annotations

import csv
import json
import shutil
from dataclasses import replace

import h5py
import numpy as np
import openslide
import pytest
import shapely
import tifffile
from PIL import Image
from skimage.measure import label

from pyramidai_mpi.base.errors import InputError, UsageError
from pyramidai_mpi.export.explained.heat import write_explained_heatmap
from pyramidai_mpi.export.explained.outlines import parse_above, write_explained_outlines
from pyramidai_mpi.export.explained.overlay import write_explained_overlay
from pyramidai_mpi.export.explained.scales import UNSIGNED, scale_of
from pyramidai_mpi.export.explained.sheet import DELETION, INSERTION, SIDE, write_explained_sheet
from pyramidai_mpi.export.explained.table import write_explained_csv
from pyramidai_mpi.export.explained.tiles import write_explained_tiles
from pyramidai_mpi.export.explained.words import CAVEAT
from pyramidai_mpi.export.formats import EXPLAINED, Order, carry_out, make, orders_beside
from pyramidai_mpi.export.shown import SIGNED
from pyramidai_mpi.testing.contracts import check_export
from tests.colour_vision import least_difference
from tests.explained import TILE, explained_tiles, explanation_of, write_explained
from tests.export.explained.conftest import SIZE
from tests.export.explained.test_stitched import painted

CLAIM = "demonstration model: scores mean nothing on real slides; not for diagnosis"
BANNER = (255, 214, 0)


@pytest.mark.parametrize("kind", EXPLAINED, ids=str)
def test_exports_keep_their_contract(kind, explained_path, lossless_slide, tmp_path):
    damaged, folder = tmp_path / "cut.h5", tmp_path / "exports"
    damaged.write_bytes(explained_path.read_bytes()[:-2000])
    folder.mkdir()

    def export(source, target, overwrite):
        carry_out(Order(kind, target), source, lossless_slide, overwrite=overwrite)

    check_export(export, explained_path, damaged, folder)


def test_the_csv_has_the_tables_of_the_file(explained_path, tmp_path):
    write_explained_csv(explained_path, tmp_path / "t.csv")
    with (tmp_path / "t.csv").open(encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    assert [*rows[0]][:6] == ["minx", "miny", "width", "height", "prob_normal", "prob_tumor"]
    with h5py.File(explained_path) as file:
        tables = {name: table[...] for name, table in file["tiles"].items()}
    for n, row in enumerate(rows):
        assert [int(row[name]) for name in ("minx", "miny", "width", "height")] == [*tables["coords"][n], TILE, TILE]
        assert [int(row["col"]), int(row["row"])] == tables["index"][n].tolist()
        assert (row["class"], row["method"], row["layer"], row["repeatability"]) == (
            "tumor",
            "gradcam",
            "/features/last",
            "",
        )
        numbers = {"score": tables["probability"][n, 1], "map_max": tables["map"][n].max()}
        numbers |= {"map_min": tables["map"][n].min()}
        for name in ("deletion", "insertion", "random_deletion", "random_insertion"):
            numbers[f"{name}_area"] = np.trapezoid(tables[name][n].astype(float), dx=1 / 8)
        for name, number in numbers.items():
            assert (row[name] == "") if n == 6 else float(row[name]) == pytest.approx(number, rel=1e-7)
    assert len(rows) == len(tables["index"])


def test_the_heatmap_has_the_stitched_numbers_in_tifffile_and_greys_in_openslide(
    explained_slide, explained_path, tmp_path
):
    write_explained_heatmap(explained_path, tmp_path / "h.tif")
    expected = painted(explained_slide, 4)
    with tifffile.TiffFile(tmp_path / "h.tif") as tiff:
        assert [series.name for series in tiff.series] == ["attribution", "view"]
        np.testing.assert_array_equal(tiff.series[0].asarray(), expected)
        description = tiff.pages[0].description
        grey = tiff.series[1].asarray()
        assert tiff.pages[0].tags["XResolution"].value[0] / tiff.pages[0].tags["XResolution"].value[1] == 10000
    for words in ("gradcam for tumor at level 0, layer /features/last", CAVEAT, "not for diagnosis"):
        assert words in description
    shown = np.isfinite(expected)
    assert (grey[~shown] == 0).all()
    most = np.quantile(np.abs(expected[shown]), 0.995)
    np.testing.assert_array_equal(
        grey[shown], np.rint(1 + 254 * np.clip((expected[shown].astype(float) / most + 1) / 2, 0, 1))
    )
    with openslide.OpenSlide(tmp_path / "h.tif") as slide:
        assert slide.dimensions == (256, 192)
        np.testing.assert_array_equal(np.asarray(slide.read_region((0, 0), 0, (256, 192)))[..., 0], grey)


@pytest.mark.parametrize("text", ["quantile:0.9", "quantile:0.5", "share:0.3", "value:0.25"])
def test_outlines_go_round_what_is_above(explained_slide, explained_path, tmp_path, text):
    write_explained_outlines(explained_path, tmp_path / "o.geojson", above=parse_above(text))
    document = json.loads((tmp_path / "o.geojson").read_text(encoding="utf-8"))
    values = painted(explained_slide, 4)
    found = values[np.isfinite(values)].astype(float)
    kind, number = text.split(":")
    limit = float(number)
    if kind == "quantile":
        limit = np.quantile(found, limit)
    elif kind == "share":
        for_it = sorted(found[found > 0], reverse=True)
        limit = for_it[np.flatnonzero(np.cumsum(for_it) >= limit * sum(for_it))[0]]
    is_above = np.nan_to_num(values, nan=-1) >= max(limit, 1e-12)
    regions, n_regions = label(is_above, connectivity=1, return_num=True)
    features = document["features"]
    assert len(features) == n_regions > 3
    sizes = sorted(np.bincount(regions.ravel())[1:].tolist(), reverse=True)
    assert [one["properties"]["measurements"]["n_pixels"] for one in features] == sizes
    for one in features:
        measured = one["properties"]["measurements"]
        assert measured["area_um2"] == pytest.approx(measured["n_pixels"])  # a pixel is 4 x 0.25 µm a side
        outline = shapely.Polygon(one["geometry"]["coordinates"][0], one["geometry"]["coordinates"][1:])
        assert outline.is_valid
        assert outline.area / 16 == pytest.approx(measured["n_pixels"], rel=0.35)
        # QuPath counts from the corner of the bounds, 16, 24
        x, y = np.add(outline.representative_point().coords[0], (16, 24))
        assert is_above[int(y // 4), int(x // 4)]
        said = one["properties"]["metadata"]["ANNOTATION_DESCRIPTION"]
        assert all(words in said for words in ("gradcam for tumor", CAVEAT, "not for diagnosis", text))
    assert document["model"]["note"] == CLAIM


@pytest.mark.parametrize("text", ["", "quantile", "quantile:2", "share:-1", "value:nan", "most:3", "quantile:x"])
def test_limits_that_make_no_sense_are_refused(text):
    with pytest.raises(UsageError, match="--above"):
        parse_above(text)


def test_maps_that_say_nothing_have_no_outlines(tmp_path):
    tiles = explained_tiles(np.array([(1, 1), (2, 1)]))
    flat = explanation_of(replace(tiles, maps=np.full_like(tiles.maps, 0.25)))
    write_explained_outlines(write_explained(tmp_path / "a.explained.h5", flat), tmp_path / "o.geojson")
    assert json.loads((tmp_path / "o.geojson").read_text(encoding="utf-8"))["features"] == []


def test_tiles_are_the_slides_pixels_beside_their_maps(
    explained_slide, explained_path, lossless_slide, stored_images, tmp_path
):
    write_explained_tiles(explained_path, tmp_path / "tiles", lossless_slide)
    with (tmp_path / "tiles/tiles.csv").open(encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    scores = [float(row["score"]) for row in rows]
    assert scores == sorted(scores, reverse=True)
    assert len(rows) == 13
    maps = dict(zip(map(tuple, explained_slide.tiles.l0_coords.tolist()), explained_slide.tiles.maps, strict=True))
    for row in rows:
        x, y = int(row["minx"]), int(row["miny"])
        picture = np.asarray(Image.open(tmp_path / "tiles" / row["file"]))
        pixels = stored_images[0][y : y + TILE, x : x + TILE]
        np.testing.assert_array_equal(picture[:, :TILE], pixels)
        # blue to orange of the tile's own scale, over grey
        values = maps[x, y].astype(float).repeat(4, axis=0).repeat(4, axis=1)
        most = np.quantile(np.abs(maps[x, y]), 0.995)
        grey = np.asarray(Image.fromarray(pixels).convert("L"), float)
        for channel in range(3):
            colour = np.interp(values / most, [-1, -0.5, 0, 0.5, 1], [anchor[channel] for anchor in SIGNED])
            assert np.abs(picture[:, -TILE:, channel] - (0.6 * colour + 0.4 * grey)).max() <= 0.51
    assert CAVEAT in (tmp_path / "tiles/README.txt").read_text(encoding="utf-8")
    write_explained_tiles(explained_path, tmp_path / "tiles", lossless_slide, overwrite=True, top=3)
    assert sorted(path.suffix for path in (tmp_path / "tiles").iterdir()) == [".csv", ".png", ".png", ".png", ".txt"]


def test_the_sheet_shows_tiles_maps_and_curves(
    explained_slide, explained_path, lossless_slide, stored_images, tmp_path
):
    write_explained_sheet(explained_path, tmp_path / "s.png", lossless_slide)
    sheet = np.asarray(Image.open(tmp_path / "s.png"))
    assert tuple(sheet[0, 0]) == BANNER
    best = int(np.nanargmax(explained_slide.score))
    x, y = explained_slide.tiles.l0_coords[best].tolist()
    pixels = Image.fromarray(stored_images[0][y : y + TILE, x : x + TILE])
    expected = np.asarray(pixels.resize((SIDE, SIDE), Image.Resampling.BOX))
    places = [
        top for top in range(len(sheet) - SIDE) if np.array_equal(sheet[top : top + SIDE, 16 : 16 + SIDE], expected)
    ]
    assert len(places) == 1
    # its curves begin and end where its scores do
    plot = sheet[places[0] : places[0] + SIDE, 16 + 2 * (SIDE + 8) :][:, :SIDE]
    score = float(explained_slide.score[best])
    for colour, curve in ((DELETION, explained_slide.tiles.deletion), (INSERTION, explained_slide.tiles.insertion)):
        for column, value in ((2, curve[best, 0]), (SIDE - 3, curve[best, -1])):
            rows = np.flatnonzero((plot[:, column] == colour).all(axis=1))
            assert np.abs(rows - (SIDE - 2 - value * (SIDE - 3))).min() <= 0.03 * SIDE
    assert score == explained_slide.tiles.deletion[best, 0]
    write_explained_sheet(explained_path, tmp_path / "alone.png")
    assert Image.open(tmp_path / "alone.png").width < sheet.shape[1]


def test_the_overlay_colours_explained_tiles_alone(explained_path, lossless_slide, stored_images, tmp_path):
    write_explained_overlay(explained_path, tmp_path / "o.png", lossless_slide)
    whole = np.asarray(Image.open(tmp_path / "o.png")).astype(int)
    assert tuple(whole[0, 0]) == BANNER
    top = next(n for n in range(len(whole)) if np.array_equal(whole[n : n + 40, :100], stored_images[0][:40, :100]))
    picture = whole[top : top + SIZE[1], : SIZE[0]]
    same = (picture == stored_images[0]).all(axis=2)
    changed = np.zeros(SIZE[::-1], bool)
    with h5py.File(explained_path) as file:
        for n, (x, y) in enumerate(file["tiles/coords"][...].tolist()):
            changed[y : y + TILE, x : x + TILE] = n != 6
    assert same[~changed].all()
    assert same[changed].mean() < 0.01


def test_another_slide_is_refused(explained_path, slide, tmp_path):
    for write in (write_explained_sheet, write_explained_overlay, write_explained_tiles):
        with pytest.raises(InputError, match="is not the slide"):
            write(explained_path, tmp_path / "made", slide)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["slide.tif"]


def test_what_is_there_already_is_left_alone_by_a_resumed_export(explained_path, tmp_path):
    copied = tmp_path / "slide.explained.h5"
    shutil.copy(explained_path, copied)
    (order,) = orders_beside(copied, [one for one in EXPLAINED if one.name == "csv"])
    assert order.target.name == "slide.explained.csv"
    assert make(order, copied, resume=True)
    assert not make(order, copied, resume=True)
    record = json.loads((tmp_path / "slide.explained.exports.json").read_text(encoding="utf-8"))
    with h5py.File(copied) as file:
        assert record["exports"]["slide.explained.csv"]["digest"] == file.attrs["digest"]


@pytest.mark.parametrize("anchors", [UNSIGNED, SIGNED])
def test_the_colour_blind_tell_the_colours_apart(anchors):
    assert least_difference(anchors) > 15


def test_scales_are_those_of_the_numbers(explained_slide):
    signed = scale_of(explained_slide)
    assert signed.low == -signed.high < 0
    maps = explained_slide.tiles.maps
    shifted = replace(explained_slide, tiles=replace(explained_slide.tiles, maps=maps + 3))
    scale = scale_of(shifted)
    assert scale.low == np.nanmin(maps + 3)
    assert scale.low < scale.high <= np.nanmax(maps + 3)
    flat = replace(explained_slide, tiles=replace(explained_slide.tiles, maps=np.where(np.isnan(maps), maps, 0)))
    assert (scale_of(flat).low, scale_of(flat).high) == (0, 1)
