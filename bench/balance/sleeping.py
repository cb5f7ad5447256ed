"""Tiles that sleep, done by the scheduler and by the pool of mpi4py.futures, on the ranks of one communicator.

    mpirun -n 12 python -m bench.balance.sleeping TREE.npz --methods static,steal-half,pool-16

`bench.balance.balance` and `bench.balance.simulation_check` start this. One line of JSON on rank 0 for each
measurement. Sleeping tiles need no cores, so 48 ranks on 2 cores show what the scheduler loses, not what the machine
lacks.
"""

from __future__ import annotations

import faulthandler
import json
import queue
import time
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from bench.command_line import command_line
from pyramidai_mpi.cli.launcher import prepare_environment

prepare_environment()

from mpi4py import MPI  # noqa: E402 - numpy, loaded below, reads the environment
from mpi4py.futures import MPICommExecutor  # noqa: E402

from bench.paper.lesions import TILE, LesionTree, sleep_of_tiles  # noqa: E402
from pyramidai_mpi.sched import Policy, Tasks, deal_round_robin, run  # noqa: E402

if TYPE_CHECKING:
    from concurrent.futures import Future

POOL = "pool-"
"""Methods of the pool are named after their chunk: pool-1, pool-16."""


class SleepingTiles:
    """Sleeps for each tile (see `bench.paper.lesions.sleep_of_tiles`).

    Attributes
    ----------
    nominal_s : float
        Sum of the sleeps asked for so far, seconds.
    """

    dtype = TILE
    batch_by = "level"

    def __init__(self, tree: LesionTree, level_seconds: tuple[float, ...], batch_size: int) -> None:
        self.tree, self.batch_size = tree, batch_size
        self.level_seconds = level_seconds
        self.nominal_s = 0.0

    def expand(self, tiles: Tasks) -> Tasks:
        """Sleep for `tiles`, and return their children."""
        seconds = float(sleep_of_tiles(tiles, self.level_seconds).sum())
        self.nominal_s += seconds
        time.sleep(seconds)
        return self.tree.children_of(tiles)


@dataclass(frozen=True)
class Measurement:
    """One run of one method.

    Attributes
    ----------
    efficiency : float
        Nominal sleeps over ranks times wall time, from a barrier until all ranks have agreed on the end.
    efficiency_per_worker : float
        The same over the ranks that compute: one less for the pool, whose first rank only deals.
    cpu_us_per_tile : float
        CPU time of all ranks and threads over the tiles, microseconds; the pool's start and shutdown included.
    """

    method: str
    ranks: int
    repetition: int
    tiles: int
    nominal_s: float
    wall_s: float
    efficiency: float
    efficiency_per_worker: float
    cpu_us_per_tile: float


def run_scheduler(comm: MPI.Intracomm, work: SleepingTiles, policy: Policy, seed: int) -> tuple[int, float, float]:
    """Tiles, nominal seconds and wall seconds over all ranks."""
    roots = deal_round_robin(work.tree.roots, comm.rank, comm.size)
    work.nominal_s = 0.0
    comm.Barrier()
    start = time.perf_counter()
    outcome = run(comm, work, roots, policy, seed)
    wall = time.perf_counter() - start
    rows = comm.allgather((outcome.stats.tasks, work.nominal_s, wall))
    return sum(row[0] for row in rows), sum(row[1] for row in rows), max(row[2] for row in rows)


_pool_work: SleepingTiles
"""What the pool's workers do: functions reach them by name, so their work is set before the pool starts."""


def _expand_in_pool(tiles: Tasks) -> tuple[float, Tasks]:
    before = _pool_work.nominal_s
    children = _pool_work.expand(tiles)
    return _pool_work.nominal_s - before, children


def run_pool(comm: MPI.Intracomm, work: SleepingTiles, chunk: int) -> tuple[int, float, float]:
    """The same with the off-the-shelf pool: rank 0 deals chunks of one level and takes in the children.

    In the pool's favour its start and its shutdown are not timed.
    """
    global _pool_work
    _pool_work = work
    tiles, nominal, wall = 0, 0.0, 0.0
    with MPICommExecutor(comm, root=0) as executor:
        if executor is not None:
            executor.bootup(wait=True)
            finished: queue.SimpleQueue[Future[tuple[float, Tasks]]] = queue.SimpleQueue()
            start = time.perf_counter()
            pending = _submit(executor, work.tree.roots, chunk, finished)
            tiles = len(work.tree.roots)
            while pending:
                seconds, children = finished.get().result()
                nominal += seconds
                tiles += len(children)
                pending += _submit(executor, children, chunk, finished) - 1
            wall = time.perf_counter() - start
    return comm.bcast((tiles, nominal, wall))


def _submit(executor: Any, tiles: Tasks, chunk: int, finished: queue.SimpleQueue[Any]) -> int:
    starts = range(0, len(tiles), chunk)
    for start in starts:
        executor.submit(_expand_in_pool, tiles[start : start + chunk]).add_done_callback(finished.put)
    return len(starts)


def measure(comm: MPI.Intracomm, work: SleepingTiles, method: str, repetition: int) -> Measurement:
    """Run `method` once on the ranks of `comm`; collective."""
    cpu_before = time.process_time()
    if method.startswith(POOL):
        tiles, nominal, wall = run_pool(comm, work, int(method.removeprefix(POOL)))
        workers = comm.size - 1
    else:
        tiles, nominal, wall = run_scheduler(comm, work, Policy(method), seed=repetition)
        workers = comm.size
    cpu = comm.allreduce(time.process_time() - cpu_before)
    return Measurement(
        method=method,
        ranks=comm.size,
        repetition=repetition,
        tiles=tiles,
        nominal_s=nominal,
        wall_s=wall,
        efficiency=nominal / (comm.size * wall),
        efficiency_per_worker=nominal / (workers * wall),
        cpu_us_per_tile=1e6 * cpu / tiles,
    )


def main() -> None:
    """Measure methods side by side."""
    faulthandler.enable()
    parser = command_line(__doc__)
    parser.add_argument("tree", type=Path)
    parser.add_argument("--methods", default="static,steal-one,steal-half,pool-1,pool-16")
    parser.add_argument("--seconds", default="0.02,0.02,0.02", help="sleep per tile of level 0, 1, 2")
    parser.add_argument("--batch-size", type=int, default=16)
    parser.add_argument("--repetitions", type=int, default=3)
    options = parser.parse_args()

    comm = MPI.COMM_WORLD
    level_seconds = tuple(float(seconds) for seconds in options.seconds.split(","))
    work = SleepingTiles(LesionTree.load(options.tree), level_seconds, options.batch_size)
    for repetition in range(options.repetitions):
        for method in options.methods.split(","):
            measured = measure(comm, work, method, repetition)
            if comm.rank == 0:
                print(json.dumps(asdict(measured)), flush=True)


if __name__ == "__main__":
    main()
