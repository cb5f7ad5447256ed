"""What networks without padding have in common: maps that know nothing of the tile's border, their mean, one layer.

Without padding each value of the last maps is a function of the pixels below it alone, wherever they lie in the tile
('valid' convolutions). Windows that overlap by multiples of `STRIDE` pixels then have the maps where they overlap in
common, and a pass over a region gives the windows within it: see Sermanet et al., OverFeat, ICLR 2014, section 3.5.
"""

from __future__ import annotations

from abc import abstractmethod

import torch
from torch import nn

from pyramidai_mpi.training.networks.tile_network import TileNetwork

STRIDE = 16
"""Pixels between neighbours in the last maps, of every network here: the finest stride of Li et al. (2023)."""


class ValidNetwork(TileNetwork):
    """Maps without padding, their mean over the tile, one linear layer, softmax.

    Parameters
    ----------
    channels
        Channels of the last maps, which is the number of features.
    """

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.n_features = channels
        self.drop = nn.Dropout(0.2)
        self.head = nn.Linear(channels, 2)

    @abstractmethod
    def maps_of(self, pixels: torch.Tensor) -> torch.Tensor:
        """Last maps, float32 (B, F, m, m), of absorbances in 0..1, float32 (B, 3, T, T)."""

    def maps(self, tiles: torch.Tensor) -> torch.Tensor:
        """Last maps, float32 (B, F, m, m); m is 1 + (T - r) // `STRIDE` with the side r of what one value sees."""
        return self.maps_of(1 - tiles.permute(0, 3, 1, 2).float() * (1 / 255))

    def features(self, tiles: torch.Tensor) -> torch.Tensor:
        """Mean of the last maps, float32 (B, F)."""
        return self.maps(tiles).mean(dim=(2, 3))

    def logit(self, features: torch.Tensor) -> torch.Tensor:
        """Log-odds of tumour, float32 (B, 1)."""
        scores: torch.Tensor = self.head(self.drop(features))
        return scores[:, 1:] - scores[:, :1]

    def forward(self, tiles: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """Probabilities float32 (B, 2), normal and tumour, and features float32 (B, F)."""
        features = self.features(tiles)
        return torch.softmax(self.head(features), 1), features
