"""Each network is read and tried once on a machine, by a rank or in the trial, and all ranks hold what was found."""

from __future__ import annotations

import hashlib
import json

import onnx
import pytest
import yaml
from onnx import helper

from pyramidai_mpi.testing.launch import mpirun
from tests.packages import write_package

pytestmark = pytest.mark.mpi


def loaded_by(ranks, folder, *options, **env):
    job = mpirun(ranks, ["tests/mpi/run_networks.py", str(folder), *options], env=env)
    assert job.returncode == 0
    return json.loads(job.stdout)


def did(reports):
    """Networks that ranks have tried, and made from their files, altogether."""
    return sum(report[1] for report in reports), sum(report[2] for report in reports)


@pytest.mark.parametrize("ranks", [1, 2, 5])
def test_each_network_is_hashed_and_tried_once(ranks, tmp_path):
    reports = loaded_by(ranks, write_package(tmp_path / "m", with_features=True))
    assert sum(report[0] for report in reports) == 3
    assert sum(report[1] for report in reports) == 3
    assert all(report[3] == [[4, 3]] * 3 for report in reports)


@pytest.mark.parametrize(
    ("ranks", "options", "compiled"),
    [(1, [], 3), (2, ["trial"], 3), (3, [], 3), (5, [], 3), (2, ["cache"], 3), (5, ["cache"], 3)],
)
def test_networks_that_take_long_to_compile_are_handed_on(ranks, options, compiled, tmp_path):
    pytest.importorskip("openvino", reason="OpenVINO is an extra: pip install 'pyramidai-mpi[openvino]'")
    folder = write_package(tmp_path / "m", with_features=True)
    reports = loaded_by(ranks, folder, "openvino", *options, XDG_CACHE_HOME=str(tmp_path / "home"))
    assert sum(report[1] for report in reports) == 3
    assert sum(report[2] for report in reports) == compiled
    assert all(report[3] == [[4, 3]] * 3 for report in reports)
    assert all(report[4] == reports[0][4] for report in reports)
    (alone,) = loaded_by(1, folder, "openvino")
    assert reports[0][4] == alone[4]


@pytest.mark.parametrize("ranks", [1, 2, 3, 5])
def test_a_later_start_finds_what_an_earlier_has_made(ranks, tmp_path):
    pytest.importorskip("openvino", reason="OpenVINO is an extra: pip install 'pyramidai-mpi[openvino]'")
    folder, home = write_package(tmp_path / "m", with_features=True), str(tmp_path / "cache")
    first = loaded_by(ranks, folder, "openvino", "cache", XDG_CACHE_HOME=home)
    assert did(first) == (3, 3)
    again = loaded_by(ranks, folder, "openvino", "cache", XDG_CACHE_HOME=home)
    assert did(again) == (0, 0)
    assert [report[3:] for report in again] == [report[3:] for report in first]
    assert did(loaded_by(ranks, folder, "openvino", XDG_CACHE_HOME=home)) == (3, 3)


def test_a_later_start_of_onnxruntime_tries_nothing(tmp_path):
    folder, home = write_package(tmp_path / "m", with_features=True), str(tmp_path / "cache")
    first = loaded_by(2, folder, "cache", XDG_CACHE_HOME=home)
    again = loaded_by(2, folder, "cache", "trial", XDG_CACHE_HOME=home)
    assert (did(first)[0], did(again)) == (3, (0, 6))
    assert [report[3:] for report in again] == [report[3:] for report in first]


def test_onnxruntime_loads_each_network_on_each_rank(tmp_path):
    reports = loaded_by(2, write_package(tmp_path / "m"))
    assert [report[2] for report in reports] == [3, 3]


def test_after_a_trial_no_rank_tries_a_network_again(tmp_path):
    reports = loaded_by(2, write_package(tmp_path / "m", with_features=True), "trial")
    assert sum(report[1] for report in reports) == 0
    assert all(report[3] == [[4, 3]] * 3 for report in reports)


@pytest.mark.parametrize("options", [[], ["trial"]], ids=["on a rank", "in the trial"])
def test_what_is_found_once_counts_for_all(options, tmp_path):
    """Level 1 subtracts the mean over its batch, so it must run with one tile at a time, on every rank."""
    folder = write_package(tmp_path / "m")
    model = onnx.load(folder / "level1.onnx")
    model.graph.node[2].input[0] = "centred"
    model.graph.node.insert(2, helper.make_node("Sub", ["mean", "middle"], ["centred"]))
    model.graph.node.insert(2, helper.make_node("ReduceMean", ["mean"], ["middle"], axes=[0], keepdims=1))
    onnx.save(model, folder / "level1.onnx")
    described = yaml.safe_load((folder / "model.yaml").read_text())
    described["levels"][1]["sha256"] = hashlib.sha256((folder / "level1.onnx").read_bytes()).hexdigest()
    (folder / "model.yaml").write_text(yaml.safe_dump(described))
    assert [[shape for shape, _ in report[3]] for report in loaded_by(3, folder, *options)] == [[4, 1, 4]] * 3


def test_a_changed_file_is_refused_whoever_reads_it(tmp_path):
    folder = write_package(tmp_path / "m")
    for n in range(3):
        whole = (folder / f"level{n}.onnx").read_bytes()
        (folder / f"level{n}.onnx").write_bytes(whole[:-1] + bytes([whole[-1] ^ 1]))
        job = mpirun(2, ["-m", "pyramidai_mpi", "none.tif", "--model", str(folder)])
        assert job.returncode == 65
        assert f"level{n}.onnx: its SHA-256 is" in job.stderr
        assert job.stderr.count("error:") == 1
        (folder / f"level{n}.onnx").write_bytes(whole)
