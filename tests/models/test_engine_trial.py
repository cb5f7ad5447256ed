"""Networks that crash, exhaust or outlast whoever loads them end a child process, and the user gets one line."""

from __future__ import annotations

import hashlib

import numpy as np
import onnx
import pytest
import yaml
from onnx import TensorProto, helper, numpy_helper
from onnx.external_data_helper import set_external_data

from pyramidai_mpi.base.errors import InputError
from pyramidai_mpi.models.engines.trial import found_in_trial, try_loading
from pyramidai_mpi.run.networks import open_package
from tests.packages import write_package

MS = "com.microsoft"
node = helper.make_node
# from pixels to "mean", float32 (batch, 3)
START = [
    node("Cast", ["pixels"], ["float"], to=TensorProto.FLOAT),
    node("ReduceMean", ["float"], ["mean"], axes=[1, 2], keepdims=0),
]
OPSETS = [helper.make_opsetid("", 17), helper.make_opsetid(MS, 1)]


def network(nodes, weights=(), functions=(), domain=MS):
    """A network with the input and output of `write_package`'s, and anything between."""
    graph = helper.make_graph(
        [*START, *nodes],
        "g",
        [helper.make_tensor_value_info("pixels", TensorProto.UINT8, ["batch", 64, 64, 3])],
        [helper.make_tensor_value_info("p", TensorProto.FLOAT, ["batch", 2])],
        list(weights),
    )
    opsets = [helper.make_opsetid("", 17), helper.make_opsetid(domain, 1)]
    return helper.make_model(graph, opset_imports=opsets, ir_version=8, functions=list(functions))


def tensor(name, value):
    return numpy_helper.from_array(np.array(value), name)


def outside(name):
    """Weights that lie in a file of the system."""
    weights = numpy_helper.from_array(np.ones((3, 2), np.float32), name)
    set_external_data(weights, "../../../../../../../../etc/passwd", offset=0, length=24)
    weights.ClearField("raw_data")
    return weights


def function(name, nodes):
    return helper.make_function(MS, name, ["x"], ["y"], nodes, OPSETS)


def of_sound_weights():
    return network([node("MatMul", ["mean", "w"], ["q"]), node("Softmax", ["q"], ["p"])], [sound_weights()])


def sound_weights():
    return numpy_helper.from_array(np.full((3, 2), 1e-4, np.float32), "w")


def that_calls_itself():
    again = function("Again", [node("Again", ["x"], ["y"], domain=MS)])
    return network([node("Again", ["mean"], ["p"], domain=MS)], functions=[again])


def of_functions_that_double():
    functions = [function("F0", [node("Identity", ["x"], ["y"])])]
    functions += [  # 2**40 nodes, once they are inlined
        function(f"F{i + 1}", [node(f"F{i}", ["x"], ["a"], domain=MS), node(f"F{i}", ["a"], ["y"], domain=MS)])
        for i in range(40)
    ]
    return network([node("F40", ["mean"], ["p"], domain=MS)], functions=functions)


def of_eight_terabytes():
    shape = tensor("shape", [1 << 40, 2])
    return network([node("ConstantOfShape", ["shape"], ["big"]), node("ReduceMean", ["big"], ["p"], axes=[0])], [shape])


def of_weights_without_bytes():
    weights = onnx.TensorProto(name="w", data_type=TensorProto.FLOAT, dims=[3, 1 << 50])
    return network([node("MatMul", ["mean", "w"], ["p"])], [weights])


def without_an_end():
    body = helper.make_graph(
        [node("Identity", ["on"], ["on_out"]), node("Identity", ["x"], ["x_out"])],
        "body",
        [
            helper.make_tensor_value_info("i", TensorProto.INT64, []),
            helper.make_tensor_value_info("on", TensorProto.BOOL, []),
            helper.make_tensor_value_info("x", TensorProto.FLOAT, None),
        ],
        [
            helper.make_tensor_value_info("on_out", TensorProto.BOOL, []),
            helper.make_tensor_value_info("x_out", TensorProto.FLOAT, None),
        ],
    )
    return network(
        [node("Loop", ["times", "on", "mean"], ["p"], body=body)],
        [tensor("times", np.int64(1 << 60)), tensor("on", True)],
    )


def with_weights_outside():
    return network([node("MatMul", ["mean", "w"], ["p"])], [outside("w")])


def with_weights_outside_in_a_function():
    nodes = [node("Constant", [], ["w"], value=outside("w")), node("MatMul", ["x", "w"], ["y"])]
    return network([node("Hide", ["mean"], ["p"], domain=MS)], functions=[function("Hide", nodes)])


def of_operators_of_a_library():
    return network([node("Evil", ["mean"], ["p"], domain="evil")], domain="evil")


HOSTILE = [
    (that_calls_itself, "level0.onnx"),
    (of_functions_that_double, "took more than 3 s"),
    (of_eight_terabytes, "level0.onnx"),
    (of_weights_without_bytes, "level0.onnx"),
    (without_an_end, "took more than 3 s"),
    (with_weights_outside, "keeps weights in another file"),
    (with_weights_outside_in_a_function, "keeps weights in another file"),
    (of_operators_of_a_library, "domain 'evil'"),
]


def package_of(folder, model):
    """A package of one level with this network, its hash as it should be."""
    write_package(folder, n_levels=1)
    (folder / "level0.onnx").write_bytes(model.SerializeToString())
    document = yaml.safe_load((folder / "model.yaml").read_text())
    document["levels"][0]["sha256"] = hashlib.sha256((folder / "level0.onnx").read_bytes()).hexdigest()
    (folder / "model.yaml").write_text(yaml.safe_dump(document))
    return folder


@pytest.mark.parametrize(("make", "words"), HOSTILE, ids=[make.__name__.replace("_", " ") for make, _ in HOSTILE])
def test_a_malicious_network_is_one_line(make, words, tmp_path):
    folder = package_of(tmp_path / "m", make())
    seconds = 3 if "3 s" in words else 60
    with try_loading(folder, seconds=seconds) as trial, pytest.raises(InputError, match=r"/m") as caught:
        trial.check()
    assert words in str(caught.value)
    assert "\n" not in str(caught.value)


def test_a_sound_network_passes_and_its_package_is_returned(tmp_path):
    folder = package_of(tmp_path / "m", of_sound_weights())
    assert open_package(folder, check_networks=True).n_levels == 1


def test_opening_a_package_with_checks_is_what_tries_its_networks(tmp_path):
    folder = package_of(tmp_path / "m", with_weights_outside())
    with pytest.raises(InputError, match="another file"):
        open_package(folder, check_networks=True)


@pytest.mark.parametrize(
    ("answer", "expected"),
    [
        ("[[4, 0], [1, 7]]", [(4, 0), (1, 7)]),
        ("", None),
        ("[[4, 0]]", None),
        ("[[4, 0], [3, 0]]", None),
        ("[[4, 0], [4, -1]]", None),
        ('[[4, 0], "four"]', None),
        ("7", None),
    ],
)
def test_an_answer_counts_only_if_it_makes_sense(answer, expected):
    assert found_in_trial(answer, (4, 4)) == expected
