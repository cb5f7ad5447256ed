"""Which library runs the networks."""

from __future__ import annotations

import importlib.util
import logging
import time
from typing import TYPE_CHECKING

import numpy as np

from pyramidai_mpi.base.errors import InputError, UsageError
from pyramidai_mpi.base.extras import require_extra
from pyramidai_mpi.base.settings import NETWORK_LIBRARIES
from pyramidai_mpi.models.engines.features import cosines
from pyramidai_mpi.models.engines.fixed_batch import sample_positions, sample_tiles
from pyramidai_mpi.models.engines.onnx_engine import OnnxEngine
from pyramidai_mpi.process.memory import trim_heap

if TYPE_CHECKING:
    import numpy.typing as npt

    from pyramidai_mpi.base.types import RgbArray
    from pyramidai_mpi.models.engines.compiled_network import CompiledNetwork
    from pyramidai_mpi.models.engines.fixed_batch import FixedBatchEngine
    from pyramidai_mpi.models.package import ModelLevel, ModelPackage

log = logging.getLogger(__name__)

TOLERANCE = 1e-3
"""``auto`` takes a backend only if no probability on the sample tiles differs by more from onnxruntime's, or of an
encoder no cosine of a tile's features by more from 1. The libraries round whole numbers differently: a network in
integers may differ as much as it was seen to from its floats."""
_SECONDS = 1.0
"""Measuring in ``auto``, all levels and both backends together."""
_TILES = 16


SHARING = frozenset({"openvino"})
"""Backends that take long to make a network ready; their engines hand it on by `compiled`, for `load_engine`."""


def load_engine(
    level: ModelLevel,
    package: ModelPackage,
    backend: str,
    precision: str = "float32",
    *,
    batch_shape: int | None = None,
    probe: bool = True,
    compiled: CompiledNetwork | None = None,
) -> FixedBatchEngine:
    """One level's network behind a library, see `FixedBatchEngine`; `compiled` is for backends in `SHARING`.

    Raises
    ------
    InputError
        When the library cannot load or run the network.
    UsageError
        When the library is not installed.
    """
    if backend == "onnxruntime":
        return OnnxEngine(level, package, batch_shape, probe=probe)
    require_extra("openvino", f"--backend {backend}")
    try:
        from pyramidai_mpi.models.engines.openvino_engine import OpenVinoEngine
    except ImportError as error:
        raise UsageError(
            f"--backend {backend}: OpenVINO cannot be loaded ({error}); pip install 'pyramidai-mpi[openvino]'"
        ) from error
    return OpenVinoEngine(level, package, batch_shape, precision, probe=probe, compiled=compiled)


def installed_backends() -> tuple[str, ...]:
    """The libraries that can be used here, the default first."""
    return tuple(library for library in NETWORK_LIBRARIES if importlib.util.find_spec(library) is not None)


def choose_backend(package: ModelPackage) -> str:
    """The faster backend that agrees with onnxruntime, by measuring on sample tiles for a second.

    Each level counts the same. The best of several short runs is taken, the backends in turn, so that other programs on
    the machine disturb both alike.
    """
    seconds = dict.fromkeys(NETWORK_LIBRARIES, 0.0)
    differences = []
    tiles = sample_tiles(_TILES, package.tile_size)
    for level in package.levels:
        try:
            difference, best = _compare(level, package, tiles)
        except UsageError:
            log.info("backend auto: onnxruntime, as OpenVINO is not installed")
            return "onnxruntime"
        except InputError as error:
            OnnxEngine(level, package)  # raises if it is not OpenVINO alone that cannot
            log.info("backend auto: onnxruntime, as %s", error)
            return "onnxruntime"
        trim_heap()  # both networks of this level are gone
        differences.append(difference)
        for backend in NETWORK_LIBRARIES:
            seconds[backend] += best[backend] / _TILES / package.n_levels
    speeds = {backend: 1 / taken for backend, taken in seconds.items()}
    difference = float(np.max(differences))  # NaN if any is, and then nothing agrees
    tolerance = max(TOLERANCE, package.quantisation_difference or 0.0)
    agrees = difference <= tolerance
    chosen = "openvino" if agrees and speeds["openvino"] > speeds["onnxruntime"] else "onnxruntime"
    log.info(
        "backend auto: %s (tiles/s: onnxruntime %.0f, OpenVINO %.0f; %s differ by up to %.1g, allowed %.1g)",
        chosen, speeds["onnxruntime"], speeds["openvino"],
        "cosines from 1" if package.is_encoder else "probabilities", difference, tolerance,
    )  # fmt: skip
    return chosen


def _compare(level: ModelLevel, package: ModelPackage, tiles: RgbArray) -> tuple[float, dict[str, float]]:
    """Largest difference of probabilities, of an encoder of cosines from 1; shortest wall time of a pass by backend."""
    engines = {backend: load_engine(level, package, backend) for backend in NETWORK_LIBRARIES}
    places = sample_positions(len(tiles))
    (scores, features), (their_scores, their_features) = (
        engine.predict(tiles, features=package.is_encoder, positions=places) for engine in engines.values()
    )
    if features is None or their_features is None:
        difference = float(np.abs(scores - their_scores).max())
    else:
        difference = float((1 - cosines(features, their_features)).max())
    return difference, _best_seconds(engines, tiles, places, _SECONDS / package.n_levels)


def _best_seconds(
    engines: dict[str, FixedBatchEngine], tiles: RgbArray, places: npt.NDArray[np.float32], budget_s: float
) -> dict[str, float]:
    """Shortest wall time of one pass over the tiles."""
    best = dict.fromkeys(engines, float("inf"))
    end = time.perf_counter() + budget_s
    while True:
        for backend, engine in engines.items():
            started = time.perf_counter()
            engine.predict(tiles, positions=places)
            best[backend] = min(best[backend], time.perf_counter() - started)
        if time.perf_counter() >= end:
            return best
