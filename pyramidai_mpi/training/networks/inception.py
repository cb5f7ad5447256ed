"""InceptionV3 as the paper uses it: the convolutions of Szegedy et al. (CVPR 2016), then a small dense head.

The head is global average pooling, a dense layer of 224 units with ReLU, and one sigmoid (Reinbigler et al. 2025). The
convolutions carry torchvision's names, so that weights published under these names load as they are; what belongs
to the heads of such a file (``fc``, ``AuxLogits``) is left out.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
from torch import nn

from pyramidai_mpi.training.convert.state_file import fill, read_state, start_from
from pyramidai_mpi.training.networks.tile_network import ConvBlock, TileNetwork, randomise

if TYPE_CHECKING:
    from pathlib import Path

DENSE = 224
FEATURES = 2048
_HEADS = ("dense.", "head.")
_FOREIGN_HEADS = ("fc.", "AuxLogits.")


def _average(maps: torch.Tensor) -> torch.Tensor:
    return nn.functional.avg_pool2d(maps, 3, stride=1, padding=1)


def _halve(maps: torch.Tensor) -> torch.Tensor:
    return nn.functional.max_pool2d(maps, 3, stride=2)


class _MixedA(nn.Module):
    """Blocks 5b, 5c, 5d: 1x1, 5x5, two 3x3, pooled."""

    def __init__(self, channels: int, pooled: int) -> None:
        super().__init__()
        self.branch1x1 = ConvBlock(channels, 64, 1)
        self.branch5x5_1 = ConvBlock(channels, 48, 1)
        self.branch5x5_2 = ConvBlock(48, 64, 5, padding=2)
        self.branch3x3dbl_1 = ConvBlock(channels, 64, 1)
        self.branch3x3dbl_2 = ConvBlock(64, 96, 3, padding=1)
        self.branch3x3dbl_3 = ConvBlock(96, 96, 3, padding=1)
        self.branch_pool = ConvBlock(channels, pooled, 1)

    def forward(self, maps: torch.Tensor) -> torch.Tensor:
        five = self.branch5x5_2(self.branch5x5_1(maps))
        double = self.branch3x3dbl_3(self.branch3x3dbl_2(self.branch3x3dbl_1(maps)))
        return torch.cat([self.branch1x1(maps), five, double, self.branch_pool(_average(maps))], 1)


class _MixedB(nn.Module):
    """Block 6a: half the side."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.branch3x3 = ConvBlock(channels, 384, 3, stride=2)
        self.branch3x3dbl_1 = ConvBlock(channels, 64, 1)
        self.branch3x3dbl_2 = ConvBlock(64, 96, 3, padding=1)
        self.branch3x3dbl_3 = ConvBlock(96, 96, 3, stride=2)

    def forward(self, maps: torch.Tensor) -> torch.Tensor:
        double = self.branch3x3dbl_3(self.branch3x3dbl_2(self.branch3x3dbl_1(maps)))
        return torch.cat([self.branch3x3(maps), double, _halve(maps)], 1)


class _MixedC(nn.Module):
    """Blocks 6b to 6e: 7x7 as a row and a column."""

    def __init__(self, channels: int, inner: int) -> None:
        super().__init__()
        self.branch1x1 = ConvBlock(channels, 192, 1)
        self.branch7x7_1 = ConvBlock(channels, inner, 1)
        self.branch7x7_2 = ConvBlock(inner, inner, (1, 7), padding=(0, 3))
        self.branch7x7_3 = ConvBlock(inner, 192, (7, 1), padding=(3, 0))
        self.branch7x7dbl_1 = ConvBlock(channels, inner, 1)
        self.branch7x7dbl_2 = ConvBlock(inner, inner, (7, 1), padding=(3, 0))
        self.branch7x7dbl_3 = ConvBlock(inner, inner, (1, 7), padding=(0, 3))
        self.branch7x7dbl_4 = ConvBlock(inner, inner, (7, 1), padding=(3, 0))
        self.branch7x7dbl_5 = ConvBlock(inner, 192, (1, 7), padding=(0, 3))
        self.branch_pool = ConvBlock(channels, 192, 1)

    def forward(self, maps: torch.Tensor) -> torch.Tensor:
        seven = self.branch7x7_3(self.branch7x7_2(self.branch7x7_1(maps)))
        double = self.branch7x7dbl_3(self.branch7x7dbl_2(self.branch7x7dbl_1(maps)))
        double = self.branch7x7dbl_5(self.branch7x7dbl_4(double))
        return torch.cat([self.branch1x1(maps), seven, double, self.branch_pool(_average(maps))], 1)


class _MixedD(nn.Module):
    """Block 7a: half the side."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.branch3x3_1 = ConvBlock(channels, 192, 1)
        self.branch3x3_2 = ConvBlock(192, 320, 3, stride=2)
        self.branch7x7x3_1 = ConvBlock(channels, 192, 1)
        self.branch7x7x3_2 = ConvBlock(192, 192, (1, 7), padding=(0, 3))
        self.branch7x7x3_3 = ConvBlock(192, 192, (7, 1), padding=(3, 0))
        self.branch7x7x3_4 = ConvBlock(192, 192, 3, stride=2)

    def forward(self, maps: torch.Tensor) -> torch.Tensor:
        three = self.branch3x3_2(self.branch3x3_1(maps))
        seven = self.branch7x7x3_3(self.branch7x7x3_2(self.branch7x7x3_1(maps)))
        return torch.cat([three, self.branch7x7x3_4(seven), _halve(maps)], 1)


class _MixedE(nn.Module):
    """Blocks 7b and 7c: 3x3 fanned out into a row and a column."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.branch1x1 = ConvBlock(channels, 320, 1)
        self.branch3x3_1 = ConvBlock(channels, 384, 1)
        self.branch3x3_2a = ConvBlock(384, 384, (1, 3), padding=(0, 1))
        self.branch3x3_2b = ConvBlock(384, 384, (3, 1), padding=(1, 0))
        self.branch3x3dbl_1 = ConvBlock(channels, 448, 1)
        self.branch3x3dbl_2 = ConvBlock(448, 384, 3, padding=1)
        self.branch3x3dbl_3a = ConvBlock(384, 384, (1, 3), padding=(0, 1))
        self.branch3x3dbl_3b = ConvBlock(384, 384, (3, 1), padding=(1, 0))
        self.branch_pool = ConvBlock(channels, 192, 1)

    def forward(self, maps: torch.Tensor) -> torch.Tensor:
        three = self.branch3x3_1(maps)
        double = self.branch3x3dbl_2(self.branch3x3dbl_1(maps))
        fans = [self.branch3x3_2a(three), self.branch3x3_2b(three)]
        fans += [self.branch3x3dbl_3a(double), self.branch3x3dbl_3b(double)]
        return torch.cat([self.branch1x1(maps), *fans, self.branch_pool(_average(maps))], 1)


class Inception(TileNetwork):
    """The network from uint8 tiles to probabilities.

    Input uint8 (B, 224, 224, 3), RGB; outputs float32 (B, 2), normal and tumour, and float32 (B, 2048), pooled maps.
    Pixels are scaled to -1..1 inside, as Keras does for this network.
    """

    n_features = FEATURES

    def __init__(self) -> None:
        super().__init__()
        self.Conv2d_1a_3x3 = ConvBlock(3, 32, 3, stride=2)
        self.Conv2d_2a_3x3 = ConvBlock(32, 32, 3)
        self.Conv2d_2b_3x3 = ConvBlock(32, 64, 3, padding=1)
        self.Conv2d_3b_1x1 = ConvBlock(64, 80, 1)
        self.Conv2d_4a_3x3 = ConvBlock(80, 192, 3)
        self.Mixed_5b, self.Mixed_5c, self.Mixed_5d = _MixedA(192, 32), _MixedA(256, 64), _MixedA(288, 64)
        self.Mixed_6a = _MixedB(288)
        self.Mixed_6b, self.Mixed_6c = _MixedC(768, 128), _MixedC(768, 160)
        self.Mixed_6d, self.Mixed_6e = _MixedC(768, 160), _MixedC(768, 192)
        self.Mixed_7a = _MixedD(768)
        self.Mixed_7b, self.Mixed_7c = _MixedE(1280), _MixedE(2048)
        self.dense = nn.Linear(FEATURES, DENSE)
        self.head = nn.Linear(DENSE, 1)

    def features(self, tiles: torch.Tensor) -> torch.Tensor:
        """Pooled maps float32 (B, 2048)."""
        return self.features_of_floats(tiles.permute(0, 3, 1, 2).to(torch.float32) * (1 / 127.5) - 1)

    def features_of_floats(self, maps: torch.Tensor) -> torch.Tensor:
        """The same of pixels that are already -1..1, float32 (B, 3, 224, 224)."""
        maps = self.Conv2d_2b_3x3(self.Conv2d_2a_3x3(self.Conv2d_1a_3x3(maps)))
        maps = _halve(self.Conv2d_4a_3x3(self.Conv2d_3b_1x1(_halve(maps))))
        maps = self.Mixed_6a(self.Mixed_5d(self.Mixed_5c(self.Mixed_5b(maps))))
        maps = self.Mixed_6e(self.Mixed_6d(self.Mixed_6c(self.Mixed_6b(maps))))
        maps = self.Mixed_7c(self.Mixed_7b(self.Mixed_7a(maps)))
        pooled: torch.Tensor = maps.mean(dim=(2, 3))
        return pooled

    def logit(self, features: torch.Tensor) -> torch.Tensor:
        """Log-odds of tumour, float32 (B, 1)."""
        odds: torch.Tensor = self.head(torch.relu(self.dense(features)))
        return odds

    def stages(self) -> list[list[nn.Module]]:
        """Six, by the size of their maps."""
        return [
            [self.Conv2d_1a_3x3],
            [self.Conv2d_2a_3x3, self.Conv2d_2b_3x3],
            [self.Conv2d_3b_1x1, self.Conv2d_4a_3x3],
            [self.Mixed_5b, self.Mixed_5c, self.Mixed_5d],
            [self.Mixed_6a, self.Mixed_6b, self.Mixed_6c, self.Mixed_6d, self.Mixed_6e],
            [self.Mixed_7a, self.Mixed_7b, self.Mixed_7c],
        ]


def random_network(seed: int) -> Inception:
    """A network whose weights mean nothing: for benchmarks, where only its cost counts."""
    network = Inception()
    randomise(network, seed)
    network.eval()
    return network


def new_network(seed: int, weights: Path | None = None) -> Inception:
    """One to train: random, or from the weights of a file, whose own head is left out unless it is ours."""
    network = random_network(seed)
    if weights is not None:
        start_from(weights, network, _HEADS, "InceptionV3", ignored=_FOREIGN_HEADS)
    return network


def load_weights(path: Path, seed: int = 0) -> tuple[Inception, bool]:
    """Read a state dict: of this network, or torchvision's for InceptionV3, whose head is not ours.

    Parameters
    ----------
    seed
        Seed of the weights drawn for the head when the file has none that fits.

    Returns
    -------
    network, has_head
        The network in evaluation mode, and whether its head came from the file. Without, its answers mean nothing.

    Raises
    ------
    InputError
        When the file is no state dict, holds more than tensors, or lacks a layer or has one of another shape.
    """
    state = read_state(path)
    network = random_network(seed)
    body = {name: value for name, value in state.items() if not name.startswith(_FOREIGN_HEADS)}
    fill(path, network, body, _HEADS, "InceptionV3")
    network.eval()
    return network, "head.weight" in state
