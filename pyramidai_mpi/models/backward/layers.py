"""The inner maps of a network that can be asked for by name."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

from pyramidai_mpi.base.errors import UsageError
from pyramidai_mpi.models.backward.reading import read_network

if TYPE_CHECKING:
    from collections.abc import Sequence

    from pyramidai_mpi.models.dense.window_graph import WindowGraph
    from pyramidai_mpi.models.package import ModelLevel, ModelPackage

_BEGINS = frozenset({"Conv", "ConvTranspose"})
_RESHAPES = frozenset(
    {
        *("AveragePool", "MaxPool", "LpPool", "GlobalAveragePool", "GlobalMaxPool", "ReduceMean", "ReduceMax"),
        *("Concat", "Split", "Slice", "Pad", "Resize"),
    }
)
"""Operators that make maps of another number or size of maps; others keep the shape if they make maps."""
_FINISHES = frozenset(
    {
        *("Relu", "LeakyRelu", "PRelu", "Elu", "Selu", "Clip", "Sigmoid", "Tanh", "Gelu", "HardSwish", "HardSigmoid"),
        *("Swish", "Mish", "Softplus", "BatchNormalization", "InstanceNormalization", "GroupNormalization"),
    }
)
_OF_TOKENS = frozenset({"Transpose", "MatMul", "Softmax", "LayerNormalization", "Einsum"})


class Layer(NamedTuple):
    """Maps within a network.

    Attributes
    ----------
    name
        Name of their tensor in the package's ONNX file.
    shape
        How many maps, and their rows and columns: (K, h, w).
    """

    name: str
    shape: tuple[int, int, int]


def layers_of(level: ModelLevel, package: ModelPackage) -> tuple[Layer, ...]:
    """The maps through which all goes that a network sees of a tile, in order from its input to its output.

    Where a network has branches these are the maps before them and after they are joined; where a norm or an
    activation follows, those behind it. There are none in a network without convolutions.

    Raises
    ------
    InputError
        When the network cannot be read, and `NoGradientError` when not all of its shapes can be known.
    """
    return maps_of(read_network(level, package))


def default_layer(level: ModelLevel, package: ModelPackage) -> Layer | None:
    """The last maps of more than one place, if all that follows is the head.

    None for networks that go on with tokens, of which places look at each other: what a class sees where is then no
    matter of maps.

    Raises
    ------
    InputError, NoGradientError
        As `layers_of`.
    """
    return _default(read_network(level, package))


def _default(network: WindowGraph) -> Layer | None:
    layer = next((one for one in reversed(maps_of(network)) if one.shape[1] * one.shape[2] > 1), None)
    if layer is None:
        return None
    after, passed = {layer.name}, _passed_by_all(network)
    for node in network.nodes:
        if not after.intersection(node.input):
            continue
        after.update(node.output)
        is_row = sum(size > 1 for size in network.shapes[node.output[0]]) <= 1
        if is_row and node.output[0] in passed:
            break  # places are gone
        if node.op_type in _OF_TOKENS and not is_row:
            return None
    return layer


def maps_of(network: WindowGraph) -> tuple[Layer, ...]:
    """See `layers_of`."""
    maps = _all_maps(network)
    passed = _passed_by_all(network)
    ended = {name for name in passed if name in maps and not _is_unfinished(network, name)}
    return tuple(Layer(name, maps[name]) for name in maps if name in ended)


def chosen_layers(network: WindowGraph, names: Sequence[str]) -> tuple[Layer, ...]:
    """Layers by their names, those within branches too; for no names the default one, if there is one.

    Raises
    ------
    UsageError
        When there is no such layer.
    """
    if not names:
        layer = _default(network)
        return () if layer is None else (layer,)
    maps = _all_maps(network)
    for name in names:
        if name not in maps:
            listed = ", ".join(layer.name for layer in maps_of(network))
            raise UsageError(f"--layer {name}: {network.path} has no such maps; expected one of {listed:.600}")
    return tuple(Layer(name, maps[name]) for name in names)


def _all_maps(network: WindowGraph) -> dict[str, tuple[int, int, int]]:
    """Shapes (K, h, w) of all tensors that are maps, channels before places, from the first convolution on."""
    maps: dict[str, tuple[int, int, int]] = {}
    shapes: set[tuple[int, ...]] = set()
    after: set[str] = set()
    for node in network.nodes:
        begins = node.op_type in _BEGINS
        if not begins and not after.intersection(node.input):
            continue
        after.update(node.output)
        if node.op_type == "Transpose":
            continue
        remade = begins or (node.op_type in _RESHAPES and any(name in maps for name in node.input))
        for name in node.output:
            shape = network.shapes.get(name, ())
            # of a group norm the maps are another shape on the way, and then their own again
            if len(shape) == 4 and (remade or shape in shapes):
                maps[name] = (shape[1], shape[2], shape[3])
                shapes.add(shape)
    return maps


def _passed_by_all(network: WindowGraph) -> set[str]:
    """Tensors without which there is no way from the pixels to the answer."""
    # going through the nodes in order, these are the moments when one tensor alone is still needed
    readers: dict[str, int] = {}
    for node in network.nodes:
        for name in set(node.input):
            readers[name] = readers.get(name, 0) + 1
    alive, found, seen = {network.pixels}, {network.pixels}, {network.pixels}
    for node in network.nodes:
        if not seen.intersection(node.input):
            continue  # of where the tile lies
        seen.update(node.output)
        for name in set(node.input) & alive:
            readers[name] -= 1
            if not readers[name]:
                alive.discard(name)
        alive.update(name for name in node.output if readers.get(name))
        if len(alive) == 1:
            found |= alive
    return found


def _is_unfinished(network: WindowGraph, name: str) -> bool:
    """Whether a norm or an activation is all that follows."""
    readers = [node for node in network.nodes if name in node.input]
    return len(readers) == 1 and readers[0].op_type in _FINISHES
