"""A network of inception blocks without padding, for ``train --arch inception-valid``.

The blocks are those of Szegedy et al. (CVPR 2016, figures 5 and 10), the 5x5 being two 3x3. They lose two pixels on
each side where the originals pad; the branches that would lose fewer are cropped at their beginning, so that all of
them look at the same middle.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
from torch import nn

from pyramidai_mpi.training.convert.state_file import start_from
from pyramidai_mpi.training.networks.tile_network import ConvBlock, randomise
from pyramidai_mpi.training.networks.valid import ValidNetwork

if TYPE_CHECKING:
    from pathlib import Path

FEATURES = 256


def _crop(maps: torch.Tensor, margin: int) -> torch.Tensor:
    return maps[:, :, margin:-margin, margin:-margin]


class _Mixed(nn.Module):
    """Branches of 1x1, 3x3, two 3x3 and pooled; (H, W) becomes (H - 4, W - 4)."""

    def __init__(self, channels: int, one: int, three: tuple[int, int], double: tuple[int, int], pooled: int) -> None:
        super().__init__()
        self.branch1x1 = ConvBlock(channels, one, 1)
        self.branch3x3_1 = ConvBlock(channels, three[0], 1)
        self.branch3x3_2 = ConvBlock(three[0], three[1], 3)
        self.branch3x3dbl_1 = ConvBlock(channels, double[0], 1)
        self.branch3x3dbl_2 = ConvBlock(double[0], double[1], 3)
        self.branch3x3dbl_3 = ConvBlock(double[1], double[1], 3)
        self.branch_pool = ConvBlock(channels, pooled, 1)
        self.channels = one + three[1] + double[1] + pooled

    def forward(self, maps: torch.Tensor) -> torch.Tensor:
        inner = _crop(maps, 1)
        three = self.branch3x3_2(self.branch3x3_1(inner))
        double = self.branch3x3dbl_3(self.branch3x3dbl_2(self.branch3x3dbl_1(maps)))
        pooled = self.branch_pool(nn.functional.avg_pool2d(inner, 3, stride=1))
        return torch.cat([self.branch1x1(_crop(maps, 2)), three, double, pooled], 1)


class _Halved(nn.Module):
    """Branches of 3x3, two 3x3 and the maximum; (H, W) becomes about half of (H - 4, W - 4)."""

    def __init__(self, channels: int, three: int, double: tuple[int, int]) -> None:
        super().__init__()
        self.branch3x3 = ConvBlock(channels, three, 3, stride=2)
        self.branch3x3dbl_1 = ConvBlock(channels, double[0], 1)
        self.branch3x3dbl_2 = ConvBlock(double[0], double[1], 3)
        self.branch3x3dbl_3 = ConvBlock(double[1], double[1], 3, stride=2)
        self.channels = channels + three + double[1]

    def forward(self, maps: torch.Tensor) -> torch.Tensor:
        inner = _crop(maps, 1)
        double = self.branch3x3dbl_3(self.branch3x3dbl_2(self.branch3x3dbl_1(maps)))
        return torch.cat([self.branch3x3(inner), double, nn.functional.max_pool2d(inner, 3, stride=2)], 1)


class InceptionValid(ValidNetwork):
    """Three convolutions, two inception blocks, one that halves, one convolution of 1x1.

    Input uint8 (B, T, T, 3), RGB, T at least 112; outputs float32 (B, 2), normal and tumour, and float32 (B, 256). One
    value of the last maps sees 112 pixels a side; a tile of 224 pixels is used to its last row: its maps have 111, 55,
    27, 23, 19 and 8 a side, and 112 + 7 * 16 is 224.
    """

    def __init__(self) -> None:
        super().__init__(FEATURES)
        self.Conv2d_1a_4x4 = ConvBlock(3, 24, 4, stride=2)
        self.Conv2d_2a_3x3 = ConvBlock(24, 48, 3, stride=2)
        self.Conv2d_3a_3x3 = ConvBlock(48, 96, 3, stride=2)
        self.Mixed_4a = _Mixed(96, 48, (48, 64), (32, 48), 32)
        self.Mixed_4b = _Mixed(self.Mixed_4a.channels, 64, (64, 96), (32, 64), 32)
        self.Mixed_5a = _Halved(self.Mixed_4b.channels, 96, (48, 96))
        self.Conv2d_5b_1x1 = ConvBlock(self.Mixed_5a.channels, FEATURES, 1)

    def maps_of(self, pixels: torch.Tensor) -> torch.Tensor:
        """Last maps, float32 (B, 256, m, m), of float32 (B, 3, T, T)."""
        maps = self.Conv2d_3a_3x3(self.Conv2d_2a_3x3(self.Conv2d_1a_4x4(pixels)))
        maps = self.Mixed_5a(self.Mixed_4b(self.Mixed_4a(maps)))
        last: torch.Tensor = self.Conv2d_5b_1x1(maps)
        return last

    def stages(self) -> list[list[nn.Module]]:
        """Each convolution outside the inception blocks, and each of these."""
        convolutions = [self.Conv2d_1a_4x4, self.Conv2d_2a_3x3, self.Conv2d_3a_3x3]
        return [[one] for one in (*convolutions, self.Mixed_4a, self.Mixed_4b, self.Mixed_5a, self.Conv2d_5b_1x1)]


def new_network(seed: int, weights: Path | None = None) -> InceptionValid:
    """One with random weights, or with those of a file."""
    network = InceptionValid()
    randomise(network, seed)
    if weights is not None:
        start_from(weights, network, ("head.",), "inception-valid")
    return network
