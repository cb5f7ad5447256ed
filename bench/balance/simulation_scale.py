"""How long a simulation takes: 4096 ranks on a million tiles.

    python -m bench.balance.simulation_scale [--ranks 4096] [--slides 36] [--json FILE]
    python -m bench.balance.simulation_scale --ranks 1024 --slides 1 --methods steal-half [--grain 4]
    python -m bench.balance.simulation_scale --ranks 16384 --slides 399 --methods steal-half [--opening 6.3]

The lesions of one slide (see `bench.paper.lesions`), so many times over as one pool of work, its roots dealt
round-robin; 0.33 s +- 20 % a tile, as in the paper, batches of 16. With ``--opening``, slides are dealt instead, and
each is opened by one rank, in so many seconds, before anybody has its roots. With ``--grain 4``, a batch of one to four
tiles takes as long as one of four: so the program's networks run, and sleeping tiles do not. The seconds for that are
no work: they count as lost.
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
    parser.add_argument("--grain", type=int, default=1, help="tiles that take as long as one")
    parser.add_argument("--opening", type=float, default=None, metavar="SECONDS", help="of a slide; none unless given")
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    tiles, parents = tree_of(options.outlines, options.slide).all_tiles()
    tree = plant(tiles["level"], parents)
    forest = join([tree] * options.slides)
    tile_s = sleep_of_tiles(tiles, [TILE_S] * LEVELS)[tree.origin]
    if options.opening is not None:
        forest = forest.with_openings()
    seconds = np.where(forest.is_tile, tile_s[forest.origin % len(tree)], options.opening or 0.0)
    dealt = owners(forest.n_roots, options.ranks, Dealing.ROUND_ROBIN)
    figures: list[Figure] = []
    for method in options.methods.split(","):
        wall, cpu = time.perf_counter(), time.process_time()
        run = simulate_run(
            forest,
            seconds,
            dealt,
            options.ranks,
            Policy(method),
            Network(),
            batch_size=BATCH_SIZE,
            grain=options.grain,
            seed=options.seed,
        )
        setting = {
            "method": method,
            "ranks": options.ranks,
            "tiles": forest.n_tiles,
            "grain": options.grain,
            "opening_s": options.opening,
            "seed": options.seed,
            "wall_s": round(time.perf_counter() - wall, 1),
            "messages": run.messages,
            "busiest": int(np.bincount(run.worker).max()),
            "makespan_s": round(run.makespan_s, 2),
            "efficiency": round(float(seconds.sum()) / (options.ranks * run.makespan_s), 3),
            "until_first_task": round(float(run.began_s.mean()), 2),
            "after_last_task": round(float(run.makespan_s - run.ended_s.mean()), 2),
            "memory_mb": round(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024),
        }
        figures.append(Figure("CPU time of the simulation", time.process_time() - cpu, "s", setting))
        report(figures[-1:], None)
    report(figures, options.json)


if __name__ == "__main__":
    main()
