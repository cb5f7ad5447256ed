"""How fast two networks are beside each other."""

from __future__ import annotations

import statistics
import time
from typing import TYPE_CHECKING

from pyramidai_mpi.models.engines.base import SeenTiles

if TYPE_CHECKING:
    from pyramidai_mpi.models.engines.fixed_batch import FixedBatchEngine

_TIMED_TILES = 16
_REPETITIONS = 3


def alternating_speeds(
    before: FixedBatchEngine, after: FixedBatchEngine, tiles: SeenTiles, *, features: bool = False
) -> tuple[float, float]:
    """Tiles per second of each on one thread, medians of runs in turn; NaN without tiles.

    Parameters
    ----------
    tiles
        As the networks see them; the first 16 are timed.
    features
        Whether they are asked for features too.
    """
    timed = SeenTiles(tiles.pixels[:_TIMED_TILES], tiles.positions[:_TIMED_TILES])
    if not len(timed.pixels):
        return float("nan"), float("nan")
    speeds: tuple[list[float], list[float]] = ([], [])
    for _ in range(_REPETITIONS):
        for engine, seen in zip((before, after), speeds, strict=True):
            started = time.perf_counter()
            engine.predict(timed.pixels, features=features, positions=timed.positions)
            seen.append(len(timed.pixels) / (time.perf_counter() - started))
    return statistics.median(speeds[0]), statistics.median(speeds[1])
