"""``pyramidai explain``: tiles of results and slides, explained from the command line and from Python."""

from __future__ import annotations

import csv
import json
import shutil
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

import pyramidai_mpi
from pyramidai_mpi.synth import SynthSpec
from pyramidai_mpi.synth import write_slide as write_synthetic
from tests.end_to_end.conftest import pyramidai
from tests.explaining import SIDE, plain_gradcam, probabilities, tile_of, write_image, write_maps_package
from tests.packages import write_package, write_position_package
from tests.tiffs import drop_tile

TOP = sorted(((col, row) for col in range(7) for row in range(5)), key=lambda place: -probabilities(tile_of(*place))[1])


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """A slide, its model, and its result."""
    folder = tmp_path_factory.mktemp("explain")
    write_image(folder / "slide.tif")
    write_maps_package(folder / "model")
    run = pyramidai("slide.tif", "--model", "model", "-o", "out.h5", "--no-tissue", cwd=folder)
    assert run.returncode == 0
    return folder


@pytest.fixture(scope="module")
def made(folder):
    """What the command says of its best tiles."""
    return explain(folder, "out.h5", "--tiles", "top:6", "-o", "made")


def explain(folder, *words, model="model"):
    return pyramidai("explain", *words, "--model", model, cwd=folder)


def opened(path):
    return pyramidai_mpi.open_explanation(path)


def test_maps_are_those_of_the_highest_scores_recomputed(folder, made):
    assert made.returncode == 0
    assert "slide.tif: 6 tiles, tumor by gradcam at maps: made/slide.explained.h5" in made.stderr
    assert "probabilities of 6 tiles as in out.h5, to the bit" in made.stderr
    found = opened(folder / "made" / "slide.explained.h5")
    places = [tuple(place) for place in found.tiles.index.tolist()]
    assert places == sorted(TOP[:6], key=lambda place: place[::-1])
    for n, place in enumerate(places):
        np.testing.assert_allclose(found.tiles.maps[n], plain_gradcam(tile_of(*place), 1), atol=2e-6)
        np.testing.assert_allclose(found.tiles.probability[n], probabilities(tile_of(*place)), atol=2e-6)
    assert (found.tiles.l0_coords == np.array(places) * SIDE).all()
    assert (found.method, found.layer, found.class_name, found.level) == ("gradcam", "maps", "tumor", 0)
    # the first and last points of the curves are the tile as it is
    for name in ("deletion", "random_deletion"):
        np.testing.assert_allclose(getattr(found.tiles, name)[:, 0], found.score, atol=1e-6)
    for name in ("insertion", "random_insertion"):
        np.testing.assert_allclose(getattr(found.tiles, name)[:, -1], found.score, atol=1e-6)


def test_a_table_and_a_sheet_lie_beside(folder, made):
    assert sorted(path.name for path in (folder / "made").iterdir()) == [
        "slide.explained.csv",
        "slide.explained.exports.json",
        "slide.explained.h5",
        "slide.explained.sheet.png",
    ]
    with (folder / "made" / "slide.explained.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert {(int(row["col"]), int(row["row"])) for row in rows} == set(TOP[:6])
    with Image.open(folder / "made" / "slide.explained.sheet.png") as sheet:
        assert min(sheet.size) > 300


def test_a_slide_with_the_same_tiles_is_explained_alike(folder, made):
    text = "".join(f"0,{col},{row}\n" for col, row in TOP[:6])
    (folder / "tiles.csv").write_text("level,col,row\n" + text)
    words = [word for col, row in TOP[:6] for word in ("--tiles", f"l0:{col * SIDE + 9},{row * SIDE + 63}")]
    digest = opened(folder / "made" / "slide.explained.h5").digest
    for name, tiles in (("table", ["--tiles", "tiles.csv"]), ("points", words)):
        assert explain(folder, "slide.tif", *tiles, "-o", name).returncode == 0
        assert opened(folder / name / "slide.explained.h5").digest == digest
    python = pyramidai_mpi.explain_tiles(folder / "out.h5", "top:6", folder / "model")
    assert python.digest == digest
    told = pyramidai("digest", folder / "made" / "slide.explained.h5")
    assert told.stdout.strip() == digest


@pytest.mark.parametrize("method", ["gradcam++", "integrated-gradients", "occlusion", "rise", "lime"])
def test_every_method_finds_its_way_to_the_file(folder, method):
    masks = ["--masks", "130"] if method in {"rise", "lime"} else []
    done = explain(folder, "out.h5", "--tiles", "top:2", "--method", method, *masks, "-o", method)
    assert done.returncode == 0, done.stderr
    found = opened(folder / method / "slide.explained.h5")
    assert np.isfinite(found.tiles.maps).all()
    assert found.tiles.maps.std() > 0
    assert np.isfinite(found.tiles.repeatability).all() == (method in {"rise", "lime"})
    if masks:
        assert "130 masks each, repeatability" in done.stderr
        assert found.settings["n_masks"] == 130


def test_masks_stop_when_the_map_repeats(folder):
    words = ["out.h5", "--tiles", "top:3", "--method", "lime", "--set", "segments=6", "--no-faithfulness"]
    done = explain(folder, *words, "--until", "0.9", "--masks", "4000", "-o", "until")
    assert done.returncode == 0
    found = opened(folder / "until" / "slide.explained.h5")
    assert (found.tiles.repeatability >= 0.9).all()
    used = found.execution.attributes
    assert used["least_masks"] == 256
    assert used["masks"] < 3 * 4000
    # as many masks at once give the same map
    assert explain(folder, *words, "--masks", "256", "-o", "at-once").returncode == 0
    at_once = opened(folder / "at-once" / "slide.explained.h5")
    is_first = at_once.tiles.repeatability == found.tiles.repeatability
    assert is_first.any()
    np.testing.assert_array_equal(found.tiles.maps[is_first], at_once.tiles.maps[is_first])


def test_a_file_is_left_alone_gone_on_with_or_replaced_as_a_result_is(folder, made):
    shutil.copytree(folder / "made", folder / "again")
    before = (folder / "again" / "slide.explained.h5").read_bytes()
    words = ["out.h5", "--tiles", "top:6", "-o", "again"]
    assert explain(folder, *words).returncode == 73
    resumed = explain(folder, *words, "--resume")
    assert resumed.returncode == 0
    assert "is there already, complete" in resumed.stderr
    other = explain(folder, *words, "--resume", "--no-faithfulness")
    assert other.returncode == 65
    assert "is of a run with other settings" in other.stderr
    assert (folder / "again" / "slide.explained.h5").read_bytes() == before
    # two pools of work, and the file that was there is replaced at the end
    replaced = explain(folder, *words, "--overwrite", "--method", "occlusion", "--no-faithfulness")
    assert replaced.returncode == 0
    assert opened(folder / "again" / "slide.explained.h5").method == "occlusion"
    assert not list((folder / "again").glob("*.journal"))


def test_an_unreadable_tile_is_told_and_the_others_have_maps(folder, tmp_path):
    write_image(tmp_path / "slide.tif")
    drop_tile(tmp_path / "slide.tif", 2, 0)  # stored tiles of 128 px
    for name, method in (("cam", "gradcam"), ("masks", "occlusion")):
        words = ["slide.tif", "--tiles", "l0:300,10", "--tiles", "l0:10,10", "--method", method, "-o", name]
        done = explain(tmp_path, *words, model=folder / "model")
        assert done.returncode == 3
        assert "unreadable: level 0 col 4 row 0: " in done.stderr
        found = opened(tmp_path / name / "slide.explained.h5")
        assert found.failed[["level", "col", "row"]].tolist() == [(0, 4, 0)]
        assert np.isnan(found.tiles.maps).all(axis=(1, 2)).tolist() == [False, True]
    none = explain(tmp_path, "slide.tif", "--tiles", "l0:300,10", "-o", "none", model=folder / "model")
    assert none.returncode == 65
    assert "none of its tiles can be read" in none.stderr


def test_several_results_are_a_cohort(folder, tmp_path):
    for name in ("a", "b", "c"):
        write_image(tmp_path / f"{name}.tif")
        run = pyramidai(tmp_path / f"{name}.tif", "--model", folder / "model", "-o", tmp_path / f"{name}.h5",
                        "--no-tissue")  # fmt: skip
        assert run.returncode == 0
    (tmp_path / "b.tif").unlink()
    done = explain(tmp_path, ".", "--tiles", "positive", "--no-faithfulness", "-o", "cams", model=folder / "model")
    assert done.returncode == 4
    assert "1 of 3 slides failed" in done.stderr
    assert "b.tif: no such slide" in done.stderr
    both = [opened(tmp_path / "cams" / f"{name}.explained.h5") for name in "ac"]
    assert both[0].digest == both[1].digest  # the same pixels
    assert len(both[0].tiles) == sum(probabilities(tile_of(*place))[1] >= 0.5 for place in TOP)
    (tmp_path / "elsewhere").mkdir()
    shutil.move(tmp_path / "c.tif", tmp_path / "elsewhere" / "c.tif")
    there = explain(tmp_path, "c.h5", "--slide", "elsewhere", "--tiles", "top:1", "-o", "d", model=folder / "model")
    assert there.returncode == 0


def test_no_positive_tile_makes_an_empty_file(folder, tmp_path):
    words = ["slide.tif", "--model", "model", "-o", tmp_path / "none.h5", "--no-tissue", "--threshold", "0=1"]
    assert pyramidai(*words, cwd=folder).returncode == 0
    slide = ["--slide", folder / "slide.tif", "-o", tmp_path]
    done = explain(folder, tmp_path / "none.h5", "--tiles", "positive", *slide)
    assert done.returncode == 0, done.stderr
    found = opened(tmp_path / "slide.explained.h5")
    assert found.tiles.maps.shape == (0, 8, 8)


@pytest.mark.parametrize("per", ["slide", "tile"])
def test_pixels_are_what_the_network_saw_under_stain_normalisation(tmp_path, per):
    write_synthetic(SynthSpec(1500, 1200, seed=3), tmp_path / "slide.tif")
    entry = {"stain": {"method": "macenko", "per": per}}
    write_package(tmp_path / "model", side=64, yaml_changes=entry)
    run = pyramidai("slide.tif", "--model", "model", "-o", "out.h5", "--mode", "exhaustive", cwd=tmp_path)
    assert run.returncode in {0, 3}
    words = ["--set", "cells=4", "--set", "window=1", "--no-faithfulness", "-o"]
    done = explain(tmp_path, "out.h5", "--tiles", "top:5", "--level", "1", *words, "result")
    assert done.returncode == 0, done.stderr
    assert "probabilities of 5 tiles as in out.h5, to the bit" in done.stderr
    assert "method occlusion, as there are no gradients" in done.stderr
    first = opened(tmp_path / "result" / "slide.explained.h5")
    table = "".join(f"{col},{row}\n" for col, row in first.tiles.index.tolist())
    (tmp_path / "tiles.csv").write_text(f"col,row\n{table}")
    done = explain(tmp_path, "slide.tif", "--tiles", "tiles.csv", "--level", "1", *words, "slide")
    assert done.returncode == 0, done.stderr
    second = opened(tmp_path / "slide" / "slide.explained.h5")
    assert second.digest == first.digest
    assert ("stain_map" in second.execution.attributes) == (per == "slide")


def test_networks_that_see_where_tiles_lie_are_told(folder, tmp_path):
    write_position_package(tmp_path / "model")
    words = ["--model", tmp_path / "model", "-o", tmp_path / "out.h5", "--no-tissue", "--mode", "exhaustive"]
    assert pyramidai(folder / "slide.tif", *words).returncode == 0
    slide = ["--slide", folder / "slide.tif", "-o", tmp_path]
    done = explain(
        folder, tmp_path / "out.h5", "--tiles", "top:3", "--method", "occlusion", *slide, model=tmp_path / "model"
    )
    assert done.returncode == 0, done.stderr
    assert "probabilities of 3 tiles as in out.h5, to the bit" in done.stderr


def test_methods_by_gradients_are_refused_with_the_reason_where_there_are_none(folder, tmp_path):
    write_package(tmp_path / "model", n_levels=1, side=64)
    words = ["slide.tif", "--tiles", "l0:5,5", "-o", tmp_path, "--method"]
    refused = explain(folder, *words, "gradcam", model=tmp_path / "model")
    assert refused.returncode == 65
    assert "no maps" in refused.stderr
    assert "--method occlusion" in refused.stderr
    assert explain(folder, *words, "occlusion", model=tmp_path / "model").returncode == 0


REFUSED = {
    "slide.tif --tiles top:3": (64, "are those of a result"),
    "out.h5 --tiles top:0": (64, "expected top:N"),
    "out.h5 --tiles top:3 --tiles l0:1,1": (64, "give one kind"),
    "out.h5 --tiles top:3 --method gradcram": (64, "did you mean 'gradcam'"),
    "out.h5 --tiles top:3 --method rise --layer maps": (64, "looks at no layer"),
    "out.h5 --tiles top:3 --layer nowhere": (64, "expected one of maps"),
    "out.h5 --tiles top:3 --class stroma": (64, "has the classes normal, tumor"),
    "out.h5 --tiles top:3 --level 3": (64, "has levels 0 to 0"),
    "out.h5 --tiles top:3 --until 0.9": (64, "draws no masks"),
    "out.h5 --tiles top:3 --until 2 --method rise": (64, "expected a correlation"),
    "out.h5 --tiles top:3 --masks 10 --method occlusion": (64, "draws no masks"),
    "out.h5 --tiles top:3 --set grid": (64, "expected NAME=NUMBER"),
    "out.h5 --tiles top:3 --set grid=7": (64, "has no option 'grid'"),
    "out.h5 --tiles top:3 --mpp 0.5": (65, "leave --mpp out"),
    "out.h5 --tiles top:3 --slide other.tif": (65, "is not the slide that out.h5 was made from"),
    "slide.tif --tiles l0:1,1 --slide slide.tif": (64, "no result was named"),
    "out.h5 --tiles l0:99999,1": (65, "lies outside the slide"),
    "slide.tif --tiles l0:99999,1": (65, "lies outside the slide"),
    "slide.tif --tiles nowhere.csv": (65, "nowhere.csv: cannot be read"),
    "nowhere.h5 --tiles top:3": (65, "nowhere.h5: no such result file"),
    "slide.tif slide.tif --tiles l0:1,1": (64, "named twice"),
    "strided.h5 --tiles top:3": (65, "its windows overlap"),
    "out.h5 --tiles top:3 --model other": (65, "result of another network"),
}


@pytest.fixture(scope="module")
def refusing(folder):
    """Files that do not fit the others."""
    write_maps_package(folder / "other", changes={"base_mpp": 0.26})
    write_synthetic(SynthSpec(600, 500), folder / "other.tif")
    words = ["--model", "model", "-o", "strided.h5", "--no-tissue", "--stride", "32"]
    assert pyramidai("slide.tif", *words, cwd=folder).returncode == 0
    return folder


@pytest.mark.parametrize("words", REFUSED)
def test_what_cannot_be_is_refused_in_one_line_and_leaves_nothing(refusing, words):
    code, said = REFUSED[words]
    given = words.split()
    model = given.pop(given.index("--model") + 1) if "--model" in given else "model"
    given = [word for word in given if word != "--model"]
    done = explain(refusing, *given, "-o", "refused", model=model)
    assert done.returncode == code
    error = [line for line in done.stderr.splitlines() if line.startswith("pyramidai: error: ")]
    assert len(error) == 1
    assert said in error[0]
    assert not list(Path(refusing).glob("refused/*"))


def test_the_file_says_how_it_came_about(folder, made):
    found = opened(folder / "made" / "slide.explained.h5")
    said = found.execution.attributes
    assert said["command_line"].startswith("pyramidai explain out.h5 --model model --tiles top:6")
    assert (said["result"], said["result_n_compared"], said["result_n_differing"]) == ("out.h5", 6, 0)
    assert found.settings == json.loads(json.dumps({"seed": 0, "fill": "blur", "curve_steps": 16}))
