"""How long a simulation takes: 4096 ranks on a million tiles.

    python -m bench.balance.simulation_scale [--ranks 4096] [--slides 36] [--json FILE]

The lesions of one slide (see `bench.paper.lesions`), so many times over as one pool of work, its roots dealt
round-robin; 0.33 s +- 20 % a tile, as in the paper, batches of 16.
"""

from __future__ import annotations

import resource
import time

import numpy as np

from bench.command_line import command_line
from bench.figures import Figure, report
from bench.paper.lesions import BATCH_SIZE, LEVELS, sleep_of_tiles, tree_of
from pyramidai_mpi.sched import Policy
from pyramidai_mpi.simulate.cluster import simulate_run
from pyramidai_mpi.simulate.costs import Network
from pyramidai_mpi.simulate.dealing import Dealing, owners
from pyramidai_mpi.simulate.forest import join, plant

TILE_S = 0.33


def main() -> None:
    """Simulate, and watch the clock."""
    parser = command_line(__doc__, "outlines", "json")
    parser.add_argument("--ranks", type=int, default=4096)
    parser.add_argument("--slides", type=int, default=36, help="copies of the slide")
    parser.add_argument("--slide", default="tumor_009", help="27840 tiles")
    parser.add_argument("--methods", default="static,steal-half,steal-one")
    options = parser.parse_args()
    tiles, parents = tree_of(options.outlines, options.slide).all_tiles()
    tree = plant(tiles["level"], parents)
    forest = join([tree] * options.slides)
    seconds = sleep_of_tiles(tiles, [TILE_S] * LEVELS)[tree.origin][forest.origin % len(tree)]
    dealt = owners(forest.n_roots, options.ranks, Dealing.ROUND_ROBIN)
    figures: list[Figure] = []
    for method in options.methods.split(","):
        wall, cpu = time.perf_counter(), time.process_time()
        run = simulate_run(forest, seconds, dealt, options.ranks, Policy(method), Network(), batch_size=BATCH_SIZE)
        setting = {
            "method": method,
            "ranks": options.ranks,
            "tiles": len(forest),
            "wall_s": round(time.perf_counter() - wall, 1),
            "messages": run.messages,
            "busiest": int(np.bincount(run.worker).max()),
            "makespan_s": round(run.makespan_s, 2),
            "efficiency": round(float(seconds.sum()) / (options.ranks * run.makespan_s), 3),
            "memory_mb": round(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024),
        }
        figures.append(Figure("CPU time of the simulation", time.process_time() - cpu, "s", setting))
        report(figures[-1:], None)
    report(figures, options.json)


if __name__ == "__main__":
    main()
