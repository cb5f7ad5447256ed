"""What work and messages cost on the cluster that is simulated."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from pyramidai_mpi.base.errors import UsageError

if TYPE_CHECKING:
    import numpy.typing as npt

    from pyramidai_mpi.simulate.forest import Forest


@dataclass(frozen=True)
class Costs:
    """Seconds of work.

    Attributes
    ----------
    level_s
        Seconds a tile of each level, level 0 first; the last one also serves all levels above it. Of levels whose tiles
        are blocks of windows, seconds a window.
    batch_size
        Most tiles computed together.
    batch_s
        Seconds a batch on top of its tiles.
    opening_s
        Seconds to open a slide and find its tissue.
    grain
        Fewer tiles than that in one batch take as long as so many, as networks that run a fixed number at a time do.
    """

    level_s: tuple[float, ...]
    batch_size: int = 16
    batch_s: float = 0.0
    opening_s: float = 0.0
    grain: int = 1

    def __post_init__(self) -> None:
        times = (*self.level_s, self.batch_s, self.opening_s)
        if not any(self.level_s) or not all(math.isfinite(seconds) and seconds >= 0 for seconds in times):
            raise UsageError(
                f"seconds a tile {self.level_s}, a batch {self.batch_s:g}, an opening {self.opening_s:g}: expected "
                "numbers of 0 or more, and not all those of a tile 0"
            )
        if min(self.batch_size, self.grain) < 1:
            raise UsageError(f"batches of {self.batch_size} tiles, {self.grain} at a time: expected at least 1")

    def of(self, forest: Forest) -> npt.NDArray[np.float64]:
        """Seconds of each task, float64 (N,)."""
        by_level = np.array([self.level_s[min(n, len(self.level_s) - 1)] for n in range(int(np.iinfo(np.uint8).max))])
        seconds = by_level[forest.level]
        if forest.windows is not None:
            seconds *= forest.windows
        if forest.opening_level is not None:
            seconds[forest.level == forest.opening_level] = self.opening_s
        return np.asarray(seconds)


@dataclass(frozen=True)
class Network:
    """Wires and operating systems of a cluster.

    Attributes
    ----------
    latency_s
        Seconds from sending a message to its arrival, its bytes aside.
    bandwidth
        Bytes per second that one rank sends.
    late_s
        How much later than asked for a sleeping thread wakes up: 50 us of timer slack under Linux and two switches.
    """

    latency_s: float = 20e-6
    bandwidth: float = 1e9
    late_s: float = 70e-6

    def __post_init__(self) -> None:
        if not (min(self.latency_s, self.late_s) >= 0 and self.bandwidth > 0):
            raise UsageError(
                f"latency {self.latency_s} s, bandwidth {self.bandwidth} bytes/s: expected 0 or more, and more than 0"
            )
