"""Small networks for tests of shared windows: plain ONNX, random weights that neither die nor saturate."""

from __future__ import annotations

import hashlib
from typing import TYPE_CHECKING

import numpy as np
import onnx
import onnxruntime
from onnx import TensorProto, helper, numpy_helper

from pyramidai_mpi.models.package import FloatInput, ModelLevel, ModelPackage

if TYPE_CHECKING:
    from pathlib import Path

LAYERS = ((8, 5, 2), (12, 3, 2), (16, 3, 2), (16, 3, 2), (24, 3, 2))
"""(channels, kernel, stride) of the convolutions: own stride 32, maps of 4 x 4 for a window of 224 pixels."""


class Written:
    """Nodes and weights of a graph that is being written."""

    def __init__(self, seed: int = 0) -> None:
        self.nodes, self.weights = [], {}
        self.rng = np.random.default_rng(seed)

    def add(self, kind: str, *inputs, n: int = 1, **settings):
        names = []
        for value in inputs:
            if isinstance(value, str):
                names.append(value)
            else:
                names.append(f"w{len(self.weights)}")
                self.weights[names[-1]] = np.asarray(value)
        outputs = [f"t{len(self.nodes)}_{i}" for i in range(n)]
        self.nodes.append(helper.make_node(kind, names, outputs, **settings))
        return outputs[0] if n == 1 else outputs

    def floats(self, *shape, scale: float = 1.0):
        return self.rng.normal(0, scale, shape).astype(np.float32)

    def planes(self, pixels: str = "pixels") -> str:
        scaled = self.add("Mul", self.add("Cast", pixels, to=TensorProto.FLOAT), np.float32(1 / 64))
        return self.add("Transpose", self.add("Sub", scaled, np.float32([1, 1.5, 2])), perm=[0, 3, 1, 2])

    def conv(self, maps: str, channels: int, out: int, kernel, stride: int = 1, **settings) -> str:
        kernel = (kernel, kernel) if isinstance(kernel, int) else kernel
        weights = self.floats(out, channels, *kernel, scale=(2 / (channels * kernel[0] * kernel[1])) ** 0.5)
        summed = self.add("Conv", maps, weights, self.floats(out, scale=0.1), strides=[stride, stride], **settings)
        return self.add("Relu", summed)

    def save(self, path: Path, answer: str, *, side: int = 224, opset: int = 17, floats: bool = False) -> Path:
        element, shape = (TensorProto.FLOAT, [3, side, side]) if floats else (TensorProto.UINT8, [side, side, 3])
        graph = helper.make_graph(
            self.nodes,
            "network",
            [helper.make_tensor_value_info("pixels", element, ["batch", *shape])],
            [helper.make_tensor_value_info(answer, TensorProto.FLOAT, ["batch", 2])],
            [numpy_helper.from_array(value, name) for name, value in self.weights.items()],
        )
        model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", opset)], ir_version=8)
        onnx.checker.check_model(model, full_check=True)
        onnx.save(model, path)
        return path


def valid_network(path: Path, *, layers=LAYERS, pads: bool = False, gain: float = 1.0, side: int = 224) -> Path:
    """Convolutions one after the other, the mean of the last maps, a linear layer, a softmax."""
    made = Written()
    maps, channels = made.planes(), 3
    for out, kernel, stride in layers:
        settings = {"pads": [kernel // 2] * 4} if pads else {}
        maps = made.conv(maps, channels, out, kernel, stride, **settings)
        channels = out
    pooled = made.add("Flatten", made.add("GlobalAveragePool", maps))
    logits = made.add("Gemm", pooled, made.floats(2, channels, scale=gain), made.floats(2), transB=1)
    return made.save(path, made.add("Softmax", logits, axis=1), side=side)


def package_of(path: Path, side: int = 224, float_input: FloatInput | None = None) -> tuple[ModelLevel, ModelPackage]:
    """A package of one level with this network."""
    level = ModelLevel(0, path, 0.5, hashlib.sha256(path.read_bytes()).hexdigest())
    package = ModelPackage(
        path.parent, "valid", ("normal", "tumor"), 1, side, 2, 0.25, "none", (level,), "", float_input=float_input
    )
    return level, package


def region_of(side: int, seed: int = 0) -> np.ndarray:
    """Blobs of many sizes and colours, uint8 (side, side, 3): what neighbouring windows see differs."""
    rng = np.random.default_rng(seed)
    total = np.zeros((side, side, 3))
    for cell in (4, 16, 64):
        coarse = rng.normal(0, 30, (-(-side // cell), -(-side // cell), 3))
        total += np.kron(coarse, np.ones((cell, cell, 1)))[:side, :side]
    return np.clip(total + 128, 0, 255).astype(np.uint8)


def by_window(path: Path, region: np.ndarray, side: int, stride: int, block: int) -> np.ndarray:
    """Each window by itself in onnxruntime, float32 (block, block, C)."""
    session = onnxruntime.InferenceSession(str(path), providers=["CPUExecutionProvider"])
    (name,) = [value.name for value in session.get_inputs()]
    found = []
    for y in range(0, block * stride, stride):
        row = np.stack([region[y : y + side, x : x + side] for x in range(0, block * stride, stride)])
        found.append(session.run(None, {name: row})[0])
    return np.stack(found)
