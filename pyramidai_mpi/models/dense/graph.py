"""The graph that computes some layers of a network for a whole region, or for windows cut from one. A gate to ONNX."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import onnx
from onnx import helper, numpy_helper

from pyramidai_mpi.base.errors import InternalError
from pyramidai_mpi.models.dense.block import RegionGraph
from pyramidai_mpi.models.dense.layers import Kind, Maps
from pyramidai_mpi.models.dense.plan import needed, places_of

if TYPE_CHECKING:
    from collections.abc import Sequence

    import numpy.typing as npt

    from pyramidai_mpi.models.dense.block import Phase
    from pyramidai_mpi.models.dense.lattice import Lattice
    from pyramidai_mpi.models.dense.layers import Layer
    from pyramidai_mpi.models.dense.window_graph import WindowGraph

_POOLS = {"AveragePool": "AveragePool", "GlobalAveragePool": "AveragePool", "ReduceMean": "AveragePool"}
"""What pools a whole window; the others take the maximum."""


def region_graph(graph: WindowGraph, layers: Sequence[Layer], lattice: Lattice, start: Maps, batch: int) -> RegionGraph:
    """Write some consecutive layers of a network for all windows of a lattice.

    Parameters
    ----------
    graph
        The network.
    layers
        Those to write.
    lattice
        Where the windows lie; a single window for maps that were cut out.
    start
        What the first of them is given.
    batch
        How many such maps at a time.
    """
    writer = _Writer(graph, lattice)
    writer.begin(start, batch)
    for layer in layers:
        writer.add(layer)
    return writer.end(layers[-1].outputs[0])


class _Writer:
    def __init__(self, graph: WindowGraph, lattice: Lattice) -> None:
        self._graph, self._lattice = graph, lattice
        self._nodes: list[onnx.NodeProto] = []
        self._constants: dict[str, onnx.TensorProto] = {}
        self._kept: dict[str, onnx.NodeProto] = {}
        self._names: dict[str, str] = {}
        self._order: dict[str, tuple[Phase, ...]] = {}
        self._split: dict[tuple[str, int], tuple[str, tuple[Phase, ...]]] = {}
        self._numbers = 0
        self._batch = 1
        self._largest = 0

    def begin(self, start: Maps, batch: int) -> None:
        self._names[start.tensor], self._order[start.tensor] = start.tensor, ((0, 0),)
        self._start, self._batch = start, batch

    def end(self, last: Maps) -> RegionGraph:
        start = self._start
        elements = self._graph.elements
        shape = self._shape(start, 1)
        answer = helper.make_node("Identity", [self._names[last.tensor]], ["shared_answer"])
        written = helper.make_graph(
            [*self._kept.values(), *self._nodes, answer],
            "region",
            [helper.make_tensor_value_info(start.tensor, elements[start.tensor], shape)],
            [
                helper.make_tensor_value_info(
                    "shared_answer", elements[last.tensor], self._shape(last, len(self._order[last.tensor]))
                )
            ],
            list(self._constants.values()),
        )
        sets = [helper.make_opsetid("", self._graph.opset)]
        model = helper.make_model(written, opset_imports=sets, ir_version=self._graph.ir_version)
        dtype = helper.tensor_dtype_to_np_dtype(elements[start.tensor])
        phases = self._order[last.tensor]
        return RegionGraph(model.SerializeToString(), shape, np.dtype(dtype), phases, self._largest)

    def add(self, layer: Layer) -> None:
        """Write one layer."""
        write = {
            Kind.NODE: self._node,
            Kind.POOL: self._pool,
            Kind.LINEAR: self._linear,
            Kind.SAME: self._same,
            Kind.CROP: self._crop,
        }[layer.kind]
        write(layer)
        read = sum(self._bytes(maps) for maps in layer.inputs)
        self._largest = max(self._largest, read + sum(self._bytes(maps) for maps in layer.outputs))

    def _shape(self, maps: Maps, phases: int) -> tuple[int, ...]:
        rows, columns = places_of(maps, self._lattice)
        batch = self._batch * phases
        if maps.channels_last:
            return batch, rows, columns, maps.channels
        return batch, maps.channels, rows, columns

    def _bytes(self, maps: Maps) -> int:
        size = np.dtype(helper.tensor_dtype_to_np_dtype(self._graph.elements[maps.tensor])).itemsize
        return int(np.prod(self._shape(maps, len(self._order[maps.tensor])))) * size

    def _emit(self, kind: str, inputs: list[str], output: str = "", **settings: Any) -> str:
        if not output:
            self._numbers += 1
            output = f"shared_{self._numbers}"
        self._nodes.append(helper.make_node(kind, inputs, [output], **settings))
        return output

    def _stored(self, value: npt.NDArray[np.generic]) -> str:
        self._numbers += 1
        name = f"shared_constant_{self._numbers}"
        self._constants[name] = numpy_helper.from_array(np.ascontiguousarray(value), name)
        return name

    def _constant(self, name: str) -> str:
        """Have a constant of the network in the graph."""
        maker = self._graph.kept_maker(name)
        if maker is not None and name not in self._kept:
            inputs = [self._constant(each) if each else "" for each in maker.input]
            kept = onnx.NodeProto()
            kept.CopyFrom(maker)
            del kept.input[:]
            kept.input.extend(inputs)
            self._kept[name] = kept
        elif maker is None and name not in self._constants:
            self._constants[name] = numpy_helper.from_array(np.asarray(self._graph.constant(name)), name)
        return name

    def _taken(self, layer: Layer, maps: Maps) -> str:
        """A layer's input, in the phases that its output has."""
        name, order = self._names[maps.tensor], self._order[maps.tensor]
        before, after = (self._lattice.phases(each.step) for each in (maps, layer.outputs[0]))
        if after > before:
            name, order = self._in_phases(layer, maps, after // before)
        if any(layer.spare):
            rows, columns = places_of(maps, self._lattice)
            name = self._sliced(name, (0, 0), (rows - layer.spare[0], columns - layer.spare[1]))
        for other in layer.outputs:
            known = self._order.setdefault(other.tensor, order)
            if known != order:  # the same phases, split in other steps
                found = [order.index(phase) for phase in known]
                if self._batch > 1:
                    raise InternalError("maps of several phases for several windows")
                name = self._emit("Gather", [name, self._stored(np.array(found, np.int64))], axis=0)
                order = known
        return name

    def _in_phases(self, layer: Layer, maps: Maps, times: int) -> tuple[str, tuple[Phase, ...]]:
        """Maps in `times` times as many phases along each axis."""
        key = maps.tensor, times
        if key in self._split:
            return self._split[key]
        phases, spread = self._lattice.phases(maps.step), self._lattice.spread(maps.step)
        rows, columns = needed(layer, maps, self._lattice)
        order: list[Phase] = []
        parts = []
        for down in range(times):
            for right in range(times):
                top, left = down * spread, right * spread
                parts.append(self._sliced(self._names[maps.tensor], (top, left), (top + rows, left + columns)))
                order += [(r + down * phases, c + right * phases) for r, c in self._order[maps.tensor]]
        self._split[key] = self._emit("Concat", parts, axis=0), tuple(order)
        return self._split[key]

    def _sliced(self, name: str, starts: tuple[int, int], ends: tuple[int, int]) -> str:
        bounds = [self._stored(np.array(values, np.int64)) for values in (starts, ends, (2, 3))]
        return self._emit("Slice", [name, *bounds])

    def _stride(self, layer: Layer) -> int:
        """Of the layer that makes one place of a window, in places of its input."""
        return self._lattice.gap if layer.outputs[0].is_place and not layer.inputs[0].is_place else layer.stride

    def _node(self, layer: Layer) -> None:
        inputs = []
        for operand in layer.operands:
            if operand is None:
                inputs.append("")
            elif isinstance(operand, Maps):
                inputs.append(self._taken(layer, operand))
            elif isinstance(operand, str):
                inputs.append(self._constant(operand))
            else:
                inputs.append(self._stored(operand))
        node = onnx.NodeProto()
        node.CopyFrom(layer.node)
        changed = dict(layer.attributes)
        if "strides" in changed:
            changed["strides"] = [self._stride(layer)] * 2
        kept = [entry for entry in node.attribute if entry.name not in changed]
        del node.attribute[:], node.input[:]
        node.attribute.extend([*kept, *(helper.make_attribute(key, value) for key, value in changed.items())])
        node.input.extend(inputs)
        self._nodes.append(node)
        self._names |= {maps.tensor: maps.tensor for maps in layer.outputs}

    def _pool(self, layer: Layer) -> None:
        (maps,), (output,) = layer.inputs, layer.outputs
        name = self._taken(layer, maps)
        if maps.channels_last:
            name = self._emit("Transpose", [name], perm=[0, 3, 1, 2])
        kind = _POOLS.get(layer.node.op_type, "MaxPool")
        stride = self._stride(layer)
        rows, columns = maps.sides
        if columns > 1:
            name = self._emit(kind, [name], kernel_shape=[1, columns], strides=[1, stride])
        if rows > 1:
            name = self._emit(kind, [name], kernel_shape=[rows, 1], strides=[stride, 1])
        self._names[output.tensor] = name

    def _linear(self, layer: Layer) -> None:
        (maps,), (output,) = layer.inputs, layer.outputs
        assert layer.weights is not None
        inputs = [self._taken(layer, maps), self._stored(layer.weights)]
        if layer.bias is not None:
            inputs.append(self._stored(layer.bias))
        stride = self._stride(layer)
        self._names[output.tensor] = self._emit("Conv", inputs, kernel_shape=list(maps.sides), strides=[stride, stride])

    def _same(self, layer: Layer) -> None:
        (maps,), (output,) = layer.inputs, layer.outputs
        self._names[output.tensor] = self._taken(layer, maps)

    def _crop(self, layer: Layer) -> None:
        (maps,), (output,) = layer.inputs, layer.outputs
        rows, columns = places_of(output, self._lattice)
        top, left = layer.before
        self._names[output.tensor] = self._sliced(self._taken(layer, maps), (top, left), (top + rows, left + columns))
