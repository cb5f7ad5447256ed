"""A model package whose networks cost next to nothing: what is left of a run is all but the computing."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
from onnx import TensorProto, helper, numpy_helper

from pyramidai_mpi.models.write import PackageText, write_package

if TYPE_CHECKING:
    from pathlib import Path


def write_tiny_package(folder: Path, *, tile_size: int, n_levels: int = 3) -> Path:
    """Write a package of networks that weigh a tile's mean colour; returns its folder."""
    graph = helper.make_graph(
        [
            helper.make_node("Cast", ["pixels"], ["float"], to=TensorProto.FLOAT),
            helper.make_node("ReduceMean", ["float"], ["mean"], axes=[1, 2], keepdims=0),
            helper.make_node("MatMul", ["mean", "weights"], ["logits"]),
            helper.make_node("Softmax", ["logits"], ["probabilities"], axis=1),
        ],
        "mean_colour",
        [helper.make_tensor_value_info("pixels", TensorProto.UINT8, ["batch", tile_size, tile_size, 3])],
        [helper.make_tensor_value_info("probabilities", TensorProto.FLOAT, ["batch", 2])],
        [numpy_helper.from_array(np.array([[0, 0.01], [0.01, 0], [0, 0]], np.float32), "weights")],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    graphs = [model.SerializeToString()] * n_levels
    write_package(folder, PackageText("mean-colour", tile_size=tile_size).document(n_levels), graphs)
    return folder
