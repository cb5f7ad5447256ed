"""How far a run is, as rank 0 tells it: what it is at; of the tiles, how many there will be and how long they take."""

from __future__ import annotations

import time
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from pyramidai_mpi.pyramid.forecast import Forecast, forecast
from pyramidai_mpi.run.pool.tally import tallies_of

if TYPE_CHECKING:
    from collections.abc import Callable

    from pyramidai_mpi.sched import Progress

__all__ = ["Forecast", "PhaseClock", "ProgressReport", "RunProgress"]


@dataclass(frozen=True)
class RunProgress:
    """How far a run is.

    Attributes
    ----------
    phase
        What it is at, in words; empty while tiles are done.
    tiles
        How many are done, and what is left.
    spent_s
        Seconds since the first tiles were begun.
    rate
        Tiles a second since then.
    left_s
        Seconds that are left for tiles; None as long as nothing tells.
    idle_ranks, ranks
        Ranks that compute nothing and hold nothing, of all.
    unit
        What a tile is called.
    """

    phase: str = ""
    tiles: Forecast = field(default_factory=lambda: Forecast(0))
    spent_s: float = 0.0
    rate: float = 0.0
    left_s: float | None = None
    idle_ranks: int = 0
    ranks: int = 1
    unit: str = "tile"


class ProgressReport:
    """Rank 0's report of a run: phases as they begin, and between them what the scheduler's counts say.

    Parameters
    ----------
    show
        Takes it; None for nobody, as on the other ranks.
    unit
        What a tile is called.
    """

    def __init__(self, show: Callable[[RunProgress], None] | None, unit: str = "tile") -> None:
        self._show, self._unit = show, unit
        self._started: float | None = None
        self._all_follow = False

    @property
    def is_wanted(self) -> bool:
        """Whether anybody takes it."""
        return self._show is not None

    def phase(self, words: str) -> None:
        """Something begins that is not the doing of tiles."""
        if self._show is not None:
            self._show(RunProgress(words))

    def tiles_begin(self, *, all_follow: bool) -> None:
        """From now on tiles are done; `all_follow` says whether all that there are will be."""
        self._started, self._all_follow = None, all_follow

    def take(self, progress: Progress) -> None:
        """Take new counts of the scheduler."""
        if self._show is None:
            return
        if self._started is None:
            self._started = time.perf_counter()
        levels, slides = tallies_of(progress.tally)
        tiles = forecast(levels, slides, all_follow=self._all_follow)
        spent_s = time.perf_counter() - self._started
        n_done = int(levels["done"].sum())
        if not n_done and slides["to_open"]:
            self._show(RunProgress("finding tissue"))
            return
        left_s = None if tiles.left_over_spent is None else spent_s * tiles.left_over_spent
        self._show(
            RunProgress(
                tiles=tiles,
                spent_s=spent_s,
                rate=n_done / spent_s if spent_s else 0.0,
                left_s=left_s,
                idle_ranks=progress.idle_ranks,
                ranks=progress.ranks,
                unit=self._unit,
            )
        )


class PhaseClock:
    """Wall seconds per phase of a run."""

    def __init__(self) -> None:
        self._started = self._last = time.perf_counter()
        self.seconds: dict[str, str | int | float] = {}

    def ends(self, phase: str) -> None:
        """Book the time since the last phase on this one, which may come in pieces."""
        now = time.perf_counter()
        self.seconds[f"{phase}_s"] = float(self.seconds.get(f"{phase}_s", 0.0)) + now - self._last
        self._last = now

    def total(self) -> float:
        """Seconds since the start."""
        return time.perf_counter() - self._started
