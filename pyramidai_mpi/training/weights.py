"""Weights of a trained network as plain arrays, and the ONNX graph they make."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

if TYPE_CHECKING:
    from pathlib import Path

    from numpy.typing import NDArray

    F32 = NDArray[np.float32]

OPSET = 17
IR_VERSION = 8
"""The oldest pair that has all we need: readable by ONNX Runtime since 1.12."""


@dataclass(frozen=True)
class ConvLayer:
    """A convolution followed by ReLU: kernel float32 (out, in, k, k), bias float32 (out,), stride, padding."""

    kernel: F32
    bias: F32
    stride: int
    padding: int


@dataclass(frozen=True)
class NetworkWeights:
    """Convolutions in order, then the linear head over [mean, maximum] of the last maps: (2, 2C) and (2,)."""

    convolutions: tuple[ConvLayer, ...]
    head: F32
    head_bias: F32

    def multiplications(self, tile_size: int) -> int:
        """Multiply-accumulates for one square tile."""
        total, side = self.head.size, tile_size
        for layer in self.convolutions:
            side = (side + 2 * layer.padding - layer.kernel.shape[2]) // layer.stride + 1
            total += side * side * layer.kernel.size
        return total


def save_weights(weights: NetworkWeights, path: Path) -> None:
    """Keep a trained network as ``.npz``; the file appears when complete."""
    arrays: dict[str, Any] = {"head": weights.head, "head_bias": weights.head_bias}
    for k, layer in enumerate(weights.convolutions):
        arrays[f"kernel{k}"], arrays[f"bias{k}"] = layer.kernel, layer.bias
    geometry = np.array([(layer.stride, layer.padding) for layer in weights.convolutions])
    partial = path.with_name("partial-" + path.name)
    np.savez(partial, geometry=geometry, **arrays)
    partial.replace(path)


def load_weights(path: Path) -> NetworkWeights:
    """Read what `save_weights` kept."""
    with np.load(path) as stored:
        layers = tuple(
            ConvLayer(stored[f"kernel{k}"], stored[f"bias{k}"], int(stride), int(padding))
            for k, (stride, padding) in enumerate(stored["geometry"])
        )
        return NetworkWeights(layers, stored["head"], stored["head_bias"])


def to_onnx(weights: NetworkWeights, name: str, tile_size: int) -> bytes:
    """Serialise a network as an ONNX graph.

    Input ``tiles``, uint8 ``(batch, tile, tile, 3)``; outputs ``probabilities``, float32 ``(batch, 2)``, and
    ``features``, float32 ``(batch, 2C)``. Pixels become absorbance (1 - value / 255) inside the graph, so that the
    zeros around a padded tile mean glass.

    Raises
    ------
    onnx.checker.ValidationError
        When the graph is malformed: a bug here.
    """
    constants = {
        "darken": np.float32(-1 / 255),
        "one": np.float32(1),
        "head.weight": weights.head,
        "head.bias": weights.head_bias,
    }
    nodes = [
        helper.make_node("Cast", ["tiles"], ["values"], to=TensorProto.FLOAT),
        helper.make_node("Transpose", ["values"], ["planes"], perm=[0, 3, 1, 2]),
        helper.make_node("Mul", ["planes", "darken"], ["darkness"]),
        helper.make_node("Add", ["darkness", "one"], ["maps0"]),
    ]
    last = "maps0"
    for k, layer in enumerate(weights.convolutions, 1):
        constants[f"conv{k}.weight"], constants[f"conv{k}.bias"] = layer.kernel, layer.bias
        nodes.append(
            helper.make_node(
                "Conv",
                [last, f"conv{k}.weight", f"conv{k}.bias"],
                [f"sums{k}"],
                kernel_shape=list(layer.kernel.shape[2:]),
                strides=[layer.stride] * 2,
                pads=[layer.padding] * 4,
            )
        )
        nodes.append(helper.make_node("Relu", [f"sums{k}"], [f"maps{k}"]))
        last = f"maps{k}"
    nodes += [
        helper.make_node("GlobalAveragePool", [last], ["means"]),
        helper.make_node("GlobalMaxPool", [last], ["maxima"]),
        helper.make_node("Concat", ["means", "maxima"], ["pooled"], axis=1),
        helper.make_node("Flatten", ["pooled"], ["features"], axis=1),
        helper.make_node("Gemm", ["features", "head.weight", "head.bias"], ["logits"], transB=1),
        helper.make_node("Softmax", ["logits"], ["probabilities"], axis=1),
    ]
    graph = helper.make_graph(
        nodes,
        name,
        [helper.make_tensor_value_info("tiles", TensorProto.UINT8, ["batch", tile_size, tile_size, 3])],
        [
            helper.make_tensor_value_info("probabilities", TensorProto.FLOAT, ["batch", 2]),
            helper.make_tensor_value_info("features", TensorProto.FLOAT, ["batch", weights.head.shape[1]]),
        ],
        [numpy_helper.from_array(np.asarray(value), key) for key, value in constants.items()],
    )
    model = helper.make_model(
        graph, opset_imports=[helper.make_opsetid("", OPSET)], ir_version=IR_VERSION, producer_name="pyramidai_mpi"
    )
    onnx.checker.check_model(model, full_check=True)
    return bytes(model.SerializeToString())
