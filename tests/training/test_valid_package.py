"""The package in models/small-valid: a shipped model whose sliding windows can share their work."""

from __future__ import annotations

import hashlib
from pathlib import Path

import numpy as np
import onnx
import onnxruntime
import pytest
import yaml
from sklearn.metrics import roc_auc_score

from pyramidai_mpi.cli.main import run_command_line
from pyramidai_mpi.models.check import check_network
from pyramidai_mpi.models.package import load_package
from pyramidai_mpi.models.shipped import default_model, find_model
from pyramidai_mpi.synth import SynthSpec, write_slide
from pyramidai_mpi.truth.labels import label_result

PACKAGE = Path(__file__).parents[2] / "models" / "small-valid"
LEVELS = pytest.mark.parametrize("level", [0, 1, 2])


@pytest.fixture(scope="module")
def document():
    return yaml.safe_load((PACKAGE / "model.yaml").read_text())


def session(level):
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    path = PACKAGE / f"level{level}.onnx"
    return onnxruntime.InferenceSession(path, options, providers=["CPUExecutionProvider"])


def test_it_is_shipped_and_the_default_is_another():
    assert find_model(Path("small-valid")) == PACKAGE
    assert default_model().name == "small"


def test_it_stands_in_for_small_at_the_same_levels(document):
    other = yaml.safe_load((PACKAGE.parent / "small" / "model.yaml").read_text())
    same = ("format", "classes", "positive_class", "tile_size", "scale_factor", "base_mpp", "stain", "input", "inputs")
    assert {key: document[key] for key in same} == {key: other[key] for key in same}
    assert document["name"] == "small-valid"
    assert document["intended_use"] == "demonstration"
    assert [level["level"] for level in document["levels"]] == [0, 1, 2]
    assert all(0 < level["threshold"] < 1 for level in document["levels"])


@LEVELS
def test_files_are_small_and_have_the_hashes_that_are_stated(document, level):
    data = (PACKAGE / document["levels"][level]["onnx"]).read_bytes()
    assert hashlib.sha256(data).hexdigest() == document["levels"][level]["sha256"]
    assert len(data) < 600_000


@LEVELS
def test_no_network_pads(level):
    for node in onnx.load(PACKAGE / f"level{level}.onnx").graph.node:
        known = {one.name: onnx.helper.get_attribute_value(one) for one in node.attribute}
        assert node.op_type in {"Transpose", "Cast", "Mul", "Sub", "Conv", "Relu", "ReduceMean", "Gemm", "Softmax"}
        assert not any(known.get("pads", []))
        assert known.get("auto_pad", b"NOTSET") == b"NOTSET"


@LEVELS
def test_networks_are_those_of_their_description(level):
    package = load_package(PACKAGE)
    check_network(package.levels[level], package)
    tiles = np.random.default_rng(level).integers(0, 256, (9, 224, 224, 3), np.uint8)
    together, features = session(level).run(["probabilities", "features"], {"tiles": tiles})
    alone = np.concatenate([session(level).run(None, {"tiles": tiles[k : k + 1]})[0] for k in range(9)])
    np.testing.assert_allclose(together, alone, atol=1e-5)
    np.testing.assert_allclose(together.sum(axis=1), 1, atol=1e-5)
    assert features.shape == (9, 64)
    assert np.isfinite(features).all()


@pytest.fixture(scope="module")
def unseen(tmp_path_factory):
    """Every tile of a slide with its score; it is positive where half of its tissue is tumour, as in training."""
    folder = tmp_path_factory.mktemp("unseen")
    slide, result = folder / "slide.tif", folder / "slide.h5"
    write_slide(SynthSpec(6144, 6144, seed=700_001, tumor_share=0.3), slide)
    words = ["run", str(slide), "--model", "small-valid", "--mode", "exhaustive", "-o", str(result), "-q"]
    assert run_command_line(words) == 0
    return label_result(result, folder)


@LEVELS
def test_it_tells_tumour_from_normal_on_a_slide_it_has_not_seen(unseen, level):
    tiles = unseen.levels[level]
    assert roc_auc_score(tiles.positive, tiles.score) > 0.9


def test_the_card_says_what_it_is_not_for_and_how_it_was_made():
    card = (PACKAGE / "README.md").read_text()
    assert "Not for diagnosis" in card
    assert "bench.paper.small_package" in card
