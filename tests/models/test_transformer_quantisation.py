"""Transformers in integers: their dense layers alone, evened first, and as near as is asked for."""

from __future__ import annotations

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from pyramidai_mpi.cli.main import run_command_line
from pyramidai_mpi.models.engines.backends import installed_backends, load_engine
from pyramidai_mpi.models.engines.features import cosines
from pyramidai_mpi.models.engines.onnx_engine import OnnxEngine, open_session
from pyramidai_mpi.models.package import load_package
from pyramidai_mpi.models.quantisation.transformer import dense_layers, evened
from pyramidai_mpi.models.write import PackageText, write_package
from pyramidai_mpi.synth import SynthSpec, write_slide

SIDE, PATCH, WIDTH = 32, 8, 24
N_PATCHES = (SIDE // PATCH) ** 2


def _network(seed: int = 0, outlier: float = 40.0) -> onnx.ModelProto:
    """A block of a transformer on patches: norm, attention of one head, norm, two dense layers; the mean token.

    One channel behind each norm is `outlier` times as large as the others, as in trained ones.
    """
    rng = np.random.default_rng(seed)
    sizes = {"embed": (PATCH * PATCH * 3, WIDTH), "q": (WIDTH, WIDTH), "k": (WIDTH, WIDTH), "v": (WIDTH, WIDTH)}
    sizes |= {"up": (WIDTH, 4 * WIDTH), "down": (4 * WIDTH, WIDTH)}
    stored = {name: rng.normal(0, shape[0] ** -0.5, shape) for name, shape in sizes.items()}
    for name in ("scale1", "scale2"):
        stored[name] = rng.uniform(0.5, 1.5, WIDTH)
        stored[name][3] = outlier
    stored |= {"shift1": rng.normal(size=WIDTH), "shift2": rng.normal(size=WIDTH), "white": np.array([255.0])}
    tensors = [numpy_helper.from_array(values.astype(np.float32), name) for name, values in stored.items()]
    blocks = np.array([0, SIDE // PATCH, PATCH, SIDE // PATCH, PATCH, 3], np.int64)
    tensors.append(numpy_helper.from_array(blocks, "blocks"))
    tensors.append(numpy_helper.from_array(np.array([0, N_PATCHES, PATCH * PATCH * 3], np.int64), "rows"))
    steps = [
        ("Cast", ["pixels"], "float", {"to": TensorProto.FLOAT}),
        ("Div", ["float", "white"], "share", {}),
        ("Reshape", ["share", "blocks"], "cut", {}),
        ("Transpose", ["cut"], "turned", {"perm": [0, 1, 3, 2, 4, 5]}),
        ("Reshape", ["turned", "rows"], "patches", {}),
        ("MatMul", ["patches", "embed"], "tokens", {}),
        ("LayerNormalization", ["tokens", "scale1", "shift1"], "normed1", {"axis": -1}),
        *(("MatMul", ["normed1", name], f"{name}s", {}) for name in "qkv"),
        ("Transpose", ["ks"], "kt", {"perm": [0, 2, 1]}),
        ("MatMul", ["qs", "kt"], "alike", {}),
        ("Softmax", ["alike"], "attention", {"axis": -1}),
        ("MatMul", ["attention", "vs"], "seen", {}),
        ("Add", ["tokens", "seen"], "stream", {}),
        ("LayerNormalization", ["stream", "scale2", "shift2"], "normed2", {"axis": -1}),
        ("MatMul", ["normed2", "up"], "wide", {}),
        ("Relu", ["wide"], "bent", {}),
        ("MatMul", ["bent", "down"], "narrow", {}),
        ("Add", ["stream", "narrow"], "last", {}),
        ("ReduceMean", ["last"], "features", {"axes": [1], "keepdims": 0}),
    ]
    nodes = [helper.make_node(kind, given, [out], name=out, **said) for kind, given, out, said in steps]
    graph = helper.make_graph(
        nodes,
        "block",
        [helper.make_tensor_value_info("pixels", TensorProto.UINT8, ["batch", SIDE, SIDE, 3])],
        [helper.make_tensor_value_info("features", TensorProto.FLOAT, ["batch", WIDTH])],
        tensors,
    )
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)


@pytest.fixture
def folder(tmp_path):
    """A package of the network, and a slide."""
    document = PackageText("block", classes=(), tile_size=SIDE, base_mpp=2.0).document(1)
    write_package(tmp_path / "block", document, [_network(outlier=2.0).SerializeToString()])
    write_slide(SynthSpec(2400, 2000, seed=5, tumor_share=0.3), tmp_path / "slide.tif")
    return tmp_path


def _tiles(count: int, seed: int = 7) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 256, (count, SIDE, SIDE, 3), np.uint8)


def test_products_with_stored_weights_are_dense_layers_but_for_the_embedding() -> None:
    assert dense_layers(_network()) == ["qs", "ks", "vs", "wide", "narrow"]


def test_without_layer_norm_there_are_none() -> None:
    network = _network()
    kept = [node for node in network.graph.node if node.op_type != "LayerNormalization"]
    del network.graph.node[:]
    network.graph.node.extend(kept)
    assert dense_layers(network) == []


def test_evened_is_the_same_network_with_even_channels() -> None:
    network, tiles = _network(), _tiles(6)
    changed = evened(network, [{"pixels": tiles}])
    before, after = (
        open_session(one.SerializeToString()).run(None, {"pixels": tiles})[0] for one in (network, changed)
    )
    np.testing.assert_allclose(after, before, rtol=2e-4, atol=2e-4)
    stored = [{one.name: numpy_helper.to_array(one) for one in model.graph.initializer} for model in (network, changed)]
    for name in ("scale1", "scale2"):
        uneven, even = (np.abs(one[name]).max() / np.median(np.abs(one[name])) for one in stored)
        assert uneven > 25
        assert even < 0.4 * uneven
    # the closed form, of the norm whose output one product takes: s = sqrt(max|x| / max|w|)
    shown = _network()
    shown.graph.output.append(helper.make_empty_tensor_value_info("normed2"))
    seen = open_session(shown.SerializeToString()).run(["normed2"], {"pixels": tiles})[0]
    scale = np.sqrt(np.abs(seen).max(axis=(0, 1)) / np.abs(stored[0]["up"]).max(axis=1))
    np.testing.assert_allclose(stored[1]["up"], stored[0]["up"] * scale[:, None], rtol=1e-4)
    np.testing.assert_allclose(stored[1]["shift2"], stored[0]["shift2"] / scale, rtol=1e-4)


def test_an_encoder_in_integers_is_written_with_its_cosine(folder, capsys) -> None:
    words = ["models", "quantize", folder / "block", "--calibrate", folder / "slide.tif", "-o", folder / "int8"]
    assert run_command_line([*map(str, words), "--tiles", "16", "--min-cosine", "0.9"]) == 0
    said = capsys.readouterr().out
    assert "least cosine" in said
    package, original = load_package(folder / "int8"), load_package(folder / "block")
    assert package.name == "block-int8"
    assert 0 < package.quantisation_difference < 0.1
    graph = onnx.load(package.levels[0].onnx_path).graph
    weights = {one.name: one for one in graph.initializer}
    int8 = {name for name, one in weights.items() if one.data_type == TensorProto.INT8 and len(one.dims) == 2}
    assert len(int8) == 5
    assert {node.op_type for node in graph.node} >= {"Softmax", "LayerNormalization", "QuantizeLinear"}
    _, expected = OnnxEngine(original.levels[0], original).predict(_tiles(8), features=True)
    for backend in installed_backends():
        _, found = load_engine(package.levels[0], package, backend).predict(_tiles(8), features=True)
        assert cosines(expected, found).min() > 0.9
        assert not np.array_equal(expected, found)


def test_below_the_least_cosine_nothing_is_written(folder, capsys) -> None:
    words = ["models", "quantize", folder / "block", "--calibrate", folder / "slide.tif", "-o", folder / "int8"]
    assert run_command_line([*map(str, words), "--tiles", "16", "--min-cosine", "1"]) == 65
    error = capsys.readouterr().err
    assert "nothing was written" in error
    assert "--min-cosine" in error
    assert not (folder / "int8").exists()
