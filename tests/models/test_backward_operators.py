"""Gradients of single operators at the pixels, against torch's autograd in float64."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from onnx import TensorProto, helper, numpy_helper

torch = pytest.importorskip("torch")

from torch.nn import functional  # noqa: E402

from pyramidai_mpi.models.backward.engine import GradientEngine  # noqa: E402
from pyramidai_mpi.models.backward.operators import RULES  # noqa: E402
from pyramidai_mpi.models.package import ModelLevel, load_package  # noqa: E402
from pyramidai_mpi.models.shipped import default_model  # noqa: E402

SIDE = 9
FLOAT = TensorProto.FLOAT
RANDOM = np.random.default_rng(5)
W6, W3, W4 = (RANDOM.normal(size=shape).astype(np.float32) for shape in ((6, 3, 3, 3), (6, 1, 3, 2), (3, 4, 3, 3)))
PER_CHANNEL = [RANDOM.uniform(0.5, 1.5, 3).astype(np.float32) for _ in range(4)]
ROW = RANDOM.normal(size=(SIDE, 5)).astype(np.float32)
MATRIX = RANDOM.normal(size=(3 * SIDE * SIDE, 7)).astype(np.float32)
BIAS = RANDOM.normal(size=7).astype(np.float32)


def node(operator, *inputs, outputs=("y",), **attributes):
    return helper.make_node(operator, ["x", *inputs], list(outputs), **attributes)


def whole(*numbers):
    return np.array(numbers, np.int64)


def float_(value):
    return np.array(value, np.float32)


def tensor(array):
    return torch.from_numpy(array).double()


def padded(mode):
    return [node("Pad", "pads", mode=mode)], {"pads": whole(0, 0, 1, 2, 0, 0, 3, 0)}


def norm_by_hand(x):
    """Group norm as exporters write it: reshaped, normalised, reshaped, scaled."""
    groups = functional.instance_norm(x.reshape(1, 1, -1)).reshape(x.shape)
    return groups * tensor(PER_CHANNEL[0]).reshape(1, 3, 1, 1)


MAX = {"kernel_shape": [3, 3], "strides": [2, 2]}
CASES = {
    # values one by one
    "Relu": ([node("Relu")], {}, torch.relu),
    "LeakyRelu": ([node("LeakyRelu", alpha=0.2)], {}, lambda x: functional.leaky_relu(x, 0.2)),
    "PRelu": ([node("PRelu", "c")], {"c": PER_CHANNEL[0].reshape(3, 1, 1)},
              lambda x: functional.prelu(x, tensor(PER_CHANNEL[0]))),
    "Elu": ([node("Elu", alpha=0.7)], {}, lambda x: functional.elu(x, 0.7)),
    "Clip": ([node("Clip", "low", "high")], {"low": float_(-0.5), "high": float_(1)}, lambda x: x.clip(-0.5, 1)),
    "Clip from below": ([node("Clip", "low")], {"low": float_(0.1)}, lambda x: x.clip(0.1)),
    "Sigmoid": ([node("Sigmoid")], {}, torch.sigmoid),
    "Tanh": ([node("Tanh")], {}, torch.tanh),
    "Erf": ([node("Erf")], {}, torch.erf),
    "Exp": ([node("Exp")], {}, torch.exp),
    "Neg": ([node("Neg")], {}, torch.neg),
    "Abs": ([node("Abs")], {}, torch.abs),
    "Log, Sqrt, Reciprocal": (
        [node("Exp", outputs=["e"]), helper.make_node("Add", ["e", "one"], ["f"]),
         helper.make_node("Log", ["f"], ["g"]), helper.make_node("Sqrt", ["g"], ["h"]),
         helper.make_node("Reciprocal", ["h"], ["y"])],
        {"one": float_(1)}, lambda x: 1 / torch.sqrt(torch.log(torch.exp(x) + 1))),
    "Softplus": ([node("Softplus")], {}, functional.softplus),
    "Softsign": ([node("Softsign")], {}, functional.softsign),
    "Mish": ([node("Mish")], {}, functional.mish),
    "HardSigmoid": ([node("HardSigmoid", alpha=1 / 6, beta=0.5)], {}, functional.hardsigmoid),
    "HardSwish": ([node("HardSwish")], {}, functional.hardswish),
    "Gelu": ([node("Gelu")], {}, functional.gelu),
    "Gelu by tanh": ([node("Gelu", approximate="tanh")], {}, lambda x: functional.gelu(x, approximate="tanh")),
    "Floor": ([node("Floor", outputs=["f"]), node("Sub", "f")], {}, lambda x: x - torch.floor(x)),
    "Pow": ([node("Pow", "three")], {"three": float_(3)}, lambda x: x**3),
    "Pow of both": ([node("Exp", outputs=["e"]), helper.make_node("Pow", ["e", "x"], ["y"])], {},
                    lambda x: torch.exp(x) ** x),
    "Add": ([node("Add", "c")], {"c": PER_CHANNEL[0].reshape(3, 1, 1)}, lambda x: x + 1),
    "Sub": ([node("Tanh", outputs=["t"]), helper.make_node("Sub", ["t", "x"], ["y"])], {}, lambda x: torch.tanh(x) - x),
    "Mul by itself": ([node("Mul", "x")], {}, lambda x: x * x),
    "Mul, gate of each channel": (
        [node("GlobalAveragePool", outputs=["g"]), helper.make_node("Sigmoid", ["g"], ["s"]), node("Mul", "s")], {},
        lambda x: x * torch.sigmoid(x.mean((2, 3), keepdim=True))),
    "Div": ([node("GlobalMaxPool", outputs=["g"]), helper.make_node("Exp", ["g"], ["e"]), node("Div", "e")], {},
            lambda x: x / torch.exp(functional.adaptive_max_pool2d(x, 1))),
    "Sum": ([node("Tanh", outputs=["t"]), node("Sum", "t", "x")], {}, lambda x: 2 * x + torch.tanh(x)),
    "Max": ([node("Tanh", outputs=["t"]), node("Max", "t")], {}, lambda x: torch.maximum(x, torch.tanh(x))),
    "Min": ([node("Min", "zero")], {"zero": float_(0)}, lambda x: torch.minimum(x, torch.zeros(1).double())),
    "Where": ([node("Greater", "zero", outputs=["c"]), node("Tanh", outputs=["t"]),
               helper.make_node("Where", ["c", "t", "x"], ["y"])], {"zero": float_(0)},
              lambda x: torch.where(x > 0, torch.tanh(x), x)),
    "Identity, Dropout, Cast": ([node("Identity", outputs=["i"]), helper.make_node("Dropout", ["i"], ["d"]),
                                 helper.make_node("Cast", ["d"], ["y"], to=FLOAT)], {}, lambda x: x),
    # values elsewhere
    "Reshape": ([node("Reshape", "s")], {"s": whole(1, 9, -1)}, lambda x: x.reshape(1, 9, -1)),
    "Squeeze, Unsqueeze": (
        [node("Squeeze", "first", outputs=["s"]), helper.make_node("Unsqueeze", ["s", "first"], ["y"])],
        {"first": whole(0)}, lambda x: x),
    "Transpose": ([node("Transpose", perm=[0, 2, 3, 1])], {}, lambda x: x.permute(0, 2, 3, 1)),
    "Expand": ([node("ReduceMean", "a", outputs=["m"]), helper.make_node("Expand", ["m", "s"], ["y"])],
               {"a": whole(3), "s": whole(2, 3, 9, 4)}, lambda x: x.mean(3, keepdim=True).expand(2, 3, 9, 4)),
    "Concat": ([node("Tanh", outputs=["t"]), node("Concat", "t", "x", axis=1)], {},
               lambda x: torch.cat([x, torch.tanh(x), x], 1)),
    "Split": ([node("Split", "s", outputs=["a", "b", "c"], axis=2),
               helper.make_node("Mul", ["a", "c"], ["y"])], {"s": whole(3, 3, 3)}, lambda x: x[:, :, :3] * x[:, :, 6:]),
    "Slice": ([node("Slice", "b", "e", "a")], {"b": whole(1, -4), "e": whole(8, 99), "a": whole(2, -1)},
              lambda x: x[:, :, 1:8, -4:]),
    "Slice, every second": ([node("Slice", "b", "e", "a", "s")],
                            {"b": whole(1, 0), "e": whole(9, 7), "a": whole(2, 3), "s": whole(2, 3)},
                            lambda x: x[:, :, 1::2, 0:7:3]),
    "Slice backward": ([node("Slice", "b", "e", "a", "s")],
                       {"b": whole(-1), "e": whole(-(2**40)), "a": whole(3), "s": whole(-1)}, lambda x: x.flip(3)),
    "Gather": ([node("Gather", "i", axis=2)], {"i": whole(4, 0, 4, -1)}, lambda x: x[:, :, [4, 0, 4, 8]]),
    "Gather one": ([node("Gather", "i", axis=1)], {"i": np.array(2, np.int64)}, lambda x: x[:, 2]),
    "Pad": (*padded("constant"), lambda x: functional.pad(x, (2, 0, 1, 3))),
    "Pad, mirrored": (*padded("reflect"), lambda x: functional.pad(x, (2, 0, 1, 3), mode="reflect")),
    "Pad, drawn out": (*padded("edge"), lambda x: functional.pad(x, (2, 0, 1, 3), mode="replicate")),
    "Pad less": ([node("Pad", "p", "", "a")], {"p": whole(-2, 1), "a": whole(3)}, lambda x: functional.pad(x, (-2, 1))),
    # sums and norms
    "Gemm": ([node("Flatten", outputs=["f"]), helper.make_node("Gemm", ["f", "w", "b"], ["y"], alpha=0.5, beta=2.0)],
             {"w": MATRIX, "b": BIAS}, lambda x: 0.5 * x.flatten(1) @ tensor(MATRIX) + 2 * tensor(BIAS)),
    "Gemm turned": (
        [node("Reshape", "s", outputs=["r"]), helper.make_node("Gemm", ["w", "r"], ["y"], transA=1, transB=1)],
        {"w": np.ascontiguousarray(ROW), "s": whole(27, 9)}, lambda x: tensor(ROW).T @ x.reshape(27, 9).T),
    "Gemm of both": (
        [node("Reshape", "s", outputs=["r"]), helper.make_node("Tanh", ["r"], ["t"]),
         helper.make_node("ReduceSum", ["t", "a"], ["b"]),
         helper.make_node("Gemm", ["r", "t", "b"], ["y"], transA=1, beta=0.5)], {"s": whole(9, 27), "a": whole(0)},
        lambda x: x.reshape(9, 27).T @ torch.tanh(x.reshape(9, 27)) + 0.5 * torch.tanh(x.reshape(9, 27)).sum(0)),
    "MatMul": ([node("MatMul", "w")], {"w": ROW}, lambda x: x @ tensor(ROW)),
    "MatMul from the left": ([helper.make_node("MatMul", ["w", "x"], ["y"])], {"w": np.ascontiguousarray(ROW.T)},
                             lambda x: tensor(ROW).T @ x),
    "MatMul of both": ([node("ReduceSum", "a", outputs=["s"]), node("MatMul", "s")], {"a": whole(1)},
                       lambda x: x @ x.sum(1, keepdim=True)),
    "ReduceSum": ([node("ReduceSum", "a", keepdims=0)], {"a": whole(1, -1)}, lambda x: x.sum((1, 3))),
    "ReduceMean": ([node("ReduceMean", "a", keepdims=0)], {"a": whole(2, 3)}, lambda x: x.mean((2, 3))),
    "ReduceMean of all": ([node("ReduceMean", outputs=["m"]), node("Mul", "m")], {}, lambda x: x * x.mean()),
    "ReduceMax": ([node("ReduceMax", "a", keepdims=0)], {"a": whole(2, 3)}, lambda x: x.amax((2, 3))),
    "ReduceMin": ([node("ReduceMin", "a")], {"a": whole(1)}, lambda x: x.amin(1, keepdim=True)),
    "ReduceL2": ([node("ReduceL2", "a")], {"a": whole(1)}, lambda x: x.norm(dim=1, keepdim=True)),
    "ReduceSumSquare": ([node("ReduceSumSquare", "a")], {"a": whole(1)}, lambda x: (x * x).sum(1, keepdim=True)),
    "Softmax": ([node("Softmax", axis=1)], {}, lambda x: x.softmax(1)),
    "LogSoftmax": ([node("LogSoftmax", axis=-1)], {}, lambda x: x.log_softmax(-1)),
    "BatchNormalization": (
        [node("BatchNormalization", "s", "b", "m", "v", epsilon=1e-3)], dict(zip("sbmv", PER_CHANNEL, strict=True)),
        lambda x: functional.batch_norm(x, *map(tensor, PER_CHANNEL[2:] + PER_CHANNEL[:2]), eps=1e-3)),
    "InstanceNormalization": (
        [node("InstanceNormalization", "s", "b", epsilon=1e-2)], dict(zip("sb", PER_CHANNEL, strict=False)),
        lambda x: functional.instance_norm(x, weight=tensor(PER_CHANNEL[0]), bias=tensor(PER_CHANNEL[1]), eps=1e-2)),
    "InstanceNormalization of a group": (
        [node("Reshape", "s", outputs=["r"]), helper.make_node("InstanceNormalization", ["r", "o", "z"], ["n"]),
         node("Shape", outputs=["shape"]), helper.make_node("Reshape", ["n", "shape"], ["m"]),
         helper.make_node("Mul", ["m", "c"], ["y"])],
        {"s": whole(0, 1, -1), "o": float_([1]), "z": float_([0]), "c": PER_CHANNEL[0].reshape(3, 1, 1)}, norm_by_hand),
    "GroupNormalization": (
        [node("Conv", "w", outputs=["c"]),
         helper.make_node("GroupNormalization", ["c", "s", "b"], ["y"], num_groups=2)],
        {"w": W6, "s": np.arange(1, 7, dtype=np.float32), "b": np.ones(6, np.float32)},
        lambda x: functional.group_norm(functional.conv2d(x, tensor(W6)), 2, torch.arange(1, 7).double())),
    "LayerNormalization": (
        [node("LayerNormalization", "s", "b", axis=-1, epsilon=1e-4)], {"s": ROW[:, 0], "b": ROW[:, 1]},
        lambda x: functional.layer_norm(x, (9,), tensor(ROW[:, 0]), tensor(ROW[:, 1]), eps=1e-4)),
    # windows
    "Conv": ([node("Conv", "w", "b", pads=[1, 1, 1, 1])], {"w": W6, "b": W6[:, 0, 0, 0]},
             lambda x: functional.conv2d(x, tensor(W6), padding=1)),
    "Conv by 2, rows that none sees": ([node("Conv", "w", strides=[2, 4])], {"w": W6[:, :, :2, :2]},
                                       lambda x: functional.conv2d(x, tensor(W6[:, :, :2, :2]), stride=(2, 4))),
    "Conv with holes": ([node("Conv", "w", dilations=[2, 3], pads=[2, 1, 2, 1])], {"w": W6},
                        lambda x: functional.conv2d(x, tensor(W6), dilation=(2, 3), padding=(2, 1))),
    "Conv with holes, by 2": (
        [node("Conv", "w", dilations=[2, 2], strides=[2, 2], pads=[1, 1, 1, 1])], {"w": W6},
        lambda x: functional.conv2d(x, tensor(W6), dilation=2, stride=2, padding=1)),
    "Conv in groups": ([node("Conv", "w", group=3, pads=[0, 1, 1, 0])], {"w": W3},
                       lambda x: functional.conv2d(functional.pad(x, (1, 0, 0, 1)), tensor(W3), groups=3)),
    "Conv in groups, by 2": ([node("Conv", "w", group=3, strides=[2, 2])], {"w": W3},
                             lambda x: functional.conv2d(x, tensor(W3), groups=3, stride=2)),
    "Conv padded by more than its kernel": ([node("Conv", "w", pads=[3, 3, 3, 3])], {"w": W6},
                                            lambda x: functional.conv2d(x, tensor(W6), padding=3)),
    "Conv, the same size": ([node("Conv", "w", strides=[2, 2], auto_pad="SAME_UPPER")], {"w": W6[:, :, :2, :2]},
                            lambda x: functional.conv2d(functional.pad(x, (0, 1, 0, 1)), tensor(W6[:, :, :2, :2]),
                                                        stride=2)),
    "ConvTranspose": ([node("ConvTranspose", "w", strides=[2, 2], pads=[1, 0, 1, 0], output_padding=[1, 0])], {"w": W4},
                      lambda x: functional.conv_transpose2d(x, tensor(W4), stride=2, padding=(1, 0),
                                                            output_padding=(1, 0))),
    "MaxPool": ([node("MaxPool", **MAX)], {}, lambda x: functional.max_pool2d(x, 3, 2)),
    "MaxPool, padded": ([node("MaxPool", pads=[1, 1, 1, 1], **MAX)], {}, lambda x: functional.max_pool2d(x, 3, 2, 1)),
    "MaxPool, up": ([node("MaxPool", kernel_shape=[2, 2], strides=[2, 2], ceil_mode=1)], {},
                    lambda x: functional.max_pool2d(x, 2, 2, ceil_mode=True)),
    "MaxPool by 1": ([node("MaxPool", kernel_shape=[3, 3], pads=[1, 1, 1, 1])], {},
                     lambda x: functional.max_pool2d(x, 3, 1, 1)),
    "MaxPool with holes": ([node("MaxPool", kernel_shape=[3, 3], dilations=[2, 2])], {},
                           lambda x: functional.max_pool2d(x, 3, 1, dilation=2)),
    "AveragePool": ([node("AveragePool", **MAX)], {}, lambda x: functional.avg_pool2d(x, 3, 2)),
    "AveragePool by 1": ([node("AveragePool", kernel_shape=[3, 3], pads=[1, 1, 1, 1], count_include_pad=1)], {},
                         lambda x: functional.avg_pool2d(x, 3, 1, 1)),
    "AveragePool by 1, rims not counted": ([node("AveragePool", kernel_shape=[3, 3], pads=[1, 1, 1, 1])], {},
                                           lambda x: functional.avg_pool2d(x, 3, 1, 1, count_include_pad=False)),
    "AveragePool by 2, rims not counted": (
        [node("AveragePool", pads=[1, 1, 1, 1], **MAX)], {},
        lambda x: functional.avg_pool2d(x, 3, 2, 1, count_include_pad=False)),
    "AveragePool, up": ([node("AveragePool", kernel_shape=[2, 2], strides=[2, 2], ceil_mode=1)], {},
                        lambda x: functional.avg_pool2d(x, 2, 2, ceil_mode=True)),
    "AveragePool, halved": ([node("AveragePool", kernel_shape=[2, 2], strides=[2, 2])], {},
                            lambda x: functional.avg_pool2d(x, 2, 2)),
    "GlobalAveragePool": ([node("GlobalAveragePool")], {}, lambda x: x.mean((2, 3))),
    "GlobalMaxPool": ([node("GlobalMaxPool")], {}, lambda x: functional.adaptive_max_pool2d(x, 1)),
    "Resize": ([node("Resize", "", "s", mode="nearest", coordinate_transformation_mode="asymmetric",
                     nearest_mode="floor")], {"s": float_([1, 1, 2, 2])},
               lambda x: functional.interpolate(x, scale_factor=2)),
    "Resize, smoothly": ([node("Resize", "", "", "s", mode="linear", coordinate_transformation_mode="align_corners")],
                         {"s": whole(1, 3, 5, 14)},
                         lambda x: functional.interpolate(x, (5, 14), mode="bilinear", align_corners=True)),
}  # fmt: skip
TIED = ("MaxPool", "MaxPool, padded", "MaxPool, up", "MaxPool by 1", "GlobalMaxPool", "ReduceMax", "ReduceMin", "Max")


def engine_of(folder, nodes, constants, n_values, opset=21):
    """A network of these nodes from planes x in -2..2 to y, then a linear layer."""
    weights = np.random.default_rng(1).normal(size=(n_values, 2)).astype(np.float32)
    constants = {**constants, "scale": float_(4 / 255), "shift": float_(2), "flat": whole(1, -1), "weights": weights}
    graph = helper.make_graph(
        [
            helper.make_node("Cast", ["tiles"], ["values"], to=FLOAT),
            helper.make_node("Transpose", ["values"], ["planes"], perm=[0, 3, 1, 2]),
            helper.make_node("Mul", ["planes", "scale"], ["scaled"]),
            helper.make_node("Sub", ["scaled", "shift"], ["x"]),
            *nodes,
            helper.make_node("Reshape", ["y", "flat"], ["row"]),
            helper.make_node("MatMul", ["row", "weights"], ["logits"]),
            helper.make_node("Softmax", ["logits"], ["probabilities"], axis=1),
        ],
        "one",
        [helper.make_tensor_value_info("tiles", TensorProto.UINT8, ["batch", SIDE, SIDE, 3])],
        [helper.make_tensor_value_info("probabilities", FLOAT, ["batch", 2])],
        [numpy_helper.from_array(np.asarray(value), name) for name, value in constants.items()],
    )
    path = folder / "network.onnx"
    sets = [helper.make_opsetid("", opset)]
    path.write_bytes(helper.make_model(graph, opset_imports=sets, ir_version=9).SerializeToString())
    level = ModelLevel(0, path, 0.5, "0" * 64)
    package = replace(load_package(default_model(), check_files=False), tile_size=SIDE, levels=(level,))
    return GradientEngine(level, package), weights


def of_torch(pixels, way, weights):
    given = tensor(pixels).requires_grad_()
    values = way(given.permute(0, 3, 1, 2) * (4 / 255) - 2).reshape(-1)
    (values @ tensor(weights))[1].backward()
    return given.grad.numpy()


def tile(levels=256):
    values = np.linspace(0, 255, levels).round()
    return values[np.random.default_rng(3).integers(0, levels, (1, SIDE, SIDE, 3))].astype(np.float32)


def compared(folder, name, pixels):
    nodes, constants, way = CASES[name]
    n_values = way(tensor(pixels).permute(0, 3, 1, 2)).numel()
    engine, weights = engine_of(folder, nodes, constants, n_values)
    found, wanted = engine.input_gradients(pixels, 1), of_torch(pixels, way, weights)
    assert np.abs(wanted).max() > 1e-6
    assert np.abs(found - wanted).max() <= 1e-5 * np.abs(wanted).max()


@pytest.mark.parametrize("name", CASES)
def test_an_operators_gradient_is_torchs(name, tmp_path):
    compared(tmp_path, name, tile())


@pytest.mark.parametrize("name", TIED)
def test_equal_values_share_or_go_first_as_in_torch(name, tmp_path):
    compared(tmp_path, name, tile(levels=3))


@pytest.mark.parametrize("opset", [13, 17])
def test_networks_of_older_operators_have_gradients(opset, tmp_path):
    nodes = [
        node("MaxPool", outputs=["m"], kernel_shape=[3, 3]),
        helper.make_node("ReduceMean", ["m"], ["y"], axes=[2, 3], keepdims=0),
    ]
    engine, weights = engine_of(tmp_path, nodes, {}, 3, opset)
    wanted = of_torch(tile(), lambda x: functional.max_pool2d(x, 3, 1).mean((2, 3)), weights)
    assert np.abs(engine.input_gradients(tile(), 1) - wanted).max() <= 1e-5 * np.abs(wanted).max()


def test_every_rule_is_tried():
    tried = {each.op_type for nodes, _, _ in CASES.values() for each in nodes}
    # these are as Floor; Swish is of opset 24
    assert set(RULES) - tried == {"Ceil", "Round", "Sign", "Swish", "Flatten"} - tried
