"""Making a level's network ready for all ranks of a machine: found in the user's cache, or compiled and kept there."""

from __future__ import annotations

from typing import TYPE_CHECKING

from pyramidai_mpi.models.engines.backends import load_engine
from pyramidai_mpi.models.engines.fixed_batch import settle_batch_shape
from pyramidai_mpi.models.engines.network_cache import facts_of
from pyramidai_mpi.models.engines.on_demand import EngineOnDemand
from pyramidai_mpi.process.memory import trim_heap

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt

    from pyramidai_mpi.base.settings import ModelChoice
    from pyramidai_mpi.models.engines.fixed_batch import FixedBatchEngine
    from pyramidai_mpi.models.engines.network_cache import CachedNetwork, NetworkCache
    from pyramidai_mpi.models.package import ModelLevel, ModelPackage


class ReadyNetwork:
    """One level's network on its way to `EngineOnDemand`.

    Parameters
    ----------
    level, package
        The network.
    choice
        With a settled backend.
    cache
        Where such networks are kept.
    """

    def __init__(self, level: ModelLevel, package: ModelPackage, choice: ModelChoice, cache: NetworkCache) -> None:
        self._level, self._package = level, package
        self._backend, self._precision = choice.backend, choice.precision
        self._cache = cache
        self._facts = facts_of(level, package, choice.backend, choice.precision)
        self._compiled: CachedNetwork | bytes | None = None
        self._compiled_for = 0
        self._loaded: FixedBatchEngine | None = None

    def make_ready(self, found: npt.NDArray[np.int64]) -> None:
        """Find it in the cache, or settle its batch shape and compile it for that.

        Parameters
        ----------
        found
            int64 (2,): batch shape and number of features, where a trial has settled them; else 0, and set here.

        Raises
        ------
        PyramidError
            When the library cannot load or run it.
        """
        if found[0]:
            self._cache.keep(self._facts, int(found[0]), int(found[1]), b"")
            return
        entry = self.look()
        if entry is not None:
            found[:] = entry.batch_shape, entry.n_features
        else:
            engine = load_engine(self._level, self._package, self._backend, self._precision, probe=False)
            found[:] = settle_batch_shape(engine, self._package.tile_size), engine.n_features
            engine.use_batch_shape(int(found[0]))
            compiled = engine.compiled()
            kept = self._cache.keep(self._facts, int(found[0]), int(found[1]), compiled)
            self._compiled, self._compiled_for = kept or compiled, int(found[0])
            if not compiled:
                self._loaded = engine
            # a compiled one is loaded again when it is needed: as it is here, it holds its weights twice
            del engine, compiled
            trim_heap()

    def look(self) -> CachedNetwork | None:
        """Look for it in the cache, and take it from there."""
        entry = self._cache.find(self._facts)
        if entry is not None:
            self._compiled, self._compiled_for = entry, entry.batch_shape
        return entry

    def to_bytes(self) -> bytes:
        """What `take` of another rank of the machine needs; empty where it can no longer be had."""
        compiled = self._compiled
        try:
            compiled = compiled if compiled is None or isinstance(compiled, bytes) else compiled.read()
        except (OSError, ValueError):  # removed meanwhile: each compiles it
            compiled = None
        return bytes([self._compiled_for]) + compiled if compiled else b""

    def take(self, shared: bytes) -> None:
        """Take it as another rank has it."""
        if shared:
            self._compiled_for, self._compiled = shared[0], shared[1:]

    def on_demand(self, batch_shape: int, n_features: int) -> EngineOnDemand:
        """The engine, for what was found on all machines.

        Raises
        ------
        InputError
            When the network's file is there no longer.
        """
        return EngineOnDemand(
            self._level,
            self._package,
            self._backend,
            self._precision,
            batch_shape,
            n_features,
            self._compiled if self._compiled_for == batch_shape else None,
            self._loaded,
        )
