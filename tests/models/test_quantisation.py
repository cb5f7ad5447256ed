"""Packages in integers: nearly the same answers, and none written that changes too many."""

from __future__ import annotations

import errno
import shutil
from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np
import onnx
import pytest
import yaml

from pyramidai_mpi.base.errors import InputError, StorageError
from pyramidai_mpi.base.settings import SlideInput
from pyramidai_mpi.cli.main import run_command_line
from pyramidai_mpi.models.check import check_network
from pyramidai_mpi.models.engines.base import SeenTiles
from pyramidai_mpi.models.engines.fixed_batch import settle_batch_shape
from pyramidai_mpi.models.engines.onnx_engine import OnnxEngine
from pyramidai_mpi.models.package import load_package
from pyramidai_mpi.models.quantisation import graph
from pyramidai_mpi.models.quantisation.package import quantise
from pyramidai_mpi.models.shipped import default_model
from pyramidai_mpi.models.write import PackageText, write_package
from pyramidai_mpi.run.opening import open_under, rule_of, segment_slide
from pyramidai_mpi.run.sampling import sample_tiles
from pyramidai_mpi.synth import SynthSpec, write_slide
from tests.packages import half_by_place
from tests.stains import densities_of, pixels_looked_at, plain_macenko

if TYPE_CHECKING:
    from pathlib import Path

MODEL = default_model()


@pytest.fixture(scope="module")
def slide(tmp_path_factory) -> Path:
    path = tmp_path_factory.mktemp("slide") / "s.tif"
    write_slide(SynthSpec(2800, 2800, seed=5, tumor_share=0.3), path)
    return path


@pytest.fixture(scope="module")
def int8_package(slide: Path, tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("models") / "int8"
    words = ["models", "quantize", str(MODEL), "--calibrate", str(slide), "-o", str(folder), "--max-changed", "0.1"]
    assert run_command_line(words) == 0
    return folder


def test_convolutions_multiply_integers(int8_package: Path) -> None:
    graph = onnx.load(int8_package / "level0.onnx").graph
    weights = {tensor.name: tensor.data_type for tensor in graph.initializer}
    producers = {name: node for node in graph.node for name in node.output}
    convolutions = [node for node in graph.node if node.op_type == "Conv"]
    assert len(convolutions) == 5
    for node in convolutions:
        stored = producers[node.input[1]]
        assert stored.op_type == "DequantizeLinear"
        assert weights[stored.input[0]] == onnx.TensorProto.INT8


def test_the_package_is_whole_and_keeps_thresholds(int8_package: Path) -> None:
    before, after = load_package(MODEL), load_package(int8_package)
    for level in after.levels:
        check_network(level, after)
    assert [level.threshold for level in after.levels] == [level.threshold for level in before.levels]
    assert after.name == "small-int8"
    assert before.quantisation_difference is None
    assert 0 < after.quantisation_difference < 0.3


def test_probabilities_stay_close_and_do_not_depend_on_the_batch(int8_package: Path, slide: Path) -> None:
    before, after = load_package(MODEL), load_package(int8_package)
    drawn = sample_tiles([slide], before, 40, seed=9)
    for old, new, ((tiles, _),) in zip(before.levels, after.levels, drawn, strict=True):
        float_scores = OnnxEngine(old, before).predict(tiles)[0]
        engine = OnnxEngine(new, after)
        scores = engine.predict(tiles)[0]
        assert np.abs(scores - float_scores).max() < 0.15
        assert float_scores[:, 1].std() > 0.1  # tiles that differ, or closeness would mean little
        assert (scores != float_scores).any()
        assert settle_batch_shape(engine, before.tile_size) == engine.batch_shape


def test_the_report_counts_what_differs(slide: Path, tmp_path: Path) -> None:
    package = load_package(MODEL)
    tiles = [parts[0] for parts in sample_tiles([slide], package, 30, seed=1)]
    done = quantise(package, tiles, tiles, tmp_path)
    for level, report in zip(package.levels, done.report.levels, strict=True):
        old = OnnxEngine(level, package).predict(tiles[level.level].pixels)[0][:, 1].astype(np.float64)
        path = tmp_path / f"again{level.level}.onnx"
        path.write_bytes(done.graphs[level.level])
        new = (
            OnnxEngine(replace(level, onnx_path=path), package)
            .predict(tiles[level.level].pixels)[0][:, 1]
            .astype(np.float64)
        )
        assert report.tiles == len(old)
        assert report.max_difference == np.abs(new - old).max()
        assert report.changed == sum(
            (a >= level.threshold) != (b >= level.threshold) for a, b in zip(old, new, strict=True)
        )
        assert report.float_positives == (old >= level.threshold).sum()


def test_every_library_is_compared_and_the_worst_decides(slide: Path, tmp_path: Path) -> None:
    pytest.importorskip("openvino", reason="OpenVINO is an extra: pip install 'pyramidai-mpi[openvino]'")
    package = load_package(MODEL)
    tiles = [parts[0] for parts in sample_tiles([slide], package, 30, seed=1)]
    report = quantise(package, tiles, tiles, tmp_path, ("onnxruntime", "openvino")).report
    assert [(level.level, level.backend) for level in report.levels] == [
        (level, backend) for level in range(3) for backend in ("onnxruntime", "openvino")
    ]
    changed = {
        backend: sum(level.changed for level in report.levels if level.backend == backend)
        / sum(len(part.pixels) for part in tiles)
        for backend in ("onnxruntime", "openvino")
    }
    assert {backend: report.changed_share(backend) for backend in changed} == changed
    assert report.worst[0] == max(changed.values())


def test_tiles_to_compare_are_none_of_those_to_calibrate(slide: Path) -> None:
    package = load_package(MODEL)
    ((tiles, _),) = sample_tiles([slide], package, 50, seed=2)[0]
    assert len({tile.tobytes() for tile in tiles}) == len(tiles) == 50
    again = sample_tiles([slide], package, 50, seed=2)[0][0].pixels
    np.testing.assert_array_equal(tiles, again)


@pytest.fixture(scope="module")
def macenko_model(tmp_path_factory) -> Path:
    """The shipped model, asking for Macenko's normalisation."""
    folder = tmp_path_factory.mktemp("models") / "macenko"
    shutil.copytree(MODEL, folder)
    document = yaml.safe_load((folder / "model.yaml").read_text())
    (folder / "model.yaml").write_text(yaml.safe_dump(document | {"stain": {"method": "macenko"}}))
    return folder


def test_tiles_of_each_slide_are_normalised_by_its_own_stain(slide: Path, macenko_model: Path, tmp_path: Path) -> None:
    other = tmp_path / "other.tif"
    write_slide(SynthSpec(2000, 2000, seed=8, tumor_share=0.1), other)
    package = load_package(macenko_model)
    raw, seen = (sample_tiles([slide, other], model, 6, seed=3) for model in (load_package(MODEL), package))
    for number, path in enumerate((slide, other)):
        opened = open_under(SlideInput(path), package)
        slide_pixels = pixels_looked_at(opened, rule_of(opened, segment_slide(opened)))
        for level in range(3):
            expected = plain_macenko(raw[level][number].pixels, slide_pixels, package.stain_target)
            assert np.abs(seen[level][number].pixels - expected).max() < 1
            assert np.abs(expected - raw[level][number].pixels).max() > 5


def test_tiles_are_each_normalised_by_its_own_stain_and_left_out_where_it_has_none(
    slide: Path, macenko_model: Path, tmp_path: Path
) -> None:
    folder = tmp_path / "per-tile"
    shutil.copytree(macenko_model, folder)
    document = yaml.safe_load((folder / "model.yaml").read_text())
    (folder / "model.yaml").write_text(yaml.safe_dump(document | {"stain": {"method": "macenko", "per": "tile"}}))
    package = load_package(folder)
    raw, seen = (sample_tiles([slide], model, 400, seed=3) for model in (load_package(MODEL), package))
    left_out = 0
    for level in range(3):
        stained = [len(densities_of(tile.reshape(-1, 3))) >= 1000 for tile in raw[level][0].pixels]
        left_out += stained.count(False)
        tiles = raw[level][0].pixels[stained]
        assert len(tiles) == len(seen[level][0].pixels)
        for tile, found in list(zip(tiles, seen[level][0].pixels, strict=True))[::7]:
            assert np.abs(found - plain_macenko(tile, tile.reshape(-1, 3), package.stain_target)).max() < 1
    assert left_out > 0


def test_a_package_that_normalises_stain_becomes_one_in_integers_that_does(
    slide: Path, macenko_model: Path, tmp_path: Path
) -> None:
    out = tmp_path / "int8"
    words = ["models", "quantize", str(macenko_model), "--calibrate", str(slide), "--tiles", "8", "-o", str(out)]
    assert run_command_line([*words, "--max-changed", "1"]) == 0
    before, after = load_package(macenko_model), load_package(out)
    assert after.stain == "macenko"
    tiles = sample_tiles([slide], before, 20, seed=4)[0][0].pixels
    scores = [OnnxEngine(package.levels[0], package).predict(tiles)[0] for package in (before, after)]
    assert 0 < np.abs(scores[0] - scores[1]).max() < 0.15


def test_too_many_changed_decisions_write_nothing(slide: Path, tmp_path: Path, monkeypatch, capsys) -> None:
    from pyramidai_mpi.models.quantisation import package as quantisation

    monkeypatch.setattr(quantisation.QuantisationReport, "changed_share", lambda self, backend: 0.02)
    words = ["models", "quantize", str(MODEL), "--calibrate", str(slide), "--tiles", "4", "-o", str(tmp_path / "m")]
    assert run_command_line(words) == 65
    assert "2.00% of the decisions change" in capsys.readouterr().err
    assert not (tmp_path / "m").exists()


def test_an_existing_folder_is_left_alone(slide: Path, tmp_path: Path) -> None:
    assert run_command_line(["models", "quantize", str(MODEL), "--calibrate", str(slide), "-o", str(tmp_path)]) == 73


def test_a_full_folder_for_temporary_files_is_no_fault_of_the_network(monkeypatch) -> None:
    def full(*_: object, **__: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(graph, "quant_pre_process", full)
    network = load_package(MODEL).levels[0].onnx_path
    with pytest.raises(StorageError, match=r"level0\.onnx: cannot be quantised in .*No space left.*TMPDIR names"):
        graph.quantised_graph(
            network, "tiles", SeenTiles(np.zeros((1, 8, 8, 3), np.uint8), np.zeros((1, 2), np.float32))
        )


def test_without_tiles_there_is_nothing_to_calibrate_with(tmp_path: Path) -> None:
    nothing = [SeenTiles(np.empty((0, 224, 224, 3), np.uint8), np.empty((0, 2), np.float32))] * 3
    with pytest.raises(InputError, match="no tissue tile of level 0"):
        quantise(load_package(MODEL), nothing, nothing, tmp_path)


def test_a_network_that_is_told_where_a_tile_lies_is_still_told(slide: Path, tmp_path: Path) -> None:
    told = tmp_path / "told"
    networks = [half_by_place(level.onnx_path) for level in load_package(MODEL).levels]
    write_package(told, PackageText("told", sees_position=True).document(3), networks)
    out = tmp_path / "int8"
    words = ["models", "quantize", str(told), "--calibrate", str(slide), "--tiles", "8", "-o", str(out)]
    assert run_command_line([*words, "--max-changed", "1"]) == 0
    before, after, plain = load_package(told), load_package(out), load_package(MODEL)
    assert after.sees_position
    ((pixels, positions),) = sample_tiles([slide], before, 20, seed=4)[0]
    assert np.ptp(positions) > 0.3
    old, new = (
        OnnxEngine(package.levels[0], package).predict(pixels, positions=positions)[0] for package in (before, after)
    )
    by_colour = OnnxEngine(plain.levels[0], plain).predict(pixels)[0][:, 1]
    np.testing.assert_allclose(old[:, 1], (by_colour + positions[:, 0]) / 2, atol=1e-6)
    assert 0 < np.abs(old - new).max() < 0.1
