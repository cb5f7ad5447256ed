"""The small network for ``train --arch small``: 35 million multiplications a tile, no weights from elsewhere."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
from torch import nn

from pyramidai_mpi.training.convert.state_file import start_from
from pyramidai_mpi.training.networks.tile_network import ConvBlock, TileNetwork, randomise

if TYPE_CHECKING:
    from pathlib import Path

STAGES = ((12, 5, 2), (24, 3, 2), (40, 3, 2), (48, 3, 2), (64, 3, 1))
"""(channels, kernel, stride) of each convolution: 35 million multiplications for a tile of 224 pixels."""


class Compact(TileNetwork):
    """Plain convolutions on absorbance, then mean and maximum over the tile, then one linear layer.

    The maximum lets one lesion in a corner speak for its tile; the mean carries the texture.
    """

    def __init__(self) -> None:
        super().__init__()
        blocks, channels = [], 3
        for out, kernel, stride in STAGES:
            blocks.append(ConvBlock(channels, out, kernel, stride, kernel // 2))
            channels = out
        self.body = nn.Sequential(*blocks)
        self.drop = nn.Dropout(0.2)
        self.n_features = 2 * channels
        self.head = nn.Linear(self.n_features, 1)

    def features(self, tiles: torch.Tensor) -> torch.Tensor:
        """Mean and maximum of the last maps, float32 (B, 128)."""
        absorbance = 1 - tiles.permute(0, 3, 1, 2).float() * (1 / 255)
        maps = self.body(absorbance)
        return torch.cat([maps.mean(dim=(2, 3)), maps.amax(dim=(2, 3))], dim=1)

    def logit(self, features: torch.Tensor) -> torch.Tensor:
        """Log-odds of tumour, float32 (B, 1)."""
        odds: torch.Tensor = self.head(self.drop(features))
        return odds

    def stages(self) -> list[list[nn.Module]]:
        """Each convolution."""
        return [[block] for block in self.body]


def new_network(seed: int, weights: Path | None = None) -> Compact:
    """One with random weights, or with those of a file."""
    network = Compact()
    randomise(network, seed)
    if weights is not None:
        start_from(weights, network, ("head.",), "small")
    return network
