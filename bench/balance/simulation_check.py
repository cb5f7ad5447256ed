"""Does the simulator tell the truth? Real MPI runs and simulated ones of the very same trees, sleeps and seeds.

    python -m bench.balance.simulation_check [--ranks 4,12,24] [--repetitions 2] [--json FILE]

The runs are those of `bench.balance.balance`, with sleeps that make the ideal wall time 10 s and more: real ranks
sleep through each batch, simulated ones let the virtual clock do it. The simulator is told the nominal sleeps and
nothing else of the run; latency and bandwidth are its defaults. Seeds are equal, so that victims are drawn in the same
order; the instants are not, so that a steal may find another queue.
"""

from __future__ import annotations

import tempfile
from pathlib import Path

from bench.balance.balance import CASES, rows_of
from bench.command_line import Options, command_line
from bench.figures import Figure, print_table, report
from bench.paper.lesions import BATCH_SIZE, LEVELS, ROOTS, LesionTree, sleep_of_tiles, tree_of
from pyramidai_mpi.sched import Policy
from pyramidai_mpi.simulate.cluster import Simulated, simulate_run
from pyramidai_mpi.simulate.costs import Network
from pyramidai_mpi.simulate.dealing import Dealing, owners
from pyramidai_mpi.simulate.forest import plant

GOAL = 0.05


def parse_arguments() -> Options:
    """The command line."""
    parser = command_line(__doc__, "outlines", "json")
    parser.add_argument("--ranks", default="4,12,24")
    parser.add_argument("--methods", default="static,steal-one,steal-half")
    parser.add_argument("--seconds", type=float, default=0.01, help="sleep per tile")
    parser.add_argument("--repetitions", type=int, default=2)
    parser.add_argument("--roots", type=int, default=ROOTS)
    return parser.parse_args()


def simulate(tree: LesionTree, ranks: int, policy: Policy, seconds: float, seed: int) -> Simulated:
    """The run of `bench.balance.sleeping` with these arguments, under a virtual clock."""
    tiles, parents = tree.all_tiles()
    forest = plant(tiles["level"], parents)
    sleeps = sleep_of_tiles(tiles, [seconds] * LEVELS)[forest.origin]
    dealt = owners(forest.n_roots, ranks, Dealing.ROUND_ROBIN)
    return simulate_run(forest, sleeps, dealt, ranks, policy, Network(), batch_size=BATCH_SIZE, seed=seed)


def check(ranks: int, options: Options, folder: Path) -> list[Figure]:
    """Simulated over measured wall time of every method and repetition on `ranks` ranks."""
    slide = CASES.get(ranks, CASES[48]).slide
    tree = tree_of(options.outlines, slide, options.roots)
    path = folder / f"{slide}.npz"
    tree.save(path)
    figures = []
    seconds = ",".join([str(options.seconds)] * LEVELS)
    for row in rows_of(ranks, path, seconds, options.methods.split(","), options.repetitions):
        simulated = simulate(tree, ranks, Policy(row["method"]), options.seconds, seed=row["repetition"])
        setting = {
            "ranks": ranks,
            "method": row["method"],
            "slide": slide,
            "tiles": row["tiles"],
            "seed": row["repetition"],
            "ideal_s": round(row["nominal_s"] / ranks, 2),
            "measured_s": round(row["wall_s"], 2),
            "simulated_s": round(simulated.makespan_s, 2),
        }
        figures.append(Figure("simulated / measured", simulated.makespan_s / row["wall_s"], "", setting))
    return figures


def main() -> None:
    """Measure, simulate, compare."""
    options = parse_arguments()
    figures: list[Figure] = []
    with tempfile.TemporaryDirectory() as folder:
        for ranks in options.ranks.split(","):
            figures += check(int(ranks), options, Path(folder))
    report(figures, options.json)
    columns = ["ranks", "method", "slide", "tiles", "seed", "ideal_s", "measured_s", "simulated_s"]
    print()
    print_table(
        [*columns, "ratio"],
        ([*(figure.setting[name] for name in columns), f"{figure.value:.3f}"] for figure in figures),
    )
    worst = max(figures, key=lambda figure: abs(figure.value - 1))
    print(f"\nworst: {worst.value:.3f} (goal: within {GOAL:.0%})")


if __name__ == "__main__":
    main()
