"""A network that compares each place with the brightest around it: darker than glass, whatever glass is on the slide.

Pale tissue of one slide is brighter than glass of another, so how dark a place is says little by itself. This network
is told, at a quarter of the resolution, three things of each place: how much darker it is than the brightest within
128 pixels, how dark, and how much its pixels differ. Six small convolutions make of them what is marked.

The brightest is the soft minimum -log(mean(exp(-k d))) / k of the darkness d: a few bright pixels decide it, and its
gradient reaches all. Darkness 0 is no glass but was filled in, and has no part in it.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F  # noqa: N812
from torch import nn

_SHRUNK = 4
_AROUND = 65
"""Side of what is around a place, at a quarter of the resolution."""
_SHARPNESS = 60.0
_FILLED_IN = 1 / 255
_LEAST = 1e-6
_CHANNELS = 8


class ContrastNetwork(nn.Module):
    """Grey values, (N, 1, H, W), 0 for white and 1 for black, to logits of the same shape.

    H and W are multiples of 4. 1985 parameters.
    """

    def __init__(self) -> None:
        super().__init__()
        self.first = nn.Conv2d(3, _CHANNELS, 3, padding=1)
        self.further = nn.ModuleList(
            nn.Conv2d(_CHANNELS, _CHANNELS, 3, padding=apart, dilation=apart) for apart in (2, 4, 2)
        )
        self.out = nn.Conv2d(_CHANNELS, 1, 1)

    def forward(self, image: torch.Tensor) -> torch.Tensor:
        """Logits of an image."""
        small = F.avg_pool2d(image, _SHRUNK)
        uneven = F.avg_pool2d((image - F.interpolate(small, scale_factor=_SHRUNK)).abs(), _SHRUNK)
        darker = small - _brightest_around(small)
        seen = torch.cat([(20 * darker).clamp(-1, 3), (10 * small).clamp(0, 3), (20 * uneven).clamp(0, 2)], 1)
        maps = F.relu(self.first(seen))
        for convolution in self.further:
            maps = maps + F.relu(convolution(maps))
        return F.interpolate(self.out(maps), scale_factor=_SHRUNK)


def _brightest_around(dark: torch.Tensor) -> torch.Tensor:
    """The soft minimum of what is around each place, but for what was filled in."""
    is_seen = (dark > _FILLED_IN).to(dark.dtype)
    share = _mean_around(is_seen * torch.exp(-_SHARPNESS * dark))
    return -torch.log((share + _LEAST) / (_mean_around(is_seen) + _LEAST)) / _SHARPNESS


def _mean_around(maps: torch.Tensor) -> torch.Tensor:
    half = _AROUND // 2
    return F.avg_pool2d(F.avg_pool2d(maps, (_AROUND, 1), 1, (half, 0)), (1, _AROUND), 1, (0, half))
