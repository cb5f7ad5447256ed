"""``pyramidai explain``: tiles of results and slides, explained from the command line and from Python."""

from __future__ import annotations

import csv
import shutil

import numpy as np
import pytest
from PIL import Image

import pyramidai_mpi
from pyramidai_mpi.base.errors import UsageError
from pyramidai_mpi.cli.main import run_command_line
from pyramidai_mpi.synth import SynthSpec
from pyramidai_mpi.synth import write_slide as write_synthetic
from tests.end_to_end.conftest import Finished, pyramidai
from tests.explaining import (
    SIDE,
    plain_gradcam,
    probabilities,
    tile_of,
    untried_files,
    write_image,
    write_maps_package,
)
from tests.models.test_wsinfer import zoo_folder
from tests.packages import write_package, write_position_package
from tests.tiffs import drop_tile

TOP = sorted(((col, row) for col in range(7) for row in range(5)), key=lambda place: -probabilities(tile_of(*place))[1])


@pytest.fixture(scope="module", autouse=True)
def untried():
    """But for `made`, whose command is a process of its own."""
    with untried_files():
        yield


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """A slide, its model, and its result."""
    folder = tmp_path_factory.mktemp("explain")
    write_image(folder / "slide.tif")
    write_maps_package(folder / "model")
    pyramidai_mpi.analyse(folder / "slide.tif", folder / "model", output=folder / "out.h5", no_tissue=True)
    return folder


@pytest.fixture(scope="module")
def made(folder):
    """What the command says of its best tiles."""
    return pyramidai("explain", "out.h5", "--model", "model", "--tiles", "top:6", "-o", "made", cwd=folder)


@pytest.fixture
def explain(monkeypatch, capfd, caplog):
    """The command, in this process: exit code and what it said."""
    caplog.set_level("INFO")

    def run(folder, *words, model="model"):
        monkeypatch.chdir(folder)
        capfd.readouterr()
        caplog.clear()
        code = run_command_line(["explain", *map(str, words), "--model", str(model)])
        out, err = capfd.readouterr()
        return Finished(int(code), out, err + caplog.text)

    return run


def opened(path):
    return pyramidai_mpi.open_explanation(path).explanation


def explained(folder, source, tiles, model="model", **asked):
    """The same from Python."""
    return pyramidai_mpi.explain_tiles(folder / source, tiles, folder / model, **asked).explanation


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
    points = [f"l0:{col * SIDE + 9},{row * SIDE + 63}" for col, row in TOP[:6]]
    digest = opened(folder / "made" / "slide.explained.h5").digest
    assert explained(folder, "slide.tif", str(folder / "tiles.csv")).digest == digest
    assert explained(folder, "slide.tif", points).digest == digest
    assert explained(folder, "out.h5", points, output=folder / "python").digest == digest
    assert opened(folder / "python" / "slide.explained.h5").digest == digest


@pytest.mark.parametrize("method", ["integrated-gradients", "rise"])
def test_methods_that_are_slower_find_their_way_to_the_file(folder, method):
    asked = {"masks": 130} if method == "rise" else {"numbers": {"steps": 4}}
    found = explained(folder, "out.h5", "top:2", method=method, **asked)
    assert np.isfinite(found.tiles.maps).all()
    assert found.tiles.maps.std() > 0
    assert np.isfinite(found.tiles.repeatability).all() == (method == "rise")
    assert found.settings["n_masks" if method == "rise" else "steps"] == (130 if method == "rise" else 4)


def test_masks_stop_when_the_map_repeats(folder):
    asked = {"method": "lime", "numbers": {"segments": 6}, "faithfulness": False}
    found = explained(folder, "out.h5", "top:3", until=0.9, masks=4000, **asked)
    assert (found.tiles.repeatability >= 0.9).all()
    used = found.execution.attributes
    assert used["least_masks"] == 256
    assert used["masks"] < 3 * 4000
    # as many masks at once give the same map
    at_once = explained(folder, "out.h5", "top:3", masks=256, **asked)
    is_first = at_once.tiles.repeatability == found.tiles.repeatability
    assert is_first.any()
    np.testing.assert_array_equal(found.tiles.maps[is_first], at_once.tiles.maps[is_first])


def test_a_file_is_left_alone_gone_on_with_or_replaced_as_a_result_is(folder, made, explain):
    shutil.copytree(folder / "made", folder / "again")
    before = (folder / "again" / "slide.explained.h5").read_bytes()
    with pytest.raises(FileExistsError, match="exists already"):
        explained(folder, "out.h5", "top:6", output=folder / "again")
    with pytest.raises(ValueError, match="is of a run with other settings"):
        explained(folder, "out.h5", "top:6", output=folder / "again", resume=True, faithfulness=False)
    words = ["out.h5", "--tiles", "top:6", "-o", "again"]
    resumed = explain(folder, *words, "--resume")
    assert resumed.returncode == 0
    assert "is there already, complete" in resumed.stderr
    assert (folder / "again" / "slide.explained.h5").read_bytes() == before
    # two pools of work, and the files that were there are replaced at the end
    replaced = explain(folder, *words, "--overwrite", "--method", "occlusion", "--no-faithfulness")
    assert replaced.returncode == 0
    assert opened(folder / "again" / "slide.explained.h5").method == "occlusion"
    assert "occlusion" in (folder / "again" / "slide.explained.csv").read_text()
    assert not list((folder / "again").glob("*.journal"))


def test_an_unreadable_tile_is_told_and_the_others_have_maps(folder, tmp_path, explain):
    write_image(tmp_path / "slide.tif")
    drop_tile(tmp_path / "slide.tif", 2, 0)  # stored tiles of 128 px
    words = ["slide.tif", "--tiles", "l0:300,10", "--tiles", "l0:10,10", "--method", "occlusion", "--no-faithfulness"]
    done = explain(tmp_path, *words, model=folder / "model")
    assert done.returncode == 3
    assert "unreadable: level 0 col 4 row 0: " in done.stderr
    found = opened(tmp_path / "slide.explained.h5")
    assert found.failed[["level", "col", "row"]].tolist() == [(0, 4, 0)]
    assert np.isnan(found.tiles.maps).all(axis=(1, 2)).tolist() == [False, True]
    with pytest.raises(ValueError, match="none of its tiles can be read"):
        explained(tmp_path, "slide.tif", "l0:300,10", folder / "model", output=tmp_path / "none")
    # such a file is no finished one to a later start
    with pytest.raises(ValueError, match="none of its tiles can be read"):
        explained(tmp_path, "slide.tif", "l0:300,10", folder / "model", output=tmp_path / "none", resume=True)


def test_several_slides_are_a_cohort(folder, tmp_path, explain):
    for name in ("a", "c"):
        write_image(tmp_path / f"{name}.tif")
    (tmp_path / "tables").mkdir()
    for name in "abc":
        (tmp_path / "tables" / f"{name}.csv").write_text("l0_x;l0_y\n70;70\n")
    words = ["a.tif", "b.tif", "c.tif", "--tiles", "tables", "--no-faithfulness", "-o", "cams"]
    done = explain(tmp_path, *words, model=folder / "model")
    assert done.returncode == 4
    assert "1 of 3 slides failed" in done.stderr
    assert "b.tif: no such slide" in done.stderr
    both = [opened(tmp_path / "cams" / f"{name}.explained.h5") for name in "ac"]
    assert both[0].tiles.index.tolist() == [[1, 1]]
    assert both[0].digest == both[1].digest  # the same pixels


def test_a_folder_of_results_has_its_slides_elsewhere(folder, tmp_path, explain):
    shutil.copy(folder / "out.h5", tmp_path / "renamed.h5")
    words = [tmp_path, "--slide", ".", "--tiles", "positive", "--no-faithfulness", "-o", tmp_path]
    assert explain(folder, *words).returncode == 0
    found = opened(tmp_path / "slide.explained.h5")
    assert len(found.tiles) == sum(probabilities(tile_of(*place))[1] >= 0.5 for place in TOP)


def test_two_results_of_a_slide_are_named(folder, tmp_path, explain):
    for name in "ab":
        shutil.copy(folder / "out.h5", tmp_path / f"{name}.h5")
    done = explain(folder, tmp_path, "--slide", ".", "--tiles", "positive", "-o", tmp_path)
    assert done.returncode == 64
    assert f"{tmp_path / 'a.h5'} and {tmp_path / 'b.h5'}: are of the same slide slide.tif; explain" in done.stderr


def test_no_positive_tile_makes_an_empty_file(folder, tmp_path):
    pyramidai_mpi.analyse(
        folder / "slide.tif", folder / "model", output=tmp_path / "none.h5", no_tissue=True, thresholds={0: 1.0}
    )
    found = explained(folder, tmp_path / "none.h5", "positive", slide=folder / "slide.tif")
    assert found.tiles.maps.shape == (0, 8, 8)


@pytest.mark.parametrize("per", ["slide", "tile"])
def test_pixels_are_what_the_network_saw_under_stain_normalisation(tmp_path, per, caplog):
    write_synthetic(SynthSpec(1200, 1000, seed=3), tmp_path / "slide.tif")
    write_package(tmp_path / "model", side=64, yaml_changes={"stain": {"method": "macenko", "per": per}})
    pyramidai_mpi.analyse(tmp_path / "slide.tif", tmp_path / "model", output=tmp_path / "out.h5", mode="exhaustive")
    asked = {"level": 1, "numbers": {"cells": 4, "window": 1}, "faithfulness": False}
    with caplog.at_level("INFO"):
        first = explained(tmp_path, "out.h5", "top:5", **asked)
    assert "method occlusion, as there are no gradients" in caplog.text
    said = first.execution.attributes
    assert (said["result_n_compared"], said["result_n_differing"]) == (5, 0)
    assert ("stain_map" in said) == (per == "slide")
    if per == "slide":  # estimated again where there is no result, and the same
        points = [f"l0:{x},{y}" for x, y in first.tiles.l0_coords.tolist()]
        assert explained(tmp_path, "slide.tif", points, **asked).digest == first.digest


def test_networks_that_see_where_tiles_lie_are_told(folder, tmp_path):
    write_position_package(tmp_path / "model")
    pyramidai_mpi.analyse(folder / "slide.tif", tmp_path / "model", output=tmp_path / "out.h5", no_tissue=True)
    asked = {"method": "occlusion", "slide": folder / "slide.tif", "faithfulness": False}
    found = explained(tmp_path, "out.h5", "top:3", **asked)
    assert (found.execution.attributes["result_n_compared"], len(found.tiles)) == (3, 3)
    assert found.execution.attributes["result_n_differing"] == 0


def test_methods_by_gradients_are_refused_with_the_reason_where_there_are_none(folder, tmp_path):
    write_package(tmp_path / "model", n_levels=1, side=64)
    with pytest.raises(ValueError, match=r"no maps.*method occlusion"):
        explained(tmp_path, folder / "slide.tif", "l0:5,5", method="gradcam")


def test_the_class_stands_for_the_positive_one_where_a_model_names_none(folder, tmp_path):
    zoo_folder(tmp_path / "zoo", num_classes=3, class_names=["grade3", "grade4+5", "benign"])
    asked = {"method": "occlusion", "numbers": {"cells": 2, "window": 1}, "allow_upsampling": True}
    points = "l0:50,50"
    with pytest.raises(UsageError, match="which class is the positive one; give class with one of"):
        explained(folder, "slide.tif", points, tmp_path / "zoo", **asked)
    found = explained(folder, "slide.tif", points, tmp_path / "zoo", class_name="benign", **asked)
    assert found.class_name == "benign"


REFUSED = [
    ("slide.tif", "top:3", {}, "are those of a result"),
    ("out.h5", ["top:3", "l0:1,1"], {}, "give one kind"),
    ("out.h5", "top:3", {"method": "gradcram"}, "did you mean 'gradcam'"),
    ("out.h5", "top:3", {"method": "rise", "layer": "maps"}, "looks at no layer"),
    ("out.h5", "top:3", {"layer": "nowhere"}, "expected one of maps"),
    ("out.h5", "top:3", {"class_name": "stroma"}, "has the classes normal, tumor"),
    ("out.h5", "top:3", {"level": 3}, "has levels 0 to 0"),
    ("out.h5", "top:3", {"until": 0.9}, "draws no masks"),
    ("out.h5", "top:3", {"method": "occlusion", "masks": 10}, "draws no masks"),
    ("out.h5", "top:3", {"fill": "black"}, "expected blur, mean, glass"),
    ("out.h5", "top:3", {"numbers": {"grid": 7}}, "has no option 'grid'"),
    ("out.h5", "top:3", {"mpp": 0.5}, "leave"),
    ("out.h5", "top:3", {"slide": "other.tif"}, "is not the slide that out.h5 was made from"),
    ("slide.tif", "l0:1,1", {"slide": "slide.tif"}, "no result was named"),
    ("out.h5", "l0:99999,1", {}, "lies outside the slide"),
    ("slide.tif", "l0:99999,1", {}, "lies outside the slide"),
    ("slide.tif", "nowhere.csv", {}, "nowhere.csv: cannot be read"),
    ("nowhere.h5", "top:3", {}, "nowhere.h5: no such result file"),
    ("strided.h5", "top:3", {}, "its windows overlap"),
    ("out.h5", "top:3", {"model": "other"}, "result of another network"),
]


@pytest.fixture(scope="module")
def refusing(folder):
    """Files that do not fit the others."""
    write_maps_package(folder / "other", changes={"base_mpp": 0.26})
    write_synthetic(SynthSpec(600, 500), folder / "other.tif")
    pyramidai_mpi.analyse(
        folder / "slide.tif", folder / "model", output=folder / "strided.h5", no_tissue=True, stride=32
    )
    return folder


@pytest.mark.parametrize(("source", "tiles", "asked", "said"), REFUSED)
def test_what_cannot_be_is_refused_in_one_line_and_leaves_nothing(refusing, source, tiles, asked, said):
    slide = {"slide": refusing / asked["slide"]} if "slide" in asked else {}
    with pytest.raises(pyramidai_mpi.errors.PyramidError, match=said) as error:
        explained(refusing, source, tiles, **(asked | slide), output=refusing / "refused")
    assert "\n" not in str(error.value)
    assert not list(refusing.glob("refused/*"))


def test_the_command_refuses_words_in_one_line(folder, explain):
    cases = {
        "out.h5 --tiles top:0": "expected top:N",
        "out.h5 --tiles top:3 --set grid": "expected NAME=NUMBER",
        "slide.tif slide.tif --tiles l0:1,1": "named twice",
        "out.h5 --tiles top:3 --until 2 --method rise": "expected a correlation",
    }
    for words, said in cases.items():
        done = explain(folder, *words.split(), "-o", "refused")
        assert done.returncode == 64
        (line,) = [line for line in done.stderr.splitlines() if line.startswith("pyramidai: error: ")]
        assert said in line


def test_the_file_says_how_it_came_about(folder, made):
    found = opened(folder / "made" / "slide.explained.h5")
    said = found.execution.attributes
    assert said["command_line"].startswith("pyramidai explain out.h5 --model model --tiles top:6")
    assert (said["result"], said["result_n_compared"], said["result_n_differing"]) == ("out.h5", 6, 0)
    assert found.settings == {"seed": 0, "fill": "blur", "curve_steps": 16}
