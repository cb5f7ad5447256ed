"""A package's network as what gradients are computed of."""

from __future__ import annotations

from typing import TYPE_CHECKING

from pyramidai_mpi.models.backward.writer import NoGradientError
from pyramidai_mpi.models.dense.window_graph import UnsharableError, WindowGraph, read_window_graph

if TYPE_CHECKING:
    from pyramidai_mpi.models.package import ModelLevel, ModelPackage

OPSET = 18
"""From here on sums into places are an operator (ScatterElements), and axes to sum along are an input."""
_OF_INTEGERS = ("Quantize", "Dequantize", "QLinear", "DynamicQuantize", "MatMulInteger", "ConvInteger", "QGemm")


def read_network(level: ModelLevel, package: ModelPackage) -> WindowGraph:
    """Read a level's network for one tile: from pixels to probabilities, every shape known.

    Raises
    ------
    InputError
        When it cannot be read, and `NoGradientError` when its shapes cannot be known or it computes in integers.
    """
    try:
        network = read_window_graph(level, package, oldest_opset=OPSET)
    except UnsharableError as error:
        raise NoGradientError(level.onnx_path, error.reason) from error
    in_integers = package.quantisation_difference is not None
    if in_integers or any(node.op_type.startswith(_OF_INTEGERS) for node in network.nodes):
        raise NoGradientError(level.onnx_path, "it computes in integers, and only its float32 original has them")
    return network
