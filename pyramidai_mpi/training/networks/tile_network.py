"""What every trainable network of one level shares: bytes in, probabilities and features out, one logit to train."""

from __future__ import annotations

import copy
from abc import ABC, abstractmethod
from typing import TYPE_CHECKING

import torch
from torch import nn
from torch.nn.utils.fusion import fuse_conv_bn_eval

if TYPE_CHECKING:
    from typing import TypeVar

    Network = TypeVar("Network", bound=nn.Module)

_EPSILON = 1e-3


class ConvBlock(nn.Module):
    """Convolution without bias, batch norm, ReLU."""

    def __init__(
        self,
        channels: int,
        out: int,
        kernel: int | tuple[int, int],
        stride: int = 1,
        padding: int | tuple[int, int] = 0,
    ) -> None:
        super().__init__()
        self.conv = nn.Conv2d(channels, out, kernel, stride, padding, bias=False)
        self.bn: nn.Module = nn.BatchNorm2d(out, eps=_EPSILON)

    def forward(self, maps: torch.Tensor) -> torch.Tensor:
        """Maps float32 (B, out, H', W') of maps (B, channels, H, W)."""
        return torch.relu(self.bn(self.conv(maps)))


class TileNetwork(nn.Module, ABC):
    """A network of one level.

    Input uint8 (B, T, T, 3), RGB, T being the package's tile size; outputs float32 (B, 2), normal and tumour, and
    features float32 (B, F).
    """

    @abstractmethod
    def features(self, tiles: torch.Tensor) -> torch.Tensor:
        """What the last layers see, float32 (B, F)."""

    @abstractmethod
    def logit(self, features: torch.Tensor) -> torch.Tensor:
        """Log-odds of tumour, float32 (B, 1)."""

    def forward(self, tiles: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """Probabilities and features, as above."""
        features = self.features(tiles)
        tumor = torch.sigmoid(self.logit(features))
        return torch.cat([1 - tumor, tumor], 1), features


def without_batch_norm(network: Network) -> Network:
    """A copy that computes the same with every batch norm folded into its convolution, in evaluation mode."""
    network = copy.deepcopy(network)
    network.eval()
    for module in network.modules():
        if isinstance(module, ConvBlock) and isinstance(module.bn, nn.BatchNorm2d):
            module.conv, module.bn = fuse_conv_bn_eval(module.conv, module.bn), nn.Identity()
    return network


def randomise(network: TileNetwork, seed: int) -> None:
    """Draw all weights anew."""
    torch.manual_seed(seed)
    for module in network.modules():
        if isinstance(module, nn.Conv2d):
            nn.init.kaiming_normal_(module.weight, nonlinearity="relu")
        elif isinstance(module, nn.Linear):
            module.reset_parameters()
