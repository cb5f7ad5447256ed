"""A network's file is checked against its package before it is ever run."""

from __future__ import annotations

import hashlib

import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from pyramidai_mpi.base.errors import InputError
from pyramidai_mpi.models.check import check_network
from pyramidai_mpi.models.package import ModelLevel, load_package
from tests.packages import colour_network, write_package


@pytest.fixture(scope="module")
def package(tmp_path_factory):
    """A sound package; tests check networks of their own against it."""
    return load_package(write_package(tmp_path_factory.mktemp("models") / "sound"))


def check(package, path) -> None:
    check_network(ModelLevel(0, path, 0.5, hashlib.sha256(path.read_bytes()).hexdigest()), package)


def refusal(package, path) -> str:
    with pytest.raises(InputError) as caught:
        check(package, path)
    assert caught.value.exit_code == 65
    line = str(caught.value)
    assert str(path) in line
    assert "\n" not in line
    return line


def changed(path, change):
    """A colour network with its ONNX message changed."""
    colour_network(path)
    model = onnx.load(path)
    change(model)
    onnx.save(model, path)
    return path


def test_sound_networks_pass(package, tmp_path):
    for level in package.levels:
        check_network(level, package)
    colour_network(tmp_path / "features.onnx", with_features=True)
    check(package, tmp_path / "features.onnx")


@pytest.mark.parametrize(
    ("network", "found", "expected"),
    [
        ({"n_classes": 3}, "3)", "(any, 2)"),
        ({"side": 224}, "(any, 224, 224, 3)", "(any, 64, 64, 3)"),
        ({"channels": 4}, "(any, 64, 64, 4)", "(any, 64, 64, 3)"),
        ({"element": TensorProto.FLOAT}, "float", "uint8"),
    ],
    ids=["class count", "tile size", "channels", "type"],
)
def test_a_network_that_does_not_fit_its_package_is_refused(package, tmp_path, network, found, expected):
    colour_network(tmp_path / "odd.onnx", **network)
    line = refusal(package, tmp_path / "odd.onnx")
    assert found in line
    assert expected in line


def nchw(model):
    del model.graph.input[:]
    model.graph.input.append(helper.make_tensor_value_info("pixels", TensorProto.UINT8, ["b", 3, 64, 64]))


def fixed_batch(model):
    model.graph.input[0].type.tensor_type.shape.dim[0].dim_value = 1


def double_output(model):
    model.graph.output[0].type.tensor_type.elem_type = TensorProto.DOUBLE


def two_inputs(model):
    model.graph.input.append(helper.make_tensor_value_info("position", TensorProto.FLOAT, ["b", 2]))


def three_outputs(model):
    for name in ("mean", "logits"):
        model.graph.output.append(helper.make_tensor_value_info(name, TensorProto.FLOAT, ["b", 2]))


def old_opset(model):
    model.opset_import[0].version = 5


def future_opset(model):
    model.opset_import[0].version = 999


def foreign_domain(model):
    model.opset_import.append(helper.make_opsetid("org.example.secret", 1))


def no_shape(model):
    model.graph.output[0].type.tensor_type.ClearField("shape")


def no_tensor(model):
    del model.graph.input[:]
    model.graph.input.append(helper.make_tensor_sequence_value_info("pixels", TensorProto.UINT8, None))


def unheard_type(model):
    model.graph.input[0].type.tensor_type.elem_type = 99


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (nchw, ["(any, 3, 64, 64)", "(any, 64, 64, 3)"]),
        (fixed_batch, ["(1, 64, 64, 3)", "any"]),
        (double_output, ["double", "float"]),
        (two_inputs, ["2 inputs", "one"]),
        (three_outputs, ["3 outputs"]),
        (old_opset, ["opset 5"]),
        (future_opset, ["opset 999"]),
        (foreign_domain, ["org.example.secret"]),
        (no_shape, ["output", "(any, 2)"]),
        (no_tensor, ["input", "uint8"]),
        (unheard_type, ["99", "uint8"]),
    ],
    ids=lambda value: getattr(value, "__name__", ""),
)
def test_an_odd_network_is_refused_with_what_was_found_and_expected(package, tmp_path, change, words):
    line = refusal(package, changed(tmp_path / "odd.onnx", change))
    assert [word for word in words if word not in line] == []


@pytest.mark.parametrize(
    "data", [b"", b"not a network", bytes(1000), b"\x08\x08"], ids=["empty", "text", "zeros", "stub"]
)
def test_what_is_no_network_is_refused(package, tmp_path, data):
    path = tmp_path / "odd.onnx"
    path.write_bytes(data)
    assert "ONNX" in refusal(package, path)


def test_a_cut_network_is_refused(package, tmp_path):
    path = tmp_path / "cut.onnx"
    colour_network(path)
    path.write_bytes(path.read_bytes()[:-40])
    refusal(package, path)


def test_weights_that_are_listed_as_inputs_are_no_inputs(package, tmp_path):
    def old_style(model):
        for tensor in model.graph.initializer:
            model.graph.input.append(
                helper.make_tensor_value_info(tensor.name, tensor.data_type, numpy_helper.to_array(tensor).shape)
            )

    check(package, changed(tmp_path / "old.onnx", old_style))


def test_weights_outside_the_file_are_refused_since_no_hash_covers_them(package, tmp_path):
    path = tmp_path / "outside.onnx"
    colour_network(path)
    model = onnx.load(path)
    onnx.save(model, path, save_as_external_data=True, location="weights.bin", size_threshold=0)
    assert "weights" in refusal(package, path)
