"""One pool of slides on so many cores: what the simulated scheduler does with measured costs.

Makespan = loading the networks + the simulated run (openings, tiles, steals) + what ranks do beside it, shared evenly
(slides opened again by ranks that stole of them, results written) + writing the last result. Networks run four tiles at
a time: a batch of fewer takes as long, and what that takes is no work.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import numpy as np

from bench.paper.slide_geometry import TILE_PX
from bench.scale.tile_costs import BATCH_SIZE, MeasuredCosts
from pyramidai_mpi.models.package import BATCH_SHAPE
from pyramidai_mpi.sched import Policy
from pyramidai_mpi.simulate.cluster import simulate_run
from pyramidai_mpi.simulate.costs import Costs, Network
from pyramidai_mpi.simulate.dealing import Dealing, owners

if TYPE_CHECKING:
    from collections.abc import Sequence

    from bench.scale.tile_costs import EngineCosts
    from pyramidai_mpi.simulate.forest import Forest

SLIDE_GIGAPIXELS = 97792 * 221184 / 1e9
"""Of a CAMELYON16 slide, about."""


@dataclass(frozen=True)
class Scaled:
    """One engine, one kind of run, one number of cores.

    Attributes
    ----------
    engine, run, cores
        Which.
    tiles
        Analysed on all slides.
    makespan_s
        Seconds from the start of the ranks to the last result.
    efficiency
        Seconds of tiles, first openings and writing over cores times makespan.
    speedup
        Seconds on one core over the makespan.
    scheduled
        Of the simulated part alone, seconds of work over cores times its makespan.
    loading_s, began_s, between_s, ended_s, beside_s
        Seconds of the makespan, means over the ranks: loading the networks; until the first task; without work between
        two tasks; from the last task to the end of the simulated part; after that.
    reopened_s, rank0_s
        Seconds of opening slides that another rank has opened, on all ranks; of opening and writing on rank 0.
    file_bytes
        Read from slides.
    """

    engine: str
    run: str
    cores: int
    tiles: int
    makespan_s: float
    efficiency: float
    speedup: float
    scheduled: float
    loading_s: float
    began_s: float
    between_s: float
    ended_s: float
    beside_s: float
    reopened_s: float
    rank0_s: float
    file_bytes: float

    @property
    def hours(self) -> float:
        """The makespan."""
        return self.makespan_s / 3600

    @property
    def core_hours(self) -> float:
        """Cores times makespan."""
        return self.cores * self.hours

    @property
    def bytes_per_s(self) -> float:
        """Asked of the file system, on average."""
        return self.file_bytes / self.makespan_s

    def cores_at(self, bytes_per_s: float) -> float:
        """Number of cores, each as busy as here, that ask a file system for so much."""
        return self.cores * bytes_per_s / self.bytes_per_s


def scale(
    forest: Forest,
    run: str,
    tiles: Sequence[int],
    costs: MeasuredCosts,
    engine: EngineCosts,
    cores: int,
    grain: int = BATCH_SHAPE,
) -> Scaled:
    """Simulate the slides of `forest`, with their openings, on `cores` ranks.

    Parameters
    ----------
    tiles
        By level, level 0 first.
    grain
        Fewer tiles in one batch take as long as so many; 1 for tiles that are blocks of many windows.
    """
    slide, tile_s = costs.slide, costs.tile_s(engine)
    opening_s = slide.first_opening_s(SLIDE_GIGAPIXELS)
    busy_s = Costs(
        tuple(seconds * (1 + slide.scheduler_share) for seconds in tile_s), BATCH_SIZE, opening_s=opening_s
    ).of(forest)
    dealt = owners(forest.n_roots, cores, Dealing.ROUND_ROBIN)
    simulated = simulate_run(
        forest, busy_s, dealt, cores, Policy.STEAL_HALF, Network(), batch_size=BATCH_SIZE, grain=grain
    )

    n_slides, n_tiles = forest.n_roots, sum(tiles)
    pairs = len(np.unique(simulated.worker.astype(np.int64) * n_slides + forest.slide))
    reopened_s = (pairs - n_slides) * slide.reopening_s
    written_s = n_tiles * slide.writing_s
    beside_s = (reopened_s + written_s) / cores + written_s / n_slides
    makespan_s = engine.loading_s + simulated.makespan_s + beside_s
    useful_s = float(np.dot(tiles, tile_s[: len(tiles)])) + n_slides * opening_s + written_s
    return Scaled(
        engine=engine.name,
        run=run,
        cores=cores,
        tiles=n_tiles,
        makespan_s=makespan_s,
        efficiency=useful_s / (cores * makespan_s),
        speedup=alone_s(busy_s.sum(), written_s, n_slides, engine) / makespan_s,
        scheduled=float(busy_s.sum()) / (cores * simulated.makespan_s),
        loading_s=engine.loading_s,
        began_s=float(simulated.began_s.mean()),
        between_s=float((simulated.ended_s - simulated.began_s - simulated.busy_s).mean()),
        ended_s=float(simulated.makespan_s - simulated.ended_s.mean()),
        beside_s=beside_s,
        reopened_s=reopened_s,
        rank0_s=math.ceil(n_slides / cores) * (opening_s + written_s / n_slides),
        file_bytes=float(np.dot(tiles, slide.read_bytes[: len(tiles)])),
    )


def at_stride(costs: MeasuredCosts, stride: int) -> MeasuredCosts:
    """Costs of tiles of level 0 that are blocks of windows so many pixels apart, each window computed by itself.

    Reading grows with the area that the windows of a tile cover, as if neighbours read nothing in common, staining with
    it; classifying and writing with the number of windows.
    """
    n_windows, area = (TILE_PX / stride) ** 2, ((2 * TILE_PX - stride) / TILE_PX) ** 2
    slide = replace(
        costs.slide,
        read_s=(costs.slide.read_s[0] * area,),
        stain_s=costs.slide.stain_s * area,
        writing_s=costs.slide.writing_s * n_windows,
    )
    engines = (
        replace(one, name=f"{one.name}, stride {stride}", infer_s=(one.infer_s[0] * n_windows,))
        for one in costs.engines
    )
    return MeasuredCosts(slide, tuple(engines))


def alone_s(busy_s: float, written_s: float, n_slides: int, engine: EngineCosts) -> float:
    """Makespan of one core, which opens no slide twice and waits for nobody."""
    return engine.loading_s + float(busy_s) + written_s * (1 + 1 / n_slides)
