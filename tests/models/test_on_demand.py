"""A network on demand answers as one that is loaded, is loaded once, and never from a file that was changed."""

from __future__ import annotations

import os
import threading

import numpy as np
import pytest

from pyramidai_mpi.base.errors import InputError, StorageError
from pyramidai_mpi.models.engines import on_demand
from pyramidai_mpi.models.engines.backends import load_engine
from pyramidai_mpi.models.engines.on_demand import EngineOnDemand
from pyramidai_mpi.models.package import load_package
from pyramidai_mpi.testing.contracts import check_engine
from tests.models.test_onnx_engine import random_tiles
from tests.packages import colour_probability, write_package


@pytest.fixture
def package(tmp_path):
    """A package of its own, for files to be changed."""
    return load_package(write_package(tmp_path / "m", with_features=True))


def demanded(package, n_features=3):
    return EngineOnDemand(package.levels[0], package, "onnxruntime", "float32", 4, n_features)


def test_it_keeps_the_contract_of_engines(package):
    check_engine(demanded(package), random_tiles(11), n_classes=2)


def test_nothing_is_loaded_before_it_is_needed(package):
    engine = demanded(package)
    assert (engine.backend, engine.batch_shape, engine.n_features, engine.is_loaded) == ("onnxruntime", 4, 3, False)
    tiles = random_tiles(5)
    found, features = engine.predict(tiles, features=True)
    assert engine.is_loaded
    np.testing.assert_allclose(found, colour_probability(tiles), atol=1e-5)
    np.testing.assert_allclose(features, tiles.mean(axis=(1, 2)), atol=1e-3)


def test_threads_that_need_it_at_once_load_it_once(package, monkeypatch):
    loads = []

    def load(*arguments, **options):
        loads.append(threading.current_thread().name)
        return load_engine(*arguments, **options)

    monkeypatch.setattr(on_demand, "load_engine", load)
    engine = demanded(package)
    engine.begin_loading()
    found = engine.predict(random_tiles(3))[0]
    assert len(loads) == 1
    engine.begin_loading()
    assert engine.predict(random_tiles(3))[0].tobytes() == found.tobytes()
    assert len(loads) == 1


def test_a_file_that_was_changed_since_is_refused_by_name(package):
    engine = demanded(package)
    path = package.levels[0].onnx_path
    path.write_bytes((path.parent / package.levels[1].onnx_path.name).read_bytes())
    engine.begin_loading()  # says nothing of its own
    with pytest.raises(InputError, match=r"\.onnx: was changed since the run began"):
        engine.predict(random_tiles(1))


@pytest.mark.parametrize("how", ["touched", "linked to", "copied anew"])
def test_a_file_of_the_very_same_bytes_is_the_same_network(package, how):
    engine = demanded(package)
    path = package.levels[0].onnx_path
    if how == "touched":
        os.utime(path, (1, 1))
    elif how == "linked to":
        (path.parent / "backup").hardlink_to(path)
    else:
        (path.parent / "new").write_bytes(path.read_bytes())
        (path.parent / "new").rename(path)
    tiles = random_tiles(3)
    assert engine.predict(tiles)[0].tobytes() == demanded(package).predict(tiles)[0].tobytes()


def test_a_file_that_is_gone_is_refused_by_name(package):
    engine = demanded(package)
    os.unlink(package.levels[0].onnx_path)  # noqa: PTH108
    with pytest.raises(InputError, match=r"level0\.onnx"):
        engine.predict(random_tiles(1))


def test_want_of_memory_is_no_fault_of_the_network(package, monkeypatch):
    def no_memory(_):
        raise MemoryError

    monkeypatch.setattr("pyramidai_mpi.models.engines.onnx_engine.open_session", no_memory)
    with pytest.raises(StorageError, match="memory"):
        demanded(package).predict(random_tiles(1))
