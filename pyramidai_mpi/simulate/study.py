"""Ways of dealing crossed with ways of balancing, over numbers of workers."""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import StrEnum
from typing import TYPE_CHECKING

import numpy as np

from pyramidai_mpi.sched.policy import Policy
from pyramidai_mpi.simulate.cluster import simulate_run
from pyramidai_mpi.simulate.costs import Costs, Network
from pyramidai_mpi.simulate.counting import (
    Load,
    load_ideal,
    load_level_by_level,
    load_reference,
    load_unbalanced,
)
from pyramidai_mpi.simulate.dealing import Dealing, owners

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from pyramidai_mpi.simulate.forest import Forest


class Balancing(StrEnum):
    """What is done about uneven shares."""

    NONE = "none"
    """Nothing: the program's ``--policy static``."""
    EACH_LEVEL = "each-level"
    """All wait for each other after each level, whose tiles are then dealt anew."""
    STEAL_ONE = "steal-one"
    STEAL_HALF = "steal-half"
    ORACLE = "oracle"
    """A bound, no method: an equal share of all work, or the longest way from a root to a leaf."""
    REFERENCE = "reference"
    """All tiles of level 0 without a pyramid, dealt in turn."""


POLICIES = {Balancing.STEAL_ONE: Policy.STEAL_ONE, Balancing.STEAL_HALF: Policy.STEAL_HALF}


@dataclass(frozen=True)
class Work:
    """One slide, or many as one pool.

    Attributes
    ----------
    forest
        Its tasks, without openings.
    n_reference_tiles
        Level-0 tiles of a run without a pyramid, or windows where tiles are blocks of them; None when not known.
    """

    forest: Forest
    n_reference_tiles: int | None = None


@dataclass(frozen=True)
class Setting:
    """What stays the same in a study."""

    costs: Costs
    network: Network = field(default_factory=Network)
    seed: int = 0


@dataclass(frozen=True)
class Row:
    """One way to share the work among so many workers.

    Attributes
    ----------
    workers
        How many.
    balancing, dealing
        The way; the dealing is None where it plays no part.
    busiest_tiles
        Tiles of the busiest worker; of several slides done one after the other, the mean.
    makespan_s
        Seconds until all is done; of several slides done one after the other, the sum.
    efficiency
        Seconds of work over workers times makespan; for the reference run, of its own work.
    """

    workers: int
    balancing: Balancing
    dealing: Dealing | None
    busiest_tiles: float
    makespan_s: float
    efficiency: float


def ways(dealings: Sequence[Dealing], balancings: Sequence[Balancing]) -> list[tuple[Balancing, Dealing | None]]:
    """Every balancing with every dealing; the reference run once, since its tiles are always dealt in turn."""
    crossed: list[tuple[Balancing, Dealing | None]] = []
    for balancing in balancings:
        dealt = [(balancing, dealing) for dealing in dealings]
        crossed += [(balancing, None)] if balancing is Balancing.REFERENCE else dealt
    return crossed


def compare(
    works: Sequence[Work],
    workers: Sequence[int],
    setting: Setting,
    dealings: Sequence[Dealing],
    balancings: Sequence[Balancing],
    report: Callable[[Row], object] | None = None,
) -> list[Row]:
    """Simulate every number of workers in every way.

    Parameters
    ----------
    works
        Done one after the other, each on all workers.
    workers
        Numbers of them.
    setting
        Costs, network and seed.
    dealings, balancings
        To be crossed. The reference run is left out where a work does not know its size.
    report
        Called with each row as it is there.
    """
    if any(work.n_reference_tiles is None for work in works):
        balancings = [balancing for balancing in balancings if balancing is not Balancing.REFERENCE]
    rows = []
    for n in workers:
        for balancing, dealing in ways(dealings, balancings):
            rows.append(row_of(works, n, balancing, dealing, setting))
            if report is not None:
                report(rows[-1])
    return rows


def row_of(works: Sequence[Work], workers: int, balancing: Balancing, dealing: Dealing | None, setting: Setting) -> Row:
    """One way, one number of workers."""
    loads = [load_of(work, workers, balancing, dealing, setting) for work in works]
    makespan_s = sum(load.makespan_s for load in loads)
    opens = dealing is Dealing.SLIDES
    alone = sum(seconds_alone(work, setting.costs, balancing, opens=opens) for work in works)
    return Row(
        workers=workers,
        balancing=balancing,
        dealing=dealing,
        busiest_tiles=float(np.mean([load.busiest_tiles for load in loads])),
        makespan_s=makespan_s,
        efficiency=alone / (workers * makespan_s) if makespan_s else 1.0,
    )


def seconds_alone(work: Work, costs: Costs, balancing: Balancing = Balancing.NONE, *, opens: bool) -> float:
    """Seconds of work that there are, with the opening of slides or without; for the reference run, of its own."""
    if balancing is Balancing.REFERENCE:
        return load_reference(work.n_reference_tiles or 0, 1, costs).makespan_s
    forest = work.forest.with_openings() if opens else work.forest
    return load_ideal(forest, costs.of(forest), 1, costs).makespan_s


def load_of(work: Work, workers: int, balancing: Balancing, dealing: Dealing | None, setting: Setting) -> Load:
    """Load of one work, on its own."""
    costs, network, seed = setting.costs, setting.network, setting.seed
    if balancing is Balancing.REFERENCE:
        return load_reference(work.n_reference_tiles or 0, workers, costs)
    forest = work.forest.with_openings() if dealing is Dealing.SLIDES else work.forest
    seconds = costs.of(forest)
    if balancing is Balancing.ORACLE:
        return load_ideal(forest, seconds, workers, costs)
    how = dealing or Dealing.ROUND_ROBIN
    if balancing is Balancing.EACH_LEVEL:
        return load_level_by_level(forest, seconds, workers, how, costs, network, seed)
    dealt = owners(forest.n_roots, workers, how, seed)
    if balancing is Balancing.NONE:
        return load_unbalanced(forest, seconds, dealt, workers, costs)
    run = simulate_run(
        forest,
        seconds,
        dealt,
        workers,
        POLICIES[balancing],
        network,
        batch_size=costs.batch_size,
        batch_s=costs.batch_s,
        grain=costs.grain,
        seed=seed,
    )
    tiles = np.bincount(run.worker[forest.is_tile], minlength=workers)
    return Load(int(tiles.max()), run.makespan_s)
