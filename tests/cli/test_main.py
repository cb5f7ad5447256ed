"""Commands, exit codes and one-line errors, without MPI."""

from __future__ import annotations

import errno
import json
import os
import subprocess
import sys
from dataclasses import replace

import click
import h5py
import numpy as np
import openslide
import pytest
from PIL import Image

from pyramidai_mpi import __version__
from pyramidai_mpi.cli.main import _pyramidai, run_command_line
from pyramidai_mpi.patches.database import open_patches
from pyramidai_mpi.slides.identity import quickhash
from tests.packages import write_package
from tests.patch_files import order_of, write_patches_of
from tests.results import result_of, write_file
from tests.tiffs import textured, write_slide


@pytest.fixture
def call(capfd, tmp_path, monkeypatch):
    """Run a command line in an empty folder; gives exit code, output and errors."""
    monkeypatch.chdir(tmp_path)

    def run(*words: object) -> tuple[int, str, str]:
        code = run_command_line([str(word) for word in words])
        out, err = capfd.readouterr()
        return int(code), out, err

    return run


def assert_one_line(err: str, *parts: str) -> None:
    assert err.startswith("pyramidai: error: ")
    assert err.count("\n") == 1
    assert [part for part in parts if part not in err] == []


def test_a_path_that_is_no_text_can_be_printed(tmp_path):
    done = subprocess.run(
        [sys.executable, "-m", "pyramidai_mpi", "synth", "caf\udce9.tif", "--size", "600x400"],
        capture_output=True,
        cwd=tmp_path,
        env={**os.environ, "PYTHONIOENCODING": "utf-8:strict"},
        check=False,
    )
    assert (done.returncode, done.stderr) == (0, b"")
    assert done.stdout.startswith(rb"caf\udce9.tif: 600 x 400 px")


@pytest.mark.parametrize("words", [["--help"], ["-h"], []], ids=" ".join)
def test_help_lists_the_commands(call, words):
    code, out, err = call(*words)
    assert (code, err) == (0, "")
    for command in ("run", "digest", "info", "export", "evaluate", "classify", "synth", "mpirun -n 12", "srun"):
        assert command in out


@pytest.mark.parametrize("command", ["run", "digest", "info", "export", "evaluate", "classify", "simulate", "synth"])
def test_every_command_has_help(call, command):
    code, out, _ = call(command, "--help")
    assert code == 0
    assert "Usage: pyramidai " + command in out


def test_help_of_the_default_command_needs_no_name(call):
    assert call("slide.tif", "--help") == call("run", "--help")


@pytest.mark.parametrize(
    "option",
    ["--slides", "--model", "--output", "--results-dir", "--threshold", "--mode", "--mpp", "--batch-size", "--policy",
     "--seed", "--overwrite", "--allow-upsampling", "--no-progress", "--quiet", "--verbose"],
)  # fmt: skip
def test_run_has_the_options_of_the_design(call, option):
    assert option in call("run", "--help")[1]


def test_the_version_is_told(call):
    assert __version__ in call("--version")[1]


def test_other_ranks_keep_silent(call, monkeypatch):
    monkeypatch.setenv("PMI_RANK", "3")
    assert call("--help") == (0, "", "")
    assert call("digest", "missing.h5") == (65, "", "")


@pytest.mark.parametrize(
    ("words", "part"),
    [
        (["run"], "SLIDE"),
        (["a.tif", "--nonsense"], "--nonsense"),
        (["a.tif", "--threshold", "1=7"], "1=7"),
        (["a.tif", "--threshold", "half"], "half"),
        (["a.tif", "--mode", "fast"], "fast"),
        (["a.tif", "--policy", "steal-all"], "steal-all"),
        (["a.tif", "--mpp", "0"], "--mpp"),
        (["a.tif", "--mpp", "fine"], "fine"),
        (["a.tif", "--mpp", "0,25"], "Write it with a point: 0.25"),
        (["a.tif", "--batch-size", "0"], "--batch-size"),
        (["a.tif", "--batch-size", "2.5"], "2.5"),
        (["a.tif", "--min-tissue", "2"], "--min-tissue"),
        (["a.tif", "-v", "-q"], "-v"),
        (["a.tif", "-o", "."], "-o .: names no file"),
        (["a.tif", "-o", "/"], "-o /: names no file"),
        (["a.tif", "b.tif", "-o", "out.h5"], "--results-dir"),
        (["x/a.tif", "y/a.tif"], "a.h5"),
        (["a.tif", "-o", "out.h5", "--results-dir", "."], "--results-dir"),
        (["digest"], "OUT.h5|PATCHES.h5"),
        (["export", "out.h5"], "--overlay"),
        (["export", "out.h5", "--merge"], "--geojson"),
        (["export", "out.h5", "--geojson", "f", "--merge", "--flat"], "--flat"),
        (["export", "out.h5", "--overlay", "f", "--levels", "0"], "--levels goes with --geojson or --csv or --flat"),
        (["export", "out.h5", "--geojson", "f", "--merge", "--levels", "0"], "--levels goes with"),
        (["a.tif", "--export", "csv,word"], "word"),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, list) else "",
)
def test_a_wrong_option_or_value_is_usage(call, tmp_path, words, part):
    write_package(tmp_path / "model")
    model = ["--model", tmp_path / "model"] if words[0].endswith(".tif") else []
    code, out, err = call(*words, *model)
    assert code == 64
    assert out == ""
    assert_one_line(err, part)
    assert [path.name for path in tmp_path.iterdir()] == ["model"]


@pytest.mark.parametrize(
    ("text", "options", "code", "part"),
    [
        ("wsi,mpp\na.tif,fine\n", [], 65, "line 2"),
        ("wsi\nx/a.tif\ny/a.tif\n", [], 64, "line 3"),
        ("wsi\na.tif\n", ["x/a.tif"], 64, "a.h5"),
        ("wsi\na.tif\n", ["-o", "out.h5"], 64, "--results-dir"),
        ("wsi\na.tif\n", ["--writer", "mpio"], 64, "mpio"),
        ("wsi\na.tif\n", ["--results-dir", "list.csv"], 74, "list.csv"),
        ("wsi\na.tif\nsummary.tif\n", ["--export", "csv"], 64, "summary.csv"),
    ],
    ids=[
        "bad value",
        "one output for two",
        "also on the command line",
        "-o",
        "mpio",
        "a file there",
        "export in the way",
    ],
)
def test_a_table_of_slides_that_cannot_be_run_is_told_before_the_work(call, tmp_path, text, options, code, part):
    (tmp_path / "list.csv").write_text(text)
    found, out, err = call("run", "--slides", "list.csv", *options)
    assert (found, out) == (code, "")
    assert_one_line(err, part)
    assert [path.name for path in tmp_path.iterdir()] == ["list.csv"]


@pytest.mark.parametrize("command", ["digest", "info"])
def test_a_missing_result_is_bad_input(call, command):
    code, _, err = call(command, "missing.h5")
    assert code == 65
    assert_one_line(err, "missing.h5")


@pytest.mark.parametrize("what", ["missing.tif", "folder"])
def test_info_on_what_is_nothing_is_bad_input(call, tmp_path, what):
    (tmp_path / "folder").mkdir()
    code, _, err = call("info", what)
    assert code == 65
    assert_one_line(err, what)


def test_the_digest_of_a_result_is_one_line(call, tmp_path):
    result = result_of()
    code, out, err = call("digest", write_file(tmp_path / "out.h5", result))
    assert (code, out, err) == (0, result.digest() + "\n", "")


def test_digests_of_several_files_name_their_files_and_patches_have_one_too(call, tmp_path):
    result = result_of()
    write_file(tmp_path / "out.h5", result)
    slide = write_slide(tmp_path / "slide.tif", [textured(256, 256)])
    with open_patches(write_patches_of(slide, tmp_path / "a.patches.h5", order_of(128, 128))) as patches:
        digest = patches.digest
    assert call("digest", "a.patches.h5") == (0, f"{digest}\n", "")
    assert call("digest", "out.h5", "a.patches.h5") == (0, f"{result.digest()}  out.h5\n{digest}  a.patches.h5\n", "")
    assert call("digest", "out.h5", "slide.tif")[0] == 65


def test_info_describes_a_result(call, tmp_path):
    result = result_of()
    code, out, _ = call("info", write_file(tmp_path / "out.h5", result))
    assert code == 0
    assert result.digest() in out
    assert "slide.tif, 1440 x 1120 px at 0.2528 µm/px" in out
    for n, level in result.tree.levels.items():
        decision = level.decision.tolist()
        assert f"level {n}: {0.2528 * 2**n:.3g} µm/px, threshold {0.5 - n / 10:g}: {len(decision)} tiles" in out


def test_info_on_a_damaged_result_is_bad_input(call, tmp_path):
    path = write_file(tmp_path / "out.h5", result_of())
    with h5py.File(path, "r+") as file:
        del file["slide"]
    code, _, err = call("info", path)
    assert code == 65
    assert_one_line(err, "out.h5")


def test_info_describes_a_slide(call, slide):
    code, out, _ = call("info", slide)
    assert code == 0
    assert "1024 x 768 px" in out
    assert "0.25 µm/px" in out
    assert quickhash(slide) in out
    assert f"quickhash-1 {openslide.OpenSlide(slide).properties['openslide.quickhash-1']}\n" in out
    assert "stored level 2: 256 x 192 px, 1/4, 1 µm/px" in out


def test_info_on_a_slide_without_spacing_names_the_option(call, tmp_path):
    path = write_slide(tmp_path / "a.tif", [textured(300, 200)], mpp=None)
    assert "--mpp" in call("info", path)[1]


def test_info_describes_a_model(call, tmp_path):
    code, out, _ = call("info", write_package(tmp_path / "model"))
    assert code == 0
    assert "normal, tumor; positive: tumor" in out
    assert "level 2: 1 µm/px, threshold 0.3, level2.onnx" in out
    assert "level 2: overlapping windows can share its work" in out


def test_info_says_why_windows_cannot_share_a_network(call):
    code, out, _ = call("info", "small")
    assert code == 0
    assert "level 0: overlapping windows cannot share its work: pads its maps: probabilities change by" in out


@pytest.mark.parametrize("use", [None, "demonstration"])
def test_info_says_what_a_model_is_for_and_a_result_of_it_too(call, tmp_path, use):
    stated = {} if use is None else {"intended_use": use}
    _, of_model, _ = call("info", write_package(tmp_path / "model", yaml_changes=stated))
    model = replace(result_of().model, intended_use=use)
    _, of_result, _ = call("info", write_file(tmp_path / "out.h5", result_of(model=model)))
    for out in (of_model, of_result):
        assert ("use        demonstration model: scores mean nothing on real slides" in out) == (use is not None)


def test_info_on_a_model_that_does_not_fit_its_description_is_bad_input(call, tmp_path):
    code, _, err = call("info", write_package(tmp_path / "model", n_classes=3))
    assert code == 65
    assert_one_line(err, "level0.onnx", "expected")


def test_export_makes_everything_that_is_asked_for_in_one_go(call, tmp_path):
    path = write_file(tmp_path / "out.h5", result_of())
    wanted = {
        "--geojson": "tiles.geojson.gz",
        "--csv": "tiles.csv",
        "--heatmap": "heatmap.tif",
        "--overlay": "overlay.png",
        "--deepzoom": "zoom",
        "--clam": "clam",
        "--report": "out.html",
    }
    words = [word for pair in wanted.items() for word in pair]
    assert call("export", path, *words) == (0, "", "")
    assert sorted(each.name for each in tmp_path.iterdir()) == sorted(["out.h5", "out.exports.json", *wanted.values()])
    assert call("export", path, "--geojson", "regions.geojson", "--merge")[0] == 0
    features = json.loads((tmp_path / "regions.geojson").read_text())["features"]
    assert {feature["properties"]["objectType"] for feature in features} == {"annotation"}


def test_some_levels_are_exported_to_whatever_takes_them(call, tmp_path):
    path = write_file(tmp_path / "out.h5", result_of())
    words = ["--csv", "tiles.csv", "--geojson", "tiles.geojson", "--flat", "--overlay", "o.png", "--levels", "0"]
    assert call("export", path, *words) == (0, "", "")
    n_tiles = len(result_of().tree.levels[0])
    assert (tmp_path / "tiles.csv").read_text().count("\n") == n_tiles + 1
    assert len(json.loads((tmp_path / "tiles.geojson").read_text())["features"]) == n_tiles
    code, _, err = call("export", path, "--csv", "others.csv", "--levels", "0,7")
    assert code == 64
    assert_one_line(err, "levels 0 to 2, not 7")
    assert not (tmp_path / "others.csv").exists()


@pytest.mark.parametrize("option", ["--geojson", "--csv", "--heatmap", "--overlay", "--deepzoom", "--report"])
def test_what_an_export_finds_in_its_way_it_leaves_untouched(call, tmp_path, option):
    path = write_file(tmp_path / "out.h5", result_of())
    (tmp_path / "mine").write_text("mine")
    code, _, err = call("export", path, option, "mine")
    assert code == 73
    assert_one_line(err, "mine")
    assert (tmp_path / "mine").read_text() == "mine"


@pytest.mark.parametrize(
    ("option", "taken"),
    [
        ("--report", "out.html"),
        ("--deepzoom", "zoom/mine"),
        ("--clam", "clam/level1/slide.h5"),
        ("--clam", "clam/level0"),
        ("--clam", "clam"),
    ],
)
def test_all_targets_are_looked_at_before_any_is_written(call, tmp_path, option, taken):
    path = write_file(tmp_path / "out.h5", result_of())
    (tmp_path / taken).parent.mkdir(parents=True, exist_ok=True)
    (tmp_path / taken).write_text("mine")
    target = tmp_path / taken.partition("/")[0]
    code, _, err = call("export", path, "--csv", "tiles.csv", option, target)
    assert code in {73, 74}
    assert_one_line(err, target.name)
    assert not (tmp_path / "tiles.csv").exists()
    assert (tmp_path / taken).read_text() == "mine"


def test_two_exports_to_one_name_are_refused(call, tmp_path):
    path = write_file(tmp_path / "out.h5", result_of())
    code, _, err = call("export", path, "--csv", "tiles", "--geojson", "tiles", "--overwrite")
    assert code == 64
    assert_one_line(err, "tiles", "csv", "geojson")
    assert [each.name for each in tmp_path.iterdir()] == ["out.h5"]


@pytest.mark.parametrize("option", ["--geojson", "--csv", "--heatmap", "--overlay", "--clam"])
def test_an_export_never_replaces_the_result_it_is_made_of(call, tmp_path, option):
    path = write_file(tmp_path / "out.h5", result_of())
    before = path.read_bytes()
    assert call("export", path, option, path, "--overwrite")[0] in {64, 74}
    assert path.read_bytes() == before


@pytest.mark.parametrize("option", ["--geojson", "--csv", "--heatmap", "--overlay", "--report"])
def test_a_disk_that_fills_up_during_an_export_is_told_and_leaves_nothing(call, tmp_path, monkeypatch, option):
    path = write_file(tmp_path / "out.h5", result_of())

    def full(_descriptor):
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    code, _, err = call("export", path, option, "file")
    assert code == 74
    assert_one_line(err, "No space left on device")
    assert [each.name for each in tmp_path.iterdir()] == ["out.h5"]


def test_export_draws_an_overlay(call, tmp_path, slide):
    result = result_of(np.ones((24, 32), bool))
    path = write_file(tmp_path / "out.h5", replace(result, slide=replace(result.slide, quickhash=quickhash(slide))))
    words = ["export", path, "--overlay", tmp_path / "o.png", "--slide", slide]
    assert call(*words)[0] == 0
    with Image.open(tmp_path / "o.png") as picture:
        assert picture.format == "PNG"
    code, _, err = call(*words)
    assert code == 73
    assert_one_line(err, "o.png", "--overwrite")
    assert call(*words, "--overwrite")[0] == 0


def all_parameters(command, context):
    if isinstance(command, click.Group):
        for name in command.list_commands(context):
            yield from all_parameters(command.get_command(context, name), click.Context(command, context, name))
    else:
        yield from command.params


def test_who_opens_a_file_says_that_it_may_not_be_read():
    """click would say so as of a wrong option, 64, before the program looks at it."""
    paths = [one for one in all_parameters(_pyramidai, click.Context(_pyramidai)) if isinstance(one.type, click.Path)]
    assert len(paths) > 40
    assert [one.name for one in paths if one.type.readable] == []
