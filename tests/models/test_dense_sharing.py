"""Whether windows can share a network is found out by trial, and how much it changes is measured."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import onnx
import pytest

from pyramidai_mpi.models.dense.block import windows_of
from pyramidai_mpi.models.dense.sharing import TOLERANCE, sharing_of
from pyramidai_mpi.models.dense.trial import sharing_in_words
from pyramidai_mpi.models.package import load_package
from pyramidai_mpi.models.shipped import default_model
from tests.models.dense_networks import package_of, region_of, valid_network
from tests.packages import write_package

if TYPE_CHECKING:
    from pathlib import Path

SMALL = ((6, 5, 2), (8, 3, 2), (8, 3, 2))
"""Own stride 8, for windows of 64 pixels."""


def test_a_network_without_padding_is_found_exact(tmp_path):
    (found,) = sharing_of(package_of(valid_network(tmp_path / "valid.onnx", layers=SMALL, side=64), 64)[1])
    assert found.exact
    assert found.reason == ""
    assert (found.own_stride, found.tried_stride) == (8, 4)
    assert found.difference <= TOLERANCE
    assert found.shared_cost < found.window_cost / 4
    assert "can share its work" in found.in_words


def test_a_network_that_pads_is_found_out(tmp_path):
    (found,) = sharing_of(package_of(valid_network(tmp_path / "pads.onnx", layers=SMALL, side=64, pads=True), 64)[1])
    assert not found.exact
    assert found.difference > 1e-3
    assert found.reason == f"pads its maps: probabilities change by up to {found.difference:.2g}"


def test_probabilities_that_are_all_0_or_1_do_not_hide_it(tmp_path):
    """The same network with logits a thousand times as large: every probability is 0 or 1, either way."""
    path = valid_network(tmp_path / "sure.onnx", layers=SMALL, side=64, pads=True, gain=1000)
    (found,) = sharing_of(package_of(path, 64)[1])
    assert found.difference <= TOLERANCE
    assert not found.exact
    assert "what its last softmax or sigmoid is given changes" in found.reason
    sound = valid_network(tmp_path / "sound.onnx", layers=SMALL, side=64, gain=1000)
    (found,) = sharing_of(package_of(sound, 64)[1])
    assert found.exact


def test_the_shipped_networks_are_found_to_pad():
    found = sharing_of(load_package(default_model()))
    assert [each.exact for each in found] == [False, False, False]
    assert all("pads its maps" in each.reason for each in found)


def test_one_that_cannot_be_computed_so_says_why(tmp_path):
    path = valid_network(tmp_path / "strange.onnx", layers=SMALL, side=64)
    model = onnx.load(path)
    last = [node for node in model.graph.node if node.op_type == "Relu"][-1]
    last.op_type = "Hardmax"
    onnx.save(model, path)
    (found,) = sharing_of(package_of(path, 64)[1])
    assert not found.exact
    assert found.own_stride is None
    assert "Hardmax" in found.reason


def test_the_trial_in_a_child_says_the_same(tmp_path):
    folder = write_package(tmp_path / "colour")
    assert sharing_in_words(folder) == [found.in_words for found in sharing_of(load_package(folder))]


@pytest.fixture(scope="module")
def padded(tmp_path_factory) -> Path:
    return valid_network(tmp_path_factory.mktemp("networks") / "pads.onnx", layers=SMALL, side=64, pads=True)


def test_windows_are_cut_row_by_row():
    region = region_of(80)
    found = windows_of(region, 64, 8, np.array([0, 2]))
    assert (found[1] == region[:64, 16:]).all()
    assert (found[2] == region[16:, :64]).all()
