"""A model package whose networks cost next to nothing: what is left of a run is all but the computing."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
from onnx import TensorProto, helper, numpy_helper

from pyramidai_mpi.models.write import PackageText, write_package

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path


def write_tiny_package(
    folder: Path, *, tile_size: int, thresholds: Sequence[float] = (0.5, 0.5, 0.5), n_features: int = 0
) -> Path:
    """Write a package of networks that weigh a tile's mean colour; returns its folder.

    The redder than green, the more likely positive. Features are the mean colour once more, times random numbers.
    """
    nodes = [
        helper.make_node("Cast", ["pixels"], ["float"], to=TensorProto.FLOAT),
        helper.make_node("ReduceMean", ["float"], ["mean"], axes=[1, 2], keepdims=0),
        helper.make_node("MatMul", ["mean", "weights"], ["logits"]),
        helper.make_node("Softmax", ["logits"], ["probabilities"], axis=1),
    ]
    outputs = [helper.make_tensor_value_info("probabilities", TensorProto.FLOAT, ["batch", 2])]
    constants = {"weights": np.array([[0, 0.01], [0.01, 0], [0, 0]], np.float32)}
    if n_features:
        nodes.append(helper.make_node("MatMul", ["mean", "spread"], ["features"]))
        outputs.append(helper.make_tensor_value_info("features", TensorProto.FLOAT, ["batch", n_features]))
        constants["spread"] = np.random.default_rng(0).normal(0, 0.01, (3, n_features)).astype(np.float32)
    graph = helper.make_graph(
        nodes,
        "mean_colour",
        [helper.make_tensor_value_info("pixels", TensorProto.UINT8, ["batch", tile_size, tile_size, 3])],
        outputs,
        [numpy_helper.from_array(value, name) for name, value in constants.items()],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    document = PackageText("mean-colour", tile_size=tile_size).document(len(thresholds))
    for level, threshold in zip(document["levels"], thresholds, strict=True):
        level["threshold"] = float(threshold)
    write_package(folder, document, [model.SerializeToString()] * len(thresholds))
    return folder
