"""Model packages made on the spot: their networks are so plain that a few lines of numpy recompute them."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

from pyramidai_mpi.models import write as package_writer

if TYPE_CHECKING:
    from pathlib import Path

WEIGHTS = np.array([[0.02, -0.02], [-0.05, 0.05], [0.03, -0.03]], np.float32)
ENCODED = 7
"""Features of `encoder_network`."""
BIAS = np.array([0.1, -0.1], np.float32)


def colour_network(
    path: Path,
    *,
    side: int = 64,
    n_classes: int = 2,
    gain: float = 1.0,
    element: int = TensorProto.UINT8,
    channels: int = 3,
    with_features: bool = False,
    softmax: bool = True,
    opset: int = 17,
) -> None:
    """Softmax of a linear map of the tile's mean colour."""
    weights = np.resize(WEIGHTS, (channels, n_classes)).astype(np.float32) * np.float32(gain)
    bias = np.resize(BIAS, n_classes).astype(np.float32)
    nodes = [
        helper.make_node("Cast", ["pixels"], ["float"], to=TensorProto.FLOAT),
        helper.make_node("ReduceMean", ["float"], ["mean"], axes=[1, 2], keepdims=0),
        helper.make_node("MatMul", ["mean", "weights"], ["product"]),
        helper.make_node("Add", ["product", "bias"], ["logits"]),
        helper.make_node("Softmax", ["logits"], ["probabilities"], axis=1)
        if softmax
        else helper.make_node("Identity", ["logits"], ["probabilities"]),
    ]
    outputs = [helper.make_tensor_value_info("probabilities", TensorProto.FLOAT, ["batch", n_classes])]
    if with_features:
        outputs.append(helper.make_tensor_value_info("mean", TensorProto.FLOAT, ["batch", channels]))
    graph = helper.make_graph(
        nodes,
        "colour",
        [helper.make_tensor_value_info("pixels", element, ["batch", side, side, channels])],
        outputs,
        [numpy_helper.from_array(weights, "weights"), numpy_helper.from_array(bias, "bias")],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", opset)], ir_version=8)
    onnx.save(model, path)


def colour_probability(pixels: np.ndarray, gain: float = 1.0) -> np.ndarray:
    """What `colour_network` gives for uint8 (n, side, side, 3), in float64."""
    logits = pixels.astype(np.float64).mean(axis=(1, 2)) @ (WEIGHTS.astype(np.float64) * gain) + BIAS
    exponent = np.exp(logits - logits.max(axis=1, keepdims=True))
    return exponent / exponent.sum(axis=1, keepdims=True)


def encoder_network(path: Path, *, side: int = 64, gain: float = 1.0) -> None:
    """Features: the middle pixel's colour over 255, the tile's mean colour, and its largest value times `gain`."""
    ends = {"start": [side // 2, side // 2], "stop": [side // 2 + 1, side // 2 + 1], "axes": [1, 2]}
    stored = [numpy_helper.from_array(np.array(values, np.int64), name) for name, values in ends.items()]
    stored.append(numpy_helper.from_array(np.array([255], np.float32), "white"))
    stored.append(numpy_helper.from_array(np.array([gain], np.float32), "gain"))
    nodes = [
        helper.make_node("Cast", ["pixels"], ["float"], to=TensorProto.FLOAT),
        helper.make_node("Slice", ["float", "start", "stop", "axes"], ["cut"]),
        helper.make_node("Flatten", ["cut"], ["middle"]),
        helper.make_node("Div", ["middle", "white"], ["share"]),
        helper.make_node("ReduceMean", ["float"], ["mean"], axes=[1, 2], keepdims=0),
        helper.make_node("ReduceMax", ["float"], ["most"], axes=[1, 2, 3], keepdims=0),
        helper.make_node("Mul", ["most", "gain"], ["gained"]),
        helper.make_node("Unsqueeze", ["gained", "last"], ["column"]),
        helper.make_node("Concat", ["share", "mean", "column"], ["features"], axis=1),
    ]
    stored.append(numpy_helper.from_array(np.array([1], np.int64), "last"))
    graph = helper.make_graph(
        nodes,
        "encoder",
        [helper.make_tensor_value_info("pixels", TensorProto.UINT8, ["batch", side, side, 3])],
        [helper.make_tensor_value_info("features", TensorProto.FLOAT, ["batch", ENCODED])],
        stored,
    )
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8), path)


def encoded(pixels: np.ndarray, gain: float = 1.0) -> np.ndarray:
    """What `encoder_network` gives for uint8 (n, side, side, 3), in float64 (n, 7)."""
    middle, values = pixels.shape[1] // 2, pixels.astype(np.float64)
    parts = [values[:, middle, middle] / 255, values.mean(axis=(1, 2)), gain * values.max(axis=(1, 2, 3))[:, None]]
    return np.concatenate(parts, axis=1)


def write_encoder(folder: Path, *, side: int = 64, base_mpp: float = 0.25, gain: float = 1.0, **text: Any) -> Path:
    """A whole package of `encoder_network`."""
    folder.mkdir(parents=True, exist_ok=True)
    encoder_network(folder / "level0.onnx", side=side, gain=gain)
    document = package_writer.PackageText("colours", classes=(), tile_size=side, base_mpp=base_mpp, **text).document(1)
    package_writer.write_package(folder, document, [folder / "level0.onnx"], overwrite=True)
    return folder


def position_network(
    path: Path, *, side: int = 64, gain: float = 1.0, colour: float = 0.1, by_name: str = "position"
) -> None:
    """Two probabilities by the tile's position and, a little, its mean colour: see `position_probability`."""
    of_place = np.array([0.5, 0.25], np.float32) * np.float32(gain)
    nodes = [
        helper.make_node("Cast", ["pixels"], ["float"], to=TensorProto.FLOAT),
        helper.make_node("ReduceMean", ["float"], ["mean"], axes=[1, 2, 3], keepdims=0),
        helper.make_node("Mul", ["mean", "of_colour"], ["colour"]),
        helper.make_node("Mul", [by_name, "of_place"], ["weighted"]),
        helper.make_node("ReduceSum", ["weighted", "axis"], ["place"], keepdims=0),
        helper.make_node("Add", ["colour", "place"], ["flat"]),
        helper.make_node("Unsqueeze", ["flat", "axis"], ["tumor"]),
        helper.make_node("Sub", ["one", "tumor"], ["normal"]),
        helper.make_node("Concat", ["normal", "tumor"], ["probabilities"], axis=1),
    ]
    constants = {
        "of_colour": np.float32(colour / 255),
        "of_place": of_place,
        "one": np.float32(1),
        "axis": np.array([1]),
    }
    graph = helper.make_graph(
        nodes,
        "position",
        [
            # not the first: inputs are told by their names
            helper.make_tensor_value_info(by_name, TensorProto.FLOAT, ["batch", 2]),
            helper.make_tensor_value_info("pixels", TensorProto.UINT8, ["batch", side, side, 3]),
        ],
        [helper.make_tensor_value_info("probabilities", TensorProto.FLOAT, ["batch", 2])],
        [numpy_helper.from_array(value, name) for name, value in constants.items()],
    )
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8), path)


def position_probability(
    pixels: np.ndarray, positions: np.ndarray, gain: float = 1.0, colour: float = 0.1
) -> np.ndarray:
    """The second of what `position_network` gives for uint8 (n, side, side, 3), float64 (n,)."""
    return pixels.astype(np.float64).mean(axis=(1, 2, 3)) / 255 * colour + gain * positions @ (0.5, 0.25)


def write_position_package(
    folder: Path, *, side: int = 64, colour: float = 0.1, thresholds: tuple[float, ...] = (0.5, 0.4, 0.3)
) -> Path:
    """A whole package of `position_network` levels, each with a gain of its own: 1, 0.75 and 0.5."""
    folder.mkdir(parents=True, exist_ok=True)
    networks = [folder / f"made{n}.onnx" for n in range(len(thresholds))]
    for n, path in enumerate(networks):
        position_network(path, side=side, gain=1 - n / 4, colour=colour)
    document = package_writer.PackageText("position", tile_size=side, sees_position=True).document(len(thresholds))
    for entry, threshold in zip(document["levels"], thresholds, strict=True):
        entry["threshold"] = threshold
    package_writer.write_package(folder, document, networks)
    return folder


def half_by_place(path: Path) -> bytes:
    """A network of two classes whose probabilities are the means of its own and of 1 - x and x of the position."""
    model = onnx.load(path)
    graph = model.graph
    own = graph.output[0].name
    for node in graph.node:
        node.output[:] = ["own" if name == own else name for name in node.output]
        node.input[:] = ["own" if name == own else name for name in node.input]
    constants = {
        "turned": np.array([[-0.5, 0.5], [0, 0]], np.float32),
        "first": np.array([0.5, 0], np.float32),
        "half": np.float32(0.5),
    }
    graph.initializer.extend(numpy_helper.from_array(value, name) for name, value in constants.items())
    graph.input.append(helper.make_tensor_value_info("position", TensorProto.FLOAT, ["batch", 2]))
    graph.node.extend(
        [
            helper.make_node("MatMul", ["position", "turned"], ["by_x"]),
            helper.make_node("Add", ["by_x", "first"], ["by_place"]),
            helper.make_node("Mul", ["own", "half"], ["halved"]),
            helper.make_node("Add", ["halved", "by_place"], [own]),
        ]
    )
    return bytes(model.SerializeToString())


def write_package(
    folder: Path,
    *,
    n_levels: int = 3,
    side: int = 64,
    thresholds: tuple[float, ...] = (0.5, 0.4, 0.3),
    base_mpp: float = 0.25,
    yaml_changes: dict[str, Any] | None = None,
    **network: Any,
) -> Path:
    """A whole package of `colour_network` levels, each with a gain of its own."""
    folder.mkdir(parents=True, exist_ok=True)
    networks = [folder / f"level{n}.onnx" for n in range(n_levels)]
    for n, path in enumerate(networks):
        colour_network(path, side=side, gain=network.pop("gain", 1.0) * (1 + n / 4), **network)
    document = package_writer.PackageText("colour", tile_size=side, base_mpp=base_mpp).document(n_levels)
    for entry, threshold in zip(document["levels"], thresholds, strict=False):
        entry["threshold"] = threshold
    package_writer.write_package(folder, document | (yaml_changes or {}), networks, overwrite=True)
    return folder
