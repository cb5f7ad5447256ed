"""The U-Net of Remedios et al. (2023), as far as the paper describes it: seven convolutions and 4492 parameters.

Large kernels and strides early, additive skips, one grey channel. The paper names neither kernels nor channels; of the
designs that have this many parameters this is a regular one:

| layer | kernel | stride | channels | parameters | output |
| --- | --- | --- | --- | --- | --- |
| down1 | 9 | 4 | 1-3 | 246 | 1/4 |
| down2 | 9 | 4 | 3-6 | 1464 | 1/16 |
| down3 | 5 | 2 | 6-9 | 1359 | 1/32 |
| bottom | 3 | 1 | 9-9 | 738 | 1/32 |
| up2, of 2 x nearest, + down2 | 3 | 1 | 9-6 | 492 | 1/16 |
| up1, of 4 x nearest, + down1 | 3 | 1 | 6-3 | 165 | 1/4 |
| out, of 4 x nearest | 3 | 1 | 3-1 | 28 | 1 |

A 3 x 3 convolution of an image enlarged s times by repeating its pixels sees, of each of the s * s places in a pixel,
the same pixels in another mixture. So it is a 3 x 3 convolution of the small image with s * s outputs, spread out by a
pixel shuffle: the same function of the same parameters, without the large planes.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
import torch.nn.functional as F  # noqa: N812
from torch import nn

if TYPE_CHECKING:
    from pyramidai_mpi.training.whole.blocks import Box


_STRIP = 32
"""Rows of a small image."""


class WholeImageUNet(nn.Module):
    """Grey values, (N, 1, H, W), 0 for glass and 1 for black, to logits of the same shape.

    H and W are multiples of `total_stride`.
    """

    total_stride = 32
    halo = 128
    """Around blocks with corners at multiples of the stride. A single pixel depends on others up to 136 away."""

    def __init__(self) -> None:
        super().__init__()
        self.down1 = nn.Conv2d(1, 3, 9, 4, 4)
        self.down2 = nn.Conv2d(3, 6, 9, 4, 4)
        self.down3 = nn.Conv2d(6, 9, 5, 2, 2)
        self.bottom = nn.Conv2d(9, 9, 3, 1, 1)
        self.up2 = nn.Conv2d(9, 6, 3, 1, 1)
        self.up1 = nn.Conv2d(6, 3, 3, 1, 1)
        self.out = nn.Conv2d(3, 1, 3, 1, 1)

    def forward(self, image: torch.Tensor) -> torch.Tensor:
        """Logits of an image."""
        first = F.relu(self.down1(image))
        return enlarged(self.out, F.relu(enlarged(self.up1, self._middle(first), 4)) + first, 4)

    def logits_of_block(self, image: torch.Tensor, seen: Box, wanted: Box, size: tuple[int, int]) -> torch.Tensor:
        """Logits of a part, each layer computed no further than the next one needs.

        Parameters
        ----------
        image
            (1, 1, h, w), what is in `seen`.
        seen, wanted
            What the part depends on, and the part; corners at multiples of the total stride.
        size
            Width and height of the whole image, at whose edges the layers pad.
        """
        first = F.relu(self.down1(image))
        # with 3 x 3 kernels at 1/16 and 1/4 of the resolution, so many pixels around count at most
        for_up1, for_out = wanted.grown(16, size), wanted.grown(4, size)
        middle = _cut(self._middle(first), seen, for_up1, 16)
        fine = F.relu(enlarged(self.up1, middle, 4)) + _cut(first, seen, for_up1, 4)
        return _cut(enlarged(self.out, _cut(fine, for_up1, for_out, 4), 4), for_out, wanted, 1)

    def for_inference(self) -> nn.Module:
        """The same function with the kernels of the small images in place of what they follow from."""
        return _Inference(self)

    def _middle(self, first: torch.Tensor) -> torch.Tensor:
        """From what `down1` gives to what `up1` takes, at 1/16 of the resolution."""
        second = F.relu(self.down2(first))
        deepest = F.relu(self.bottom(F.relu(self.down3(second))))
        return F.relu(enlarged(self.up2, deepest, 2)) + second


def enlarged(convolution: nn.Conv2d, image: torch.Tensor, by: int) -> torch.Tensor:
    """A 3 x 3 convolution, padded by zeros, of an image enlarged by repeating its pixels (N, C, h, w) -> (N, D, H, W).

    Where the image ends the two forms agree, too: what is beyond is zero at either size.
    """
    of_places, bias = places_weight(convolution.weight, by), convolution.bias
    assert bias is not None
    padded = F.pad(image, (0, 0, 1, 1))
    # a strip at a time, as a kernel's gradient is added up in the order of pixels: of 2 million, it is off by 5e-4
    strips = [
        F.conv2d(padded[:, :, top : top + _STRIP + 2], of_places, padding=(0, 1))
        for top in range(0, image.shape[2], _STRIP)
    ]
    found = torch.cat(strips, 2) if len(strips) > 1 else strips[0]
    # not as the convolution's own bias, whose gradient is added up like that as well
    found += bias.repeat_interleave(by * by)[None, :, None, None]
    return F.pixel_shuffle(found, by)


def places_weight(weight: torch.Tensor, by: int) -> torch.Tensor:
    """Kernels of the small image, (D * by * by, C, 3, 3), in the order of a pixel shuffle, for the large one's."""
    # which tap falls on which of three neighbours, of each place in a pixel
    falls = torch.zeros(by, 3, 3, dtype=weight.dtype)
    for place in range(by):
        for tap in range(3):
            falls[place, tap, (place + tap - 1) // by + 1] = 1
    return torch.einsum("oikl,pkm,qln->opqimn", weight, falls, falls).reshape(-1, weight.shape[1], 3, 3)


def _cut(layer: torch.Tensor, covers: Box, wanted: Box, shrunk: int) -> torch.Tensor:
    """Of a layer's part, at 1/shrunk of the resolution, a smaller part."""
    left, top = (wanted.left - covers.left) // shrunk, (wanted.top - covers.top) // shrunk
    return layer[:, :, top : top + -(-wanted.height // shrunk), left : left + -(-wanted.width // shrunk)]


class _Inference(nn.Module):
    """See `WholeImageUNet.for_inference`."""

    def __init__(self, network: WholeImageUNet) -> None:
        super().__init__()
        self.down1, self.down2, self.down3 = network.down1, network.down2, network.down3
        self.bottom = network.bottom
        self.up2, self.up1, self.out = (
            _shuffled(convolution, by) for convolution, by in ((network.up2, 2), (network.up1, 4), (network.out, 4))
        )

    def forward(self, image: torch.Tensor) -> torch.Tensor:
        """Logits of an image."""
        first = F.relu(self.down1(image))
        second = F.relu(self.down2(first))
        deepest = F.relu(self.bottom(F.relu(self.down3(second))))
        found: torch.Tensor = self.out(F.relu(self.up1(F.relu(self.up2(deepest)) + second)) + first)
        return found


def _shuffled(convolution: nn.Conv2d, by: int) -> nn.Sequential:
    assert convolution.bias is not None
    small = nn.Conv2d(convolution.in_channels, convolution.out_channels * by * by, 3, 1, 1)
    with torch.no_grad():
        small.weight.copy_(places_weight(convolution.weight, by))
        small.bias.copy_(convolution.bias.repeat_interleave(by * by))  # type: ignore[union-attr]
    return nn.Sequential(small, nn.PixelShuffle(by))
