"""A network from elsewhere made one of ours: bytes in, probabilities out."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
from torch import nn

from pyramidai_mpi.models.engines.fixed_batch import sample_tiles

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt

    from pyramidai_mpi.models.package import FloatInput

COMPARED_TILES = 8


class TileClassifier(nn.Module):
    """Normalisation before a network, softmax or sigmoid after it.

    Input uint8 (B, T, T, 3), RGB; output float32 (B, C). A network with one logit gives two columns: one minus its
    sigmoid, and its sigmoid.

    Parameters
    ----------
    network
        Takes normalised float32 (B, 3, T, T); gives logits (B, C).
    float_input
        How it wants its pixels.
    """

    scale: torch.Tensor
    shift: torch.Tensor

    def __init__(self, network: nn.Module, float_input: FloatInput) -> None:
        super().__init__()
        self.network = network
        mean, std = (torch.tensor(v, dtype=torch.float64) for v in (float_input.mean, float_input.std))
        self.register_buffer("scale", (1 / (255 * std)).float().reshape(1, 3, 1, 1))
        self.register_buffer("shift", (-mean / std).float().reshape(1, 3, 1, 1))

    def normalised(self, tiles: torch.Tensor) -> torch.Tensor:
        """What the network takes."""
        planes: torch.Tensor = tiles.permute(0, 3, 1, 2).to(torch.float32) * self.scale + self.shift
        return planes

    def forward(self, tiles: torch.Tensor) -> torch.Tensor:
        """Probabilities, as above."""
        return probabilities_of(self.network(self.normalised(tiles)))


class TileEncoder(TileClassifier):
    """Normalisation before a network whose output are features, float32 (B, F)."""

    def forward(self, tiles: torch.Tensor) -> torch.Tensor:
        """Features, as above."""
        features: torch.Tensor = self.network(self.normalised(tiles)).float()
        return features


def probabilities_of(logits: torch.Tensor) -> torch.Tensor:
    """Float32 (B, C) of logits (B, C); two columns of logits (B, 1)."""
    logits = logits.float()
    if int(logits.shape[1]) == 1:
        positive = torch.sigmoid(logits)
        return torch.cat([1 - positive, positive], dim=1)
    return torch.softmax(logits, dim=1)


def expected_probabilities(network: nn.Module, float_input: FloatInput, side: int) -> npt.NDArray[np.float32]:
    """What a classifier in torch makes of `sample_tiles(COMPARED_TILES, side)`, float32 (COMPARED_TILES, C)."""
    found: npt.NDArray[np.float32] = probabilities_of(_answers(network, float_input, side)).numpy()
    return found


def expected_features(network: nn.Module, float_input: FloatInput, side: int) -> npt.NDArray[np.float32]:
    """What an encoder in torch makes of these tiles, float32 (COMPARED_TILES, F)."""
    found: npt.NDArray[np.float32] = _answers(network, float_input, side).float().numpy()
    return found


def _answers(network: nn.Module, float_input: FloatInput, side: int) -> torch.Tensor:
    """The pixels are prepared step by step as for training, not by `TileClassifier`."""
    pixels = torch.from_numpy(sample_tiles(COMPARED_TILES, side)).permute(0, 3, 1, 2).float() / 255
    mean, std = (torch.tensor(values).reshape(1, 3, 1, 1) for values in (float_input.mean, float_input.std))
    with torch.inference_mode():
        answers: torch.Tensor = network((pixels - mean) / std)
    return answers
