"""A model package whose networks cost next to nothing: what is left of a run is all but the computing."""

from __future__ import annotations

import hashlib
from typing import TYPE_CHECKING

import numpy as np
import onnx
import yaml
from onnx import TensorProto, helper, numpy_helper

if TYPE_CHECKING:
    from pathlib import Path


def write_tiny_package(folder: Path, *, tile_size: int, n_levels: int = 3) -> Path:
    """Write a package of networks that weigh a tile's mean colour; returns its folder."""
    folder.mkdir(parents=True, exist_ok=True)
    levels = []
    for n in range(n_levels):
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
        path = folder / f"level{n}.onnx"
        onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8), path)
        sha256 = hashlib.sha256(path.read_bytes()).hexdigest()
        levels.append({"level": n, "onnx": path.name, "threshold": 0.5, "sha256": sha256})
    document = {
        "format": "pyramidai-model/1",
        "name": "mean-colour",
        "classes": ["normal", "tumor"],
        "positive_class": "tumor",
        "tile_size": tile_size,
        "scale_factor": 2,
        "base_mpp": 0.25,
        "levels": levels,
    }
    (folder / "model.yaml").write_text(yaml.safe_dump(document))
    return folder
