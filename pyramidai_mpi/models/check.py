"""The gate to ONNX: checks a network's file against its package without running it.

Apart from `onnx_engine`, so that one rank can check for all and the others need not load the library.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import onnx
import onnx.helper
import onnx.shape_inference

from pyramidai_mpi.base.errors import InputError, failed_read
from pyramidai_mpi.models.aggregator_entry import AGGREGATOR_OUTPUTS
from pyramidai_mpi.models.package import POSITION
from pyramidai_mpi.models.segmentation_package import INPUT, OUTPUT

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator
    from pathlib import Path

    from pyramidai_mpi.models.aggregator_entry import AggregatorEntry
    from pyramidai_mpi.models.package import ModelLevel, ModelPackage
    from pyramidai_mpi.models.segmentation_package import SegmentationPackage

_OLDEST_OPSET = 7
_TILES_TRIED = (997, 1999)
"""Primes, which no size within a graph is."""
_MOST_TABLE_BYTES = 4 << 30
# com.microsoft holds onnxruntime's own quantised operators; anything else would need a library that we do not load
_KNOWN_DOMAINS = frozenset({"", "ai.onnx", "ai.onnx.ml", "com.microsoft"})


def check_network(level: ModelLevel, package: ModelPackage) -> None:
    """Check a network's opset, operators, inputs and outputs against its package, without running it.

    Raises
    ------
    InputError
        With one line that names the file, what was found and what was expected.
    """
    path = level.onnx_path
    model, inputs = _loaded(path)
    if package.sees_position:
        position = [value for value in inputs if value.name == POSITION]
        if len(inputs) != 2 or not position:
            names = ", ".join(value.name for value in inputs)
            raise InputError(f"{path}: has the inputs {names:.80}, expected two: pixels and {POSITION}")
        _check_value(path, "input", position[0], onnx.TensorProto.FLOAT, (None, 2))
        inputs = [value for value in inputs if value is not position[0]]
    elif len(inputs) != 1:
        also = any(value.name == POSITION for value in inputs) and package.float_input is None
        hint = f"; of {POSITION} the package says inputs: [{POSITION}]" if also else ""
        raise InputError(f"{path}: has {len(inputs)} inputs, expected one: pixels{hint}")
    side = package.tile_size
    if package.float_input is None:
        _check_value(path, "input", inputs[0], onnx.TensorProto.UINT8, (None, side, side, 3))
    else:
        _check_value(path, "input", inputs[0], onnx.TensorProto.FLOAT, (None, 3, side, side))
    outputs = list(model.graph.output)
    if package.is_encoder:
        if len(outputs) != 1:
            raise InputError(f"{path}: has {len(outputs)} outputs, expected one of an encoder: features")
        _check_value(path, "output", outputs[0], onnx.TensorProto.FLOAT, (None, None))
        return
    if not 1 <= len(outputs) <= 2:
        raise InputError(f"{path}: has {len(outputs)} outputs, expected probabilities and at most features")
    _check_value(path, "output", outputs[0], onnx.TensorProto.FLOAT, (None, len(package.classes)))
    if len(outputs) == 2:
        _check_value(path, "second output", outputs[1], onnx.TensorProto.FLOAT, (None, None))


def check_aggregator(entry: AggregatorEntry, n_features: int) -> None:
    """Check an aggregator's opset, operators, input and outputs, without running it.

    Parameters
    ----------
    n_features
        Length of the features that level 0's network gives, 0 for none.

    Raises
    ------
    InputError
        With one line that names the file, what was found and what was expected.
    """
    path = entry.onnx_path
    model, inputs = _loaded(path)
    if not n_features:
        raise InputError(f"{path}: has no features to aggregate: level 0's network has no second output")
    if [value.name for value in inputs] != ["features"]:
        raise InputError(f"{path}: has the inputs {[value.name for value in inputs]}, expected one: features")
    _check_value(path, "input", inputs[0], onnx.TensorProto.FLOAT, (None, n_features))
    outputs = {value.name: value for value in model.graph.output}
    missing = [name for name in AGGREGATOR_OUTPUTS if name not in outputs]
    if missing:
        raise InputError(f"{path}: has no output {missing[0]!r}, expected {', '.join(AGGREGATOR_OUTPUTS)}")


def most_tiles_together(entry: AggregatorEntry, n_features: int) -> int:
    """How many tiles an aggregator can look at together, 0 for any number.

    Where every tile looks at every other one, as in a plain transformer, tables grow with the square of their number;
    what the shapes of the graph's tables say of two numbers of tiles says so of all. Such a table may have 4 GiB.

    Parameters
    ----------
    entry
        An aggregator that `check_aggregator` has seen.
    """
    graph = onnx.load(entry.onnx_path, load_external_data=False)
    few, many = (_largest_table(graph, n_tiles, n_features) for n_tiles in _TILES_TRIED)
    ratio = _TILES_TRIED[1] / _TILES_TRIED[0]
    order = round(math.log(max(many / few, 1)) / math.log(ratio))
    if order < 2:
        return 0
    return int(_TILES_TRIED[1] * (_MOST_TABLE_BYTES / (4 * many)) ** (1 / order))


def _largest_table(model: onnx.ModelProto, n_tiles: int, n_features: int) -> int:
    """Elements of the largest table within an aggregator, of those whose shape follows from its input's."""
    changed = onnx.ModelProto()
    changed.CopyFrom(model)
    for value in changed.graph.input:
        if value.name == "features":
            value.CopyFrom(
                onnx.helper.make_tensor_value_info(value.name, onnx.TensorProto.FLOAT, [n_tiles, n_features])
            )
    for value in (*changed.graph.output, *changed.graph.value_info):  # they would contradict the input's
        value.type.tensor_type.ClearField("shape")
    inferred = onnx.shape_inference.infer_shapes(changed, data_prop=True).graph
    sizes = [n_tiles * n_features]
    for value in (*inferred.value_info, *inferred.output):
        shape = value.type.tensor_type.shape.dim
        if shape and all(one.HasField("dim_value") for one in shape):
            sizes.append(math.prod(one.dim_value for one in shape))
    return max(sizes)


def check_segmentation_network(package: SegmentationPackage) -> None:
    """Check the network of a package that segments whole images, as `check_network` does.

    Raises
    ------
    InputError
        With one line that names the file, what was found and what was expected.
    """
    path = package.onnx_path
    model, inputs = _loaded(path)
    found = [(value.name, *_type_and_shape(value)) for value in (*inputs, *model.graph.output)]
    wanted = [
        (INPUT, onnx.TensorProto.UINT8, (1, None, None, 3)),
        (OUTPUT, onnx.TensorProto.FLOAT, (1, None, None)),
    ]
    if found != wanted:
        said, expected = (
            ", ".join(f"{name} {_type_name(element)} {_shape_text(shape)}" for name, element, shape in of)
            for of in (found, wanted)
        )
        raise InputError(f"{path}: takes and gives {said}, expected {expected}")


def _loaded(path: Path) -> tuple[onnx.ModelProto, list[onnx.ValueInfoProto]]:
    """A network of known operators that is all in one file, and what has to be given to it."""
    try:
        model = onnx.load(path, load_external_data=False)
    except Exception as error:  # protobuf's DecodeError has no public name
        raise failed_read(path, error) or InputError(f"{path}: not an ONNX file: {error!s:.200}") from error
    _check_opset(path, model)
    if any(tensor.data_location == onnx.TensorProto.EXTERNAL for tensor in _all_tensors(model)):
        raise InputError(f"{path}: keeps weights in another file, which no hash covers; expected one file with all")
    return model, _inputs(model.graph)


def input_name(path: Path) -> str:
    """Name of a network's input of pixels; of a file that `check_network` has seen."""
    graph = onnx.load(path, load_external_data=False).graph
    return str(next(value.name for value in _inputs(graph) if value.name != POSITION))


def _inputs(graph: onnx.GraphProto) -> list[onnx.ValueInfoProto]:
    """What has to be given to a graph."""
    stored_weights = {tensor.name for tensor in graph.initializer}
    return [value for value in graph.input if value.name not in stored_weights]


def _all_tensors(model: onnx.ModelProto) -> Iterator[onnx.TensorProto]:
    yield from _tensors(model.graph)
    for function in model.functions:
        yield from _tensors_of_nodes(function.node)
    for training in model.training_info:
        yield from _tensors(training.initialization)
        yield from _tensors(training.algorithm)


def _tensors(graph: onnx.GraphProto) -> Iterator[onnx.TensorProto]:
    """All stored tensors of a graph: weights, constants, and those of the graphs within its nodes."""
    yield from graph.initializer
    for sparse in graph.sparse_initializer:
        yield from (sparse.values, sparse.indices)
    yield from _tensors_of_nodes(graph.node)


def _tensors_of_nodes(nodes: Iterable[onnx.NodeProto]) -> Iterator[onnx.TensorProto]:
    for node in nodes:
        for attribute in node.attribute:
            yield from (attribute.t, *attribute.tensors)
            for sparse in (attribute.sparse_tensor, *attribute.sparse_tensors):
                yield from (sparse.values, sparse.indices)
            for inner in (attribute.g, *attribute.graphs):
                yield from _tensors(inner)


def _check_opset(path: Path, model: onnx.ModelProto) -> None:
    if not model.HasField("graph"):
        raise InputError(f"{path}: not an ONNX file: it holds no graph")
    unknown = sorted({entry.domain for entry in model.opset_import} - _KNOWN_DOMAINS)
    if unknown:
        raise InputError(f"{path}: needs operators of the domain {unknown[0]!r:.80}, expected standard ONNX operators")
    newest = onnx.defs.onnx_opset_version()
    for entry in model.opset_import:
        if entry.domain in {"", "ai.onnx"} and not _OLDEST_OPSET <= entry.version <= newest:
            raise InputError(f"{path}: opset {entry.version}, expected {_OLDEST_OPSET}..{newest}")


def _check_value(
    path: Path, what: str, value: onnx.ValueInfoProto, element: int, expected: tuple[int | None, ...]
) -> None:
    tensor = value.type.tensor_type
    if tensor.elem_type != element:
        raise InputError(
            f"{path}: {what} {value.name!r:.80} is {_type_name(tensor.elem_type)}, expected {_type_name(element)}"
        )
    shape = _type_and_shape(value)[1]
    free_batch = not shape or shape[0] is None
    fits = len(shape) == len(expected) and all(
        want is None or found is None or want == found for want, found in zip(shape, expected, strict=True)
    )
    if not fits or not free_batch:
        raise InputError(
            f"{path}: {what} {value.name!r:.80} has shape {_shape_text(shape)}, expected {_shape_text(expected)}"
        )


def _type_and_shape(value: onnx.ValueInfoProto) -> tuple[int, tuple[int | None, ...]]:
    tensor = value.type.tensor_type
    return tensor.elem_type, tuple(d.dim_value if d.HasField("dim_value") else None for d in tensor.shape.dim)


def _type_name(element: int) -> str:
    known = element in onnx.TensorProto.DataType.values()
    return str(onnx.TensorProto.DataType.Name(element)).lower() if known else f"of the unknown type {element}"


def _shape_text(shape: tuple[int | None, ...]) -> str:
    return "(" + ", ".join("any" if size is None else str(size) for size in shape) + ")"
