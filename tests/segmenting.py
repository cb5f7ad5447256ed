"""Networks that segment whole images, made on the spot: so plain that a few lines of numpy or scipy recompute them."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
from onnx import TensorProto, helper, numpy_helper

from pyramidai_mpi.models.segmentation_package import SegmentationText
from pyramidai_mpi.models.write import write_segmentation_package

if TYPE_CHECKING:
    from pathlib import Path

    from pyramidai_mpi.models.segmentation_package import SegmentationPackage

DARK = 200.0
"""Grey level at which `dark_network` gives one half."""


def _graph(nodes: list, weights: dict[str, np.ndarray]) -> bytes:
    graph = helper.make_graph(
        nodes,
        "segments",
        [helper.make_tensor_value_info("pixels", TensorProto.UINT8, [1, "H", "W", 3])],
        [helper.make_tensor_value_info("probability", TensorProto.FLOAT, [1, "H", "W"])],
        [numpy_helper.from_array(np.asarray(value), name) for name, value in weights.items()],
    )
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8).SerializeToString()


def _planes() -> list:
    return [
        helper.make_node("Cast", ["pixels"], ["real"], to=TensorProto.FLOAT),
        helper.make_node("Transpose", ["real"], ["planes"], perm=[0, 3, 1, 2]),
    ]


def dark_network(gain: float = 0.1) -> bytes:
    """Sigmoid of how much darker than `DARK` a pixel is, by the mean of its channels."""
    nodes = [
        *_planes(),
        helper.make_node("Conv", ["planes", "w", "b"], ["logit"]),
        helper.make_node("Sigmoid", ["logit"], ["shares"]),
        helper.make_node("Squeeze", ["shares", "axis"], ["probability"]),
    ]
    weights = np.full((1, 3, 1, 1), -gain / 3, np.float32)
    return _graph(nodes, {"w": weights, "b": np.float32([gain * DARK]), "axis": np.int64([1])})


def strided_network(*, is_global: bool = False, seed: int = 0) -> bytes:
    """Two convolutions with zeros around, strides 4 and 1, enlarged again, and a third: it sees 3 + 4 + 3 + 2 px far.

    With `is_global` the mean over the image is added.
    """
    rng = np.random.default_rng(seed)
    nodes = [
        *_planes(),
        helper.make_node("Conv", ["planes", "w1", "b1"], ["a"], pads=[3, 3, 3, 3], strides=[4, 4]),
        helper.make_node("Relu", ["a"], ["b"]),
        helper.make_node("Conv", ["b", "w2", "b2"], ["c"], pads=[1, 1, 1, 1]),
        helper.make_node("Resize", ["c", "", "scales"], ["d"], mode="nearest"),
        helper.make_node("Conv", ["d", "w3", "b3"], ["e"], pads=[2, 2, 2, 2]),
    ]
    if is_global:
        nodes += [
            helper.make_node("GlobalAveragePool", ["e"], ["mean"]),
            helper.make_node("Sub", ["e", "mean"], ["logit"]),
        ]
    else:
        nodes.append(helper.make_node("Identity", ["e"], ["logit"]))
    nodes += [
        helper.make_node("Sigmoid", ["logit"], ["shares"]),
        helper.make_node("Squeeze", ["shares", "axis"], ["probability"]),
    ]
    drawn = {
        name: rng.normal(0, scale, shape).astype(np.float32)
        for name, shape, scale in (
            ("w1", (4, 3, 7, 7), 0.002),
            ("b1", (4,), 0.3),
            ("w2", (4, 4, 3, 3), 0.4),
            ("b2", (4,), 0.3),
            ("w3", (1, 4, 5, 5), 0.2),
            ("b3", (1,), 0.1),
        )
    }
    return _graph(nodes, drawn | {"scales": np.float32([1, 1, 4, 4]), "axis": np.int64([1])})


STRIDED = {"total_stride": 4, "halo": 12}
"""What a package says of `strided_network`."""


def write_network(folder: Path, network: bytes, **said: object) -> SegmentationPackage:
    """A package of a network: at 1 µm/px, each pixel by itself, unless something else is said."""
    text = SegmentationText(**{"name": folder.name, "mpp": 1.0, "total_stride": 1, "halo": 0, **said})
    return write_segmentation_package(folder, text, network)
