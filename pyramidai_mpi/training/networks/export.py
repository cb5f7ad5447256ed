"""From a torch network to an ONNX graph."""

from __future__ import annotations

import logging
import warnings
from typing import TYPE_CHECKING, Any

import torch

from pyramidai_mpi.models.write import TILE
from pyramidai_mpi.training.networks.tile_network import without_batch_norm

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from torch import nn

OUTPUTS = ("probabilities", "features")
_OPSET = 18


def to_onnx(network: nn.Module, side: int = TILE, outputs: tuple[str, ...] = OUTPUTS) -> bytes:
    """Serialise a network with the batch norm of our own blocks folded.

    Input ``tiles``, uint8 ``(batch, side, side, 3)``, and of a network that sees it ``position``, float32
    ``(batch, 2)``; outputs ``probabilities``, float32 ``(batch, C)``, and
    ``features``, float32 ``(batch, F)``, where `outputs` names them.
    """
    example = {"tiles": torch.zeros((2, side, side, 3), dtype=torch.uint8)}
    if getattr(network, "sees_position", False):
        example["position"] = torch.zeros((2, 2))
    batch = {0: torch.export.Dim("batch", min=1, max=4096)}
    return serialised(without_batch_norm(network), example, dict.fromkeys(example, batch), outputs)


def serialised(
    network: nn.Module,
    example: Mapping[str, torch.Tensor],
    free: Mapping[str, Mapping[int, Any]],
    outputs: Sequence[str],
) -> bytes:
    """Serialise a network.

    Parameters
    ----------
    network
        In evaluation mode.
    example
        Something it takes, by the names of the inputs in its ``forward``.
    free
        Of each input, the axes that may have another length, with their bounds (``torch.export.Dim``).
    outputs
        Names of what it gives.
    """
    # that torchvision is missing does not matter here, and neither does that a stored number is an output
    exporters = [logging.getLogger(name) for name in ("torch.onnx", "onnx_ir")]
    levels = [exporter.level for exporter in exporters]
    for exporter in exporters:
        exporter.setLevel(logging.ERROR)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of torch about itself
            program = torch.onnx.export(
                network,
                tuple(example.values()),
                dynamo=True,
                dynamic_shapes=dict(free),
                input_names=list(example),
                output_names=list(outputs),
                opset_version=_OPSET,
                external_data=False,
                verbose=False,
            )
    finally:
        for exporter, level in zip(exporters, levels, strict=True):
            exporter.setLevel(level)
    assert program is not None
    model = program.model_proto
    for part in (model, model.graph, *model.functions):
        _forget_origin(part)
    return bytes(model.SerializeToString())


def _forget_origin(part: Any) -> None:
    """Drop what torch writes down of the program that made a graph: lines of its source, with the user's folders."""
    del part.metadata_props[:]
    for value in (*getattr(part, "value_info", ()), *getattr(part, "initializer", ())):
        del value.metadata_props[:]
    for node in getattr(part, "node", ()):
        del node.metadata_props[:]
        for attribute in node.attribute:
            for inner in (*([attribute.g] if attribute.HasField("g") else []), *attribute.graphs):
                _forget_origin(inner)
