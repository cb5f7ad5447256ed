"""The map of `pyramidai_mpi.models.stain.map` as an ONNX graph; a gate to ONNX.

The slide's numbers are inputs, so one graph serves all slides. Apart from `stain_engine`, so that one rank can write it
for all and the others need not load the library.

Logarithms are looked up: onnxruntime computes them one by one, 0.2 ms of 0.4 for a tile of 224 x 224, and
`GatherElements` takes 0.07 ms where `Gather` takes 0.4.
"""

from __future__ import annotations

import math

import numpy as np
from onnx import TensorProto, helper, numpy_helper

_OPSET = 17
_IR_VERSION = 8
_LARGEST_EXPONENT = 30.0
"""Keeps the exponential finite, far above any grey value, so that no difference of two is without a number."""


def stain_graph(*, mixes_channels: bool) -> bytes:
    """Serialise the graph: ``pixels`` uint8 (1, H, W, 3) to ``normalised``, the same, and inputs for the map's numbers.

    Parameters
    ----------
    mixes_channels
        Whether the map's first and last steps are matrices (Reinhard), or factors that table and shift hold (Macenko);
        see `stain_engine` for what the inputs are.
    """
    floats: dict[str, list[int | str | None]] = {"logs": [1, "n"], "inner": [3, 3, 1, 1], "shift": [3]}
    highest = math.log(255)
    looked_up = "planes"
    before, after, last = [], [], "values"
    if mixes_channels:
        floats |= {"first": [3, 3, 1, 1], "first_shift": [3], "outer": [3, 3, 1, 1], "offset": [3]}
        highest = _LARGEST_EXPONENT
        before = [
            helper.make_node("Cast", ["planes"], ["float_planes"], to=TensorProto.FLOAT),
            helper.make_node("Conv", ["float_planes", "first", "first_shift"], ["mixed"]),
        ]
        looked_up = "mixed"
        after = [
            helper.make_node("Conv", ["values", "outer", "offset"], ["unmixed"]),
            helper.make_node("Clip", ["unmixed", "black", "white"], ["clipped"]),
        ]
        last = "clipped"
    nodes = [
        helper.make_node("Transpose", ["pixels"], ["planes"], perm=[0, 3, 1, 2]),
        *before,
        helper.make_node("Cast", [looked_up], ["rows"], to=TensorProto.INT32),
        helper.make_node("Shape", ["rows"], ["shape"]),
        helper.make_node("Reshape", ["rows", "in_one_row"], ["one_row"]),
        helper.make_node("GatherElements", ["logs", "one_row"], ["found"], axis=1),
        helper.make_node("Reshape", ["found", "shape"], ["densities"]),
        helper.make_node("Conv", ["densities", "inner", "shift"], ["sums"]),
        helper.make_node("Clip", ["sums", "lowest", "highest"], ["exponents"]),
        helper.make_node("Exp", ["exponents"], ["values"]),
        *after,
        helper.make_node("Round", [last], ["whole"]),
        helper.make_node("Cast", ["whole"], ["bytes"], to=TensorProto.UINT8),
        helper.make_node("Transpose", ["bytes"], ["normalised"], perm=[0, 2, 3, 1]),
    ]
    constants = {
        "in_one_row": np.array([1, -1], np.int64),
        "lowest": np.float32(-_LARGEST_EXPONENT),
        "highest": np.float32(highest),
        **({"black": np.float32(0), "white": np.float32(255)} if mixes_channels else {}),
    }
    shape: list[int | str | None] = [1, "height", "width", 3]
    graph = helper.make_graph(
        nodes,
        "stain",
        [
            helper.make_tensor_value_info("pixels", TensorProto.UINT8, shape),
            *(helper.make_tensor_value_info(name, TensorProto.FLOAT, size) for name, size in floats.items()),
        ],
        [helper.make_tensor_value_info("normalised", TensorProto.UINT8, shape)],
        [numpy_helper.from_array(np.asarray(value), name) for name, value in constants.items()],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", _OPSET)], ir_version=_IR_VERSION)
    return bytes(model.SerializeToString())
