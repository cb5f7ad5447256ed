"""Packages with an aggregator made on the spot: attention over mean colours, which a few lines of numpy recompute."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

from pyramidai_mpi.models import write as package_writer
from pyramidai_mpi.models.aggregator_entry import AggregatorMethod, SlideTask, aggregator_entry
from tests.packages import colour_network

if TYPE_CHECKING:
    from pathlib import Path

CLASSES = {
    SlideTask.BINARY: ("normal", "tumor"),
    SlideTask.CLASSES: ("lung", "skin", "gut"),
    SlideTask.SHARE: ("tumor",),
    SlideTask.SURVIVAL: ("risk",),
}
MIDDLE = np.array([170.0, 110.0, 180.0])
"""Taken off mean colours, so that scores are not all alike."""
TO_HIDDEN = np.array([[0.04, -0.02, 0.01], [0.02, 0.05, -0.03], [-0.03, 0.01, 0.06]])
TO_HEADS = np.array([[1.5, -0.7], [-0.4, 1.1], [0.8, 0.3]])
TO_LOGITS = np.array([[0.03, -0.02, 0.01], [-0.01, 0.04, -0.02], [0.02, 0.01, 0.03]])
CONSTANT = np.array([0.2, -0.1, 0.3])


def n_logits(task: SlideTask) -> int:
    """Numbers before the last sigmoid or softmax."""
    return 3 if task is SlideTask.CLASSES else 1


def aggregator_network(
    task: SlideTask = SlideTask.BINARY, *, n_features: int = 3, leave_out: str = "", gain: float = 1.0, pairs: int = 0
) -> bytes:
    """Gated attention of two heads over tiles, whose mean weighs a linear map of the features.

    With `pairs` each tile looks at each, which changes nothing and takes a table (tiles, tiles, pairs).
    """
    n = n_logits(task)

    def resized(values: np.ndarray) -> np.ndarray:
        return np.resize(values, (n_features, *values.shape[1:]))

    weights = {
        "middle": np.resize(MIDDLE, n_features),
        "to_hidden": resized(TO_HIDDEN),
        "to_heads": TO_HEADS,
        "to_logits": resized(TO_LOGITS)[:, :n],
        "constant_w": CONSTANT[:n] * gain,
    }
    make = helper.make_node
    last = {
        SlideTask.BINARY: [
            make("Sigmoid", ["logits"], ["positive"]),
            make("Sub", ["one", "positive"], ["negative"]),
            make("Concat", ["negative", "positive"], ["prediction"], axis=0),
        ],
        SlideTask.CLASSES: [make("Softmax", ["logits"], ["prediction"], axis=0)],
        SlideTask.SHARE: [make("Sigmoid", ["logits"], ["prediction"])],
        SlideTask.SURVIVAL: [make("Identity", ["logits"], ["prediction"])],
    }[task]
    nodes = [
        make("Sub", ["features", "middle"], ["centred"]),
        make("MatMul", ["centred", "to_hidden"], ["hidden_in"]),
        make("Tanh", ["hidden_in"], ["hidden"]),
        make("MatMul", ["hidden", "to_heads"], ["scores"]),
        make("Softmax", ["scores"], ["attention"], axis=0),
        make("ReduceMean", ["attention"], ["weight"], axes=[1], keepdims=1),
        make("MatMul", ["centred", "to_logits"], ["mapped"]),
        make("Mul", ["mapped", "weight"], ["contribution"]),
        make("ReduceSum", ["contribution", "axis0"], ["pooled"], keepdims=0),
        make("Identity", ["constant_w"], ["constant"]),
        make("Add", ["pooled", "constant"], ["logits"]),
        *last,
    ]
    if pairs:
        nodes[0] = make("Sub", ["looked", "middle"], ["centred"])
        nodes[:0] = [
            make("Transpose", ["features"], ["across"], perm=[1, 0]),
            make("MatMul", ["features", "across"], ["products"]),
            make("Unsqueeze", ["products", "axis2"], ["column"]),
            make("MatMul", ["column", "nothing"], ["pairs"]),
            make("ReduceSum", ["pairs", "axes12"], ["none"], keepdims=0),
            make("Unsqueeze", ["none", "axis1"], ["zeros"]),
            make("Add", ["features", "zeros"], ["looked"]),
        ]
    stored = [numpy_helper.from_array(np.asarray(value, np.float32), name) for name, value in weights.items()]
    stored += [numpy_helper.from_array(np.array([0], np.int64), "axis0")]
    stored += [numpy_helper.from_array(np.ones(1, np.float32), "one")]
    if pairs:
        axes = {"axis1": [1], "axis2": [2], "axes12": [1, 2]}
        stored += [numpy_helper.from_array(np.array(value, np.int64), name) for name, value in axes.items()]
        stored += [numpy_helper.from_array(np.zeros((1, pairs), np.float32), "nothing")]
    shapes = {
        "prediction": [len(CLASSES[task])],
        "attention": ["tiles", TO_HEADS.shape[1]],
        "contribution": ["tiles", n],
        "constant": [n],
    }
    graph = helper.make_graph(
        nodes,
        "aggregator",
        [helper.make_tensor_value_info("features", TensorProto.FLOAT, ["tiles", n_features])],
        [
            helper.make_tensor_value_info(name, TensorProto.FLOAT, shape)
            for name, shape in shapes.items()
            if name != leave_out
        ],
        stored,
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    onnx.checker.check_model(model)
    serialised: bytes = model.SerializeToString()
    return serialised


def aggregated(features: np.ndarray, task: SlideTask = SlideTask.BINARY) -> dict[str, np.ndarray]:
    """What `aggregator_network` gives for features (N, 3), in float64."""
    centred = features.astype(np.float64) - MIDDLE
    scores = np.tanh(centred @ TO_HIDDEN) @ TO_HEADS
    exponent = np.exp(scores - scores.max(axis=0))
    attention = exponent / exponent.sum(axis=0)
    contribution = centred @ TO_LOGITS[:, : n_logits(task)] * attention.mean(axis=1, keepdims=True)
    logits = contribution.sum(axis=0) + CONSTANT[: n_logits(task)]
    sigmoid = 1 / (1 + np.exp(-logits))
    softmax = np.exp(logits) / np.exp(logits).sum()
    prediction = {
        SlideTask.BINARY: np.concatenate([1 - sigmoid, sigmoid]),
        SlideTask.CLASSES: softmax,
        SlideTask.SHARE: sigmoid,
        SlideTask.SURVIVAL: logits,
    }[task]
    return {"prediction": prediction, "logits": logits, "attention": attention, "contribution": contribution}


def write_slide_package(
    folder: Path,
    task: SlideTask = SlideTask.BINARY,
    *,
    side: int = 64,
    method: AggregatorMethod = AggregatorMethod.ABMIL,
    aggregator: bytes | None = None,
    n_levels: int = 1,
    yaml_changes: dict[str, Any] | None = None,
    with_features: bool = True,
) -> Path:
    """A package of one level whose features are the tile's mean colour, with `aggregator_network`."""
    folder.mkdir(parents=True, exist_ok=True)
    networks = [folder / f"level{n}.onnx" for n in range(n_levels)]
    for path in networks:
        colour_network(path, side=side, with_features=with_features)
    document = package_writer.PackageText("colours of slides", tile_size=side).document(n_levels)
    document["aggregator"] = aggregator_entry(method, task, CLASSES[task])
    network = aggregator_network(task) if aggregator is None else aggregator
    package_writer.write_package(folder, document | (yaml_changes or {}), networks, network)
    return folder
