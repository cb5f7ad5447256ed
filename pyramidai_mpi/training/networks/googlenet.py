"""GoogLeNet (Szegedy et al., Going deeper with convolutions, CVPR 2015) with batch norm: ``train --arch googlenet``.

The layers are torchvision's, with its names, so that its weights load as they are; what belongs to the heads of such a
file (``fc`` for other classes, ``aux1``, ``aux2``) is left out. Its second branch of two convolutions is 3x3 where the
paper has 5x5. Pixels are scaled to -1..1, as its weights want them.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
from torch import nn

from pyramidai_mpi.training.convert.state_file import start_from
from pyramidai_mpi.training.networks.tile_network import ConvBlock, TileNetwork, randomise

if TYPE_CHECKING:
    from pathlib import Path

FEATURES = 1024
_AUXILIARY = ("aux1.", "aux2.")


class _Inception(nn.Module):
    """Branches of 1x1; 3x3; 3x3 again, narrow; pooled."""

    def __init__(self, channels: int, one: int, three: tuple[int, int], narrow: tuple[int, int], pooled: int) -> None:
        super().__init__()
        self.branch1 = ConvBlock(channels, one, 1)
        self.branch2 = nn.Sequential(ConvBlock(channels, three[0], 1), ConvBlock(three[0], three[1], 3, padding=1))
        self.branch3 = nn.Sequential(ConvBlock(channels, narrow[0], 1), ConvBlock(narrow[0], narrow[1], 3, padding=1))
        self.branch4 = nn.Sequential(
            nn.MaxPool2d(3, stride=1, padding=1, ceil_mode=True), ConvBlock(channels, pooled, 1)
        )

    def forward(self, maps: torch.Tensor) -> torch.Tensor:
        return torch.cat([self.branch1(maps), self.branch2(maps), self.branch3(maps), self.branch4(maps)], 1)


def _halve(maps: torch.Tensor, kernel: int = 3) -> torch.Tensor:
    return nn.functional.max_pool2d(maps, kernel, stride=2, ceil_mode=True)


class GoogLeNet(TileNetwork):
    """Input uint8 (B, T, T, 3), RGB, T at least 32; features float32 (B, 1024) are the means of the last maps."""

    n_features = FEATURES

    def __init__(self) -> None:
        super().__init__()
        self.conv1 = ConvBlock(3, 64, 7, stride=2, padding=3)
        self.conv2 = ConvBlock(64, 64, 1)
        self.conv3 = ConvBlock(64, 192, 3, padding=1)
        self.inception3a = _Inception(192, 64, (96, 128), (16, 32), 32)
        self.inception3b = _Inception(256, 128, (128, 192), (32, 96), 64)
        self.inception4a = _Inception(480, 192, (96, 208), (16, 48), 64)
        self.inception4b = _Inception(512, 160, (112, 224), (24, 64), 64)
        self.inception4c = _Inception(512, 128, (128, 256), (24, 64), 64)
        self.inception4d = _Inception(512, 112, (144, 288), (32, 64), 64)
        self.inception4e = _Inception(528, 256, (160, 320), (32, 128), 128)
        self.inception5a = _Inception(832, 256, (160, 320), (32, 128), 128)
        self.inception5b = _Inception(832, 384, (192, 384), (48, 128), 128)
        self.dropout = nn.Dropout(0.2)
        self.fc = nn.Linear(FEATURES, 1)

    def features(self, tiles: torch.Tensor) -> torch.Tensor:
        """Means of the last maps, float32 (B, 1024)."""
        maps = self.conv1(tiles.permute(0, 3, 1, 2).to(torch.float32) * (1 / 127.5) - 1)
        maps = _halve(self.conv3(self.conv2(_halve(maps))))
        maps = _halve(self.inception3b(self.inception3a(maps)))
        maps = self.inception4e(self.inception4d(self.inception4c(self.inception4b(self.inception4a(maps)))))
        maps = self.inception5b(self.inception5a(_halve(maps, 2)))
        pooled: torch.Tensor = maps.mean(dim=(2, 3))
        return pooled

    def logit(self, features: torch.Tensor) -> torch.Tensor:
        """Log-odds of tumour, float32 (B, 1)."""
        odds: torch.Tensor = self.fc(self.dropout(features))
        return odds

    def stages(self) -> list[list[nn.Module]]:
        """Five, by the size of their maps."""
        return [
            [self.conv1],
            [self.conv2, self.conv3],
            [self.inception3a, self.inception3b],
            [self.inception4a, self.inception4b, self.inception4c, self.inception4d, self.inception4e],
            [self.inception5a, self.inception5b],
        ]


def new_network(seed: int, weights: Path | None = None) -> GoogLeNet:
    """One with random weights, or with those of a file."""
    network = GoogLeNet()
    randomise(network, seed)
    if weights is not None:
        start_from(weights, network, ("fc.",), "GoogLeNet", ignored=_AUXILIARY)
    return network
