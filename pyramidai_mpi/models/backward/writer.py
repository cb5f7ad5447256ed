"""What a rule of an operator's gradient works with: the network as it is, and the nodes that are being added to it."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np
from onnx import NodeProto, TensorProto, helper, numpy_helper

from pyramidai_mpi.base.errors import InputError

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    import numpy.typing as npt

    from pyramidai_mpi.models.dense.window_graph import WindowGraph

Shape = tuple[int, ...]


class NoGradientError(InputError):
    """A network whose gradients cannot be computed; `reason` says why, without the file's name."""

    def __init__(self, path: Path, reason: str) -> None:
        super().__init__(f"{path}: has no gradients here: {reason}; use --method occlusion, which needs none")
        self.reason = reason


@dataclass
class Writer:
    """A network for one tile, and what is added to compute gradients.

    Attributes
    ----------
    network
        The network, whose shapes are all known.
    pixels_are_float
        Whether the pixels are given as float32, as gradients at them are wanted.
    nodes
        What was added, in an order in which it can be computed.
    constants
        Tensors that these nodes read, by name.
    second_outputs
        Names of second outputs that nodes of the network have to give, by their first output: where each maximum lay.
    """

    network: WindowGraph
    pixels_are_float: bool = False
    nodes: list[NodeProto] = field(default_factory=list)
    constants: dict[str, TensorProto] = field(default_factory=dict)
    second_outputs: dict[str, str] = field(default_factory=dict)
    _numbers: int = 0
    _scalars: dict[tuple[str, float | int], str] = field(default_factory=dict)

    def name(self) -> str:
        """A new tensor's name."""
        self._numbers += 1
        return f"backward_{self._numbers}"

    def node(self, operator: str, *inputs: str, **attributes: Any) -> str:
        """Add a node of one output; its name."""
        output = self.name()
        self.nodes.append(helper.make_node(operator, inputs, [output], **attributes))
        return output

    def constant(self, value: npt.ArrayLike, dtype: npt.DTypeLike = np.float32) -> str:
        """Have a value in the graph; its name."""
        array = np.ascontiguousarray(value, dtype).reshape(np.shape(value))  # the former makes one axis of none
        key = str(array.dtype), array.item() if array.ndim == 0 else 0
        if array.ndim == 0 and key in self._scalars:
            return self._scalars[key]
        name = self.name()
        self.constants[name] = numpy_helper.from_array(array, name)
        if array.ndim == 0:
            self._scalars[key] = name
        return name

    def whole(self, *numbers: int) -> str:
        """Have int64 numbers in the graph, one axis; their name."""
        return self.constant(numbers, np.int64)

    def shape(self, name: str) -> Shape:
        """Shape of a tensor of the network, constants too."""
        if name in self.network.shapes:
            return self.network.shapes[name]
        return self.network.constant(name).shape

    def is_float(self, name: str) -> bool:
        """Whether a tensor of the network has values that gradients are for.

        Raises
        ------
        NoGradientError
            When it has fractions of another precision than float32.
        """
        element = self.network.elements.get(name, TensorProto.FLOAT)
        if element in {TensorProto.FLOAT16, TensorProto.BFLOAT16, TensorProto.DOUBLE}:
            found = TensorProto.DataType.Name(element).lower()
            raise NoGradientError(self.network.path, f"{name!r} is {found}, and gradients are computed in float32 only")
        return element == TensorProto.FLOAT or (element == TensorProto.UINT8 and self.pixels_are_float)

    def total(self, names: Sequence[str]) -> str:
        """Sum of tensors of one shape."""
        found = names[0]
        for name in names[1:]:
            found = self.node("Add", found, name)
        return found

    def reshaped(self, name: str, shape: Shape) -> str:
        """The same values in another shape."""
        return self.node("Reshape", name, self.whole(*shape))

    def summed(self, name: str, axes: Sequence[int], *, keep: bool = True) -> str:
        """Sums along axes."""
        return self.node("ReduceSum", name, self.whole(*axes), keepdims=int(keep))

    def mean(self, name: str, axes: Sequence[int]) -> str:
        """Means along axes, which stay with length 1."""
        return self.node("ReduceMean", name, self.whole(*axes), keepdims=1)

    def reduced_to(self, name: str, shape: Shape, target: Shape) -> str:
        """What reaches a tensor that was broadcast from `target` to `shape`: sums over what it was repeated along."""
        if shape == target:
            return name
        lead = len(shape) - len(target)
        axes = [i for i, size in enumerate(shape) if i < lead or (target[i - lead] == 1 and size != 1)]
        summed = self.summed(name, axes) if axes else name
        return self.reshaped(summed, target) if lead else summed

    def zeros(self, shape: Shape) -> str:
        """Zeros of a shape."""
        return self.constant(np.zeros(shape, np.float32))


@dataclass
class Step:
    """One node of the network whose outputs' gradients are known.

    Attributes
    ----------
    writer
        What is written.
    node
        The node.
    incoming
        Gradients of its outputs; None for one that nothing depends on.
    wanted
        Of each input, whether its gradient is asked for.
    given
        What the rule found: gradients by the input's number.
    """

    writer: Writer
    node: NodeProto
    incoming: tuple[str | None, ...]
    wanted: tuple[bool, ...]
    given: dict[int, str] = field(default_factory=dict)

    @property
    def dy(self) -> str:
        """Gradient of the first output."""
        if self.incoming[0] is None or any(name is not None for name in self.incoming[1:]):
            raise self.no("another output than its first leads to the answer")
        return self.incoming[0]

    @property
    def x(self) -> str:
        """First input."""
        return str(self.node.input[0])

    @property
    def y(self) -> str:
        """First output."""
        return str(self.node.output[0])

    def wants(self, number: int) -> bool:
        """Whether an input is there and its gradient is asked for."""
        return number < len(self.wanted) and self.wanted[number]

    def give(self, number: int, gradient: str) -> None:
        """Say what an input's gradient is."""
        self.given[number] = gradient

    def give_broadcast(self, number: int, gradient: str) -> None:
        """The same, of the output's shape, where the input was broadcast."""
        self.give(number, self.writer.reduced_to(gradient, self.shape(self.y), self.shape(self.node.input[number])))

    def shape(self, name: str) -> Shape:
        """Shape of a tensor."""
        return self.writer.shape(name)

    def has(self, number: int) -> bool:
        """Whether the node has such an input."""
        return number < len(self.node.input) and bool(self.node.input[number])

    def constant(self, number: int) -> npt.NDArray[Any]:
        """Value of an input that is the same for all pixels.

        Raises
        ------
        NoGradientError
            When it depends on the pixels.
        """
        name = self.node.input[number]
        if not self.writer.network.is_constant(name):
            raise self.no(f"its input {number} depends on the pixels")
        return self.writer.network.constant(name)

    def said(self, name: str, default: Any = None) -> Any:
        """An attribute."""
        for entry in self.node.attribute:
            if entry.name == name:
                value = helper.get_attribute_value(entry)
                return value.decode() if isinstance(value, bytes) else value
        return default

    def no(self, reason: str) -> NoGradientError:
        """The error that says why this node has no gradient."""
        return NoGradientError(self.writer.network.path, f"of its operator {self.node.op_type} {reason}")
