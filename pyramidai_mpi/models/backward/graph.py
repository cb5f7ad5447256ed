"""A network with its backward part, as one ONNX graph (reverse accumulation: Griewank and Walther, 2008, chapter 3)."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

import numpy as np
from onnx import NodeProto, TensorProto, ValueInfoProto, helper, numpy_helper

from pyramidai_mpi.models.backward.operators import RULES
from pyramidai_mpi.models.backward.writer import NoGradientError, Step, Writer
from pyramidai_mpi.models.dense.window_graph import leading_to

if TYPE_CHECKING:
    from collections.abc import Sequence

    from pyramidai_mpi.models.backward.answer import Answer
    from pyramidai_mpi.models.dense.window_graph import WindowGraph

SEED = "backward_seed"
"""Name of the input that says what the gradients are of: float32 (1, L), a factor for each logit."""


class BackwardGraph(NamedTuple):
    """A graph that gives what a network gives, and gradients.

    Attributes
    ----------
    model
        Serialised. Its inputs are the network's, of one tile, and `SEED` where gradients are asked for.
    outputs
        Names of its outputs: those asked for, then the gradient at each place asked for.
    """

    model: bytes
    outputs: tuple[str, ...]


def backward_graph(
    network: WindowGraph,
    answer: Answer,
    outputs: Sequence[str],
    places: Sequence[str],
    *,
    pixels_are_float: bool = False,
) -> BackwardGraph:
    """Write the graph.

    Parameters
    ----------
    network
        The network.
    answer
        Where its logits are.
    outputs
        Tensors to give as they are.
    places
        Tensors to give the gradient at, each of the shape of the tensor.
    pixels_are_float
        Whether the pixels are given as float32, 0 to 255, so that their gradients can be asked for.

    Raises
    ------
    NoGradientError
        When there is no rule for an operator between a place and the logits.
    """
    writer = Writer(network, pixels_are_float)
    gradients = _gradients(writer, answer, places) if places else {}
    wanted = [*outputs, answer.logits] if places else list(outputs)
    forward = [_with_second_output(node, writer) for node in leading_to(network.nodes, wanted)]
    inputs = [_value(writer, name) for name in network.given]
    if places:
        inputs.append(helper.make_tensor_value_info(SEED, TensorProto.FLOAT, (1, answer.columns.shape[1])))
    found = [_value(writer, name) for name in outputs]
    found += [
        helper.make_tensor_value_info(gradients[name], TensorProto.FLOAT, network.shapes[name]) for name in places
    ]
    constants = {name for node in (*forward, *writer.nodes) for name in node.input if network.is_constant(name)}
    stored = [numpy_helper.from_array(np.asarray(network.constant(name)), name) for name in sorted(constants)]
    graph = helper.make_graph(
        [*forward, *writer.nodes], "backward", inputs, found, [*stored, *writer.constants.values()]
    )
    model = helper.make_model(
        graph, opset_imports=[helper.make_opsetid("", network.opset)], ir_version=network.ir_version
    )
    return BackwardGraph(model.SerializeToString(), tuple(value.name for value in found))


def _gradients(writer: Writer, answer: Answer, places: Sequence[str]) -> dict[str, str]:
    """Names of the gradients at places."""
    network = writer.network
    nodes = leading_to(network.nodes, [answer.logits])
    between = set(places)
    for node in nodes:
        if between.intersection(node.input):
            # what a value is compared with, or where it lies, has no gradient
            between.update(name for name in node.output if name and writer.is_float(name))
    way = [node for node in nodes if between.intersection(node.input) and between.intersection(node.output)]
    missing = sorted({node.op_type if _is_standard(node) else f"{node.domain}.{node.op_type}"
                      for node in way if node.op_type not in RULES or not _is_standard(node)})  # fmt: skip
    if missing:
        raise NoGradientError(network.path, f"there is no rule for the operators {', '.join(missing)}")
    shape = network.shapes[answer.logits]
    parts: dict[str, list[str]] = {answer.logits: [SEED if len(shape) == 2 else writer.reshaped(SEED, shape)]}
    totals: dict[str, str] = {}
    for node in reversed(way):
        if not any(name in parts for name in node.output):
            continue
        incoming = tuple(_total(writer, parts, totals, name) for name in node.output)
        wanted = tuple(bool(name) and name in between and writer.is_float(name) for name in node.input)
        if not any(wanted):
            continue
        step = Step(writer, node, incoming, wanted)
        RULES[node.op_type](step)
        for number, gradient in step.given.items():
            if wanted[number]:
                parts.setdefault(node.input[number], []).append(gradient)
    # through a node of their own, as two may be one tensor, or a constant where nothing of a place matters
    found = {name: _total(writer, parts, totals, name) or writer.zeros(network.shapes[name]) for name in places}
    return {name: writer.node("Identity", gradient) for name, gradient in found.items()}


def _total(writer: Writer, parts: dict[str, list[str]], totals: dict[str, str], name: str) -> str | None:
    """All that reaches a tensor; None for nothing."""
    if name in parts and name not in totals:
        totals[name] = writer.total(parts[name])
    return totals.get(name)


def _is_standard(node: NodeProto) -> bool:
    return node.domain in {"", "ai.onnx"}


def _with_second_output(node: NodeProto, writer: Writer) -> NodeProto:
    name = writer.second_outputs.get(node.output[0])
    if name is None:
        return node
    changed = NodeProto()
    changed.CopyFrom(node)
    del changed.output[1:]
    changed.output.append(name)
    return changed


def _value(writer: Writer, name: str) -> ValueInfoProto:
    network = writer.network
    element = network.elements[name]
    if name == network.pixels and writer.pixels_are_float:
        element = TensorProto.FLOAT
    return helper.make_tensor_value_info(name, element, network.shapes[name])
