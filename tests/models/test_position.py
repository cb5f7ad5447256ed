"""Networks that are told where a tile lies: packages, and every engine, against a closed form."""

from __future__ import annotations

import importlib.util
import os

import numpy as np
import onnx
import pytest
import yaml

from pyramidai_mpi.base.errors import InputError
from pyramidai_mpi.cli.main import run_command_line
from pyramidai_mpi.models.check import check_network
from pyramidai_mpi.models.dense.sharing import sharing_of
from pyramidai_mpi.models.engines.backends import choose_backend, load_engine
from pyramidai_mpi.models.engines.compiled_network import CompiledNetwork
from pyramidai_mpi.models.engines.fixed_batch import sample_positions, sample_tiles, settle_batch_shape
from pyramidai_mpi.models.package import load_package
from pyramidai_mpi.pyramid.grid import Grid, GridLevel
from pyramidai_mpi.testing.contracts import check_engine
from tests.packages import (
    colour_network,
    position_network,
    position_probability,
    write_package,
    write_position_package,
)

missing = importlib.util.find_spec("openvino") is None
both = pytest.mark.parametrize(
    "backend", ["onnxruntime", pytest.param("openvino", marks=pytest.mark.skipif(missing, reason="is not installed"))]
)
TILES, PLACES = sample_tiles(7, 64), sample_positions(7)


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return write_position_package(tmp_path_factory.mktemp("position"))


@pytest.fixture
def package(folder):
    return load_package(folder)


def changed(folder, tmp_path, **entries):
    """A copy of the package that says something else."""
    document = yaml.safe_load((folder / "model.yaml").read_text()) | entries
    for path in folder.iterdir():
        os.link(path, tmp_path / path.name)
    (tmp_path / "model.yaml").unlink()
    (tmp_path / "model.yaml").write_text(yaml.safe_dump(document))
    return load_package(tmp_path)


def test_a_package_says_whether_its_networks_are_told(package, tmp_path):
    assert package.sees_position
    assert not load_package(write_package(tmp_path)).sees_position
    assert yaml.safe_load(package.yaml_text)["inputs"] == ["position"]


@pytest.mark.parametrize("inputs", [["age"], ["position", "age"], "position", {"position": 1}, 3])
def test_other_inputs_are_refused(folder, tmp_path, inputs):
    with pytest.raises(InputError, match=r"inputs is .*, expected \[\] or \[position\]"):
        changed(folder, tmp_path, inputs=inputs)


def test_the_graph_has_to_have_what_the_package_says(package, folder, tmp_path):
    for level in package.levels:
        check_network(level, package)
    silent = changed(folder, tmp_path, inputs=[])
    with pytest.raises(InputError, match=r"has 2 inputs, expected one: pixels; of position the package says inputs"):
        check_network(silent.levels[0], silent)
    path = package.levels[0].onnx_path
    for make, found in (
        (lambda: colour_network(path), "has the inputs pixels, expected two: pixels and position"),
        (lambda: position_network(path, by_name="place"), "has the inputs place, pixels, expected two"),
        (lambda: of_three_numbers(path), r"input 'position' has shape \(any, 3\), expected \(any, 2\)"),
    ):
        kept = path.read_bytes()
        make()
        with pytest.raises(InputError, match=found):
            check_network(package.levels[0], package)
        path.write_bytes(kept)


def of_three_numbers(path):
    position_network(path)
    model = onnx.load(path)
    model.graph.input[0].type.tensor_type.shape.dim[1].dim_value = 3
    onnx.save(model, path)


@both
def test_engines_give_the_closed_form_whatever_the_batch(backend, package):
    for level, gain in zip(package.levels, (1, 0.75, 0.5), strict=True):
        engine = load_engine(level, package, backend)
        check_engine(engine, TILES, 2, PLACES)
        assert settle_batch_shape(engine, 64) == 4
        found = engine.predict(TILES, positions=PLACES)[0]
        np.testing.assert_allclose(found[:, 1], position_probability(TILES, PLACES, gain), atol=1e-6)
        if compiled := engine.compiled():
            handed_on = load_engine(level, package, backend, probe=False, compiled=CompiledNetwork.of(compiled))
            np.testing.assert_array_equal(handed_on.predict(TILES, positions=PLACES)[0], found)


@both
def test_an_engine_without_positions_does_not_guess(backend, package):
    engine = load_engine(package.levels[0], package, backend)
    with pytest.raises(ValueError, match=r"expected positions \(7, 2\), found none"):
        engine.predict(TILES)


@pytest.mark.skipif(missing, reason="OpenVINO is not installed")
def test_backends_are_compared_at_positions(package):
    assert choose_backend(package) in {"onnxruntime", "openvino"}


def test_windows_cannot_share_a_pass(package):
    assert [one.reason for one in sharing_of(package)] == ["is told where each window lies (inputs: [position])"] * 3


def test_a_package_is_described_with_its_inputs(folder, capsys):
    for words in (["info", str(folder)], ["models", "list", str(folder)]):
        assert run_command_line(words) == 0
        assert "pixels, and position: a tile's middle over the slide's size" in capsys.readouterr().out


def test_positions_are_middles_of_windows_over_the_slides_size():
    grid = Grid(1000, 500, 64, (GridLevel(1.5, 16), GridLevel(3.0, 16)))
    index = np.array([[0, 0], [5, 2], [41, 20]])
    middles = (index * 16 + 8) * 1.5  # of the cells, around which the windows lie
    wanted = np.clip(middles / (1000, 500), 0, 1)
    np.testing.assert_allclose(grid.positions(0, grid.corners(0, index)), wanted, rtol=1e-6)
    assert grid.positions(0, np.array([[700, 700], [-100, -100]])).tolist() == [[1, 1], [0, 0]]
