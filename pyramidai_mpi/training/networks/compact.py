"""The small network for ``train --arch small``: 35 million multiplications a tile, no weights from elsewhere."""

from __future__ import annotations

import torch
from torch import nn

from pyramidai_mpi.training.networks.tile_network import ConvBlock, TileNetwork, randomise

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
        self.head = nn.Linear(2 * channels, 1)

    def features(self, tiles: torch.Tensor) -> torch.Tensor:
        """Mean and maximum of the last maps, float32 (B, 128)."""
        absorbance = 1 - tiles.permute(0, 3, 1, 2).float() * (1 / 255)
        maps = self.body(absorbance)
        return torch.cat([maps.mean(dim=(2, 3)), maps.amax(dim=(2, 3))], dim=1)

    def logit(self, features: torch.Tensor) -> torch.Tensor:
        """Log-odds of tumour, float32 (B, 1)."""
        odds: torch.Tensor = self.head(self.drop(features))
        return odds


def new_network(seed: int) -> Compact:
    """One with random weights."""
    network = Compact()
    randomise(network, seed)
    return network
