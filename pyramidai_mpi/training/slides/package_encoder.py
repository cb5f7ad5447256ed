"""The network of a model package as an encoder that can learn: its ONNX graph, node by node, in torch.

Batch norm in such a graph has the statistics that it was trained to, most often folded into a convolution: they stay as
they are, as in evaluation mode. Only so are a slide's tiles independent of each other, and of how they are cut.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import onnx
import torch
from onnx import numpy_helper
from torch import nn
from torch.nn import functional

from pyramidai_mpi.base.errors import InputError
from pyramidai_mpi.models.engines.onnx_engine import OnnxEngine

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from pyramidai_mpi.models.package import ModelPackage

_LEARNING = {"Conv": (1, 2), "Gemm": (1, 2), "MatMul": (1,), "BatchNormalization": (1, 2)}
"""Inputs of nodes that are weights, where they are stored and of more than one number."""
_MOST_APART = 1e-3
"""Between features in torch and by onnxruntime, of the largest one's size."""


class OnnxEncoder(nn.Module):
    """The part of a package's level-0 network that gives features: tiles uint8 (B, T, T, 3) to features (B, F).

    Parameters
    ----------
    package
        The package: of an encoder, or one whose network has a second output, features. Its tiles are bytes.

    Raises
    ------
    InputError
        It has no features, is for pixels as floats, is told where tiles lie, or has a node that cannot be done here.
    """

    def __init__(self, package: ModelPackage) -> None:
        super().__init__()
        self._where = package.levels[0].onnx_path
        if package.float_input is not None:
            raise InputError(f"{self._where}: takes pixels as floats, and cannot learn here; give a package of ours")
        if package.sees_position:
            raise InputError(
                f"{self._where}: is told where tiles lie (inputs: [position]), and an encoder is not; give a package "
                "without"
            )
        graph = onnx.load(self._where, load_external_data=False).graph
        if len(graph.output) < 2 and not package.is_encoder:
            raise InputError(f"{self._where}: has no second output, features; give a package whose network has")
        stored = {one.name for one in graph.initializer}
        inputs = [value.name for value in graph.input if value.name not in stored]
        if len(inputs) > 1:
            raise InputError(f"{self._where}: sees more than pixels ({', '.join(inputs)}), and cannot learn here")
        self._input = inputs[0]
        self._output = graph.output[-1].name
        self._nodes = _needed(graph, self._output)
        unknown = sorted({node.op_type for node in self._nodes} - set(_OPERATORS))
        if unknown:
            raise InputError(
                f"{self._where}: has nodes {', '.join(unknown)}, which cannot learn here; compute its features with "
                "run --features and learn from these with --features"
            )
        self._names: dict[str, str] = {}
        self._whole: dict[str, Any] = {}  # axes and shapes, which an exporter of this network has to know
        self._store(graph)
        self.eval()
        self.n_features = self._checked(package)

    def _store(self, graph: onnx.GraphProto) -> None:
        learning = {
            node.input[place]
            for node in self._nodes
            for place in _LEARNING.get(node.op_type, ())
            if place < len(node.input)
        } | _after_norms(self._nodes)
        used = {name for node in self._nodes for name in node.input}
        stored = [(one.name, numpy_helper.to_array(one)) for one in graph.initializer]
        stored += [(node.output[0], _constant(node)) for node in graph.node if node.op_type == "Constant"]
        for number, (name, array) in enumerate(stored):
            if name not in used:
                continue
            if array.dtype == np.int64:
                self._whole[name] = array.tolist()
                continue
            tensor, own = torch.from_numpy(np.array(array)), f"stored{number}"
            if name in learning and tensor.dtype == torch.float32 and tensor.numel() > 1:
                self.register_parameter(own, nn.Parameter(tensor))
            else:
                self.register_buffer(own, tensor)
            self._names[name] = own

    def forward(self, tiles: torch.Tensor) -> torch.Tensor:
        """Features (B, F) of tiles."""
        known: dict[str, Any] = dict(self._whole) | {name: getattr(self, own) for name, own in self._names.items()}
        known[self._input] = tiles
        for node in self._nodes:
            inputs = [known[name] if name else None for name in node.input]
            known[node.output[0]] = _OPERATORS[node.op_type](inputs, _attributes(node))
        features: torch.Tensor = known[self._output]
        return features

    def _checked(self, package: ModelPackage) -> int:
        side = package.tile_size
        tiles = np.random.default_rng(0).integers(0, 256, (2, side, side, 3), np.uint8)
        expected = OnnxEngine(package.levels[0], package).predict(tiles, features=True)[1]
        with torch.no_grad():
            found = self(torch.from_numpy(tiles)).numpy()
        if expected is None or found.shape != expected.shape:
            raise InputError(f"{self._where}: its features have another shape in torch than in onnxruntime")
        apart = float(np.abs(found - expected).max() / max(float(np.abs(expected).max()), 1e-9))
        if not apart <= _MOST_APART:
            raise InputError(f"{self._where}: its features in torch are others than in onnxruntime, by {apart:.2g}")
        return int(found.shape[1])


def _needed(graph: onnx.GraphProto, output: str) -> list[onnx.NodeProto]:
    """The nodes that an output comes from, in order; constants are stored elsewhere."""
    wanted, nodes = {output}, []
    for node in reversed(graph.node):
        if wanted & set(node.output) and node.op_type != "Constant":
            nodes.append(node)
            wanted |= set(node.input)
    return nodes[::-1]


def _after_norms(nodes: Sequence[onnx.NodeProto]) -> set[str]:
    """Inputs that scale and shift what a norm gives: exporters write group norm as three nodes, with these after it."""
    normalised: set[str] = set()
    learning: set[str] = set()
    for node in nodes:
        is_after = bool(normalised & set(node.input))
        if node.op_type == "InstanceNormalization" or (is_after and node.op_type in {"Reshape", "Mul"}):
            normalised |= set(node.output)
        if is_after and node.op_type in {"Mul", "Add"}:
            learning |= set(node.input)  # those of them that are stored
    return learning


def _constant(node: onnx.NodeProto) -> np.ndarray[Any, Any]:
    value = onnx.helper.get_attribute_value(node.attribute[0])
    return numpy_helper.to_array(value) if isinstance(value, onnx.TensorProto) else np.array(value)


def _attributes(node: onnx.NodeProto) -> dict[str, Any]:
    return {one.name: onnx.helper.get_attribute_value(one) for one in node.attribute}


def _padded(maps: torch.Tensor, said: dict[str, Any], value: float) -> torch.Tensor:
    if said.get("auto_pad", b"NOTSET") not in {b"NOTSET", b"VALID"} or said.get("ceil_mode", 0):
        raise InputError("a convolution or pooling is padded in a way that cannot be done here")
    top, left, bottom, right = said.get("pads", [0, 0, 0, 0])
    return functional.pad(maps, (left, right, top, bottom), value=value) if any((top, left, bottom, right)) else maps


def _conv(given: list[Any], said: dict[str, Any]) -> torch.Tensor:
    bias = given[2] if len(given) > 2 else None
    maps = _padded(given[0], said, 0.0)
    return functional.conv2d(
        maps, given[1], bias, said.get("strides", 1), 0, said.get("dilations", 1), said.get("group", 1)
    )


def _max_pool(given: list[Any], said: dict[str, Any]) -> torch.Tensor:
    maps = _padded(given[0], said, -torch.inf)
    return functional.max_pool2d(maps, said["kernel_shape"], said.get("strides", 1))


def _average_pool(given: list[Any], said: dict[str, Any]) -> torch.Tensor:
    if any(said.get("pads", [0])) and not said.get("count_include_pad", 0):
        ones = torch.ones_like(given[0][:1, :1])
        counted = dict(said, count_include_pad=1)
        return _average_pool(given, counted) / _average_pool([ones], counted)
    maps = _padded(given[0], said, 0.0)
    return functional.avg_pool2d(maps, said["kernel_shape"], said.get("strides", 1))


def _batch_norm(given: list[Any], said: dict[str, Any]) -> torch.Tensor:
    maps, scale, bias, mean, variance = given
    return functional.batch_norm(maps, mean, variance, scale, bias, training=False, eps=said.get("epsilon", 1e-5))


def _instance_norm(given: list[Any], said: dict[str, Any]) -> torch.Tensor:
    maps, scale, bias = given
    return functional.instance_norm(maps, weight=scale, bias=bias, eps=said.get("epsilon", 1e-5))


def _gemm(given: list[Any], said: dict[str, Any]) -> torch.Tensor:
    rows = given[0].T if said.get("transA", 0) else given[0]
    product = said.get("alpha", 1.0) * (rows @ (given[1].T if said.get("transB", 0) else given[1]))
    return product + said.get("beta", 1.0) * given[2] if len(given) > 2 else product  # type: ignore[no-any-return]


def _axes(given: list[Any], said: dict[str, Any]) -> list[int]:
    axes = given[1] if len(given) > 1 and given[1] is not None else said["axes"]
    return [int(axis) for axis in axes]


def _reduced(way: Callable[..., torch.Tensor]) -> Callable[[list[Any], dict[str, Any]], torch.Tensor]:
    return lambda given, said: way(given[0], dim=_axes(given, said), keepdim=bool(said.get("keepdims", 1)))


def _cast(given: list[Any], said: dict[str, Any]) -> torch.Tensor:
    return given[0].to({1: torch.float32, 2: torch.uint8, 6: torch.int32, 7: torch.int64}[said["to"]])  # type: ignore[no-any-return]


def _reshape(given: list[Any], said: dict[str, Any]) -> torch.Tensor:
    sizes = [given[0].shape[place] if size == 0 else size for place, size in enumerate(given[1])]
    return given[0].reshape(sizes)  # type: ignore[no-any-return]


def _clip(given: list[Any], said: dict[str, Any]) -> torch.Tensor:
    low, high = ([*given[1:], None, None])[:2] if len(given) > 1 else (said.get("min"), said.get("max"))
    return torch.clamp(given[0], low, high)


_OPERATORS: dict[str, Callable[[list[Any], dict[str, Any]], Any]] = {
    "Add": lambda given, _: given[0] + given[1],
    "AveragePool": _average_pool,
    "BatchNormalization": _batch_norm,
    "Cast": _cast,
    "Clip": _clip,
    "Concat": lambda given, said: torch.cat(given, said["axis"]),
    "Conv": _conv,
    "Div": lambda given, _: given[0] / given[1],
    "Dropout": lambda given, _: given[0],
    "Flatten": lambda given, said: given[0].flatten(said.get("axis", 1)),
    "Gemm": _gemm,
    "GlobalAveragePool": lambda given, _: given[0].mean((2, 3), keepdim=True),
    "GlobalMaxPool": lambda given, _: given[0].amax((2, 3), keepdim=True),
    "Identity": lambda given, _: given[0],
    "InstanceNormalization": _instance_norm,
    "MatMul": lambda given, _: given[0] @ given[1],
    "MaxPool": _max_pool,
    "Mul": lambda given, _: given[0] * given[1],
    "ReduceMax": _reduced(torch.amax),
    "ReduceMean": _reduced(torch.mean),
    "Relu": lambda given, _: torch.relu(given[0]),
    "Reshape": _reshape,
    "Shape": lambda given, said: list(given[0].shape)[said.get("start", 0) : said.get("end")],
    "Sigmoid": lambda given, _: torch.sigmoid(given[0]),
    "Squeeze": lambda given, said: given[0].squeeze(tuple(_axes(given, said))),
    "Sub": lambda given, _: given[0] - given[1],
    "Transpose": lambda given, said: given[0].permute(said["perm"]),
}
