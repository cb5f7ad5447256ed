"""Gradients of packages' networks: in closed form, by finite differences, for whom they are refused, without torch."""

from __future__ import annotations

import subprocess
import sys
from dataclasses import replace
from functools import cache

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from pyramidai_mpi.base.errors import InputError, UsageError
from pyramidai_mpi.models.backward.engine import GradientEngine
from pyramidai_mpi.models.backward.layers import default_layer, layers_of
from pyramidai_mpi.models.backward.writer import NoGradientError
from pyramidai_mpi.models.engines.onnx_engine import OnnxEngine
from pyramidai_mpi.models.package import FloatInput, ModelLevel, load_package
from pyramidai_mpi.models.shipped import default_model
from tests.packages import WEIGHTS, colour_network, position_network

SIDE = 64
SHIPPED = [default_model(), default_model().parent / "small-valid"]
both_shipped = pytest.mark.parametrize("folder", SHIPPED, ids=lambda folder: folder.name)


def tiles(count=3, side=SIDE, seed=0):
    """Smooth ones, brighter and darker."""
    random = np.random.default_rng(seed)
    ramp = np.linspace(0.3, 1, side)
    shades = ramp[None, :, None, None] * ramp[None, None, :, None] * random.uniform(60, 250, (count, 1, 1, 3))
    return np.clip(shades + random.integers(-9, 9, (count, side, side, 3)), 0, 255).astype(np.uint8)


@cache
def shipped(folder, *layers, closed_form=True):
    package = load_package(folder, check_files=False)
    return GradientEngine(package.levels[0], package, layers, closed_form=closed_form)


def package_of(path, side=SIDE, **more):
    level = ModelLevel(0, path, 0.5, "0" * 64)
    return level, replace(load_package(default_model(), check_files=False), tile_size=side, levels=(level,), **more)


def engine_of(path, side=SIDE, **more):
    return GradientEngine(*package_of(path, side, **more))


def pooled_network(path, *, pool="GlobalAveragePool", head="Gemm", between=(), last="Softmax"):
    """A convolution, a pool, a linear layer."""
    random = np.random.default_rng(8)
    kernel, weights = random.normal(0, 0.01, (5, 3, 3, 3)), random.normal(size=(5, 2 if last == "Softmax" else 1))
    pooling = {
        "GlobalAveragePool": [helper.make_node("GlobalAveragePool", ["maps"], ["pooled"]),
                              helper.make_node("Flatten", ["pooled"], ["row"])],
        "ReduceMean": [helper.make_node("ReduceMean", ["maps", "axes"], ["row"], keepdims=0)],
        "GlobalMaxPool": [helper.make_node("GlobalMaxPool", ["maps"], ["pooled"]),
                          helper.make_node("Flatten", ["pooled"], ["row"])],
    }[pool]  # fmt: skip
    heads = {
        "Gemm": [helper.make_node("Gemm", ["row", "turned", "bias"], ["logits"], transB=1, alpha=0.5)],
        "MatMul": [helper.make_node("MatMul", ["row", "weights"], ["product"]),
                   helper.make_node("Add", ["product", "bias"], ["logits"])],
    }[head]  # fmt: skip
    ends = {
        "Softmax": [helper.make_node("Softmax", ["logits"], ["probabilities"], axis=1)],
        "Sigmoid": [helper.make_node("Sigmoid", ["logits"], ["tumor"]),
                    helper.make_node("Sub", ["one", "tumor"], ["normal"]),
                    helper.make_node("Concat", ["normal", "tumor"], ["probabilities"], axis=1)],
        "Clip": [helper.make_node("Clip", ["logits", "zero", "one"], ["probabilities"])],
    }[last]  # fmt: skip
    constants = {
        "kernel": kernel, "weights": weights, "turned": weights.T, "bias": np.ones(weights.shape[1]),
        "one": 1, "zero": 0,
    }  # fmt: skip
    stored = [numpy_helper.from_array(np.array(value, np.float32), name) for name, value in constants.items()]
    nodes = [
        helper.make_node("Cast", ["tiles"], ["values"], to=TensorProto.FLOAT),
        helper.make_node("Transpose", ["values"], ["planes"], perm=[0, 3, 1, 2]),
        helper.make_node("Conv", ["planes", "kernel"], ["sums"], strides=[4, 4]),
        helper.make_node("Relu", ["sums"], ["maps"]),
        *between, *pooling, *heads, *ends,
    ]  # fmt: skip
    graph = helper.make_graph(
        nodes,
        "pooled",
        [helper.make_tensor_value_info("tiles", TensorProto.UINT8, ["batch", SIDE, SIDE, 3])],
        [helper.make_tensor_value_info("probabilities", TensorProto.FLOAT, ["batch", 2])],
        [*stored, numpy_helper.from_array(np.array([2, 3]), "axes")],
    )
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=8), path)
    return weights


@pytest.mark.parametrize("pool", ["GlobalAveragePool", "ReduceMean"])
@pytest.mark.parametrize("head", ["Gemm", "MatMul"])
@pytest.mark.parametrize("last", ["Softmax", "Sigmoid"])
def test_a_pooled_linear_head_has_its_weights_as_gradients(pool, head, last, tmp_path):
    weights = pooled_network(tmp_path / "n.onnx", pool=pool, head=head, last=last)
    level, package = package_of(tmp_path / "n.onnx")
    seen = tiles()
    for column in (0, 1):
        by_hand = weights[:, column] if last == "Softmax" else (2 * column - 1) * weights[:, 0]
        by_hand = by_hand * (0.5 if head == "Gemm" else 1) / 16**2
        for closed_form in (True, False):
            looked = GradientEngine(level, package, closed_form=closed_form).look(seen, column)
            assert list(looked.gradients) == list(looked.activations) == ["maps"]
            wanted = np.broadcast_to(by_hand[None, :, None, None], (3, 5, 16, 16))
            np.testing.assert_allclose(looked.gradients["maps"], wanted, rtol=1e-6)
            assert looked.activations["maps"].min() == 0 < looked.activations["maps"].max()
    np.testing.assert_allclose(looked.probabilities, OnnxEngine(level, package).predict(seen)[0], atol=1e-6)


def test_the_closed_form_is_only_taken_where_it_holds(tmp_path):
    pooled_network(tmp_path / "n.onnx", pool="GlobalMaxPool")
    gradient = engine_of(tmp_path / "n.onnx").look(tiles(1), 1).gradients["maps"]
    assert ((gradient != 0).sum(axis=(2, 3)) == 1).all()  # the place of the maximum alone
    between = [helper.make_node("Tanh", ["maps"], ["bent"]), helper.make_node("Mul", ["maps", "bent"], ["both"])]
    pooled_network(tmp_path / "m.onnx", between=between)
    model = onnx.load(tmp_path / "m.onnx")
    next(node for node in model.graph.node if node.op_type == "GlobalAveragePool").input[0] = "both"
    onnx.save(model, tmp_path / "m.onnx")
    level, package = package_of(tmp_path / "m.onnx")
    gradient = GradientEngine(level, package, ["maps"]).look(tiles(1), 1).gradients["maps"]
    assert gradient.std(axis=(2, 3)).max() > 1e-6  # each place has another one


@both_shipped
def test_gradients_of_the_shipped_networks_are_slopes(folder):
    engine = shipped(folder)
    seen = tiles(2, 224).astype(np.float32)
    gradients = engine.input_gradients(seen, 1)
    random = np.random.default_rng(1)
    for number in range(2):
        way = random.normal(size=seen[0].shape) * (
            np.abs(gradients[number]) > np.quantile(np.abs(gradients[number]), 0.9)
        )
        ends = np.stack([seen[number] + step * way for step in (-0.02, 0.02)]).astype(np.float32)
        below, above = engine.logits(ends)[:, 1].astype(np.float64)
        slope = (gradients[number] * (ends[1] - ends[0]).astype(np.float64)).sum()
        assert above - below == pytest.approx(slope, rel=0.05, abs=1e-5)
    # of whole numbers as of bytes
    looked = engine.look(tiles(2, 224), 1)
    logits = engine.logits(seen).astype(np.float64)
    shares = 1 / (1 + np.exp(logits[:, :1] - logits[:, 1:]))
    np.testing.assert_allclose(looked.probabilities[:, 1:], shares, atol=1e-6)


@both_shipped
def test_what_is_found_of_a_tile_depends_on_the_tile_alone(folder):
    engine = shipped(folder)
    seen = tiles(4, 224)
    together, apart = engine.look(seen, 1), [engine.look(seen[i : i + 1], 1) for i in (3, 0)]
    for number, alone in zip((3, 0), apart, strict=True):
        for mine, theirs in zip(alone, together, strict=True):
            pairs = [(mine, theirs)] if isinstance(mine, np.ndarray) else [(mine[k], theirs[k]) for k in mine]
            assert all(one[0].tobytes() == all_[number].tobytes() for one, all_ in pairs)
    floats = seen.astype(np.float32)
    assert engine.input_gradients(floats, 0)[3].tobytes() == engine.input_gradients(floats[3:], 0)[0].tobytes()
    assert engine.logits(floats)[3].tobytes() == engine.logits(floats[3:])[0].tobytes()
    assert engine.look(seen[:0], 1).gradients[engine.layers[0].name].shape == (0, *engine.layers[0].shape)


def test_layers_are_named_from_the_input_to_the_output():
    package = load_package(default_model(), check_files=False)
    layers = layers_of(package.levels[0], package)
    assert [(layer.name, layer.shape) for layer in layers] == [
        ("maps1", (12, 112, 112)),
        ("maps2", (24, 56, 56)),
        ("maps3", (40, 28, 28)),
        ("maps4", (48, 14, 14)),
        ("maps5", (64, 14, 14)),
        ("pooled", (128, 1, 1)),
    ]
    assert default_layer(package.levels[0], package) == layers[4]
    looked = shipped(default_model(), "maps2", "sums4").look(tiles(2, 224), 0)
    assert {name: value.shape for name, value in looked.gradients.items()} == {
        "maps2": (2, 24, 56, 56),
        "sums4": (2, 48, 14, 14),
    }
    with pytest.raises(
        UsageError, match=r"--layer nowhere: .*has no such maps; expected one of maps1, maps2, .*pooled"
    ):
        shipped(default_model(), "nowhere")
    with pytest.raises(UsageError, match=r"there is no class 2, expected one of 0..1"):
        shipped(default_model()).look(tiles(1, 224), 2)


def test_joined_branches_are_layers_and_branches_can_be_named(tmp_path):
    between = [
        helper.make_node("Tanh", ["maps"], ["left"]),
        helper.make_node("Sigmoid", ["maps"], ["right"]),
        helper.make_node("Add", ["left", "right"], ["joined"]),
        helper.make_node("Relu", ["joined"], ["after"]),
    ]
    pooled_network(tmp_path / "n.onnx", between=between)
    model = onnx.load(tmp_path / "n.onnx")
    next(node for node in model.graph.node if node.op_type == "GlobalAveragePool").input[0] = "after"
    onnx.save(model, tmp_path / "n.onnx")
    level, package = package_of(tmp_path / "n.onnx")
    assert [layer.name for layer in layers_of(level, package)] == ["maps", "after", "pooled"]
    looked = GradientEngine(level, package, ["maps", "left", "right", "after"]).look(tiles(1), 1)
    maps, gradients = looked.activations["maps"].astype(np.float64), looked.gradients
    np.testing.assert_array_equal(gradients["left"], gradients["right"])
    share = 1 / (1 + np.exp(-maps))
    wanted = gradients["after"] * (1 - np.tanh(maps) ** 2 + share * (1 - share))
    np.testing.assert_allclose(gradients["maps"], wanted, rtol=1e-4, atol=1e-9)


def test_a_network_told_where_tiles_lie_has_gradients_there(tmp_path):
    position_network(tmp_path / "n.onnx")
    engine = engine_of(tmp_path / "n.onnx", sees_position=True)
    seen, places = tiles(2), np.array([[0.1, 0.2], [0.9, 0.4]], np.float32)
    assert engine.layers == ()
    gradients = engine.input_gradients(seen.astype(np.float32), 1, places)
    # its answer is a probability without sigmoid: 0.1 times the mean, of bytes, over 255
    assert gradients == pytest.approx(0.1 / 255 / (SIDE * SIDE * 3), rel=1e-4)
    apart = engine.logits(seen.astype(np.float32), places) - engine.logits(seen.astype(np.float32), places[::-1].copy())
    assert np.abs(apart[:, 1]).min() > 0.01
    with pytest.raises(ValueError, match=r"is told where tiles lie, expected positions \(2, 2\), found none"):
        engine.logits(seen.astype(np.float32))


def test_of_networks_that_take_floats_gradients_are_at_pixels_all_the_same(tmp_path):
    recipe = FloatInput((0.5, 0.4, 0.6), (0.2, 0.25, 0.3))
    weights = np.random.default_rng(2).normal(size=(3, 4)).astype(np.float32)
    graph = helper.make_graph(
        [
            helper.make_node("ReduceMean", ["floats", "axes"], ["mean"], keepdims=0),
            helper.make_node("MatMul", ["mean", "weights"], ["logits"]),
        ],
        "floats",
        [helper.make_tensor_value_info("floats", TensorProto.FLOAT, ["batch", 3, SIDE, SIDE])],
        [helper.make_tensor_value_info("logits", TensorProto.FLOAT, ["batch", 4])],
        [numpy_helper.from_array(weights, "weights"), numpy_helper.from_array(np.array([2, 3]), "axes")],
    )
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=8), tmp_path / "n.onnx")
    level, package = package_of(tmp_path / "n.onnx", float_input=recipe, classes=("a", "b", "c", "d"))
    engine, seen = GradientEngine(level, package), tiles(2)
    for column in range(4):
        gradients = engine.input_gradients(seen.astype(np.float32), column)
        wanted = weights[:, column] / (255 * np.array(recipe.std) * SIDE**2)
        np.testing.assert_allclose(gradients, np.broadcast_to(wanted, gradients.shape), rtol=1e-5)
    means = ((seen / 255).mean(axis=(1, 2)) - recipe.mean) / recipe.std
    np.testing.assert_allclose(engine.logits(seen.astype(np.float32)), means @ weights, rtol=1e-4)


def test_the_logit_is_what_the_last_sigmoid_or_softmax_is_given_if_there_is_one(tmp_path):
    colour_network(tmp_path / "s.onnx")
    gradients = engine_of(tmp_path / "s.onnx").input_gradients(tiles(1).astype(np.float32), 1)
    np.testing.assert_allclose(gradients[0, 0, 0], WEIGHTS[:, 1] / SIDE**2, rtol=1e-5)
    pooled_network(tmp_path / "c.onnx", last="Clip")
    model = onnx.load(tmp_path / "c.onnx")
    model.graph.node.insert(
        len(model.graph.node) - 3, helper.make_node("Sigmoid", ["maps"], ["gate"])
    )  # an inner one, which is not the last word
    onnx.save(model, tmp_path / "c.onnx")
    assert engine_of(tmp_path / "c.onnx").layers[0].name == "maps"


def test_an_operator_without_a_rule_is_named_and_perturbation_offered(tmp_path):
    pooled_network(tmp_path / "n.onnx", between=[helper.make_node("Sin", ["maps"], ["waves"])])
    model = onnx.load(tmp_path / "n.onnx")
    next(node for node in model.graph.node if node.op_type == "GlobalAveragePool").input[0] = "waves"
    onnx.save(model, tmp_path / "n.onnx")
    level, package = package_of(tmp_path / "n.onnx")
    said = r"n.onnx: has no gradients here: there is no rule for the operators Sin; use --method occlusion, which needs"
    with pytest.raises(NoGradientError, match=said):
        GradientEngine(level, package, ["maps"])
    engine = GradientEngine(level, package)  # behind it nobody needs it
    assert [layer.name for layer in engine.layers] == ["waves"]
    with pytest.raises(NoGradientError, match=said):
        engine.open_pixels()


def test_networks_in_integers_and_files_that_are_none_are_refused(tmp_path):
    colour_network(tmp_path / "n.onnx")
    with pytest.raises(NoGradientError, match="it computes in integers, and only its float32 original has them"):
        engine_of(tmp_path / "n.onnx", quantisation_difference=0.01)
    colour_network(tmp_path / "old.onnx")
    model = onnx.load(tmp_path / "n.onnx")
    del model.graph.node[:]
    model.graph.node.extend(
        [
            helper.make_node("DequantizeLinear", ["pixels", "scale"], ["float"]),
            *onnx.load(tmp_path / "old.onnx").graph.node[1:],
        ]
    )
    model.graph.initializer.append(numpy_helper.from_array(np.array(1, np.float32), "scale"))
    onnx.save(model, tmp_path / "n.onnx")
    with pytest.raises(NoGradientError, match="it computes in integers"):
        engine_of(tmp_path / "n.onnx")
    (tmp_path / "none.onnx").write_bytes(b"nothing")
    with pytest.raises(InputError, match=r"none.onnx: not an ONNX file"):
        engine_of(tmp_path / "none.onnx")


def test_pixels_of_another_kind_are_a_bug_of_the_caller():
    engine = shipped(default_model())
    with pytest.raises(ValueError, match=r"pixels are float32 \(1, 224, 224, 3\), expected uint8"):
        engine.look(tiles(1, 224).astype(np.float32), 1)
    with pytest.raises(ValueError, match=r"pixels are uint8 \(1, 64, 64, 3\), expected float32 \(1, 224, 224, 3\)"):
        engine.input_gradients(tiles(1), 1)


def test_no_torch_is_loaded():
    code = (
        "import sys, numpy as np\n"
        "from pyramidai_mpi.models.backward.engine import GradientEngine\n"
        "from pyramidai_mpi.models.package import load_package\n"
        "from pyramidai_mpi.models.shipped import default_model\n"
        "package = load_package(default_model())\n"
        "engine = GradientEngine(package.levels[0], package)\n"
        "engine.look(np.zeros((1, 224, 224, 3), np.uint8), 1)\n"
        "engine.input_gradients(np.zeros((1, 224, 224, 3), np.float32), 1)\n"
        "print(*sorted({'torch', 'onnxruntime'} & set(sys.modules)))\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=100, check=True)
    assert done.stdout.split() == ["onnxruntime"]
