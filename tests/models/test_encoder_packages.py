"""Packages without classes: read, checked, run, and what is no such package refused."""

from __future__ import annotations

import numpy as np
import pytest
import scipy.spatial.distance

from pyramidai_mpi.base.errors import InputError, UsageError
from pyramidai_mpi.models.check import check_network
from pyramidai_mpi.models.engines.batch_choice import fastest_batch, speeds_by_batch
from pyramidai_mpi.models.engines.features import cosines
from pyramidai_mpi.models.engines.fixed_batch import settle_batch_shape
from pyramidai_mpi.models.engines.onnx_engine import OnnxEngine
from pyramidai_mpi.models.package import load_package
from pyramidai_mpi.testing.contracts import check_engine
from tests.packages import ENCODED, colour_network, encoded, write_encoder, write_package


@pytest.fixture(scope="module")
def package(tmp_path_factory):
    return load_package(write_encoder(tmp_path_factory.mktemp("encoder") / "e", batch=8))


def test_it_says_what_it_is(package) -> None:
    assert package.is_encoder
    assert (package.classes, package.positive_class, package.positive_name) == ((), None, "")
    assert package.levels[0].batch == 8
    assert package.with_positive_class(None) is package
    check_network(package.levels[0], package)


def test_its_engine_gives_features_and_no_probabilities(package) -> None:
    engine = OnnxEngine(package.levels[0], package)
    assert (engine.batch_shape, engine.n_features) == (8, ENCODED)
    assert settle_batch_shape(engine, package.tile_size) == 8
    pixels = np.random.default_rng(1).integers(0, 256, (11, 64, 64, 3), np.uint8)
    probability, features = engine.predict(pixels, features=True)
    assert probability.shape == (11, 0)
    np.testing.assert_allclose(features, encoded(pixels), rtol=1e-5)
    assert engine.predict(pixels[:0], features=True)[1].shape == (0, ENCODED)
    check_engine(engine, pixels, 0)


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ("positive_class: a", "has positive_class and no classes"),
        ("decision: {type: threshold}", "has decision and no classes"),
        ("aggregator: {}", "has aggregator and no classes"),
    ],
)
def test_what_only_classes_have_is_refused(tmp_path, change, said) -> None:
    folder = write_encoder(tmp_path / "e")
    (folder / "model.yaml").write_text((folder / "model.yaml").read_text() + change + "\n")
    with pytest.raises(InputError, match=said):
        load_package(folder)


def test_several_levels_are_refused(tmp_path) -> None:
    folder = write_encoder(tmp_path / "e")
    text = (folder / "model.yaml").read_text()
    entry = text[text.index("- level: 0") :]
    (folder / "model.yaml").write_text(text + entry.replace("level: 0", "level: 1"))
    with pytest.raises(InputError, match="level 0 alone"):
        load_package(folder)


@pytest.mark.parametrize("batch", [0, 65, "many"])
def test_a_batch_that_cannot_be_is_refused(tmp_path, batch) -> None:
    folder = write_encoder(tmp_path / "e", batch=8)
    (folder / "model.yaml").write_text((folder / "model.yaml").read_text().replace("batch: 8", f"batch: {batch}"))
    with pytest.raises(InputError, match="batch"):
        load_package(folder)


def test_a_classifiers_network_is_none_of_an_encoder(tmp_path) -> None:
    folder = write_encoder(tmp_path / "e")
    colour_network(folder / "level0.onnx", with_features=True)
    package = load_package(folder, check_files=False)
    with pytest.raises(InputError, match="2 outputs, expected one of an encoder"):
        check_network(package.levels[0], package)


def test_options_of_scores_are_refused(package) -> None:
    with pytest.raises(UsageError, match="gives no scores"):
        package.thresholds({0: 0.5})
    with pytest.raises(UsageError, match="has no classes"):
        package.with_positive_class("tumor")


def test_a_classifiers_batch_is_that_of_its_level(tmp_path) -> None:
    folder = write_package(tmp_path / "p", n_levels=1)
    text = (folder / "model.yaml").read_text()
    (folder / "model.yaml").write_text(text.replace("  threshold:", "  batch: 2\n  threshold:"))
    package = load_package(folder)
    assert OnnxEngine(package.levels[0], package).batch_shape == 2


def test_the_batch_is_the_least_of_the_fastest(package) -> None:
    assert fastest_batch({1: 10.0, 2: 19.0, 4: 20.0, 8: 20.1, 16: 18.0}) == 4
    speeds = speeds_by_batch(package.levels[0], package)
    assert set(speeds) == {1, 2, 4, 8, 16}
    assert min(speeds.values()) > 0


def test_cosines_are_scipys() -> None:
    rng = np.random.default_rng(2)
    ours, theirs = rng.normal(size=(2, 6, 9)).astype(np.float32)
    expected = [1 - scipy.spatial.distance.cosine(a, b) for a, b in zip(ours, theirs, strict=True)]
    np.testing.assert_allclose(cosines(ours, theirs), expected, atol=1e-6)
    nothing = np.zeros((1, 3))
    assert cosines(nothing, nothing).tolist() == [1.0]
    assert cosines(nothing, np.ones((1, 3))).tolist() == [0.0]
    assert np.isnan(cosines(np.full((1, 3), np.nan), np.ones((1, 3)))).all()
