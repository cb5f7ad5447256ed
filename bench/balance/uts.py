"""Unbalanced Tree Search: exact counts on any number of ranks, and nodes per second against a plain loop.

    mpirun -n 2 python -m bench.balance.uts -t 1 -a 3 -d 10 -b 4 -r 19 [--repetitions 3] [--json FILE]

In turn, as often as is asked for: rank 0 searches the tree in a plain loop, then with the scheduler on one rank; all
ranks search it together; every rank searches it alone, all at once, which shows what the machine can give. Every search
must find the same nodes. All use hashlib's SHA-1, one call a node. Options and trees are those of the benchmark's own
program: -t 1 -a 3 -d 10 -b 4 -r 19 is its T1, and -t 0 -b 2000 -q 0.124875 -m 8 -r 42 its T3.
"""

from __future__ import annotations

import functools
import time
from statistics import median
from typing import TYPE_CHECKING

from bench.command_line import Options, command_line
from pyramidai_mpi.cli.launcher import prepare_environment

prepare_environment()

from bench.balance.uts_trees import Found, TreeSearch, add_tree_options, search_plainly, tree_from  # noqa: E402
from bench.figures import Figure, report  # noqa: E402 - the environment is read when numpy is loaded
from pyramidai_mpi.cli.session import mpi_session  # noqa: E402
from pyramidai_mpi.sched import Policy, run  # noqa: E402

if TYPE_CHECKING:
    from mpi4py import MPI

    from bench.balance.uts_trees import Tree


def parse_arguments() -> Options:
    """The command line."""
    parser = command_line(__doc__, "json")
    add_tree_options(parser)
    parser.add_argument("--policy", type=Policy, default=Policy.STEAL_HALF)
    parser.add_argument("--batch-size", type=int, default=256)
    parser.add_argument("--repetitions", type=int, default=3)
    parser.add_argument("--only-together", action="store_true", help="leave out the plain loop and the single rank")
    return parser.parse_args()


def search(comm: MPI.Intracomm, tree: Tree, options: Options, seed: int) -> tuple[Found, float]:
    """What all ranks of `comm` found together, starting from the root on rank 0, and wall seconds."""
    work = TreeSearch(tree, options.batch_size)
    wait_politely(comm)
    start = time.perf_counter()
    run(comm, work, tree.roots()[comm.rank :], options.policy, seed)
    seconds = time.perf_counter() - start
    rows = comm.allgather((work.found, seconds))
    return functools.reduce(Found.__add__, [row[0] for row in rows]), max(row[1] for row in rows)


def wait_politely(comm: MPI.Intracomm) -> None:
    """Barrier with sleeps: who waits for a measurement must not disturb it."""
    request = comm.Ibarrier()
    while not request.Test():
        time.sleep(1e-3)


def main() -> None:
    """Measure and print."""
    options = parse_arguments()
    tree = tree_from(options)
    with mpi_session() as comm:
        from mpi4py import MPI

        found: set[Found] = set()
        plain, alone, together, apart = [], [], [], []
        for repetition in range(options.repetitions):
            if comm.rank == 0 and not options.only_together:
                start = time.perf_counter()
                found.add(search_plainly(tree))
                plain.append(time.perf_counter() - start)
                nodes, seconds = search(MPI.COMM_SELF, tree, options, repetition)
                found.add(nodes)
                alone.append(seconds)
            wait_politely(comm)
            nodes, seconds = search(comm, tree, options, repetition)
            found.add(nodes)
            together.append(seconds)
            if not options.only_together:
                nodes, seconds = search(MPI.COMM_SELF, tree, options, repetition)
                found.add(nodes)
                apart.append(max(comm.allgather(seconds)) / comm.size)
        if comm.rank:
            return
        if len(found) > 1:
            raise SystemExit(f"the searches disagree: {found}")
        (counts,) = found
        print(f"{counts.nodes} nodes, {counts.leaves} leaves, depth {counts.depth}, checksum {counts.checksum:#018x}")
        setting = {"tree": tree.shape.value, "b": tree.root_children, "seed": tree.seed, "nodes": counts.nodes}
        setting |= {"batch_size": options.batch_size, "policy": str(options.policy), "repetitions": len(together)}
        figures = [_rate(f"nodes/s on {comm.size} ranks", counts, together, setting)]
        if plain:
            figures += [
                _rate("nodes/s in a plain loop", counts, plain, setting),
                _rate("nodes/s on 1 rank", counts, alone, setting),
                _ratio("1 rank / plain loop", plain, alone, setting),
                _ratio(f"{comm.size} ranks / 1 rank", alone, together, setting),
                _ratio(f"{comm.size} single ranks at once / 1 rank", alone, apart, setting),
                _ratio(f"{comm.size} ranks / {comm.size} single ranks at once", apart, together, setting),
            ]
        report(figures, options.json)


def _rate(name: str, counts: Found, seconds: list[float], setting: dict[str, object]) -> Figure:
    return Figure(name, counts.nodes / median(seconds), "nodes/s", setting)


def _ratio(name: str, before: list[float], after: list[float], setting: dict[str, object]) -> Figure:
    """Median of the ratios within each repetition."""
    return Figure(name, median(b / a for b, a in zip(before, after, strict=True)), "times", setting)


if __name__ == "__main__":
    main()
