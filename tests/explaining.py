"""A package whose network has maps and gradients that a few lines of numpy recompute, and a slide for it."""

from __future__ import annotations

from contextlib import contextmanager, nullcontext
from typing import TYPE_CHECKING, Any
from unittest.mock import Mock, patch

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

from pyramidai_mpi.models import write as package_writer
from tests.tiffs import textured, write_slide

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

SIDE, STEP, N_MAPS = 64, 8, 6
WIDTH, HEIGHT = 448, 320
"""Of the slide: 7 x 5 tiles."""

_drawn = np.random.Generator(np.random.Philox(17))
KERNEL = (_drawn.standard_normal((N_MAPS, 3, STEP, STEP)) / 500).astype(np.float32)
BIAS = _drawn.uniform(-0.2, 0.2, N_MAPS).astype(np.float32)
HEAD = (4 * _drawn.standard_normal((N_MAPS, 2))).astype(np.float32)


def maps_network(path: Path, gain: float = 1.0) -> None:
    """Maps (6, 8, 8) of a convolution, ``maps`` by name, their means, and a softmax over a linear head."""
    nodes = [
        helper.make_node("Cast", ["pixels"], ["float"], to=TensorProto.FLOAT),
        helper.make_node("Transpose", ["float"], ["planes"], perm=[0, 3, 1, 2]),
        helper.make_node("Conv", ["planes", "kernel", "bias"], ["sums"], strides=[STEP, STEP]),
        helper.make_node("Relu", ["sums"], ["maps"]),
        helper.make_node("GlobalAveragePool", ["maps"], ["pooled"]),
        helper.make_node("Flatten", ["pooled"], ["means"]),
        helper.make_node("Gemm", ["means", "head"], ["logits"]),
        helper.make_node("Softmax", ["logits"], ["probabilities"], axis=1),
    ]
    weights = {"kernel": KERNEL, "bias": BIAS, "head": HEAD * np.float32(gain)}
    graph = helper.make_graph(
        nodes,
        "maps",
        [helper.make_tensor_value_info("pixels", TensorProto.UINT8, ["batch", SIDE, SIDE, 3])],
        [helper.make_tensor_value_info("probabilities", TensorProto.FLOAT, ["batch", 2])],
        [numpy_helper.from_array(value, name) for name, value in weights.items()],
    )
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8), path)


def write_maps_package(folder: Path, n_levels: int = 1, changes: dict[str, Any] | None = None) -> Path:
    """A whole package of such networks."""
    folder.mkdir(parents=True, exist_ok=True)
    networks = [folder / f"made{n}.onnx" for n in range(n_levels)]
    for n, path in enumerate(networks):
        maps_network(path, gain=1 + n / 4)
    document = package_writer.PackageText("maps", tile_size=SIDE).document(n_levels)
    package_writer.write_package(folder, document | (changes or {}), networks)
    return folder


def activations(pixels: np.ndarray) -> np.ndarray:
    """The maps of a tile uint8 (64, 64, 3), float64 (6, 8, 8)."""
    n = SIDE // STEP
    cut = pixels.astype(np.float64).reshape(n, STEP, n, STEP, 3)
    sums = np.einsum("iyjxc,kcyx->kij", cut, KERNEL.astype(np.float64)) + BIAS[:, None, None]
    return np.maximum(sums, 0)


def probabilities(pixels: np.ndarray) -> np.ndarray:
    """Of a tile, float64 (2,)."""
    logits = activations(pixels).mean(axis=(1, 2)) @ HEAD.astype(np.float64)
    exponent = np.exp(logits - logits.max())
    return exponent / exponent.sum()


def plain_gradcam(pixels: np.ndarray, column: int) -> np.ndarray:
    """Grad-CAM of a tile: a logit's gradient at every place of map k is HEAD[k, column] / 64."""
    maps = activations(pixels)
    return np.maximum(np.einsum("k,kij->ij", HEAD[:, column].astype(np.float64) / maps[0].size, maps), 0)


def image() -> np.ndarray:
    """The slide's pixels, uint8 (320, 448, 3)."""
    return textured(WIDTH, HEIGHT, seed=5)


def tile_of(col: int, row: int) -> np.ndarray:
    """A tile of level 0."""
    return image()[row * SIDE : (row + 1) * SIDE, col * SIDE : (col + 1) * SIDE]


def write_image(path: Path) -> Path:
    """The slide, lossless, at 0.25 µm/px."""
    return write_slide(path, [image()], compression="zlib")


@contextmanager
def untried_files() -> Iterator[None]:
    """In this process no child tries slides and networks first: of a small job that is half of the time."""
    with (
        patch("pyramidai_mpi.run.networks.is_shipped", lambda _folder: True),
        patch("pyramidai_mpi.run.explaining_levels.try_opening", lambda *_: nullcontext(Mock())),
        patch("pyramidai_mpi.run.opening.try_opening", lambda *_: nullcontext(Mock())),
    ):
        yield
