"""A package of a network that segments whole images: written, read back, and refused where it is not what it says."""

from __future__ import annotations

import hashlib
from dataclasses import replace

import onnx
import pytest
import yaml
from onnx import TensorProto, helper

from pyramidai_mpi.base.errors import InputError, OutputExistsError
from pyramidai_mpi.models.check import check_segmentation_network
from pyramidai_mpi.models.package import load_package
from pyramidai_mpi.models.segmentation_package import (
    SegmentationText,
    is_segmentation_package,
    load_segmentation_package,
)
from pyramidai_mpi.models.write import write_segmentation_package
from tests.packages import write_package

TEXT = SegmentationText("dark", 0.5, 2, 4, intended_use="demonstration")


def dark_network(output: str = "probability") -> bytes:
    """Says how dark each pixel is, by the mean of its channels."""
    nodes = [
        helper.make_node("Cast", ["pixels"], ["real"], to=TensorProto.FLOAT),
        helper.make_node("ReduceMean", ["real"], ["grey"], axes=[3], keepdims=0),
        helper.make_node("Div", ["grey", "most"], ["bright"]),
        helper.make_node("Sub", ["one", "bright"], [output]),
    ]
    graph = helper.make_graph(
        nodes,
        "dark",
        [helper.make_tensor_value_info("pixels", TensorProto.UINT8, [1, "H", "W", 3])],
        [helper.make_tensor_value_info(output, TensorProto.FLOAT, [1, "H", "W"])],
        [helper.make_tensor("most", TensorProto.FLOAT, [], [255.0]), helper.make_tensor("one", 1, [], [1.0])],
    )
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 13)], ir_version=8).SerializeToString()


@pytest.fixture
def package(tmp_path):
    return write_segmentation_package(tmp_path / "dark", TEXT, dark_network(), {"README.md": "# Dark\n"})


def test_it_is_read_as_it_was_written(package):
    found = load_segmentation_package(package.folder)
    assert found.text == TEXT
    assert found == package
    assert found.sha256 == hashlib.sha256(dark_network()).hexdigest()
    assert found.onnx_path.read_bytes() == dark_network()
    assert (package.folder / "README.md").read_text() == "# Dark\n"
    assert yaml.safe_load(found.yaml_text) == {
        "format": "pyramidai-segmentation/1", "name": "dark", "intended_use": "demonstration",
        "classes": ["background", "tissue"], "mpp": 0.5, "total_stride": 2, "halo": 4, "threshold": 0.5,
        "onnx": "network.onnx", "sha256": found.sha256,
    }  # fmt: skip
    check_segmentation_network(found)


def test_what_is_there_is_never_replaced(package):
    with pytest.raises(OutputExistsError):
        write_segmentation_package(package.folder, TEXT, b"other")
    assert load_segmentation_package(package.folder) == package


def test_a_package_is_replaced_on_request_and_nothing_else_is(package, tmp_path):
    other = write_segmentation_package(package.folder, replace(TEXT, name="other"), dark_network(), overwrite=True)
    assert load_segmentation_package(package.folder) == other
    assert [path.name for path in tmp_path.iterdir()] == ["dark"]
    (tmp_path / "mine").mkdir()
    with pytest.raises(OutputExistsError, match="is not replaced"):
        write_segmentation_package(tmp_path / "mine", TEXT, dark_network(), overwrite=True)
    (package.folder / "notes.txt").write_text("dear")
    with pytest.raises(OutputExistsError, match=r"holds notes\.txt, which no training has made"):
        write_segmentation_package(package.folder, TEXT, dark_network(), overwrite=True)
    assert (package.folder / "notes.txt").read_text() == "dear"


def test_the_two_kinds_of_packages_are_told_apart(package, tmp_path):
    tiles = write_package(tmp_path / "tiles")
    assert is_segmentation_package(package.folder)
    assert not is_segmentation_package(tiles)
    assert not is_segmentation_package(tmp_path)
    with pytest.raises(InputError, match="segments whole images"):
        load_segmentation_package(tiles)
    with pytest.raises(InputError, match="pyramidai-segmentation/1"):
        load_package(package.folder)


@pytest.mark.parametrize(
    ("old", "new", "says"),
    [
        ("mpp: 0.5", "mpp: -1", "mpp is -1"),
        ("halo: 4", "halo: 3", "expected a multiple of total_stride"),
        ("threshold: 0.5", "threshold: 1.5", "at most 1"),
        ("- tissue", "- background", "two different names"),
        ("intended_use: demonstration", "intended_use: fun", "intended_use is 'fun'"),
        ("onnx: network.onnx", "onnx: ../network.onnx", "a file of the model's folder"),
        ("total_stride: 2\n", "", "lacks the key 'total_stride'"),
        ("sha256: ", "sha256: 00", "its SHA-256 is"),
    ],
)
def test_a_description_that_does_not_fit_is_refused(package, old, new, says):
    path = package.folder / "model.yaml"
    assert old in path.read_text()
    path.write_text(path.read_text().replace(old, new, 1))
    with pytest.raises(InputError, match=says) as caught:
        load_segmentation_package(package.folder)
    assert "\n" not in str(caught.value)


def test_a_network_of_other_inputs_or_outputs_is_refused(tmp_path):
    package = write_segmentation_package(tmp_path / "other", TEXT, dark_network("share"))
    with pytest.raises(InputError, match=r"gives pixels uint8 \(1, any, any, 3\), share .*expected .* probability"):
        check_segmentation_network(package)
    assert onnx.load(package.onnx_path).graph.output[0].name == "share"
