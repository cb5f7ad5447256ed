"""A network that is told where a tile lies: what a run finds is the closed form of each tile's or window's place."""

from __future__ import annotations

from typing import TYPE_CHECKING

import h5py
import numpy as np
import pytest

from tests.end_to_end.conftest import digest_of, pyramidai
from tests.end_to_end.strided import windows_in
from tests.packages import write_position_package

if TYPE_CHECKING:
    from pathlib import Path

SIDE = 64
OF_PLACE = (0.5, 0.25)


@pytest.fixture(scope="module")
def told(tmp_path_factory) -> Path:
    """A package whose probabilities follow from the place alone."""
    return write_position_package(tmp_path_factory.mktemp("told"), side=SIDE, colour=0.0, thresholds=(0.5, 0.4, 0.2))


@pytest.fixture(scope="module")
def alone(told, small_slide, tmp_path_factory) -> Path:
    path = tmp_path_factory.mktemp("alone") / "one.h5"
    assert pyramidai(small_slide, "--model", told, "-o", path).returncode == 0
    return path


def expected(l0_middles: np.ndarray, size: np.ndarray, gain: float) -> np.ndarray:
    return gain * (np.clip(l0_middles / size, 0, 1) @ OF_PLACE)


def test_a_result_is_the_closed_form_at_every_tile_of_every_level(alone) -> None:
    with h5py.File(alone) as file:
        size = np.array(file["slide"].attrs["dimensions"])
        for level, gain in enumerate((1, 0.75, 0.5)):
            group = file[f"levels/{level}"]
            middles = group["coords"][...] + SIDE * 2**level / 2
            assert len(middles) > 10
            np.testing.assert_allclose(group["probability"][:, 1], expected(middles, size, gain), atol=1e-6)
        assert (middles / size).max() > 0.9


@pytest.mark.mpi
def test_three_ranks_and_other_batches_give_the_same_result(told, small_slide, alone, tmp_path) -> None:
    options = ("--batch-size", "3", "--seed", "4")
    assert pyramidai(small_slide, "--model", told, "-o", tmp_path / "out.h5", *options, ranks=3).returncode == 0
    assert digest_of(tmp_path / "out.h5") == digest_of(alone)


@pytest.mark.parametrize("mode", ["window", "adaptive"])
def test_each_window_of_a_stride_has_its_own_place(mode, told, small_slide, tmp_path) -> None:
    options = ("--stride", "16", "--stride-mode", mode, "--mode", "reference")
    assert pyramidai(small_slide, "--model", told, "-o", tmp_path / "out.h5", *options).returncode == 0
    corners, scores = windows_in(tmp_path / "out.h5")
    with h5py.File(tmp_path / "out.h5") as file:
        size = np.array(file["slide"].attrs["dimensions"])
    assert len(corners) > 100
    np.testing.assert_allclose(scores, expected(corners + SIDE / 2, size, 1), atol=1e-6)


@pytest.mark.parametrize(("mode", "instead"), [("shared", "window"), ("adaptive-shared", "adaptive")])
def test_a_pass_that_windows_share_is_refused(mode, instead, told, small_slide, tmp_path) -> None:
    options = ("--stride", "16", "--stride-mode", mode, "--allow-approximate")
    done = pyramidai(small_slide, "--model", told, "-o", tmp_path / "out.h5", *options)
    assert done.returncode == 64
    assert "is told where each window lies (inputs: [position]), so windows cannot share a pass" in done.stderr
    assert f"use --stride-mode {instead}" in done.stderr
    assert not (tmp_path / "out.h5").exists()
