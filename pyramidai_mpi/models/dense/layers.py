"""What a network's nodes do to the maps of a window, and with that to the maps of a region that many windows share.

All that a node may do is look at a place of its maps and at the places around it, so that it finds the same there
whichever window it looks for. The head begins where the maps of a window become one place: from there on a place of the
region's maps is a window. A node that looks at its whole window before that (squeeze and excitation, attention) cannot
be shared, and neither can one that this table does not know.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from enum import Enum
from typing import TYPE_CHECKING, Any

import numpy as np
from onnx import helper

from pyramidai_mpi.models.dense.window_graph import UnsharableError

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    import numpy.typing as npt
    import onnx

    from pyramidai_mpi.models.dense.window_graph import WindowGraph

Sides = tuple[int, int]
"""Of maps: rows and columns."""


@dataclass(frozen=True)
class Maps:
    """What a tensor of a window's graph is.

    Attributes
    ----------
    tensor
        Its name there.
    channels
        How many maps.
    sides
        Rows and columns of a window's maps.
    step
        Pixels from one place of the maps to the next.
    is_row
        Whether the window's graph has it as (1, F), without places.
    channels_last
        Whether the order is NHWC and not NCHW.
    """

    tensor: str
    channels: int
    sides: Sides
    step: int
    is_row: bool = False
    channels_last: bool = False

    @property
    def is_place(self) -> bool:
        """Whether a window has one place of it."""
        return self.sides == (1, 1)


class Kind(Enum):
    """How a layer is written into a graph for a region."""

    NODE = "its node, with the operands of the layer"
    POOL = "pooling over the whole window, by rows and then by columns"
    LINEAR = "a linear layer as a convolution"
    SAME = "nothing"
    CROP = "places at the rims left out"


@dataclass(frozen=True)
class Layer:
    """One node.

    Attributes
    ----------
    kind
        What becomes of it.
    node
        The window's.
    inputs, outputs
        Its maps.
    operands
        The node's inputs in order: maps, names of constants, constants in another shape, None for one left out.
    attributes
        Those that differ from the node's.
    stride
        Places of the input from one place of the output to the next.
    spare
        Rows and columns at the end of a window's input that are not looked at; left out where the layer makes one
        place of a window, as that then takes every place.
    weights, bias
        Of a linear layer: float (F, C, rows, columns), float (F,).
    before
        Of a crop: rows and columns left out at the beginning.
    multiplies
        Multiplications with additions for each place of the output.
    pads
        Whether it puts zeros or the like around the maps.
    """

    kind: Kind
    node: onnx.NodeProto
    inputs: tuple[Maps, ...]
    outputs: tuple[Maps, ...]
    operands: tuple[Maps | str | npt.NDArray[np.generic] | None, ...] = ()
    attributes: tuple[tuple[str, Any], ...] = ()
    stride: int = 1
    spare: Sides = (0, 0)
    weights: npt.NDArray[np.generic] | None = None
    bias: npt.NDArray[np.generic] | None = None
    before: Sides = (0, 0)
    multiplies: int = 0
    pads: bool = False


def layers_of(graph: WindowGraph) -> tuple[Layer, ...]:
    """Every node of a window's graph as a layer.

    Raises
    ------
    UnsharableError
        When one cannot be computed for many windows at once.
    """
    return _Reading(graph).layers()


def pixels_of(graph: WindowGraph) -> Maps:
    """What a network is given, as maps."""
    _, rows, columns, channels = graph.shapes[graph.pixels]
    return Maps(graph.pixels, channels, (rows, columns), 1, channels_last=True)


def own_stride(layers: Sequence[Layer]) -> int:
    """Pixels from one place to the next where the maps of a window have become one place."""
    return layers[-1].outputs[0].step


_EACH_VALUE = frozenset({
    "Relu", "LeakyRelu", "Elu", "Selu", "Celu", "Sigmoid", "HardSigmoid", "HardSwish", "Tanh", "Softplus",
    "Softsign", "Mish", "Gelu", "Swish", "Exp", "Log", "Sqrt", "Abs", "Neg", "Reciprocal", "Erf", "Clip",
    "Cast", "Floor", "Ceil", "Round", "Sign", "ThresholdedRelu", "Add", "Sub", "Mul", "Div", "Pow", "Max",
    "Min", "Sum", "Mean", "PRelu", "Where", "Greater", "GreaterOrEqual", "Less", "LessOrEqual", "Equal", "Not",
    "And", "Or",
})  # fmt: skip
_EACH_CHANNEL = frozenset({"BatchNormalization", "QuantizeLinear", "DequantizeLinear"})
_OVER_CHANNELS = frozenset({"Softmax", "LogSoftmax", "Concat", "Split"})
_RENAMED = frozenset({"Identity", "Dropout", "Flatten", "Reshape", "Squeeze", "Unsqueeze"})
_POOLED = {
    "GlobalAveragePool": "AveragePool",
    "GlobalMaxPool": "MaxPool",
    "ReduceMean": "AveragePool",
    "ReduceMax": "MaxPool",
}


class _Reading:
    def __init__(self, graph: WindowGraph) -> None:
        self._graph = graph
        self._maps = {graph.pixels: pixels_of(graph)}

    def layers(self) -> tuple[Layer, ...]:
        found = []
        for node in self._graph.nodes:
            try:
                layer = self._layer(node)
            except (KeyError, IndexError, TypeError, ValueError) as error:  # what its maker left out or wrote otherwise
                raise self._no(
                    f"its operator {node.op_type} is written in a way that is not known ({error})"
                ) from error
            self._maps |= {maps.tensor: maps for maps in layer.outputs}
            found.append(layer)
        answer = self._maps[self._graph.answer]
        if not answer.is_place or not found:
            raise self._no("what it gives is not one answer for its window")
        return tuple(found)

    def _layer(self, node: onnx.NodeProto) -> Layer:
        kind = node.op_type
        readers: dict[str, Callable[[onnx.NodeProto], Layer]] = {
            "Conv": self._convolution,
            "AveragePool": self._pooling,
            "MaxPool": self._pooling,
            "Gemm": self._linear,
            "MatMul": self._linear,
            "Transpose": self._transposed,
            "Gather": self._gathered,
            "Slice": self._slice,
            "Pad": self._padded,
            **dict.fromkeys(_EACH_VALUE, self._each_value),
            **dict.fromkeys(_EACH_CHANNEL, self._each_channel),
            **dict.fromkeys(_OVER_CHANNELS, self._over_channels),
            **dict.fromkeys(_RENAMED, self._renamed),
            **dict.fromkeys(_POOLED, self._pooled),
        }
        if node.domain not in {"", "ai.onnx"} or kind not in readers:
            raise self._no(f"its operator {kind} may look at the whole window")
        return readers[kind](node)

    def _no(self, reason: str) -> UnsharableError:
        return UnsharableError(self._graph.path, reason)

    def _inputs(self, node: onnx.NodeProto) -> tuple[Maps, ...]:
        return tuple(self._maps[name] for name in node.input if name in self._maps)

    def _operands(self, node: onnx.NodeProto) -> tuple[Maps | str | npt.NDArray[np.generic] | None, ...]:
        return tuple(self._maps.get(name, name) if name else None for name in node.input)

    def _output(self, node: onnx.NodeProto, like: Maps, number: int = 0, stride: int = 1) -> Maps:
        """What a node makes of maps in the order that they have."""
        tensor = node.output[number]
        shape = self._graph.shapes[tensor]
        step = like.step * stride
        if like.is_row and not like.is_place:
            raise self._no(f"its operator {node.op_type} works on all places of the window in one row")
        if len(shape) == 2 and like.is_row:
            return Maps(tensor, shape[1], (1, 1), step, is_row=True)
        if len(shape) != 4 or shape[0] != 1 or like.is_row:
            raise self._no(f"its operator {node.op_type} turns {self._shape(like)} into {shape}")
        if like.channels_last:
            return Maps(tensor, shape[3], (shape[1], shape[2]), step, channels_last=True)
        return Maps(tensor, shape[1], (shape[2], shape[3]), step)

    def _shape(self, maps: Maps) -> tuple[int, ...]:
        return self._graph.shapes[maps.tensor]

    def _each_value(self, node: onnx.NodeProto) -> Layer:
        inputs = self._inputs(node)
        first = inputs[0]
        for other in inputs[1:]:
            if first.is_place != other.is_place:
                raise self._no(
                    "it weighs places by what it found in the whole window (squeeze and excitation or the like)"
                )
            alike = (first.is_row, first.channels_last) == (other.is_row, other.channels_last)
            if not alike or first.sides != other.sides or first.step != other.step:
                raise self._no(f"its operator {node.op_type} joins maps of other sides or strides")
        operands = tuple(
            self._for_places(node, operand, first) if isinstance(operand, str) else operand
            for operand in self._operands(node)
        )
        widest = max(inputs, key=lambda maps: maps.channels)
        return Layer(Kind.NODE, node, inputs, (self._output(node, widest),), operands)

    def _for_places(self, node: onnx.NodeProto, name: str, maps: Maps) -> str | npt.NDArray[np.generic]:
        """A constant that meets maps value by value, in a shape that fits all places."""
        value = self._graph.constant(name)
        if value.size == 1:
            return name if value.ndim <= 4 and not maps.is_row else value.reshape(())
        if maps.is_row:
            if value.shape not in {(maps.channels,), (1, maps.channels)}:
                raise self._no(f"its operator {node.op_type} meets a constant of shape {value.shape}")
            return value.reshape(1, -1, 1, 1)
        shape = (1,) * (4 - value.ndim) + value.shape
        spatial = shape[1:3] if maps.channels_last else shape[2:]
        if len(shape) != 4 or shape[0] != 1 or spatial != (1, 1):
            raise self._no(f"its operator {node.op_type} has numbers of its own for each place of the window")
        return name

    def _each_channel(self, node: onnx.NodeProto) -> Layer:
        inputs = self._inputs(node)
        if len(inputs) != 1 or self._maps.get(node.input[0]) is None:
            raise self._no(f"its operator {node.op_type} computes its own settings")
        return Layer(Kind.NODE, node, inputs, (self._output(node, inputs[0]),), self._operands(node))

    def _over_channels(self, node: onnx.NodeProto) -> Layer:
        inputs = self._inputs(node)
        first = inputs[0]
        if any(replace(other, tensor="", channels=0) != replace(first, tensor="", channels=0) for other in inputs):
            raise self._no(f"its operator {node.op_type} joins maps of other sides or strides")
        default = -1 if node.op_type in {"Softmax", "LogSoftmax"} else 0
        axis = self._axis(node, first, default)
        if node.op_type == "Concat" and len(inputs) != len(node.input):
            raise self._no("it joins its maps with constants")
        outputs = tuple(self._output(node, first, number) for number in range(len(node.output)))
        return Layer(Kind.NODE, node, inputs, outputs, self._operands(node), (("axis", axis),))

    def _axis(self, node: onnx.NodeProto, maps: Maps, default: int) -> int:
        """The axis of the channels, which a node has to work along."""
        axis = _attributes(node).get("axis", default)
        rank = len(self._shape(maps))
        channels = 3 if maps.channels_last else 1
        if axis % rank != channels:
            raise self._no(f"its operator {node.op_type} works along rows or columns")
        return channels

    def _renamed(self, node: onnx.NodeProto) -> Layer:
        (maps,) = self._inputs(node)
        before, after = self._shape(maps), self._graph.shapes[node.output[0]]
        if before == after:
            output = replace(maps, tensor=node.output[0])
        elif not maps.channels_last and after == (1, int(np.prod(before))):
            output = replace(maps, tensor=node.output[0], is_row=True)  # of sides above 1: a row of all places
        elif maps.is_place and after in {(1, maps.channels, 1, 1), (maps.channels,)}:
            output = replace(maps, tensor=node.output[0], is_row=len(after) == 1)
        else:
            raise self._no(f"its operator {node.op_type} turns {before} into {after}")
        return Layer(Kind.SAME, node, (maps,), (output,))

    def _gathered(self, node: onnx.NodeProto) -> Layer:
        """All values of a place taken one by one in their own order, as torch writes adaptive pooling."""
        maps = self._maps.get(node.input[0])
        if maps is None or not maps.is_place or self._shape(maps) != (maps.channels,):
            raise self._no("its operator Gather may look at the whole window")
        order, after = self._graph.constant(node.input[1]), self._graph.shapes[node.output[0]]
        whole = after in {(1, maps.channels), (1, maps.channels, 1, 1)}
        if not whole or order.reshape(-1).tolist() != list(range(maps.channels)):
            raise self._no("its operator Gather reorders the values of a place")
        return Layer(Kind.SAME, node, (maps,), (replace(maps, tensor=node.output[0], is_row=len(after) == 2),))

    def _transposed(self, node: onnx.NodeProto) -> Layer:
        (maps,) = self._inputs(node)
        order = tuple(_attributes(node).get("perm", ()))
        wanted = (0, 3, 1, 2) if maps.channels_last else (0, 2, 3, 1)
        if order != wanted or maps.is_row:
            raise self._no(f"its operator Transpose reorders {self._shape(maps)} by {order}")
        output = replace(maps, tensor=node.output[0], channels_last=not maps.channels_last)
        return Layer(Kind.NODE, node, (maps,), (output,), (maps,))

    def _convolution(self, node: onnx.NodeProto) -> Layer:
        maps = self._planes(node)
        weight = node.input[1] if self._graph.is_constant(node.input[1]) else ""
        if not weight or len(self._inputs(node)) > 1:
            raise self._no("it computes the weights of a convolution")
        shape = self._graph.constant(weight).shape
        return self._local(node, maps, (shape[2], shape[3]), int(np.prod(shape)))

    def _pooling(self, node: onnx.NodeProto) -> Layer:
        maps = self._planes(node)
        if len(node.output) > 1 and node.output[1]:
            raise self._no("it uses the places of maxima")
        rows, columns = _attributes(node)["kernel_shape"]
        return self._local(node, maps, (rows, columns), maps.channels * rows * columns)

    def _planes(self, node: onnx.NodeProto) -> Maps:
        maps = self._maps.get(node.input[0])
        if maps is None or maps.channels_last or maps.is_row or len(self._shape(maps)) != 4:
            raise self._no(f"its operator {node.op_type} works on something other than maps")
        return maps

    def _local(self, node: onnx.NodeProto, maps: Maps, kernel: Sides, multiplies: int) -> Layer:
        settings = _attributes(node)
        strides = tuple(settings.get("strides", (1, 1)))
        pads = tuple(settings.get("pads", (0, 0, 0, 0)))
        automatic = settings.get("auto_pad", b"NOTSET")
        if strides[0] != strides[1]:
            raise self._no(f"its operator {node.op_type} has strides {strides}")
        output = self._output(node, maps, stride=strides[0])
        layer = Layer(
            Kind.NODE, node, (maps,), (output,), self._operands(node), stride=strides[0], multiplies=multiplies,
            pads=any(pads) or automatic not in (b"NOTSET", b"VALID"),
        )  # fmt: skip
        if not output.is_place:
            return layer
        # one place of each window: whatever the stride says, it is not used within a window
        if automatic not in (b"NOTSET", b"VALID"):
            raise self._no(f"its operator {node.op_type} pads by {automatic.decode()} what becomes one place")
        reach = [(size - 1) * step + 1 for size, step in zip(kernel, settings.get("dilations", (1, 1)), strict=True)]
        rows, columns = (maps.sides[axis] + pads[axis] + pads[axis + 2] - reach[axis] for axis in (0, 1))
        if min(rows, columns) < 0:
            raise self._no(f"its operator {node.op_type} reaches beyond the window")
        output = replace(output, step=maps.step)
        if (rows, columns) == (0, 0) and not layer.pads and node.op_type in {"AveragePool", "MaxPool"}:
            return Layer(Kind.POOL, node, (maps,), (output,))
        changed = (("strides", [1, 1]),)
        return replace(layer, outputs=(output,), attributes=changed, stride=1, spare=(rows, columns))

    def _pooled(self, node: onnx.NodeProto) -> Layer:
        maps = self._maps[node.input[0]]
        if len(self._shape(maps)) != 4:
            raise self._no(f"its operator {node.op_type} works along something other than rows and columns")
        if node.op_type in {"ReduceMean", "ReduceMax"}:
            settings = _attributes(node)
            axes = settings.get("axes", ())
            if len(node.input) > 1 and node.input[1]:
                axes = self._graph.constant(node.input[1]).tolist()
            wanted = [1, 2] if maps.channels_last else [2, 3]
            if sorted(axis % 4 for axis in axes) != wanted:
                raise self._no(f"its operator {node.op_type} works along axes {list(axes)}")
            if maps.channels_last and settings.get("keepdims", 1):
                raise self._no(f"its operator {node.op_type} keeps the order of colours last")
        output = Maps(
            node.output[0], maps.channels, (1, 1), maps.step, is_row=len(self._graph.shapes[node.output[0]]) == 2
        )
        return Layer(Kind.POOL, node, (maps,), (output,))

    def _linear(self, node: onnx.NodeProto) -> Layer:
        maps, weight = self._maps.get(node.input[0]), node.input[1]
        if maps is None or not maps.is_row or not self._graph.is_constant(weight) or len(self._inputs(node)) > 1:
            raise self._no(f"its operator {node.op_type} multiplies something other than a row by constants")
        settings = _attributes(node)
        if settings.get("transA", 0):
            raise self._no("it turns a row of values before a linear layer")
        weights: npt.NDArray[Any] = self._graph.constant(weight)
        bias: npt.NDArray[Any] | None = None
        if weights.ndim != 2:
            raise self._no(f"its operator MatMul has weights of shape {weights.shape}")
        weights = weights if settings.get("transB", 0) else weights.T
        weights = weights.reshape(len(weights), maps.channels, *maps.sides)
        if len(node.input) > 2 and node.input[2]:
            bias = np.broadcast_to(self._graph.constant(node.input[2]), (1, len(weights)))[0]
            bias = bias * bias.dtype.type(settings.get("beta", 1.0))
        output = Maps(node.output[0], len(weights), (1, 1), maps.step, is_row=True)
        return Layer(
            Kind.LINEAR, node, (maps,), (output,), multiplies=weights.size, bias=bias,
            weights=weights * weights.dtype.type(settings.get("alpha", 1.0)),
        )  # fmt: skip

    def _slice(self, node: onnx.NodeProto) -> Layer:
        maps = self._inputs(node)[0]
        rank = len(self._shape(maps))
        starts, ends, *more = (self._graph.constant(name).tolist() for name in node.input[1:])
        axes = more[0] if more else list(range(len(starts)))
        steps = more[1] if len(more) > 1 else [1] * len(starts)
        channels = 3 if maps.channels_last else 1
        output = self._output(node, maps)
        if all(axis % rank == channels for axis in axes):
            settings = tuple(np.array(value, np.int64) for value in (starts, ends, [channels], steps))
            return Layer(Kind.NODE, node, (maps,), (output,), (maps, *settings))
        if maps.channels_last or rank != 4 or any(step != 1 for step in steps) or not {a % 4 for a in axes} <= {2, 3}:
            raise self._no("its operator Slice does more than leave out the rims of maps")
        before = [0, 0]
        for start, axis in zip(starts, axes, strict=True):
            side = maps.sides[axis % 4 - 2]
            before[axis % 4 - 2] = min(max(start + side if start < 0 else start, 0), side)
        return Layer(Kind.CROP, node, (maps,), (output,), before=(before[0], before[1]))

    def _padded(self, node: onnx.NodeProto) -> Layer:
        maps = self._planes(node)
        given = self._graph.constant(node.input[1]).tolist()
        axes = self._graph.constant(node.input[3]).tolist() if len(node.input) > 3 and node.input[3] else range(4)
        if any(value for value, axis in zip(given, [*axes, *axes], strict=True) if axis % 4 < 2):
            raise self._no("it adds channels")
        output = self._output(node, maps)
        pads = any(value > 0 for value in given)
        return Layer(Kind.NODE, node, (maps,), (output,), self._operands(node), pads=pads)


def _attributes(node: onnx.NodeProto) -> dict[str, Any]:
    return {entry.name: helper.get_attribute_value(entry) for entry in node.attribute}
