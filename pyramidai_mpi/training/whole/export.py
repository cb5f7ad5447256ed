"""From a trained network to the ONNX graph of a package: colours in, probabilities out."""

from __future__ import annotations

import logging
import warnings
from typing import TYPE_CHECKING

import torch
from torch import nn

from pyramidai_mpi.base.errors import UsageError
from pyramidai_mpi.models.segmentation_package import INPUT, OUTPUT
from pyramidai_mpi.training.networks.export import forget_origin
from pyramidai_mpi.training.whole.images import GREY_WEIGHTS

if TYPE_CHECKING:
    from pyramidai_mpi.training.whole.field import Field

_OPSET = 18
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
    exporter = logging.getLogger("torch.onnx")
    level = exporter.level
    exporter.setLevel(logging.ERROR)  # that torchvision is missing does not matter here
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of torch about itself
            program = torch.onnx.export(
                of_colours,
                (example,),
                dynamo=True,
                dynamic_shapes={"pixels": {1: stride * rows, 2: stride * columns}},
                input_names=[INPUT],
                output_names=[OUTPUT],
                opset_version=_OPSET,
                external_data=False,
                verbose=False,
            )
    except Exception as error:  # the exporter raises whatever it meets
        raise UsageError(
            f"--network {name}: torch cannot write it as ONNX for images of any size: "
            f"{' '.join(str(error).split())[:200]}"
        ) from error
    finally:
        exporter.setLevel(level)
    assert program is not None
    model = program.model_proto
    for part in (model, model.graph, *model.functions):
        forget_origin(part)
    return bytes(model.SerializeToString())
