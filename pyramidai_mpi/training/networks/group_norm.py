"""Encoders of tiles whose norms see one tile alone, so that a slide's tiles may be computed in parts, by anybody.

Batch norm in training mode mixes the tiles of a batch: a slide's gradient would depend on how it was cut. Group norm is
that of Wu and He, "Group normalization", ECCV 2018; the deeper network is He et al.'s ResNet18 (CVPR 2016) with it.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
from torch import nn

from pyramidai_mpi.base.errors import InputError, PyramidError, UsageError, failed_read, input_errors
from pyramidai_mpi.training.convert.state_file import read_state
from pyramidai_mpi.training.networks.compact import STAGES

if TYPE_CHECKING:
    from pathlib import Path

_CHANNELS_A_GROUP = 4
_RESNET_GROUPS = 32
LEAST_SIDE = {"small-gn": 16, "resnet18-gn": 32}
"""Encoders by name, and the side in pixels of the smallest tile that each looks at."""


def absorbance(tiles: torch.Tensor, dtype: torch.dtype) -> torch.Tensor:
    """Tiles uint8 (B, T, T, 3) as (B, 3, T, T), white being 0 and black 1."""
    return 1 - tiles.permute(0, 3, 1, 2).to(dtype) * (1 / 255)


class SmallEncoder(nn.Module):
    """Five convolutions, then mean and maximum over the tile: tiles uint8 (B, T, T, 3) to features (B, 128)."""

    n_features = 2 * STAGES[-1][0]

    def __init__(self) -> None:
        super().__init__()
        layers: list[nn.Module] = []
        channels = 3
        for out, kernel, stride in STAGES:
            layers += [
                nn.Conv2d(channels, out, kernel, stride, kernel // 2, bias=False),
                nn.GroupNorm(out // _CHANNELS_A_GROUP, out),
                nn.ReLU(),
            ]
            channels = out
        self.body = nn.Sequential(*layers)

    def forward(self, tiles: torch.Tensor) -> torch.Tensor:
        """Features (B, 128) of tiles."""
        maps = self.body(absorbance(tiles, self.body[0].weight.dtype))  # type: ignore[arg-type]
        return torch.cat([maps.mean(dim=(2, 3)), maps.amax(dim=(2, 3))], dim=1)


class _Residual(nn.Module):
    def __init__(self, channels: int, out: int, stride: int) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(channels, out, 3, stride, 1, bias=False)
        self.norm1 = nn.GroupNorm(_RESNET_GROUPS, out)
        self.conv2 = nn.Conv2d(out, out, 3, 1, 1, bias=False)
        self.norm2 = nn.GroupNorm(_RESNET_GROUPS, out)
        self.shortcut: nn.Module = nn.Identity()
        if stride > 1 or channels != out:
            self.shortcut = nn.Sequential(
                nn.Conv2d(channels, out, 1, stride, bias=False), nn.GroupNorm(_RESNET_GROUPS, out)
            )

    def forward(self, maps: torch.Tensor) -> torch.Tensor:
        inner = self.norm2(self.conv2(torch.relu(self.norm1(self.conv1(maps)))))
        return torch.relu(inner + self.shortcut(maps))


class ResNet18Encoder(nn.Module):
    """ResNet18 to its pooling: tiles uint8 (B, T, T, 3) to features (B, 512)."""

    n_features = 512

    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Sequential(
            nn.Conv2d(3, 64, 7, 2, 3, bias=False), nn.GroupNorm(_RESNET_GROUPS, 64), nn.ReLU(), nn.MaxPool2d(3, 2, 1)
        )
        blocks: list[nn.Module] = []
        channels = 64
        for out, stride in ((64, 1), (128, 2), (256, 2), (512, 2)):
            blocks += [_Residual(channels, out, stride), _Residual(out, out, 1)]
            channels = out
        self.blocks = nn.Sequential(*blocks)

    def forward(self, tiles: torch.Tensor) -> torch.Tensor:
        """Features (B, 512) of tiles."""
        maps = self.blocks(self.stem(absorbance(tiles, self.stem[0].weight.dtype)))  # type: ignore[arg-type]
        return maps.mean(dim=(2, 3))  # type: ignore[no-any-return]


def new_encoder(name: str, seed: int, weights: Path | None = None) -> SmallEncoder | ResNet18Encoder:
    """An encoder by its name, with random weights or those of a file that torch has saved of one.

    Raises
    ------
    UsageError
        When there is none of that name.
    InputError
        When the file cannot be read, or is of another network.
    """
    kinds: dict[str, type[SmallEncoder | ResNet18Encoder]] = {"small-gn": SmallEncoder, "resnet18-gn": ResNet18Encoder}
    if name not in kinds:
        raise UsageError(f"there is no encoder {name!r}; expected {', '.join(kinds)}, or the folder of a model package")
    torch.manual_seed(seed)
    encoder = kinds[name]()
    for module in encoder.modules():
        if isinstance(module, nn.Conv2d):
            nn.init.kaiming_normal_(module.weight, nonlinearity="relu")
    if weights is not None:
        with input_errors(weights):
            weights.stat()
        try:
            encoder.load_state_dict(read_state(weights))
        except PyramidError:
            raise
        except Exception as error:  # torch.load raises whatever the unpickler meets
            reason = " ".join(str(error).split())[:200]
            raise failed_read(weights, error) or InputError(
                f"{weights}: holds no weights of {name}, as torch saves a state_dict: {reason}"
            ) from error
    return encoder
