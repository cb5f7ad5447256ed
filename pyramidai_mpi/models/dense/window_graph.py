"""A network as its window sees it: its nodes in order, every shape known, everything constant told from the rest.

Whatever a package's network looks like, here it goes from bytes to probabilities: what the program does for networks
that take floats and give logits becomes part of the graph. A gate to ONNX.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import numpy as np
import onnx
import onnx.inliner
import onnx.version_converter
from onnx import TensorProto, helper, numpy_helper, shape_inference

from pyramidai_mpi.base.errors import InputError
from pyramidai_mpi.models.package import POSITION

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence
    from pathlib import Path

    import numpy.typing as npt

    from pyramidai_mpi.models.package import FloatInput, ModelLevel, ModelPackage

_OLDEST_OPSET = 13
"""From here on a softmax is over one axis, and Slice, Squeeze and the like take their settings as inputs."""
_NEWER_OPSET = 17
_PIXELS = "shared_pixels"
_KEPT = frozenset({"DequantizeLinear"})
"""Nodes on constants that stay nodes: a convolution in integers wants its weights as bytes."""
_LAST = frozenset({"Softmax", "Sigmoid"})
_SAME_SHAPE = frozenset({"GroupNormalization"})


class UnsharableError(InputError):
    """A network that cannot be computed for many windows at once; `reason` says why, without the file's name."""

    def __init__(self, path: Path, reason: str) -> None:
        super().__init__(f"{path}: cannot be shared by overlapping windows: {reason}")
        self.reason = reason


@dataclass
class WindowGraph:
    """A network for one window.

    Attributes
    ----------
    path
        Its file, for messages.
    side
        Side of a window in pixels.
    opset, ir_version
        Of its operators, and of its file.
    pixels, answer
        Names of the input, uint8 (1, side, side, 3), and of the first output, float32 (1, C).
    given
        Names of all inputs: the pixels, and where the tile lies, float32 (1, 2), of a network that sees it.
    nodes
        What depends on the pixels and leads to the answer, in an order in which it can be computed.
    shapes, elements
        Shape and ONNX element type of every tensor that depends on the pixels.
    """

    path: Path
    side: int
    opset: int
    ir_version: int
    pixels: str
    answer: str
    given: tuple[str, ...] = ()
    nodes: list[onnx.NodeProto] = field(default_factory=list)
    shapes: dict[str, tuple[int, ...]] = field(default_factory=dict)
    elements: dict[str, int] = field(default_factory=dict)
    _stored: dict[str, onnx.TensorProto] = field(default_factory=dict)
    _makers: dict[str, onnx.NodeProto] = field(default_factory=dict)
    _values: dict[str, npt.NDArray[np.generic]] = field(default_factory=dict)

    def is_constant(self, name: str) -> bool:
        """Whether a tensor is the same whatever the pixels are."""
        return name in self._stored or name in self._makers

    def constant(self, name: str) -> npt.NDArray[np.generic]:
        """The value of a constant.

        Raises
        ------
        UnsharableError
            When it is none, or cannot be computed.
        """
        if not self.is_constant(name):
            raise UnsharableError(self.path, f"{name!r} depends on the pixels, where a constant is expected")
        if name not in self._values:
            if name in self._stored:
                self._values[name] = numpy_helper.to_array(self._stored[name])
            else:
                self._compute(self._makers[name])
        return self._values[name]

    def kept_maker(self, name: str) -> onnx.NodeProto | None:
        """The node that a constant has to be made by within the graph; None where its value will do."""
        maker = self._makers.get(name)
        return maker if maker is not None and maker.op_type in _KEPT else None

    def logits(self) -> WindowGraph:
        """The same network up to what its last softmax or sigmoid is given; itself where it ends in neither.

        Probabilities near 0 or 1 hide differences, their logits do not.
        """
        last = next((node for node in reversed(self.nodes) if node.op_type in _LAST), None)
        if last is None:
            return self
        found = WindowGraph(self.path, self.side, self.opset, self.ir_version, self.pixels, last.input[0], self.given)
        found.nodes = leading_to(self.nodes, {last.input[0]})
        found.shapes, found.elements = self.shapes, self.elements
        found._stored, found._makers, found._values = self._stored, self._makers, self._values
        return found

    def _compute(self, node: onnx.NodeProto) -> None:
        from onnx.reference import ReferenceEvaluator

        feeds = {name: self.constant(name) for name in node.input if name}
        try:
            values = ReferenceEvaluator(node).run(None, feeds)
        except Exception as error:  # of whatever kind its operators raise
            reason = f"a constant that its operator {node.op_type} makes cannot be computed: {error}"
            raise UnsharableError(self.path, " ".join(reason.split())[:200]) from error
        self._values |= {name: np.asarray(value) for name, value in zip(node.output, values, strict=True)}


def read_window_graph(level: ModelLevel, package: ModelPackage, *, oldest_opset: int = _OLDEST_OPSET) -> WindowGraph:
    """Read a level's network.

    Parameters
    ----------
    level, package
        What to read.
    oldest_opset
        Networks of an older one are converted.

    Raises
    ------
    InputError
        When it cannot be read, and `UnsharableError` when not all of its shapes can be known.
    """
    path = level.onnx_path
    try:
        model = onnx.load(path, load_external_data=False)
        if model.functions:
            model = onnx.inliner.inline_local_functions(model)
    except Exception as error:  # protobuf's DecodeError has no public name
        raise InputError(f"{path}: not an ONNX file: {error}") from error
    opset = next((entry.version for entry in model.opset_import if entry.domain in {"", "ai.onnx"}), 0)
    if opset < oldest_opset:
        newer = max(oldest_opset, _NEWER_OPSET)
        try:
            model = onnx.version_converter.convert_version(model, newer)
        except Exception as error:  # its errors are RuntimeErrors of many kinds
            reason = f"its opset {opset} cannot be brought to {newer}: {' '.join(str(error).split())[:200]}"
            raise UnsharableError(path, reason) from error
        opset = newer
    if package.float_input is not None:
        _from_bytes_to_probabilities(model.graph, package.float_input, package.tile_size)
    return _read(path, model, package.tile_size, opset)


def _from_bytes_to_probabilities(graph: onnx.GraphProto, recipe: FloatInput, side: int) -> None:
    """Put before and after a network that takes floats what `FixedBatchEngine` does for it."""
    stored = {tensor.name for tensor in graph.initializer}
    floats = next(value.name for value in graph.input if value.name not in stored)
    logits = graph.output[0].name
    classes = graph.output[0].type.tensor_type.shape.dim[1].dim_value
    shape = (1, 3, 1, 1)
    constants = {
        "shared_white": np.array(255, np.float32),
        "shared_mean": np.array(recipe.mean, np.float32).reshape(shape),
        "shared_std": np.array(recipe.std, np.float32).reshape(shape),
    }
    graph.initializer.extend(numpy_helper.from_array(value, name) for name, value in constants.items())
    before = [
        helper.make_node("Transpose", [_PIXELS], ["shared_planes"], perm=[0, 3, 1, 2]),
        helper.make_node("Cast", ["shared_planes"], ["shared_floats"], to=TensorProto.FLOAT),
        helper.make_node("Div", ["shared_floats", "shared_white"], ["shared_shades"]),
        helper.make_node("Sub", ["shared_shades", "shared_mean"], ["shared_centred"]),
        helper.make_node("Div", ["shared_centred", "shared_std"], [floats]),
    ]
    after = helper.make_node("Softmax", [logits], ["shared_probabilities"], axis=1)
    nodes = [*before, *graph.node, after]
    del graph.node[:], graph.input[:], graph.output[:]
    graph.node.extend(nodes)
    graph.input.append(helper.make_tensor_value_info(_PIXELS, TensorProto.UINT8, [1, side, side, 3]))
    graph.output.append(helper.make_tensor_value_info("shared_probabilities", TensorProto.FLOAT, [1, classes or None]))


def _read(path: Path, model: onnx.ModelProto, side: int, opset: int) -> WindowGraph:
    graph = model.graph
    stored = {tensor.name: tensor for tensor in graph.initializer}
    given = [value for value in graph.input if value.name not in stored]
    names = tuple(value.name for value in given)
    pixels = next(name for name in names if name != POSITION)
    read = WindowGraph(path, side, opset, model.ir_version, pixels, graph.output[0].name, names, _stored=stored)
    for value in given:
        value.type.tensor_type.shape.dim[0].dim_value = 1
    nodes = leading_to(graph.node, {read.answer})
    for node in nodes:
        if any(entry.HasField("g") or entry.graphs for entry in node.attribute):
            raise UnsharableError(path, f"its operator {node.op_type} holds a graph of its own")
        if node.op_type.startswith("Random") or not (node.input or node.op_type == "Constant"):
            raise UnsharableError(path, f"its operator {node.op_type} may give something else each time")
    del graph.value_info[:]  # what its maker found for any batch
    for dim in graph.output[0].type.tensor_type.shape.dim:
        dim.Clear()
    # a shape that is computed within the graph is known once what it is computed from has a shape
    while True:
        _infer(path, model, read)
        waiting = []
        for node in nodes:
            if all(read.is_constant(name) for name in node.input if name):
                read._makers |= dict.fromkeys(node.output, node)
            elif node.op_type == "Shape" and node.input[0] in read.shapes:
                whole = np.array(read.shapes[node.input[0]], np.int64)
                start, end = (_attribute(node, name, default) for name, default in (("start", 0), ("end", None)))
                tensor = numpy_helper.from_array(whole[start:end], node.output[0])
                read._stored[node.output[0]] = tensor
            else:
                waiting.append(node)
        if len(waiting) == len(nodes) and not _add_same_shapes(graph, read, nodes):
            break
        nodes = waiting
        _replace_by_constants(graph, read, nodes)
    read.nodes = nodes
    lacking = next((name for node in nodes for name in node.output if name and name not in read.shapes), None)
    if lacking is not None:
        maker = next(node.op_type for node in nodes if lacking in node.output)
        raise UnsharableError(path, f"the shape of what its operator {maker} gives cannot be told from the graph")
    return read


def _infer(path: Path, model: onnx.ModelProto, read: WindowGraph) -> None:
    try:
        inferred = shape_inference.infer_shapes(model, strict_mode=False, data_prop=True).graph
    except Exception as error:  # its errors share no public base
        raise UnsharableError(path, f"its shapes cannot be told: {' '.join(str(error).split())[:200]}") from error
    for value in [*inferred.input, *inferred.value_info, *inferred.output]:
        dims = value.type.tensor_type.shape.dim
        if value.type.tensor_type.HasField("shape") and all(dim.HasField("dim_value") for dim in dims):
            read.shapes[value.name] = tuple(dim.dim_value for dim in dims)
            read.elements[value.name] = value.type.tensor_type.elem_type


def _add_same_shapes(graph: onnx.GraphProto, read: WindowGraph, nodes: list[onnx.NodeProto]) -> bool:
    """Say the shapes of what the inference does not know of, though it is the input's; whether there was one."""
    added = [
        helper.make_tensor_value_info(node.output[0], read.elements[node.input[0]], read.shapes[node.input[0]])
        for node in nodes
        if node.op_type in _SAME_SHAPE and node.input[0] in read.shapes and node.output[0] not in read.shapes
    ]
    graph.value_info.extend(added)
    return bool(added)


def _replace_by_constants(graph: onnx.GraphProto, read: WindowGraph, nodes: list[onnx.NodeProto]) -> None:
    """Have constants that the inference needs stand in the graph as values: shapes, and those of no known shape."""
    known = {tensor.name for tensor in graph.initializer}
    kept = [node for node in graph.node if not any(name in read._stored for name in node.output)]
    del graph.node[:]
    graph.node.extend(kept)
    for node in nodes:
        for name in node.input:
            if name in known or not read.is_constant(name) or read.kept_maker(name) is not None:
                continue
            value = read.constant(name)
            if value.dtype == np.int64 or name not in read.shapes:
                known.add(name)
                kept = [other for other in graph.node if name not in other.output]
                del graph.node[:]
                graph.node.extend(kept)
                graph.initializer.append(numpy_helper.from_array(value, name))


def leading_to(nodes: Sequence[onnx.NodeProto], names: Iterable[str]) -> list[onnx.NodeProto]:
    """Those of some nodes that tensors are computed from, in their order."""
    wanted, found = set(names), []
    for node in reversed(nodes):
        if wanted.intersection(node.output):
            wanted.update(node.input)
            found.append(node)
    return found[::-1]


def _attribute(node: onnx.NodeProto, name: str, default: int | None) -> int | None:
    return next((entry.i for entry in node.attribute if entry.name == name), default)
