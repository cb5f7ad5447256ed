"""From a torch network to an ONNX graph."""

from __future__ import annotations

import logging
import warnings
from typing import TYPE_CHECKING

import torch

from pyramidai_mpi.training.tile_network import without_batch_norm

if TYPE_CHECKING:
    from pyramidai_mpi.training.tile_network import TileNetwork

TILE = 224
_OPSET = 18


def to_onnx(network: TileNetwork) -> bytes:
    """Serialise a network with batch norm folded.

    Input ``tiles``, uint8 ``(batch, 224, 224, 3)``; outputs ``probabilities``, float32 ``(batch, 2)``, and
    ``features``, float32 ``(batch, 2048)``.
    """
    example = torch.zeros((2, TILE, TILE, 3), dtype=torch.uint8)
    exporter = logging.getLogger("torch.onnx")
    level = exporter.level
    exporter.setLevel(logging.ERROR)  # that torchvision is missing does not matter here
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of torch about itself
            program = torch.onnx.export(
                without_batch_norm(network),
                (example,),
                dynamo=True,
                dynamic_shapes={"tiles": {0: torch.export.Dim("batch", min=1, max=4096)}},
                input_names=["tiles"],
                output_names=["probabilities", "features"],
                opset_version=_OPSET,
                external_data=False,
                verbose=False,
            )
    finally:
        exporter.setLevel(level)
    assert program is not None
    return bytes(program.model_proto.SerializeToString())
