"""The gradient of a head of global average pooling and one linear layer, which is the same for every tile.

Such a logit is ``sum over k, places of w_k A_k / (h w) + b``, so its gradient at map k is ``w_k / (h w)``: class
activation maps (Zhou et al., CVPR 2016), of which Grad-CAM (Selvaraju et al., ICCV 2017) is the generalisation.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

import numpy as np
from onnx import helper

from pyramidai_mpi.models.dense.window_graph import leading_to

if TYPE_CHECKING:
    import numpy.typing as npt
    import onnx

    from pyramidai_mpi.models.dense.window_graph import WindowGraph

_SAME = frozenset({"Flatten", "Reshape", "Squeeze", "Unsqueeze", "Identity", "Dropout"})


def pooled_gradient(network: WindowGraph, logits: str, layer: str) -> npt.NDArray[np.float32] | None:
    """The gradient of each logit at each map, the same for all its places.

    Parameters
    ----------
    network
        The network.
    logits
        Name of its logits' tensor, of L values.
    layer
        Name of the maps, (1, K, h, w).

    Returns
    -------
    numpy.ndarray or None
        float32 (L, K); None where more than an average and one linear layer lies between.
    """
    shape = network.shapes[layer]
    nodes, name = leading_to(network.nodes, {logits}), layer
    weights: npt.NDArray[np.float32] | None = None
    pooled = False
    while name != logits:
        readers = [node for node in nodes if name in node.input]
        if len(readers) != 1 or list(readers[0].input).count(name) > 1 or readers[0].input[0] != name:
            return None
        node = readers[0]
        if not pooled:
            if not _averages(network, node):
                return None
            pooled = True
        elif node.op_type in {"Gemm", "MatMul"} and weights is None:
            weights = _weights(network, node, shape[1])
            if weights is None:
                return None
        elif node.op_type == "Add" and weights is not None:
            if not network.is_constant(node.input[1]):
                return None
        elif node.op_type not in _SAME:
            return None
        name = node.output[0]
    if weights is None or not pooled:
        return None
    return (weights / math.prod(shape[2:])).astype(np.float32)


def _averages(network: WindowGraph, node: onnx.NodeProto) -> bool:
    """Whether a node takes the mean over all places of its maps."""
    if node.op_type == "GlobalAveragePool":
        return True
    if node.op_type != "ReduceMean":
        return False
    axes = network.constant(node.input[1]).tolist() if len(node.input) > 1 and node.input[1] else []
    return sorted(axis % 4 for axis in axes) == [2, 3]


def _weights(network: WindowGraph, node: onnx.NodeProto, n_maps: int) -> npt.NDArray[np.float32] | None:
    """Float64 (L, K) of a linear layer on a row of K values."""
    if not network.is_constant(node.input[1]) or network.shapes[node.input[0]] != (1, n_maps):
        return None
    said: dict[str, Any] = {entry.name: helper.get_attribute_value(entry) for entry in node.attribute}
    weights: npt.NDArray[Any] = network.constant(node.input[1]).astype(np.float64)
    if said.get("transA", 0) or weights.ndim != 2 or (len(node.input) > 2 and not network.is_constant(node.input[2])):
        return None
    turned = weights if said.get("transB", 0) else weights.T
    return np.asarray(turned * said.get("alpha", 1.0))
