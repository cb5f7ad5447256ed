"""Each network is read and tried once on a machine, by a rank or in the trial, and all ranks hold what was found."""

from __future__ import annotations

import hashlib
import json

import onnx
import pytest
import yaml
from onnx import helper

from tests.launch import mpirun
from tests.packages import write_package

pytestmark = pytest.mark.mpi


def loaded_by(ranks, folder, *options):
    job = mpirun(ranks, ["tests/mpi/run_networks.py", str(folder), *options])
    assert job.returncode == 0
    return json.loads(job.stdout)


@pytest.mark.parametrize("ranks", [1, 2, 5])
def test_each_network_is_hashed_and_tried_once(ranks, tmp_path):
    reports = loaded_by(ranks, write_package(tmp_path / "m", with_features=True))
    assert sum(hashed for hashed, _, _ in reports) == 3
    assert sum(tried for _, tried, _ in reports) == 3
    assert all(held == [[4, 3]] * 3 for _, _, held in reports)


def test_after_a_trial_no_rank_tries_a_network_again(tmp_path):
    reports = loaded_by(2, write_package(tmp_path / "m", with_features=True), "trial")
    assert sum(tried for _, tried, _ in reports) == 0
    assert all(held == [[4, 3]] * 3 for _, _, held in reports)


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
    assert [[shape for shape, _ in held] for _, _, held in loaded_by(3, folder, *options)] == [[4, 1, 4]] * 3


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
