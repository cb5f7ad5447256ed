"""A tree of sleeping tiles shared out by our scheduler and by pools, on this machine.

    python -m bench.peers.scheduling --work WORK [--workers 12,48] [--seconds 0.02] [--way NAME]... [--json FILE]

The trees are over real lesions (`bench.paper.lesions`): tumor_011 up to 12 workers, tumor_009 above. All deal the
roots in their order in chunks of 16 tiles, and children as they come; starting and stopping is not timed. The
efficiency of a worker is the sum of the sleeps over workers times wall time. mpi4py's pool gets a rank more, which
deals. CPU is that of all processes of the job, in percent of a core for each worker; blocks are stored blocks of 512
pixels that workers would decode, each its own once, over those of a single worker. A peer that fails is said, and
left out.
"""

from __future__ import annotations

import json
import os
import sys
import tempfile
import uuid
from pathlib import Path
from statistics import median
from typing import TYPE_CHECKING

from bench.command_line import Options, command_line
from bench.figures import Figure, print_table, report
from bench.paper.lesions import LEVELS, sleep_of_tiles, tree_of
from bench.peers import environments
from bench.peers.cost import CommandFailed, run_command
from bench.peers.scheduling.tree import JOB, Dealt, SleepingTree
from bench.peers.ways import REPOSITORY

if TYPE_CHECKING:
    from collections.abc import Iterator

    import numpy as np

OURS = ("steal-half", "static")
PEERS = ("pool", "mpipool", "loky", "dask", "ray")
HEADS = ("workers", "method", "runs", "tiles", "ideal s", "a worker", "least to most", "a process", "CPU %", "blocks")


def sleeping_tree(outlines: Path, slide: str, roots: int, seconds: float) -> SleepingTree:
    """The tree over a slide's lesions, its tiles in a row."""
    tree = tree_of(outlines, slide, roots)
    tiles, parents = tree.all_tiles()
    return SleepingTree(tiles, sleep_of_tiles(tiles, [seconds] * LEVELS), _first_children(parents), len(tree.roots))


def _first_children(parents: np.ndarray) -> np.ndarray:
    import numpy as np

    first = np.full(len(parents), -1, np.int64)
    places = np.flatnonzero(parents >= 0)
    # children of one tile are four in a row
    first[parents[places[::4]]] = places[::4]
    return first


def measure(name: str, tree: Path, workers: int, work: Path) -> Dealt:
    """Run a peer's script, or ours, once.

    Raises
    ------
    CommandFailed
        It did not go well.
    """
    words: list[str | Path]
    if name in OURS:
        words = ["mpirun", "-n", str(workers), sys.executable, "-m", "bench.peers.scheduling.with_ours"]
        words += [tree, str(workers), name]
    else:
        python = Path(sys.executable) if name == "pool" else environments.python_of(work, name).absolute()
        launcher = [python.with_name("mpirun"), "-n", str(workers + 1)] if name == "mpipool" else []
        words = [*launcher, python, "-m", f"bench.peers.scheduling.with_{name}", tree, str(workers)]
    environment = {JOB: uuid.uuid4().hex, "PYTHONPATH": str(REPOSITORY), "OMP_NUM_THREADS": "1"}
    # many ranks on few cores
    environment |= {"OPENBLAS_NUM_THREADS": "1", "MPIR_CVAR_POLLS_BEFORE_YIELD": "0"}
    _, said = run_command(words, folder=REPOSITORY, environment=environment, limit_s=300)
    return Dealt(**json.loads(said.splitlines()[-1]))


def rows_of(found: list[Dealt]) -> Iterator[list[object]]:
    """A row for each number of workers and method."""
    groups: dict[tuple[int, str], list[Dealt]] = {}
    for one in found:
        groups.setdefault((one.workers, one.method), []).append(one)
    for (workers, method), here in groups.items():
        efficiencies = [one.nominal_s / (workers * one.wall_s) for one in here]
        yield [
            workers,
            method,
            len(here),
            here[0].tiles,
            f"{here[0].nominal_s / workers:.1f}",
            f"{median(efficiencies):.3f}",
            f"{min(efficiencies):.3f} to {max(efficiencies):.3f}",
            f"{median(efficiencies) * workers / here[0].processes:.3f}",
            f"{100 * median(one.cpu_s / (one.wall_s * workers) for one in here):.2f}",
            f"{median(one.blocks for one in here):.2f}",
        ]


def main() -> None:
    """Measure and print."""
    parser = command_line(__doc__, "outlines", "json")
    parser.add_argument("--work", type=Path, required=True)
    parser.add_argument("--workers", default="12,48")
    parser.add_argument("--seconds", type=float, default=0.02, help="that a tile sleeps, +- 20 %%")
    parser.add_argument("--roots", type=int, default=4000)
    parser.add_argument("--way", action="append", choices=(*OURS, *PEERS), help="all unless given")
    parser.add_argument("--repetitions", type=int, default=3)
    options = parser.parse_args()
    ways = options.way or [*OURS, *PEERS]
    for name in ways:
        if name in environments.PEERS:
            environments.make(options.work, name)
    found = list(measured(options, ways))
    print_table(HEADS, rows_of(found))
    if options.json is not None:
        figures = [
            Figure("efficiency of a worker", one.nominal_s / (one.workers * one.wall_s), "of ideal", vars(one))
            for one in found
        ]
        report(figures, options.json)


def measured(options: Options, ways: list[str]) -> Iterator[Dealt]:
    """All methods in turn."""
    with tempfile.TemporaryDirectory() as folder:
        for workers in map(int, options.workers.split(",")):
            path = Path(folder) / f"{workers}.npz"
            slide = "tumor_011" if workers <= 12 else "tumor_009"
            sleeping_tree(options.outlines, slide, options.roots, options.seconds).save(path)
            for _ in range(options.repetitions):
                for name in ways:
                    try:
                        dealt = measure(name, path, workers, options.work)
                    except CommandFailed as failure:
                        print(f"{name} on {workers} workers failed: {failure}", file=sys.stderr, flush=True)
                        continue
                    print(f"{dealt.method}, {workers}: {dealt.wall_s:.2f} s", file=sys.stderr, flush=True)
                    yield dealt


if __name__ == "__main__":
    os.environ.setdefault("OMP_NUM_THREADS", "1")
    main()
