"""Training and export of a network, in small; needs torch."""

import numpy as np
import onnxruntime
import pytest
import yaml

torch = pytest.importorskip("torch", reason="training needs torch: pip install pyramidai_mpi[train]")

from pyramidai_mpi.base.errors import UsageError  # noqa: E402
from pyramidai_mpi.training.network import build, fit, predict  # noqa: E402
from pyramidai_mpi.training.small import TrainingPlan, train_package  # noqa: E402
from pyramidai_mpi.training.weights import to_onnx  # noqa: E402


@pytest.fixture(scope="module")
def striped():
    """Tiles of fine noise against tiles of the same colours in stripes: texture alone tells them apart."""
    rng = np.random.default_rng(0)
    noise = rng.integers(120, 255, (24, 224, 224, 3), dtype=np.uint8)
    positive = np.arange(24) % 2 == 0
    noise[positive] = np.sort(noise[positive].reshape(12, 224, 7, 32, 3), axis=3).reshape(12, 224, 224, 3)
    return noise, positive


@pytest.fixture(scope="module")
def weights(striped):
    return fit(*striped, epochs=30, seed=0)


def test_a_texture_is_learnt(striped, weights):
    pixels, positive = striped
    assert ((predict(weights, pixels) >= 0.5) == positive).mean() > 0.9


def test_the_graph_computes_what_torch_computes(weights):
    pixels = np.random.default_rng(1).integers(0, 256, (5, 224, 224, 3), dtype=np.uint8)
    session = onnxruntime.InferenceSession(to_onnx(weights, "net", 224), providers=["CPUExecutionProvider"])
    probabilities, features = session.run(None, {"tiles": pixels})
    np.testing.assert_allclose(probabilities[:, 1], predict(weights, pixels), atol=1e-4)
    assert features.shape == (5, 128)


def test_a_tile_costs_less_than_sixty_million_multiplications(weights):
    assert weights.multiplications(224) < 60e6


def test_every_layer_of_the_network_is_exported(weights):
    folded = sum(parameter.numel() for name, parameter in build().named_parameters() if parameter.dim() in (2, 4))
    assert sum(layer.kernel.size for layer in weights.convolutions) + weights.head.size == folded


def test_too_few_slides_are_refused():
    with pytest.raises(UsageError, match="two slides"):
        TrainingPlan(train_slides=1)


@pytest.mark.slow
def test_a_package_is_made_from_nothing(tmp_path):
    slides = tmp_path / "slides"
    slides.mkdir()
    plan = TrainingPlan(train_slides=2, tune_slides=2, test_slides=2, size=2304, epochs=1)
    record = train_package(tmp_path / "tiny", plan, slides, "the command")
    package = yaml.safe_load((tmp_path / "tiny" / "model.yaml").read_text())
    assert [level["level"] for level in package["levels"]] == [0, 1, 2]
    assert all(0 < level["threshold"] < 1 for level in package["levels"])
    assert len(record.scores) == 3
    assert "the command" in (tmp_path / "tiny" / "README.md").read_text()
