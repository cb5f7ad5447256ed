"""Transformers in 8-bit integers: which of their layers, and how their activations are made even first.

The products with stored weights are 96 of 100 multiplications of ViT-S, and go into integers. Attention, softmax, layer
norm and GELU stay in float32, and so does what a layer gives, which the residual stream adds up.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import onnx
from onnx import numpy_helper

from pyramidai_mpi.models.engines.onnx_engine import open_session

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    import numpy.typing as npt

DENSE_LAYERS = ("MatMul", "Gemm")
_NORM = "LayerNormalization"
_LEAST, _MOST = 1e-2, 1e2


def dense_layers(model: onnx.ModelProto) -> list[str]:
    """Names of a transformer's products with stored weights; none of a graph without layer norm.

    What comes before the first norm embeds the pixels, costs little, and stays as it is: OpenVINO 2026.4 ends the
    process over such a product in integers.
    """
    nodes = list(model.graph.node)
    first = next((place for place, node in enumerate(nodes) if node.op_type == _NORM), len(nodes))
    weights = {one.name for one in model.graph.initializer if len(one.dims) == 2}
    return [
        node.name
        for node in nodes[first:]
        if node.op_type in DENSE_LAYERS and node.input[1] in weights and node.input[0] not in weights
    ]


def evened(model: onnx.ModelProto, feeds: Iterable[Mapping[str, npt.NDArray[np.generic]]]) -> onnx.ModelProto:
    """The same network with even channels behind its layer norms (SmoothQuant, Xiao et al., ICML 2023).

    A few channels of a transformer are far larger than all others, and of one common range for 8 bits would leave these
    nothing. So each channel j is divided by ``s_j = sqrt(max|x_j| / max|w_j|)``, in the norm's scale and shift, and the
    rows of the weights behind it are multiplied: in exact arithmetic the network is the same.

    Parameters
    ----------
    model
        The network; left as it is.
    feeds
        Inputs that show how large channels are.
    """
    found = onnx.ModelProto()
    found.CopyFrom(model)
    stored = {one.name: one for one in found.graph.initializer}
    consumers: dict[str, list[onnx.NodeProto]] = {}
    for node in found.graph.node:
        for name in node.input:
            consumers.setdefault(name, []).append(node)
    dense = set(dense_layers(found))
    norms = [
        node
        for node in found.graph.node
        if node.op_type == _NORM
        and all(name in stored and len(consumers[name]) == 1 for name in node.input[1:])
        and all(
            one.name in dense
            and one.op_type == "MatMul"
            and one.input[0] == node.output[0]
            and len(consumers[one.input[1]]) == 1
            for one in consumers.get(node.output[0], [])
        )
        and consumers.get(node.output[0])
    ]
    largest = _largest(found, [node.output[0] for node in norms], feeds)
    for node in norms:
        weights = [one.input[1] for one in consumers[node.output[0]]]
        arrays = [numpy_helper.to_array(stored[name]) for name in weights]
        rows = np.max([np.abs(array).max(axis=1) for array in arrays], axis=0)
        ratio = np.divide(largest[node.output[0]], rows, out=np.ones_like(rows), where=rows > 0)
        scale = np.clip(np.sqrt(ratio), _LEAST, _MOST).astype(np.float32)
        for name in node.input[1:]:
            _replace(stored[name], numpy_helper.to_array(stored[name]) / scale)
        for name, array in zip(weights, arrays, strict=True):
            _replace(stored[name], array * scale[:, None])
    return found


def _replace(tensor: onnx.TensorProto, values: npt.NDArray[np.floating]) -> None:
    tensor.CopyFrom(numpy_helper.from_array(values.astype(np.float32), tensor.name))


def _largest(
    model: onnx.ModelProto, names: list[str], feeds: Iterable[Mapping[str, npt.NDArray[np.generic]]]
) -> dict[str, npt.NDArray[np.float32]]:
    """The largest size of each channel, the last axis, of some inner tensors."""
    if not names:
        return {}
    shown = onnx.ModelProto()
    shown.CopyFrom(model)
    del shown.graph.output[:]
    shown.graph.output.extend([onnx.helper.make_empty_tensor_value_info(name) for name in names])
    session = open_session(shown.SerializeToString())
    largest: dict[str, npt.NDArray[np.float32]] = {}
    for feed in feeds:
        for name, values in zip(names, session.run(names, dict(feed)), strict=True):
            size = np.abs(values).reshape(-1, values.shape[-1]).max(axis=0)
            largest[name] = np.maximum(largest.get(name, size), size)
    return largest
