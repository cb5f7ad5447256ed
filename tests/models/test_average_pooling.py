"""Average pooling as a convolution: the same numbers, and only where they are the same."""

from __future__ import annotations

import numpy as np
import onnx
import onnxruntime
import pytest
from onnx import TensorProto, helper, shape_inference

from pyramidai_mpi.models.quantisation.average_pooling import averages_as_convolutions

SHAPE = [2, 5, 13, 10]


def pooling(**settings: object) -> onnx.ModelProto:
    """A graph that pools, after an identity, so that the pooled tensor is an inner one."""
    nodes = [
        helper.make_node("Identity", ["in"], ["inner"]),
        helper.make_node("AveragePool", ["inner"], ["out"], **settings),
    ]
    values = [helper.make_tensor_value_info("in", TensorProto.FLOAT, SHAPE)]
    outputs = [helper.make_tensor_value_info("out", TensorProto.FLOAT, None)]
    graph = helper.make_graph(nodes, "g", values, outputs)
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 19)], ir_version=9)
    return shape_inference.infer_shapes(model)


def run(model: onnx.ModelProto, pixels: np.ndarray) -> np.ndarray:
    session = onnxruntime.InferenceSession(model.SerializeToString(), providers=["CPUExecutionProvider"])
    return session.run(None, {"in": pixels})[0]


def operators(model: onnx.ModelProto) -> list[str]:
    return [node.op_type for node in model.graph.node]


@pytest.mark.parametrize(
    "settings",
    [
        {"kernel_shape": [3, 3], "pads": [1, 1, 1, 1], "strides": [1, 1], "count_include_pad": 1},
        {"kernel_shape": [2, 3], "strides": [2, 3]},
        {"kernel_shape": [3, 2], "dilations": [2, 3]},
        {"kernel_shape": [3, 3], "auto_pad": "VALID"},
        {"kernel_shape": [3, 3], "auto_pad": "SAME_UPPER", "count_include_pad": 1},
    ],
)
def test_a_replaced_pooling_gives_the_same_averages(settings: dict[str, object]) -> None:
    pixels = np.random.default_rng(0).normal(size=SHAPE).astype(np.float32)
    expected = run(pooling(**settings), pixels)
    model = averages_as_convolutions(pooling(**settings))
    assert operators(model) == ["Identity", "Conv"]
    np.testing.assert_allclose(run(model, pixels), expected, atol=1e-6)


@pytest.mark.parametrize(
    "settings",
    [
        {"kernel_shape": [3, 3], "pads": [1, 1, 1, 1]},
        {"kernel_shape": [3, 3], "auto_pad": "SAME_LOWER"},
        {"kernel_shape": [3, 3], "strides": [2, 2], "ceil_mode": 1},
    ],
)
def test_windows_that_count_fewer_values_at_the_rim_are_left_alone(settings: dict[str, object]) -> None:
    assert operators(averages_as_convolutions(pooling(**settings))) == ["Identity", "AveragePool"]
