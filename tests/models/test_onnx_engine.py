"""A tile's probabilities are right, and the same whatever else is in the batch."""

from __future__ import annotations

import hashlib

import numpy as np
import onnx
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from onnx import TensorProto, helper, numpy_helper

from pyramidai_mpi.base.errors import InputError
from pyramidai_mpi.models.engines.fixed_batch import settle_batch_shape
from pyramidai_mpi.models.engines.onnx_engine import OnnxEngine
from pyramidai_mpi.models.package import ModelLevel, load_package
from tests.packages import colour_network, colour_probability, write_package


def conv_network(path, side: int = 64) -> None:
    """Two strided convolutions, a mean and a softmax with random weights; the mean is its feature vector."""
    rng = np.random.default_rng(7)
    weights = {
        "w1": rng.normal(0, 0.2, (16, 3, 5, 5)),
        "w2": rng.normal(0, 0.1, (24, 16, 3, 3)),
        "w3": rng.normal(0, 1, (24, 2)),
        "scale": np.array(1 / 255),
    }
    nodes = [
        helper.make_node("Cast", ["pixels"], ["float"], to=TensorProto.FLOAT),
        helper.make_node("Mul", ["float", "scale"], ["scaled"]),
        helper.make_node("Transpose", ["scaled"], ["nchw"], perm=[0, 3, 1, 2]),
        helper.make_node("Conv", ["nchw", "w1"], ["c1"], strides=[2, 2], pads=[2, 2, 2, 2]),
        helper.make_node("Relu", ["c1"], ["r1"]),
        helper.make_node("Conv", ["r1", "w2"], ["c2"], strides=[2, 2], pads=[1, 1, 1, 1]),
        helper.make_node("Relu", ["c2"], ["r2"]),
        helper.make_node("ReduceMean", ["r2"], ["mean"], axes=[2, 3], keepdims=0),
        helper.make_node("MatMul", ["mean", "w3"], ["logits"]),
        helper.make_node("Softmax", ["logits"], ["probabilities"], axis=1),
    ]
    graph = helper.make_graph(
        nodes,
        "conv",
        [helper.make_tensor_value_info("pixels", TensorProto.UINT8, ["batch", side, side, 3])],
        [
            helper.make_tensor_value_info("probabilities", TensorProto.FLOAT, ["batch", 2]),
            helper.make_tensor_value_info("mean", TensorProto.FLOAT, ["batch", 24]),
        ],
        [numpy_helper.from_array(value.astype(np.float32), name) for name, value in weights.items()],
    )
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8), path)


def engine_of(package, path, **options) -> OnnxEngine:
    return OnnxEngine(ModelLevel(0, path, 0.5, hashlib.sha256(path.read_bytes()).hexdigest()), package, **options)


def random_tiles(n: int, seed: int = 0, side: int = 64) -> np.ndarray:
    rng = np.random.default_rng(seed)
    shade = rng.integers(0, 200, (n, 1, 1, 3))
    return (shade + rng.integers(0, 56, (n, side, side, 3))).astype(np.uint8)


@pytest.fixture(scope="module")
def package(tmp_path_factory):
    """A sound package of the colour network."""
    return load_package(write_package(tmp_path_factory.mktemp("models") / "sound"))


@pytest.fixture(scope="module", params=["colour", "conv"])
def engine(request, package, tmp_path_factory):
    """An engine with a settled batch shape, of a linear and of a convolutional network."""
    path = tmp_path_factory.mktemp("networks") / "network.onnx"
    {"colour": colour_network, "conv": conv_network}[request.param](path)
    made = engine_of(package, path)
    made.use_batch_shape(settle_batch_shape(made, 64))
    return made


def test_probabilities_are_those_of_a_few_lines_of_numpy(package):
    tiles = random_tiles(11)
    for n, level in enumerate(package.levels):
        found, features = OnnxEngine(level, package).predict(tiles)
        assert found.dtype == np.float32
        assert features is None
        assert np.abs(found - colour_probability(tiles, gain=1 + n / 4)).max() < 1e-5


@settings(max_examples=20, deadline=None)
@given(st.data())
def test_a_tile_gives_the_same_bits_wherever_it_is_in_whatever_batch(engine, data):
    tiles = random_tiles(12)
    alone = np.concatenate([engine.predict(tile[None])[0] for tile in tiles])
    chosen = data.draw(st.lists(st.integers(0, 11), min_size=1, max_size=15))
    assert engine.predict(tiles[chosen])[0].tobytes() == alone[chosen].tobytes()


def test_features_too_do_not_depend_on_the_batch(package, tmp_path):
    conv_network(tmp_path / "conv.onnx")
    engine = engine_of(package, tmp_path / "conv.onnx")
    engine.use_batch_shape(settle_batch_shape(engine, 64))
    tiles = random_tiles(9)
    probabilities, features = engine.predict(tiles, features=True)
    assert features.shape == (9, 24)
    assert engine.n_features == 24
    for n, tile in enumerate(tiles):
        one, own = engine.predict(tile[None], features=True)
        assert own.tobytes() == features[n].tobytes()
        assert one.tobytes() == probabilities[n].tobytes()
    assert probabilities.tobytes() == engine.predict(tiles)[0].tobytes()


def test_tiles_of_an_earlier_call_leave_no_trace(engine):
    tiles = random_tiles(3)
    before = engine.predict(tiles)[0].tobytes()
    engine.predict(np.full((7, 64, 64, 3), 255, np.uint8))
    assert engine.predict(tiles)[0].tobytes() == before


def test_a_result_is_not_overwritten_by_the_next_call(engine):
    first, _ = engine.predict(random_tiles(2, seed=1))
    kept = first.copy()
    engine.predict(random_tiles(2, seed=2))
    assert (first == kept).all()


def test_tiles_need_not_lie_in_one_piece(engine):
    tiles = random_tiles(16)
    assert engine.predict(tiles[::2])[0].tobytes() == engine.predict(tiles)[0][::2].tobytes()


def test_no_tiles_give_no_probabilities(engine):
    found, _ = engine.predict(np.empty((0, 64, 64, 3), np.uint8))
    assert found.shape == (0, 2)
    assert found.dtype == np.float32


def test_the_settled_shape_is_1_for_a_network_that_mixes_its_batch(package, tmp_path):
    """A network that subtracts the mean over its batch: no fixed shape but 1 makes it right."""
    path = tmp_path / "mixing.onnx"
    colour_network(path)
    model = onnx.load(path)
    mean = helper.make_node("ReduceMean", ["mean"], ["middle"], axes=[0], keepdims=1)
    model.graph.node[2].input[0] = "centred"
    model.graph.node.insert(2, helper.make_node("Sub", ["mean", "middle"], ["centred"]))
    model.graph.node.insert(2, mean)
    onnx.save(model, path)
    engine = engine_of(package, path)
    assert engine.batch_shape > 1
    assert settle_batch_shape(engine, 64) == 1
    engine.use_batch_shape(1)
    tiles = random_tiles(5)
    assert engine.predict(tiles)[0].tobytes() == engine.predict(tiles[::-1])[0][::-1].tobytes()


def test_the_settled_shape_is_1_for_a_network_that_looks_at_the_place_in_the_batch(package, tmp_path):
    """A network that adds its place in the batch, whatever the neighbours are."""
    path = tmp_path / "placing.onnx"
    colour_network(path)
    model = onnx.load(path)
    model.graph.initializer.extend(
        numpy_helper.from_array(np.array(value, np.int64), name)
        for name, value in {"zero": 0, "one": 1, "axis": [1], "first": 0}.items()
    )
    model.graph.node[2].input[0] = "placed"
    for step in reversed([
        helper.make_node("Shape", ["mean"], ["shape"]),
        helper.make_node("Gather", ["shape", "first"], ["batch_size"]),
        helper.make_node("Range", ["zero", "batch_size", "one"], ["places"]),
        helper.make_node("Cast", ["places"], ["as_floats"], to=onnx.TensorProto.FLOAT),
        helper.make_node("Unsqueeze", ["as_floats", "axis"], ["column"]),
        helper.make_node("Add", ["mean", "column"], ["placed"]),
    ]):  # fmt: skip
        model.graph.node.insert(2, step)
    onnx.save(model, path)
    engine = engine_of(package, path)
    assert engine.batch_shape > 1
    assert settle_batch_shape(engine, 64) == 1


def test_one_bad_tile_gives_nan_for_itself_alone(package, tmp_path):
    path = tmp_path / "log.onnx"
    colour_network(path)
    model = onnx.load(path)
    # log of the mean colour: -inf for black, and inf - inf = NaN after the matrix product
    model.graph.node[2].input[0] = "log"
    model.graph.node.insert(2, helper.make_node("Log", ["mean"], ["log"]))
    onnx.save(model, path)
    engine = engine_of(package, path)
    tiles = random_tiles(6)
    tiles[2] = 0
    found, _ = engine.predict(tiles)
    assert np.isnan(found[2]).all()
    assert np.isfinite(np.delete(found, 2, axis=0)).all()


def logits_with(path, bias: float) -> None:
    """Logits in place of probabilities, `bias` for a black tile."""
    colour_network(path, softmax=False)
    model = onnx.load(path)
    for tensor in model.graph.initializer:
        if tensor.name == "bias":
            tensor.CopyFrom(numpy_helper.from_array(np.full(2, bias, np.float32), "bias"))
    onnx.save(model, path)


@pytest.mark.parametrize("bias", [-0.1, 3.0], ids=["negative on black", "large on black"])
def test_logits_are_refused(package, tmp_path, bias):
    logits_with(tmp_path / "logits.onnx", bias)
    with pytest.raises(InputError, match=r"logits\.onnx.*probabilities.*softmax"):
        engine_of(package, tmp_path / "logits.onnx")


def test_logits_that_look_like_probabilities_on_a_black_tile_are_refused_too(package, tmp_path):
    logits_with(tmp_path / "logits.onnx", 0.5)
    with pytest.raises(InputError, match=r"logits\.onnx.*probabilities"):
        settle_batch_shape(engine_of(package, tmp_path / "logits.onnx"), 64)


def test_a_network_that_onnxruntime_cannot_load_is_refused(package, tmp_path):
    path = tmp_path / "bad.onnx"
    colour_network(path)
    model = onnx.load(path)
    model.graph.node[3].op_type = "NoSuchOperator"
    onnx.save(model, path)
    with pytest.raises(InputError, match=r"bad\.onnx.*cannot load") as caught:
        engine_of(package, path)
    assert "\n" not in str(caught.value)


def test_a_network_that_fails_when_it_runs_is_refused(package, tmp_path):
    path = tmp_path / "bad.onnx"
    colour_network(path)
    model = onnx.load(path)
    # only batches of 3 fit this shape
    model.graph.initializer.append(numpy_helper.from_array(np.array([3, 2], np.int64), "shape"))
    model.graph.node[3].output[0] = "free"
    model.graph.node.insert(4, helper.make_node("Reshape", ["free", "shape"], ["logits"]))
    onnx.save(model, path)
    with pytest.raises(InputError, match=r"bad\.onnx.*cannot run"):
        engine_of(package, path)
