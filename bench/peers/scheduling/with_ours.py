"""The program's scheduler: every rank works, and those without work steal from others.

mpirun -n WORKERS python -m bench.peers.scheduling.with_ours TREE.npz WORKERS [POLICY]
"""

from __future__ import annotations

import sys
import time
from typing import TYPE_CHECKING

from bench.peers.scheduling.tree import CHUNK, Dealt, answer, asked, decoded_blocks, job_cpu_seconds, load_tree
from pyramidai_mpi.cli.launcher import prepare_environment

prepare_environment()

import numpy as np  # noqa: E402 - reads the environment
from mpi4py import MPI  # noqa: E402

from pyramidai_mpi.sched import Policy, Tasks, deal_round_robin, run  # noqa: E402

if TYPE_CHECKING:
    from bench.peers.scheduling.tree import SleepingTree

_TASK = np.dtype([("level", "u1"), ("place", "<u8")])


class Sleeping:
    """Sleeps for tiles of a tree."""

    dtype = _TASK
    batch_by = "level"
    batch_size = CHUNK

    def __init__(self, tree: SleepingTree) -> None:
        self.tree, self.nominal_s = tree, 0.0
        self.done: list[np.ndarray] = []

    def tasks(self, places: np.ndarray) -> Tasks:
        """Tiles as the scheduler has them."""
        tasks = np.zeros(len(places), _TASK)
        tasks["level"], tasks["place"] = self.tree.tiles["level"][places], places
        return tasks

    def expand(self, tasks: Tasks) -> Tasks:
        """Sleep, and return the children."""
        places = tasks["place"].astype(np.int64)
        seconds = float(self.tree.seconds[places].sum())
        self.nominal_s += seconds
        self.done.append(places)
        time.sleep(seconds)
        return self.tasks(self.tree.children(places))


def main() -> None:
    """Measure once."""
    path, workers = asked()
    policy = Policy(sys.argv[3] if len(sys.argv) > 3 else "steal-half")
    comm = MPI.COMM_WORLD
    if comm.size != workers:
        raise SystemExit(f"{workers} workers were asked for on {comm.size} ranks")
    tree = load_tree(str(path))
    work = Sleeping(tree)
    roots = deal_round_robin(work.tasks(np.arange(tree.n_roots)), comm.rank, comm.size)
    comm.Barrier()
    cpu = job_cpu_seconds() if comm.rank == 0 else 0.0
    comm.Barrier()
    started = time.perf_counter()
    run(comm, work, roots, policy, seed=0)
    wall = time.perf_counter() - started
    if comm.rank == 0:
        cpu = job_cpu_seconds() - cpu
    rows = comm.gather((wall, work.nominal_s, tree.tiles[np.concatenate([*work.done, np.zeros(0, np.int64)])]))
    if rows is not None:
        done = [tiles for _, _, tiles in rows]
        tiles, nominal = sum(map(len, done)), sum(row[1] for row in rows)
        wall = max(row[0] for row in rows)
        blocks = decoded_blocks([one for one in done if len(one)])
        answer(Dealt(f"ours, {policy.value}", workers, workers, tiles, nominal, wall, cpu, blocks))


if __name__ == "__main__":
    main()
