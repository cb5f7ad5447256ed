"""The network that compares each place with the brightest around it."""

from __future__ import annotations

import numpy as np
import pytest

pytest.importorskip("torch")

import torch

from pyramidai_mpi.training.whole.architectures import new_whole_network
from pyramidai_mpi.training.whole.contrast import _brightest_around
from pyramidai_mpi.training.whole.field import Field


def test_the_brightest_around_is_the_soft_minimum_of_what_was_not_filled_in() -> None:
    rng = np.random.default_rng(0)
    dark = 0.04 + 0.5 * rng.random((80, 90))
    dark[:30, :40] = 0  # filled in
    found = _brightest_around(torch.from_numpy(dark)[None, None])[0, 0].numpy()
    for row, col in ((5, 6), (40, 45), (79, 0), (20, 89)):
        around = dark[max(row - 32, 0) : row + 33, max(col - 32, 0) : col + 33]
        seen = around[around > 0]
        expected = -np.log(np.exp(-60 * seen).mean()) / 60
        # 1e-6 of a mean keeps the logarithm finite where nothing was seen
        assert found[row, col] == pytest.approx(expected, abs=2e-4)
        assert seen.min() < found[row, col] < seen.mean()


def test_it_can_be_cut_and_another_glass_hardly_changes_what_it_is_told_to_compare() -> None:
    network, field = new_whole_network("contrast", 3)
    assert field == Field(4, 164)
    assert sum(one.numel() for one in network.parameters()) == 1985
    rng = np.random.default_rng(1)
    dark = 0.05 + 0.02 * rng.random((1, 1, 96, 96))
    dark[..., 40:60, 40:60] += 0.1
    at = slice(12, 13), slice(12, 13)  # of the dark part, at a quarter of the resolution
    darker = []
    for glass in (0.0, 0.1):
        small = torch.nn.functional.avg_pool2d(torch.from_numpy(dark + glass), 4)
        darker.append((small - _brightest_around(small))[0, 0][at].item())
    assert darker[0] == pytest.approx(darker[1], abs=5e-3)
    assert darker[0] == pytest.approx(0.1, abs=0.02)
