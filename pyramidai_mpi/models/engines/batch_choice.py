"""How many tiles a network is given at a time: measured once, when its package is made, and written there.

The number may decide the last bits of what networks give, so a run never chooses it.
"""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

from pyramidai_mpi.models.engines.fixed_batch import sample_positions, sample_tiles, settle_batch_shape
from pyramidai_mpi.models.engines.onnx_engine import OnnxEngine

if TYPE_CHECKING:
    from collections.abc import Mapping

    from pyramidai_mpi.models.package import ModelLevel, ModelPackage

BATCHES = (1, 2, 4, 8, 16)
_ROUNDS = 3
_WORTH = 1.02
"""A larger number pads more in vain when batches get short: it has to be faster by so much."""


def speeds_by_batch(level: ModelLevel, package: ModelPackage) -> dict[int, float]:
    """Tiles a second of one thread in onnxruntime, by how many are given at a time, each the best of some rounds.

    Numbers at which a tile's result would depend on its neighbours are left out; 1 never is.
    """
    engines = {size: OnnxEngine(level, package, size, probe=False) for size in BATCHES}
    engines = {size: one for size, one in engines.items() if settle_batch_shape(one, package.tile_size) == size}
    tiles, places = sample_tiles(max(BATCHES), package.tile_size), sample_positions(max(BATCHES))
    best = dict.fromkeys(engines, float("inf"))
    for _ in range(_ROUNDS):  # in turn, so that other programs disturb all alike
        for size, engine in engines.items():
            started = time.perf_counter()
            engine.predict(tiles, features=True, positions=places)
            best[size] = min(best[size], time.perf_counter() - started)
    return {size: len(tiles) / seconds for size, seconds in best.items()}


def fastest_batch(speeds: Mapping[int, float]) -> int:
    """The number of tiles to give at a time: of those that are as good as the fastest, the least."""
    return min(size for size, speed in speeds.items() if speed * _WORTH >= max(speeds.values()))
