"""What a network's gradients are of: the logits, which its last softmax or sigmoid makes probabilities of.

A probability near 0 or 1 has no slope left; its logit does.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from onnx import helper, numpy_helper
from onnx.reference import ReferenceEvaluator

if TYPE_CHECKING:
    import numpy.typing as npt
    import onnx

    from pyramidai_mpi.models.dense.window_graph import WindowGraph

_LAST = frozenset({"Softmax", "Sigmoid"})
_STEP = 1 / 64


@dataclass(frozen=True)
class Answer:
    """Where a network's logits are.

    Attributes
    ----------
    logits
        Name of their tensor, of L values: the probabilities themselves where nothing of the kind comes before them.
    columns
        float32 (C, L): the logit of each class as a sum of these. Of one sigmoid that says p for the second class and
        1 - p for the first, the second class has the logit and the first its opposite.
    """

    logits: str
    columns: npt.NDArray[np.float32]


def answer_of(network: WindowGraph) -> Answer:
    """Find a network's logits."""
    n_classes = network.shapes[network.answer][1]
    whole = Answer(network.answer, np.eye(n_classes, dtype=np.float32))
    last = next((node for node in reversed(network.nodes) if node.op_type in _LAST), None)
    if last is None:
        return whole
    tail = _from(network, last.output[0])
    signs = None if tail is None else _signs(network, last.output[0], tail)
    if signs is None or (np.count_nonzero(signs, axis=1) != 1).any():
        return whole
    return Answer(last.input[0], signs)


def _from(network: WindowGraph, name: str) -> list[onnx.NodeProto] | None:
    """The nodes that make the answer of a tensor alone; None where the answer depends on more."""
    wanted, tail = {network.answer}, []
    for node in reversed(network.nodes):
        if name in node.output:
            break
        if wanted.intersection(node.output):
            wanted.difference_update(node.output)
            wanted.update(each for each in node.input if each and not network.is_constant(each))
            tail.append(node)
    return tail[::-1] if wanted == {name} else None


def _signs(network: WindowGraph, name: str, tail: list[onnx.NodeProto]) -> npt.NDArray[np.float32] | None:
    """float32 (C, L): whether each class's probability goes up or down with each value of a tensor, or stays."""
    shape = network.shapes[name]
    length = math.prod(shape)
    if not tail:
        return np.eye(length, dtype=np.float32) if network.shapes[network.answer] == shape else None
    constants = {each for node in tail for each in node.input if each and network.is_constant(each)}
    graph = helper.make_graph(
        tail,
        "tail",
        [helper.make_tensor_value_info(name, network.elements[name], shape)],
        [helper.make_tensor_value_info(network.answer, network.elements[network.answer], None)],
        [numpy_helper.from_array(np.asarray(network.constant(each)), each) for each in sorted(constants)],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", network.opset)])
    evaluate = ReferenceEvaluator(model)
    values: list[npt.NDArray[np.float32]] = []
    for moved in (np.zeros(length), *_STEP * np.eye(length)):
        found: Any = evaluate.run(None, {name: (0.5 + moved).astype(np.float32).reshape(shape)})
        values.append(np.asarray(found[0], np.float32).reshape(-1))
    signs: npt.NDArray[np.float32] = np.sign(np.stack(values[1:], axis=1) - values[0][:, None])
    return signs
