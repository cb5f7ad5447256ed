"""A network that is told where on its slide a tile lies: ``inputs: [position]`` of a package."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
from torch import nn

from pyramidai_mpi.training.networks.tile_network import TileNetwork, two_columns

if TYPE_CHECKING:
    from collections.abc import Sequence

_HIDDEN = 32


class WithPosition(TileNetwork):
    """A network whose last layers see a tile's position beside its features.

    To its log-odds those of two layers on features and position are added, the last of which begins with zeros: at
    first the network answers as it did without position.

    Input uint8 (B, T, T, 3) and float32 (B, 2), the tiles' centres over the slide's size, x and y in [0, 1]; outputs
    float32 (B, 2) and features float32 (B, F) of the tile alone.

    Parameters
    ----------
    network
        The network; its own weights go on learning.
    seed
        Seed of the layers' weights.
    """

    sees_position = True

    def __init__(self, network: TileNetwork, seed: int = 0) -> None:
        super().__init__()
        torch.manual_seed(seed)
        self.network = network
        self.n_features = network.n_features
        self.hidden = nn.Linear(network.n_features + 2, _HIDDEN)
        self.added = nn.Linear(_HIDDEN, 1)
        nn.init.zeros_(self.added.weight)
        nn.init.zeros_(self.added.bias)

    def features(self, tiles: torch.Tensor) -> torch.Tensor:
        """Features of the tiles alone, float32 (B, F)."""
        return self.network.features(tiles)

    def logit(self, features: torch.Tensor, position: torch.Tensor | None = None) -> torch.Tensor:
        """Log-odds of tumour, float32 (B, 1).

        Raises
        ------
        ValueError
            Without positions.
        """
        if position is None:
            raise ValueError("this network needs the tiles' positions")
        hidden = torch.relu(self.hidden(torch.cat([features, 2 * position - 1], 1)))
        odds: torch.Tensor = self.network.logit(features) + self.added(hidden)
        return odds

    def odds(self, tiles: torch.Tensor, position: torch.Tensor | None = None) -> torch.Tensor:
        """Log-odds of tumour of tiles at these positions, float32 (B, 1)."""
        return self.logit(self.features(tiles), position)

    def stages(self) -> Sequence[Sequence[nn.Module]]:
        """Those of the network."""
        return self.network.stages()

    def forward(  # type: ignore[override]
        self, tiles: torch.Tensor, position: torch.Tensor
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """Probabilities and features, as above."""
        features = self.features(tiles)
        return two_columns(self.logit(features, position)), features


def with_position(network: TileNetwork, seed: int = 0) -> WithPosition:
    """A network that sees what `network` sees, and where the tile lies; see `WithPosition`."""
    return WithPosition(network, seed)
