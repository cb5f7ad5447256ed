"""`analyse`: the command line's run from Python."""

from __future__ import annotations

import configparser
import inspect
import json
import subprocess
import sys
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import openslide
import pytest

import pyramidai_mpi
from pyramidai_mpi.base.python_errors import OTHER_NAMES
from pyramidai_mpi.cli.run import command
from pyramidai_mpi.testing.launch import REPOSITORY
from tests.dicoms import write_dicom_slide
from tests.end_to_end.test_damage import tissue_slide
from tests.packages import write_package

if TYPE_CHECKING:
    from collections.abc import Callable

NOT_IN_PYTHON = {
    "slides": "one slide a call; comm= or several calls for many",
    "table": "likewise",
    "results_dir": "likewise; output= names the file",
    "export": "of what is returned; or pyramidai export",
    "part": "of an array job, which calls the command",
    "no_progress": "progress=False",
    "verbose": "the log is the caller's own",
    "quiet": "likewise",
    "log_level": "likewise",
}
ONLY_IN_PYTHON = {"slide", "comm", "progress"}


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """A slide and a model with features."""
    folder = tmp_path_factory.mktemp("notebook")
    tissue_slide(folder / "a.tif")
    write_package(folder / "model", side=64, thresholds=(0.5, 0.45, 0.3), with_features=True)
    return folder


def in_a_process(code: str, *arguments: object) -> str:
    """Output of Python code run on its own, as MPI can be started once a process."""
    words = [sys.executable, "-c", code, *map(str, arguments)]
    done = subprocess.run(words, capture_output=True, text=True, cwd=REPOSITORY, timeout=120, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout


@pytest.mark.mpi
def test_analyse_gives_the_result_of_the_command_line(folder, tmp_path):
    code = """
import sys, pathlib, pyramidai_mpi
slide, model = sys.argv[1:3]
result = pyramidai_mpi.analyse(slide, model, features=True)
again = pyramidai_mpi.analyse(slide, model, mode="exhaustive", thresholds={0: 0.9}, output=sys.argv[3])
print(result.digest, result.path, len(again.levels[0]), again.levels[0].record.threshold)
features = result.levels[0].features
assert features.shape[0] == len(result.levels[0]) and features.shape[1] > 0
folder, n_tiles = result.path.parent, len(result.levels[0])
assert folder.is_dir()
del result
assert not folder.exists()
assert len(pyramidai_mpi.analyse(slide, model).levels[0].tiles) == n_tiles
"""
    digest, kept, n_tiles, threshold = in_a_process(
        code, folder / "a.tif", folder / "model", tmp_path / "all.h5"
    ).split()
    run = [
        sys.executable,
        "-m",
        "pyramidai_mpi",
        folder / "a.tif",
        "--model",
        folder / "model",
        "-o",
        tmp_path / "a.h5",
    ]
    subprocess.run(run, cwd=REPOSITORY, check=True, capture_output=True, timeout=120)
    assert digest == pyramidai_mpi.open_result(tmp_path / "a.h5").digest
    assert not Path(kept).exists()
    kept_result = pyramidai_mpi.open_result(tmp_path / "all.h5")
    assert len(kept_result.levels[0]) == int(n_tiles)
    assert float(threshold) == 0.9


@pytest.mark.mpi
def test_analyse_looks_where_it_is_told(folder, tmp_path):
    # the upper left quarter of the slide, as an outline
    with openslide.OpenSlide(folder / "a.tif") as slide:
        width, height = slide.dimensions
    corners = [[0, 0], [width // 2, 0], [width // 2, height // 2], [0, height // 2], [0, 0]]
    outline = {"type": "Feature", "properties": {}, "geometry": {"type": "Polygon", "coordinates": [corners]}}
    (tmp_path / "roi.geojson").write_text(json.dumps(outline), encoding="utf-8")
    code = """
import sys, pyramidai_mpi
slide, model, roi = sys.argv[1:]
for options in ({}, {"roi": roi}, {"exclude": roi}, {"no_tissue": True}):
    result = pyramidai_mpi.analyse(slide, model, mode="reference", **options)
    print(len(result.levels[0]))
"""
    tissue, inside, outside, everything = map(
        int, in_a_process(code, folder / "a.tif", folder / "model", tmp_path / "roi.geojson").split()
    )
    assert 0 < inside < tissue
    assert tissue <= inside + outside  # tiles on the border count twice
    assert everything == -(-width // 64) * -(-height // 64)


@pytest.mark.mpi
def test_what_the_command_line_would_end_with_is_raised(folder, tmp_path):
    code = """
import sys, pyramidai_mpi
from pyramidai_mpi.base.errors import InputError, OutputExistsError, UsageError
slide, model, taken = sys.argv[1:]
for error, options in [(InputError, dict(slide=slide + "x", model=model)), (InputError, dict(slide=slide, model=slide)),
                       (OutputExistsError, dict(slide=slide, model=model, output=taken)),
                       (UsageError, dict(slide=slide, model=model, mode="fast")),
                       (UsageError, dict(slide=slide, model=model, backend="abacus")),
                       (UsageError, dict(slide=slide, model=model, thresholds={7: 0.5}))]:
    try:
        pyramidai_mpi.analyse(**options)
    except error as caught:
        assert "--" not in str(caught), caught  # arguments, not options
        print(type(caught).__name__)
"""
    (tmp_path / "taken.h5").touch()
    said = in_a_process(code, folder / "a.tif", folder / "model", tmp_path / "taken.h5").split()
    assert said == ["MissingInputError", "InputError", "OutputExistsError", *["UsageError"] * 3]


def test_analyse_takes_what_the_command_line_takes_with_the_same_defaults():
    options = {OTHER_NAMES.get(one.name, one.name): one for one in command.params if one.name not in NOT_IN_PYTHON}
    arguments = inspect.signature(pyramidai_mpi.analyse).parameters
    assert arguments.keys() - ONLY_IN_PYTHON == options.keys()
    assert {one.name for one in command.params} >= NOT_IN_PYTHON.keys()
    for name, option in options.items():
        default = option.default if isinstance(option.default, str | int | float) else None  # click marks what has none
        assert (arguments[name].default or None) == (default or None), name


def test_dir_and_help_show_what_there_is():
    shown = in_a_process("import pyramidai_mpi; print(*dir(pyramidai_mpi)); help(pyramidai_mpi)")
    assert {"analyse", "open_result", "errors"} <= set(shown.splitlines()[0].split())
    assert "analyse(slide:" in shown
    assert "open_result(path:" in shown


def test_the_extra_for_data_frames_holds_pandas():
    setup = configparser.ConfigParser()
    setup.read(REPOSITORY / "setup.cfg")
    assert "pandas" in setup["options.extras_require"]["pandas"]


@pytest.mark.parametrize("options", [{"resume": True}, {"time_limit": "2h"}])
def test_what_is_to_be_gone_on_with_needs_an_output(options):
    with pytest.raises(ValueError, match="give output="):
        pyramidai_mpi.analyse("slide.tif", **options)


@pytest.mark.mpi
def test_progress_is_shown_where_it_is_wanted_and_a_library_is_quiet_elsewhere(folder):
    code = "import sys, pyramidai_mpi as p; p.analyse(*sys.argv[1:3], progress={'': None, 'yes': True}[sys.argv[3]])"
    for wanted in ("", "yes"):
        done = subprocess.run(
            [sys.executable, "-c", code, folder / "a.tif", folder / "model", wanted],
            capture_output=True, text=True, cwd=REPOSITORY, timeout=120, check=True,
        )  # fmt: skip
        assert done.stdout == ""
        assert (" tiles, " in done.stderr) == bool(wanted)
        assert wanted or done.stderr == ""


@pytest.mark.mpi
def test_a_dicom_folder_is_analysed_as_the_same_pixels_in_a_tiff(folder, tmp_path):
    pixels = np.asarray(openslide.OpenSlide(folder / "a.tif").read_region((0, 0), 0, (1024, 1024)))[..., :3]
    write_dicom_slide(tmp_path / "case", [pixels])
    code = """
import sys, pyramidai_mpi
results = [pyramidai_mpi.analyse(slide, sys.argv[3], ranks=ranks) for slide in sys.argv[1:3] for ranks in (None, 2)]
print(*(len(result.levels[0]) for result in results))
print(*(result.header.slide.vendor for result in results))
print(len({result.levels[0].tiles.tobytes() for result in results}))
"""
    counts, vendors, distinct = in_a_process(code, folder / "a.tif", tmp_path / "case", folder / "model").splitlines()
    assert len(set(counts.split())) == 1
    assert vendors.split() == ["generic-tiff"] * 2 + ["dicom"] * 2
    assert distinct == "1"


@pytest.mark.mpi
def test_analyse_passes_its_arguments_on(folder, tmp_path):
    code = """
import sys, pyramidai_mpi
slide, model, out = sys.argv[1:]
made = pyramidai_mpi.analyse(slide, model, output=out, levels="scale", reader="openslide", min_tissue=0.5, seed=3,
    batch_size=5, policy="static", positive_class="normal", slide_sha256=True, read_ahead="never", writer="serial")
facts = made.summary.execution
print(made.header.slide.openslide_quickhash1)
print(made.header.model.positive_class, made.header.slide.sha256 is not None, facts["min_tissue"], facts["seed"],
    facts["batch_size"], facts["policy"], facts["levels"], facts["reader"], facts["writer"])
again = pyramidai_mpi.analyse(slide, model, output=out, levels="scale", min_tissue=0.5, positive_class="normal",
    resume=True)
assert again.digest == made.digest
"""
    said = in_a_process(code, folder / "a.tif", folder / "model", tmp_path / "out.h5").split()
    with openslide.OpenSlide(folder / "a.tif") as slide:
        by_openslide = slide.properties["openslide.quickhash-1"]
    assert said == [by_openslide, "normal", "True", "0.5", "3", "5", "static", "scale", "openslide", "serial"]


@pytest.mark.parametrize(
    ("name", "value", "expected"),
    [
        ("slide", None, "a path"),
        ("slide", 3, "a path"),
        ("slide", b"s.tif", "a path"),
        ("model", 5, "a path"),
        ("output", 5, "a path"),
        ("roi", 3, "a path"),
        ("overwrite", "no", "True or False"),
        ("resume", "False", "True or False"),
        ("features", None, "True or False"),
        ("no_tissue", 2, "True or False"),
        ("mpp", "0.25", "a number"),
        ("min_tissue", "a", "a number"),
        ("tissue_limit", True, "a number"),
        ("batch_size", 2.5, "an integer"),
        ("seed", "a", "an integer"),
        ("time_limit", 5, "text"),
        ("positive_class", 1, "text"),
        ("thresholds", {"a": 1}, "a mapping from levels to numbers"),
        ("thresholds", {0: "0.5"}, "a mapping from levels to numbers"),
        ("thresholds", {True: 0.5}, "a mapping from levels to numbers"),
        ("thresholds", [0.5], "a mapping from levels to numbers"),
    ],
)
def test_an_argument_of_a_wrong_type_is_named_and_nothing_is_touched(tmp_path, name, value, expected):
    output = tmp_path / "out.h5"
    output.write_bytes(b"mine")
    with pytest.raises(TypeError, match=f"^{name}=.*: expected {expected}"):
        pyramidai_mpi.analyse(**({"slide": tmp_path / "slide.tif", "output": output} | {name: value}))
    assert output.read_bytes() == b"mine"


def switches_of(function: Callable[..., object]) -> list[str]:
    """Arguments that are to be True or False, by their annotations."""
    return [name for name, one in inspect.signature(function).parameters.items() if str(one.annotation)[:4] == "bool"]


@pytest.mark.parametrize(
    "function", [pyramidai_mpi.analyse, partial(pyramidai_mpi.explain_tiles, tiles="top:1"), pyramidai_mpi.PatchDataset]
)
def test_no_switch_takes_a_text(tmp_path, function):
    switches = switches_of(function)
    assert len(switches) >= 2
    for name in switches:
        with pytest.raises(TypeError, match=f"^{name}='no': expected True or False"):
            function(tmp_path / "none", **{name: "no"})


def test_numbers_and_switches_of_numpy_are_taken(tmp_path):
    given = {
        "overwrite": np.False_,
        "features": np.bool_(True),
        "mpp": np.float32(0.25),
        "batch_size": np.int64(3),
        "thresholds": {np.int32(0): np.float64(0.5)},
    }
    with pytest.raises(FileNotFoundError, match=r"gone\.tif"):
        pyramidai_mpi.analyse(tmp_path / "gone.tif", **given)


@pytest.mark.mpi
def test_a_stride_of_numpy_is_a_stride(folder):
    code = """
import sys, numpy, pyramidai_mpi
result = pyramidai_mpi.analyse(*sys.argv[1:], stride=numpy.int64(32), mode="reference")
print(result.dense_map().cell)
"""
    assert in_a_process(code, folder / "a.tif", folder / "model").splitlines()[-1] == "32"


@pytest.mark.parametrize("output", ["", ".", "/"])
def test_an_output_without_a_name_is_refused(tmp_path, output):
    with pytest.raises(ValueError, match="names no file; expected the result file"):
        pyramidai_mpi.analyse(tmp_path / "slide.tif", output=output)
