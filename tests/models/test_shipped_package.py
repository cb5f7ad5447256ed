"""The package in models/small: what every command relies on."""

import hashlib
from pathlib import Path

import numpy as np
import onnx
import onnxruntime
import pytest
import yaml

from pyramidai_mpi.cli.main import run_command_line
from pyramidai_mpi.synth import SynthSpec, write_slide
from pyramidai_mpi.truth.labels import label_result

PACKAGE = Path(__file__).parents[2] / "models" / "small"
LEVELS = pytest.mark.parametrize("level", [0, 1, 2])


@pytest.fixture(scope="module")
def document():
    return yaml.safe_load((PACKAGE / "model.yaml").read_text())


def session(level):
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    path = PACKAGE / f"level{level}.onnx"
    return onnxruntime.InferenceSession(path, options, providers=["CPUExecutionProvider"])


def test_the_description_is_the_contract(document):
    assert document["format"] == "pyramidai-model/1"
    assert document["classes"] == ["normal", "tumor"]
    assert document["positive_class"] == "tumor"
    assert (document["tile_size"], document["scale_factor"], document["base_mpp"]) == (224, 2, 0.25)
    assert document["stain"] == {"method": "none"}
    assert document["intended_use"] == "demonstration"
    assert document["input"] == {"layout": "NHWC", "dtype": "uint8"}
    assert [level["level"] for level in document["levels"]] == [0, 1, 2]
    assert all(0 < level["threshold"] < 1 for level in document["levels"])


@LEVELS
def test_files_are_small_and_have_the_hashes_that_are_stated(document, level):
    data = (PACKAGE / document["levels"][level]["onnx"]).read_bytes()
    assert hashlib.sha256(data).hexdigest() == document["levels"][level]["sha256"]
    assert len(data) < 400_000


@LEVELS
def test_the_graph_takes_bytes_and_gives_probabilities_and_features(level):
    model = onnx.load(PACKAGE / f"level{level}.onnx")
    assert [entry.version for entry in model.opset_import] == [17]
    (tiles,) = session(level).get_inputs()
    assert (tiles.type, tiles.shape[1:]) == ("tensor(uint8)", [224, 224, 3])
    assert isinstance(tiles.shape[0], str)
    outputs = session(level).get_outputs()
    assert [output.name for output in outputs] == ["probabilities", "features"]
    assert [output.type for output in outputs] == ["tensor(float)"] * 2


@LEVELS
def test_a_tile_does_not_depend_on_its_batch(level):
    pixels = np.random.default_rng(level).integers(0, 256, (9, 224, 224, 3), dtype=np.uint8)
    together, features = session(level).run(None, {"tiles": pixels})
    alone = np.concatenate([session(level).run(None, {"tiles": pixels[k : k + 1]})[0] for k in range(9)])
    np.testing.assert_allclose(together, alone, atol=1e-5)
    np.testing.assert_allclose(together.sum(axis=1), 1, atol=1e-5)
    assert np.isfinite(features).all()


@LEVELS
def test_it_tells_tumour_from_normal_on_a_slide_it_has_not_seen(unseen, level):
    tiles = unseen.levels[level]
    called = tiles.passes(0.5)
    assert (called[tiles.positive].mean() + (~called[~tiles.positive]).mean()) / 2 > 0.8


@pytest.fixture(scope="module")
def unseen(tmp_path_factory):
    """Every tile of a slide with its score; above level 0 it is positive where there is tumour to be found below."""
    folder = tmp_path_factory.mktemp("unseen")
    slide, result = folder / "slide.tif", folder / "slide.h5"
    write_slide(SynthSpec(6144, 6144, seed=700_000, tumor_share=0.3), slide)
    assert run_command_line(["run", str(slide), "--mode", "exhaustive", "-o", str(result), "-q"]) == 0
    return label_result(result, folder).labelled_from_below()


def test_the_card_says_what_it_is_not_for():
    card = (PACKAGE / "README.md").read_text()
    assert "Not for diagnosis" in card
    assert "bench.paper.small_package" in card
