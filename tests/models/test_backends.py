"""OpenVINO gives onnxruntime's probabilities, to the same bits whatever the batch; auto takes it for a reason only."""

from __future__ import annotations

import builtins
import tempfile
from dataclasses import replace

import numpy as np
import pytest

from pyramidai_mpi.base.errors import InputError, UsageError
from pyramidai_mpi.models.engines import backends
from pyramidai_mpi.models.engines.backends import choose_backend, load_engine
from pyramidai_mpi.models.engines.compiled_network import CompiledNetwork
from pyramidai_mpi.models.engines.fixed_batch import settle_batch_shape
from pyramidai_mpi.models.package import ModelLevel, load_package
from tests.models.test_onnx_engine import conv_network, random_tiles
from tests.packages import colour_network, colour_probability, write_package


@pytest.fixture(scope="module")
def package(tmp_path_factory):
    """A sound package of the colour network."""
    return load_package(write_package(tmp_path_factory.mktemp("models") / "sound"))


@pytest.fixture
def conv(package, tmp_path):
    """A convolutional network as a level of `package`."""
    conv_network(tmp_path / "conv.onnx")
    return ModelLevel(0, tmp_path / "conv.onnx", 0.5, "")


@pytest.fixture
def openvino():
    """The library, or a skip."""
    return pytest.importorskip("openvino", reason="OpenVINO is an extra: pip install 'pyramidai-mpi[openvino]'")


def no_file():
    raise OSError(28, "No space left on device")


def without_openvino(monkeypatch):
    plain_import = builtins.__import__

    def refuse(name, *arguments, **options):
        if "openvino" in name:
            raise ImportError(f"no module named {name}")
        return plain_import(name, *arguments, **options)

    monkeypatch.setattr(builtins, "__import__", refuse)


@pytest.mark.usefixtures("openvino")
def test_probabilities_are_those_of_a_few_lines_of_numpy(package):
    tiles = random_tiles(11)
    for n, level in enumerate(package.levels):
        engine = load_engine(level, package, "openvino")
        assert (engine.backend, engine.precision) == ("openvino", "float32")
        found, features = engine.predict(tiles)
        assert found.dtype == np.float32
        assert features is None
        assert np.abs(found - colour_probability(tiles, gain=1 + n / 4)).max() < 1e-5


@pytest.mark.usefixtures("openvino")
def test_a_convolution_and_its_features_agree_with_onnxruntime(package, conv):
    tiles = random_tiles(9)
    one, own = load_engine(conv, package, "openvino").predict(tiles, features=True)
    other, others = load_engine(conv, package, "onnxruntime").predict(tiles, features=True)
    assert own.shape == (9, 24)
    assert np.abs(one - other).max() < 1e-5
    assert np.abs(own - others).max() < 1e-4


@pytest.mark.usefixtures("openvino")
@pytest.mark.parametrize("shape", [None, 1, 3])
def test_a_tile_gives_the_same_bits_wherever_it_is_in_whatever_batch(package, conv, shape):
    engine = load_engine(conv, package, "openvino")
    engine.use_batch_shape(shape or settle_batch_shape(engine, 64))
    tiles = random_tiles(12)
    kept, kept_features = engine.predict(tiles[[0]], features=True)
    before = kept.tobytes(), kept_features.tobytes()
    alone = np.concatenate([engine.predict(tile[None])[0] for tile in tiles])
    for chosen in ([3, 1, 2], [11, 0], list(range(12)), [5] * 7, [7, 7, 0, 1, 2, 3, 4, 8, 9]):
        assert engine.predict(tiles[chosen])[0].tobytes() == alone[chosen].tobytes()
    assert (kept.tobytes(), kept_features.tobytes()) == before, "a result is overwritten by the next call"


@pytest.mark.usefixtures("openvino")
@pytest.mark.parametrize("shape", [4, 1, 3])
@pytest.mark.parametrize("has_files", [True, False], ids=["mapped", "in memory"])
def test_a_network_handed_on_gives_the_same_bits(package, conv, shape, has_files, monkeypatch):
    first = load_engine(conv, package, "openvino")
    if not has_files:
        monkeypatch.setattr(tempfile, "TemporaryFile", no_file)
    second = load_engine(conv, package, "openvino", compiled=CompiledNetwork.of(first.compiled()))
    assert second.n_features == first.n_features == 24
    tiles = random_tiles(9)
    for engine in (first, second):
        engine.use_batch_shape(shape)
    for one, other in zip(first.predict(tiles, features=True), second.predict(tiles, features=True), strict=True):
        assert one.tobytes() == other.tobytes()


@pytest.mark.usefixtures("openvino")
def test_what_no_network_was_made_into_is_refused_by_the_networks_name(package, conv):
    with pytest.raises(InputError, match=r"conv\.onnx: openvino cannot load it"):
        load_engine(conv, package, "openvino", compiled=CompiledNetwork.of(b"no network at all"))


def test_onnxruntime_hands_nothing_on(package):
    assert load_engine(package.levels[0], package, "onnxruntime").compiled() == b""


@pytest.mark.usefixtures("openvino")
def test_the_settled_shape_is_not_1_for_a_sound_network(package, conv):
    engine = load_engine(conv, package, "openvino")
    assert settle_batch_shape(engine, 64) == engine.batch_shape > 1


@pytest.mark.usefixtures("openvino")
def test_a_network_that_openvino_cannot_load_is_refused_by_name(package, tmp_path):
    (tmp_path / "bad.onnx").write_bytes(b"no network at all")
    with pytest.raises(InputError, match=r"bad\.onnx: openvino cannot load it") as caught:
        load_engine(ModelLevel(0, tmp_path / "bad.onnx", 0.5, ""), package, "openvino")
    assert "\n" not in str(caught.value)


@pytest.mark.usefixtures("openvino")
def test_logits_are_refused(package, tmp_path):
    colour_network(tmp_path / "logits.onnx", softmax=False)
    with pytest.raises(InputError, match=r"logits\.onnx.*probabilities.*softmax"):
        load_engine(ModelLevel(0, tmp_path / "logits.onnx", 0.5, ""), package, "openvino")


def test_without_openvino_auto_is_onnxruntime_and_openvino_an_error(package, monkeypatch):
    without_openvino(monkeypatch)
    monkeypatch.delitem(__import__("sys").modules, "pyramidai_mpi.models.engines.openvino_engine", raising=False)
    assert choose_backend(package) == "onnxruntime"
    with pytest.raises(UsageError, match=r"pip install 'pyramidai-mpi\[openvino\]'"):
        load_engine(package.levels[0], package, "openvino")


class Pretended:
    """An engine that takes its time and answers what it is told."""

    def __init__(self, seconds, answer, clock):
        self.seconds, self.answer, self.clock = seconds, answer, clock

    def predict(self, tiles, *, features=False, positions=None):
        self.clock.now += self.seconds
        return np.full((len(tiles), 2), self.answer, np.float32), None


class Clock:
    """Time that passes in engines alone."""

    now = 0.0

    def perf_counter(self):
        return self.now


@pytest.mark.parametrize(
    ("seconds", "answer", "expected"),
    [
        pytest.param(0.05, 0.5, "openvino", id="faster and the same"),
        pytest.param(0.05, 0.5009, "openvino", id="faster and nearly the same"),
        pytest.param(0.05, 0.502, "onnxruntime", id="faster and different"),
        pytest.param(0.05, np.nan, "onnxruntime", id="faster and no number"),
        pytest.param(0.20, 0.5, "onnxruntime", id="slower"),
    ],
)
def test_auto_takes_the_faster_backend_that_agrees(package, monkeypatch, seconds, answer, expected):
    clock = Clock()
    engines = {"onnxruntime": Pretended(0.1, 0.5, clock), "openvino": Pretended(seconds, answer, clock)}
    monkeypatch.setattr(backends, "load_engine", lambda _, __, backend: engines[backend])
    monkeypatch.setattr(backends, "time", clock)
    assert choose_backend(package) == expected
    assert clock.now < 4  # it was told to measure for a second


@pytest.mark.parametrize(
    ("answer", "expected"), [(0.519, "openvino"), (0.521, "onnxruntime")], ids=["within", "beyond"]
)
def test_integers_may_differ_as_much_as_they_do_from_the_floats(package, monkeypatch, answer, expected):
    clock = Clock()
    engines = {"onnxruntime": Pretended(0.1, 0.5, clock), "openvino": Pretended(0.05, answer, clock)}
    monkeypatch.setattr(backends, "load_engine", lambda _, __, backend: engines[backend])
    monkeypatch.setattr(backends, "time", clock)
    assert choose_backend(replace(package, quantisation_difference=0.02)) == expected
    assert choose_backend(package) == "onnxruntime"
