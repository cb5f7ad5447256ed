"""What a caller writes is parsed, or refused as a usage error (exit 64) that repeats the words."""

from __future__ import annotations

import math
from pathlib import Path

import pytest

from pyramidai_mpi.base.errors import ExitCode, UsageError
from pyramidai_mpi.base.settings import RunSettings, parse_thresholds
from pyramidai_mpi.run.selection import plan_outputs


def test_thresholds_are_level_equals_value():
    assert parse_thresholds(["1=0.3", "0=1", "2=1e-3"]) == {1: 0.3, 0: 1.0, 2: 0.001}
    assert parse_thresholds([]) == {}


@pytest.mark.parametrize(
    "words",
    [
        ["1=7"],
        ["1=-0.1"],
        ["1=nan"],
        ["1=inf"],
        ["1="],
        ["=0.5"],
        ["0.5"],
        ["a=0.5"],
        ["-1=0.5"],
        ["1:0.5"],
        ["1=0.5=0.6"],
        ["1.5=0.5"],
        ["1=0.5", "1=0.5"],
        [""],
    ],
    ids=repr,
)
def test_a_bad_threshold_is_a_usage_error_that_repeats_it(words):
    with pytest.raises(UsageError) as caught:
        parse_thresholds(words)
    assert caught.value.exit_code == ExitCode.USAGE == 64
    assert words[-1] in str(caught.value)


def test_a_result_is_named_after_its_slide_in_the_current_folder():
    assert plan_outputs([Path("/far/a.b.svs")], None, None) == [Path("a.b.h5")]


def test_several_slides_go_to_one_folder():
    planned = plan_outputs([Path("x/a.svs"), Path("y/b.tif")], None, Path("results"))
    assert planned == [Path("results/a.h5"), Path("results/b.h5")]


def test_one_slide_may_have_a_name_of_its_own():
    assert plan_outputs([Path("a.svs")], Path("there/out.h5"), None) == [Path("there/out.h5")]


@pytest.mark.parametrize(
    ("slides", "output", "folder", "named"),
    [
        (["x/a.svs", "y/a.tif"], None, None, "a.h5"),
        (["a.svs", "a.svs"], None, "results", "a.svs: is named twice"),
        (["a.svs", "b.svs"], "out.h5", None, "--results-dir"),
        (["a.svs"], "out.h5", "results", "--results-dir"),
    ],
    ids=["two slides of one stem", "the same slide twice", "one output for two slides", "output and folder"],
)
def test_outputs_that_cannot_be_are_usage_errors(slides, output, folder, named):
    with pytest.raises(UsageError, match=named) as caught:
        plan_outputs([Path(s) for s in slides], output and Path(output), folder and Path(folder))
    assert caught.value.exit_code == 64


@pytest.mark.parametrize(
    ("change", "option"),
    [
        ({"mpp": 0.0}, "--mpp"),
        ({"mpp": -0.25}, "--mpp"),
        ({"mpp": math.nan}, "--mpp"),
        ({"mpp": math.inf}, "--mpp"),
        ({"batch_size": 0}, "--batch-size"),
        ({"batch_size": -3}, "--batch-size"),
        ({"min_tissue": -0.01}, "--min-tissue"),
        ({"min_tissue": 1.01}, "--min-tissue"),
        ({"min_tissue": math.nan}, "--min-tissue"),
        ({"thresholds": {0: math.nan}}, "--threshold 0=nan"),
        ({"thresholds": {1: 1.5}}, "--threshold 1=1.5"),
        ({"thresholds": {-1: 0.5}}, "--threshold -1=0.5"),
        ({"levels": "scal"}, "--levels scal: expected mpp or scale"),
        ({"reader": "tif"}, "--reader tif"),
        ({"writer": "mpi"}, "--writer mpi"),
        ({"policy": "steal"}, "--policy steal"),
        ({"read_ahead": "yes"}, "--read-ahead yes"),
        ({"backend": "abacus"}, "--backend abacus"),
        ({"precision": "float16", "backend": "openvino"}, "--precision float16"),
    ],
    ids=str,
)
def test_a_setting_out_of_range_is_a_usage_error_that_names_the_option(change, option):
    with pytest.raises(UsageError, match=option):
        RunSettings.of(Path("a.svs"), Path("model"), Path("a.h5"), **change)
