"""Attention and contribution of a predicted slide, in pictures, tables and features: the numbers of the file."""

from __future__ import annotations

import csv
import json
from itertools import pairwise

import h5py
import numpy as np
import pytest
import tifffile
from click.testing import CliRunner
from PIL import Image

from pyramidai_mpi.api import analyse, open_result
from pyramidai_mpi.base.errors import UsageError
from pyramidai_mpi.cli.export import command
from pyramidai_mpi.export.picture import open_picture
from pyramidai_mpi.export.report import write_report
from pyramidai_mpi.export.shown import AGAINST, IN_FAVOUR, Scale, Show, parse_show, shown_values
from pyramidai_mpi.models.aggregator_entry import SlideTask
from pyramidai_mpi.store.results.reader import open_result as opened_file
from pyramidai_mpi.store.results.tables import read_header
from tests.aggregators import write_slide_package
from tests.colour_vision import SEEN_BY, least_difference, seen
from tests.packages import write_package


@pytest.fixture(scope="module")
def folder(lossless_slide, tmp_path_factory):
    """Results of the lossless slide: of three classes, and of tiles alone."""
    folder = tmp_path_factory.mktemp("shown")
    model = write_slide_package(folder / "model", SlideTask.CLASSES, side=64)
    analyse(lossless_slide, model, output=folder / "slide.h5", no_tissue=True)
    tiles = write_package(folder / "tiles", n_levels=1, side=64)
    analyse(lossless_slide, tiles, output=folder / "tiles.h5", no_tissue=True)
    return folder


@pytest.fixture(scope="module")
def tables(folder):
    with h5py.File(folder / "slide.h5") as file:
        level = file["levels/0"]
        found = {name: level[name][...] for name in ("index", "attention", "contribution", "coords")}
        return found | {"prediction": file["slide_prediction/prediction"][...]}


def export(folder, slide, *words):
    slide_words = ["--slide", str(slide)] if slide is not None else []
    done = CliRunner().invoke(command, [str(folder / "slide.h5"), *map(str, words), *slide_words])
    if done.exception is not None and not isinstance(done.exception, SystemExit):
        raise done.exception
    assert done.exit_code == 0, done.output


def painted(tables, values):
    """Values by column and row of their tiles."""
    col, row = tables["index"].T
    picture = np.full((row.max() + 1, col.max() + 1), np.nan)
    picture[row, col] = values
    return picture


def test_the_heat_map_holds_the_numbers_of_the_file(folder, tables, lossless_slide, tmp_path):
    chosen = int(tables["prediction"].argmax())
    wanted = {
        "attention": tables["attention"].mean(axis=1),
        "attention:1": tables["attention"][:, 1],
        "contribution": tables["contribution"][:, chosen],
        "contribution:gut": tables["contribution"][:, 2],
    }
    for show, values in wanted.items():
        target = tmp_path / f"{show.replace(':', '-')}.tif"
        export(folder, None, "--heatmap", target, "--show", show)
        with tifffile.TiffFile(target) as tiff:
            exact = tiff.series[0].asarray()
            view = tiff.pages[0].asarray()
            described = tiff.ome_metadata
        expected = painted(tables, values)
        times = exact.shape[0] // expected.shape[0]
        expected = expected.repeat(times, axis=0).repeat(times, axis=1)[: exact.shape[0], : exact.shape[1]]
        np.testing.assert_allclose(exact, expected.astype(np.float32), rtol=1e-6)
        assert f'Name="{show.partition(":")[0]}"' in described
        if show.startswith("contribution"):
            most = np.abs(values).max()
            np.testing.assert_allclose(view, np.rint(1 + 254 * (expected + most) / (2 * most)), atol=1)
        else:
            assert view.max() == 255
            np.testing.assert_allclose(view, np.rint(1 + 254 * expected / values.max()), atol=1)


def test_the_overlay_is_coloured_from_its_scale(folder, tables, lossless_slide, tmp_path):
    with open_picture(folder / "slide.h5", lossless_slide, show=Show("contribution", "skin")) as picture:
        assert (picture.scale.name, picture.scale.title) == ("contribution", "contribution to skin")
        assert picture.scale.high == -picture.scale.low == np.abs(tables["contribution"][:, 1]).max()
        whole = picture.overlay(0, picture.size[1]).astype(int)
        plain = picture.slide(0, picture.size[1]).astype(int)
    values = painted(tables, tables["contribution"][:, 1])
    times = whole.shape[0] // values.shape[0]
    most = np.abs(values).max()
    row, col = np.unravel_index(np.nanargmax(np.abs(values)), values.shape)
    y, x = int((row + 0.5) * times), int((col + 0.5) * times)
    end = np.array(IN_FAVOUR if values[row, col] > 0 else AGAINST)
    assert most > 0
    np.testing.assert_allclose(whole[y, x], 0.45 * plain[y, x] + 0.55 * end, atol=2)
    for show in ("attention", "contribution"):
        export(folder, lossless_slide, "--overlay", tmp_path / f"{show}.png", "--show", show)
    one, other = (np.asarray(Image.open(tmp_path / f"{show}.png")) for show in ("attention", "contribution"))
    assert one.shape == other.shape
    assert (one != other).any()


def test_both_sides_of_contributions_are_told_apart_by_everybody():
    scale = Scale("contribution", "c", -2.0, 2.0, (AGAINST, (247, 247, 247), IN_FAVOUR))
    assert least_difference([AGAINST, (247, 247, 247), IN_FAVOUR]) > 30
    np.testing.assert_array_equal(scale.colour(np.array([-2.0, 0.0, 2.0])), [AGAINST, (247, 247, 247), IN_FAVOUR])


def test_lightness_says_how_far_from_nothing_a_value_is(folder):
    with opened_file(folder / "slide.h5") as file:
        scales = [shown_values(file, read_header(file), Show(kind))[1] for kind in ("attention", "contribution")]
    attention, contribution = scales
    for matrix in SEEN_BY.values():
        places = np.linspace(0, 1, 9)
        light = seen(attention.colour(places * attention.high), matrix)[:, 0]
        assert all(b < a for a, b in pairwise(light))
        for side in (-1, 1):
            light = seen(contribution.colour(side * places * contribution.high), matrix)[:, 0]
            assert all(b < a for a, b in pairwise(light))


def test_csv_and_data_frame_carry_both(folder, tables, tmp_path):
    export(folder, None, "--csv", tmp_path / "t.csv")
    with (tmp_path / "t.csv").open() as file:
        rows = list(csv.DictReader(file))
    names = ["attention_0", "attention_1", "contribution_lung", "contribution_skin", "contribution_gut"]
    found = np.array([[row[name] for name in names] for row in rows], np.float32)
    expected = np.concatenate([tables["attention"], tables["contribution"]], axis=1)
    np.testing.assert_array_equal(found, expected)
    frame = open_result(folder / "slide.h5").levels[0].to_pandas()
    np.testing.assert_array_equal(frame[names].to_numpy(), expected)


def test_geojson_carries_both_and_is_classified_as_asked(folder, tables, tmp_path):
    export(folder, None, "--geojson", tmp_path / "plain.geojson")
    export(folder, None, "--geojson", tmp_path / "c.geojson", "--show", "contribution:gut")
    export(folder, None, "--geojson", tmp_path / "a.geojson", "--flat", "--show", "attention")
    plain, by_contribution, by_attention = (
        json.loads((tmp_path / f"{name}.geojson").read_text())["features"] for name in ("plain", "c", "a")
    )
    gut, attention = tables["contribution"][:, 2], tables["attention"].mean(axis=1)
    assert len(plain) == len(gut)
    for n, (one, other, third) in enumerate(zip(plain, by_contribution, by_attention, strict=True)):
        measured = one["properties"]["measurements"]
        assert measured == other["properties"]["measurements"] == third["properties"]["measurements"]
        assert np.float32(measured["contribution_gut"]) == gut[n]
        assert np.float32(measured["attention_1"]) == tables["attention"][n, 1]
        kind = other["properties"]["classification"]
        assert kind == {
            "name": f"contribution:gut: {'for' if gut[n] >= 0 else 'against'}",
            "color": list(IN_FAVOUR if gut[n] >= 0 else AGAINST),
        }
        is_more = attention[n] >= 1 / len(gut)
        name = third["properties"]["classification"]["name"]
        assert name == f"attention: {'at least' if is_more else 'less than'} even"


def test_the_tiles_of_the_highest_attention_are_cut(folder, tables, lossless_slide, stored_images, tmp_path):
    export(folder, lossless_slide, "--tiles", tmp_path / "tiles", "--top", 3, "--show", "attention")
    with (tmp_path / "tiles" / "tiles.csv").open() as file:
        rows = list(csv.DictReader(file))
    attention = tables["attention"].mean(axis=1)
    expected = np.argsort(-attention, kind="stable")[:3]
    assert [(int(row["l0_x"]), int(row["l0_y"])) for row in rows] == list(map(tuple, tables["coords"][expected]))
    assert [np.float32(row["contribution_gut"]) for row in rows] == tables["contribution"][expected, 2].tolist()
    for row, place in zip(rows, expected, strict=True):
        assert f"_{attention[place]:.4g}_" in row["file"]
        x, y = tables["coords"][place]
        with Image.open(tmp_path / "tiles" / row["file"]) as picture:
            np.testing.assert_array_equal(np.asarray(picture), stored_images[0][y : y + 64, x : x + 64])
    # and once more over itself: names of negative and tiny numbers are known as its own
    export(folder, lossless_slide, "--tiles", tmp_path / "tiles", "--show", "contribution", "--overwrite")


def test_the_report_says_the_prediction_and_shows_both(folder, lossless_slide, tmp_path):
    write_report(folder / "slide.h5", tmp_path / "r.html", lossless_slide)
    page = (tmp_path / "r.html").read_text()
    record = open_result(folder / "slide.h5").prediction
    assert record is not None
    assert f"<b>{record.words}</b>" in page
    for name in ("attention", "contribution"):
        assert f'id="layer-{name}"' in page
        assert f'id="legend-{name}"' in page
    write_report(folder / "tiles.h5", tmp_path / "t.html", lossless_slide)
    page = (tmp_path / "t.html").read_text()
    assert 'id="layer-attention"' not in page
    assert 'id="prediction"' not in page


def test_what_is_not_there_to_be_shown_is_one_line(folder, tmp_path):
    for show, words in (
        (Show("attention"), "predicts tiles alone"),
        (Show("contribution", "bone"), "expected one of contribution:lung, contribution:skin, contribution:gut"),
    ):
        result = folder / ("tiles.h5" if show.kind == "attention" else "slide.h5")
        with pytest.raises(UsageError, match=words), open_picture(result, None, show=show):
            pass
    for text in ("", "score", "attention:", "contribution-gut"):
        with pytest.raises(UsageError, match="--show"):
            parse_show(text)
    assert str(parse_show("contribution:gut")) == "contribution:gut"
    refused = CliRunner().invoke(command, [str(folder / "slide.h5"), "--csv", "t.csv", "--show", "attention"])
    assert refused.exit_code == 2
    assert "--show goes with --geojson or --heatmap" in refused.output
