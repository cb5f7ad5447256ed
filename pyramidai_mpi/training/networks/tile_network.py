"""What every trainable network of one level shares: bytes in, probabilities and features out, one logit to train."""

from __future__ import annotations

import copy
from abc import ABC, abstractmethod
from typing import TYPE_CHECKING

import torch
from torch import nn
from torch.nn.utils.fusion import fuse_conv_bn_eval

from pyramidai_mpi.base.errors import UsageError

if TYPE_CHECKING:
    from collections.abc import Sequence
    from typing import Self, TypeVar

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
    features float32 (B, F). Trainers call `odds`.

    Attributes
    ----------
    n_features
        F.
    sees_position
        Whether it is told where a tile lies: `odds` and `forward` then take positions, float32 (B, 2), the tiles'
        centres over the slide's size, x and y in [0, 1].
    """

    n_features: int
    sees_position: bool = False
    _n_frozen: int = 0

    @abstractmethod
    def features(self, tiles: torch.Tensor) -> torch.Tensor:
        """What the last layers see, float32 (B, F)."""

    @abstractmethod
    def logit(self, features: torch.Tensor) -> torch.Tensor:
        """Log-odds of tumour, float32 (B, 1)."""

    @abstractmethod
    def stages(self) -> Sequence[Sequence[nn.Module]]:
        """The modules under the features in groups, from the input on; each module in one group."""

    def odds(self, tiles: torch.Tensor, position: torch.Tensor | None = None) -> torch.Tensor:
        """Log-odds of tumour of tiles, float32 (B, 1); positions matter to networks that see them alone."""
        return self.logit(self.features(tiles))

    def forward(self, tiles: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """Probabilities and features, as above."""
        features = self.features(tiles)
        return two_columns(self.logit(features)), features

    def freeze(self, n_stages: int) -> None:
        """Let the first stages learn nothing more: their weights stay, and so do their running means, in training too.

        Raises
        ------
        UsageError
            When there are not so many stages.
        """
        stages = self.stages()
        if not 0 <= n_stages <= len(stages):
            raise UsageError(f"--freeze {n_stages}: this network has {len(stages)} stages, expected 0 to {len(stages)}")
        self._n_frozen = n_stages
        for number, stage in enumerate(stages):
            for module in stage:
                module.requires_grad_(number >= n_stages)
        self.train(self.training)

    def train(self, mode: bool = True) -> Self:
        """See `torch.nn.Module.train`; frozen stages stay in evaluation mode."""
        super().train(mode)
        for stage in self.stages()[: self._n_frozen] if self._n_frozen else ():
            for module in stage:
                module.eval()
        return self


def two_columns(odds: torch.Tensor) -> torch.Tensor:
    """Probabilities of normal and tumour, float32 (B, 2), of log-odds (B, 1)."""
    tumor = torch.sigmoid(odds)
    return torch.cat([1 - tumor, tumor], 1)


def without_batch_norm(network: Network) -> Network:
    """A copy that computes the same with every batch norm folded into its convolution, in evaluation mode."""
    network = copy.deepcopy(network)
    network.eval()
    for module in network.modules():
        if isinstance(module, ConvBlock) and isinstance(module.bn, nn.BatchNorm2d):
            module.conv, module.bn = fuse_conv_bn_eval(module.conv, module.bn), nn.Identity()
    return network


def randomise(network: nn.Module, seed: int) -> None:
    """Draw all weights anew."""
    torch.manual_seed(seed)
    for module in network.modules():
        if isinstance(module, nn.Conv2d):
            nn.init.kaiming_normal_(module.weight, nonlinearity="relu")
        elif isinstance(module, nn.Linear):
            module.reset_parameters()
