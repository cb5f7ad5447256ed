"""From a trained network to the ONNX graph of a package: colours in, probabilities out."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
from torch import nn

from pyramidai_mpi.base.errors import UsageError
from pyramidai_mpi.models.segmentation_package import INPUT, OUTPUT
from pyramidai_mpi.training.networks.export import serialised
from pyramidai_mpi.training.whole.images import GREY_WEIGHTS

if TYPE_CHECKING:
    from pyramidai_mpi.training.whole.field import Field

_MOST_CELLS = 4096


class _OfColours(nn.Module):
    """Pixels as slides have them, uint8 (1, H, W, 3), to the probability of the second class, float32 (1, H, W)."""

    def __init__(self, network: nn.Module) -> None:
        super().__init__()
        self.network = network
        self.weights = nn.Parameter(torch.tensor([GREY_WEIGHTS], dtype=torch.float32).T, requires_grad=False)

    def forward(self, pixels: torch.Tensor) -> torch.Tensor:
        """Probabilities."""
        # whole numbers below 2**24: the grey that `images.darkness_of` has, to the bit
        grey = torch.floor((torch.matmul(pixels.float(), self.weights) + 128) / 256)
        darkness = (255 - grey) * (1 / 255)
        found: torch.Tensor = torch.sigmoid(self.network(darkness.permute(0, 3, 1, 2)))[:, 0]
        return found


def to_onnx(network: nn.Module, field: Field, name: str) -> bytes:
    """Serialise a trained network, with grey, inversion and scale in front of it.

    Parameters
    ----------
    network
        See `field.field_of`, in float32.
    field
        How it can be cut.
    name
        What the user calls it, for messages.

    Raises
    ------
    UsageError
        torch cannot write it as ONNX.
    """
    simpler = getattr(network, "for_inference", None)
    of_colours = _OfColours(network if simpler is None else simpler()).eval()
    stride = field.total_stride
    rows, columns = (torch.export.Dim(side, min=1, max=_MOST_CELLS) for side in ("rows", "columns"))
    example = torch.zeros((1, 5 * stride, 6 * stride, 3), dtype=torch.uint8)
    try:
        return serialised(of_colours, {INPUT: example}, {INPUT: {1: stride * rows, 2: stride * columns}}, [OUTPUT])
    except Exception as error:  # the exporter raises whatever it meets
        raise UsageError(
            f"--network {name}: torch cannot write it as ONNX for images of any size: "
            f"{' '.join(str(error).split())[:200]}"
        ) from error
