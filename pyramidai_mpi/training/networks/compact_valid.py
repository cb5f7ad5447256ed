"""The small network without padding for ``train --arch small-valid``, whose sliding windows share their work."""

from __future__ import annotations

from typing import TYPE_CHECKING

from torch import nn

from pyramidai_mpi.training.convert.state_file import start_from
from pyramidai_mpi.training.networks.tile_network import ConvBlock, randomise
from pyramidai_mpi.training.networks.valid import ValidNetwork

if TYPE_CHECKING:
    from pathlib import Path

    import torch

STAGES = ((16, 4, 2), (32, 3, 2), (48, 3, 2), (64, 3, 2), (64, 3, 1), (64, 3, 1))
"""(channels, kernel, stride) of each convolution.

One value of the last maps sees 96 pixels a side, 24 µm at level 0. The kernels are such that a tile of 224 pixels is
used to its last row: its maps have 111, 55, 27, 13, 11 and 9 a side, and 96 + 8 * 16 is 224.
"""


class CompactValid(ValidNetwork):
    """Plain convolutions on absorbance.

    Input uint8 (B, T, T, 3), RGB, T at least 96; outputs float32 (B, 2), normal and tumour, and float32 (B, 64).
    """

    def __init__(self) -> None:
        super().__init__(STAGES[-1][0])
        blocks, channels = [], 3
        for out, kernel, stride in STAGES:
            blocks.append(ConvBlock(channels, out, kernel, stride))
            channels = out
        self.body = nn.Sequential(*blocks)

    def maps_of(self, pixels: torch.Tensor) -> torch.Tensor:
        """Last maps, float32 (B, 64, m, m), of float32 (B, 3, T, T)."""
        maps: torch.Tensor = self.body(pixels)
        return maps

    def stages(self) -> list[list[nn.Module]]:
        """Each convolution."""
        return [[block] for block in self.body]


def new_network(seed: int, weights: Path | None = None) -> CompactValid:
    """One with random weights, or with those of a file."""
    network = CompactValid()
    randomise(network, seed)
    if weights is not None:
        start_from(weights, network, ("head.",), "small-valid")
    return network
