"""A level's network, loaded when it is needed first: a rank that never comes to a level holds no network of it."""

from __future__ import annotations

import logging
from threading import Lock, Thread
from typing import TYPE_CHECKING

from pyramidai_mpi.base.errors import InputError, input_errors
from pyramidai_mpi.base.hashes import file_sha256
from pyramidai_mpi.models.engines.backends import load_engine
from pyramidai_mpi.models.engines.compiled_network import CompiledNetwork
from pyramidai_mpi.models.engines.network_cache import CachedNetwork
from pyramidai_mpi.process.memory import trim_heap

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt

    from pyramidai_mpi.base.types import RgbArray
    from pyramidai_mpi.models.engines.fixed_batch import FixedBatchEngine
    from pyramidai_mpi.models.package import ModelLevel, ModelPackage

log = logging.getLogger(__name__)


def check_unchanged(level: ModelLevel) -> None:
    """See that a network's file holds what it held when the run began, before it is loaded later.

    Raises
    ------
    InputError
        It does not, or cannot be read.
    """
    if file_sha256(level.onnx_path) != level.sha256:
        raise InputError(
            f"{level.onnx_path}: was changed since the run began; give the run the network that it began with, and "
            "--resume"
        )


class EngineOnDemand:
    """One network by an `Engine`'s contract, of which everything is known but what it answers.

    Parameters
    ----------
    level, package, backend, precision
        See `load_engine`.
    batch_shape, n_features
        What was found of it, the same on all ranks.
    compiled
        What to load it from, made for this batch shape; None for its file.
    loaded
        The network where it is loaded already.

    Attributes
    ----------
    backend, precision, batch_shape, n_features, sees_position
        See `Engine`.
    """

    def __init__(
        self,
        level: ModelLevel,
        package: ModelPackage,
        backend: str,
        precision: str,
        batch_shape: int,
        n_features: int,
        compiled: CachedNetwork | bytes | None = None,
        loaded: FixedBatchEngine | None = None,
    ) -> None:
        self.backend, self.precision = backend, precision
        self.batch_shape, self.n_features = batch_shape, n_features
        self.sees_position = package.sees_position
        self._level, self._package, self._compiled = level, package, compiled
        self._stamp = self._stamp_now()
        self._lock = Lock()
        self._engine = loaded
        if loaded is not None:
            self._settle(loaded)

    @property
    def is_loaded(self) -> bool:
        """Whether it is in memory."""
        return self._engine is not None

    def predict(
        self, pixels: RgbArray, *, features: bool = False, positions: npt.NDArray[np.float32] | None = None
    ) -> tuple[npt.NDArray[np.float32], npt.NDArray[np.float32] | None]:
        """See `Engine.predict`.

        Raises
        ------
        PyramidError
            When it has to be loaded, and cannot be, or its file was changed since this was made.
        """
        engine = self._engine or self.load()
        return engine.predict(pixels, features=features, positions=positions)

    def load(self) -> FixedBatchEngine:
        """Load it, unless it is loaded; any thread may.

        Raises
        ------
        PyramidError
            See `predict`.
        """
        with self._lock:
            if self._engine is None:
                engine = self._loaded()
                self._settle(engine)
                self._engine = engine
                trim_heap()
            return self._engine

    def begin_loading(self) -> None:
        """Load it in another thread, while this one has other things to do; what fails there is met by `predict`.

        The process waits for it at its end: a thread that Python ends within a library's C++ ends all by SIGABRT.
        """
        if not self.is_loaded:
            Thread(target=self._try_to_load, name="network-loader").start()

    def _try_to_load(self) -> None:
        try:
            self.load()
        except Exception as error:
            log.debug("%s: cannot be loaded ahead: %r", self._level.onnx_path, error)

    def _loaded(self) -> FixedBatchEngine:
        compiled = self._compiled
        if isinstance(compiled, CachedNetwork):
            ready = compiled.compiled() if compiled.n_bytes else None
        else:
            ready = CompiledNetwork.of(compiled) if compiled else None
        self._compiled = None
        # a stamp may be another though all bytes are the same, as of a file that was copied, touched or linked to
        if ready is None and self._stamp_now() != self._stamp:
            check_unchanged(self._level)
        return load_engine(
            self._level,
            self._package,
            self.backend,
            self.precision,
            batch_shape=self.batch_shape,
            probe=False,
            compiled=ready,
        )

    def _settle(self, engine: FixedBatchEngine) -> None:
        engine.use_batch_shape(self.batch_shape)
        engine.n_features = self.n_features

    def _stamp_now(self) -> tuple[int, ...]:
        """Is the same as long as the network's file surely is."""
        path = self._level.onnx_path
        with input_errors(path):
            status = path.stat()
        return (status.st_dev, status.st_ino, status.st_size, status.st_mtime_ns, status.st_ctime_ns)
