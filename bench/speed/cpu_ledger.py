"""Processor time of an analysis, by what it goes to, beside that of a bare engine.

    mpirun -n 2 python -m bench.speed.cpu_ledger SLIDE --engine LIBRARY:MODEL [--mpp X] [--repetitions 3] [--json FILE]

In turn the bare engine on tiles in memory, on all ranks at once, and a reference run of the slide, whose threads are
asked for the processor time that each had while the worker ran. Milliseconds a tile, mean of the ranks, medians. On
ranks that have a core each these add up to the time of the analysis, and other programs on the machine disturb them
less than they disturb that: ratios by wall time are for a quiet machine.
"""

from __future__ import annotations

import os
import tempfile
import threading
import time
from collections import defaultdict
from pathlib import Path
from statistics import median
from typing import TYPE_CHECKING, Any

import numpy as np

from bench.command_line import command_line
from bench.figures import Figure, report
from bench.speed.throughput import bare_engine
from pyramidai_mpi.base.settings import RunSettings
from pyramidai_mpi.base.types import Mode
from pyramidai_mpi.cli.session import mpi_session
from pyramidai_mpi.models.engines.fixed_batch import FixedBatchEngine
from pyramidai_mpi.ranks.collectives import allgather, share_bytes
from pyramidai_mpi.run.run import run_slide
from pyramidai_mpi.sched.worker import Worker

if TYPE_CHECKING:
    from collections.abc import Callable

    from mpi4py import MPI

ENTRIES = ("bare engine", "network", "of it padding", "worker beside it", "main thread", "other threads", "all threads")


class Ledger:
    """Processor seconds of this rank's threads while its worker runs; tiles that its network computed, and places."""

    def __init__(self) -> None:
        self.begin()

    def begin(self) -> None:
        """Forget what came before, such as trials of networks."""
        self.network_s = self.worker_s = self.main_s = self.other_s = 0.0
        self.tiles = self.places = 0

    def milliseconds_a_tile(self, bare_s: float) -> list[float]:
        """One figure for each of `ENTRIES`."""
        all_s = self.worker_s + self.main_s + self.other_s
        seconds = [self.network_s, self.network_s * (1 - self.tiles / self.places), self.worker_s - self.network_s]
        return [1e3 * bare_s, *(1e3 * s / self.tiles for s in (*seconds, self.main_s, self.other_s, all_s))]


def watch(ledger: Ledger) -> None:
    """Have engines and workers of this process write into the ledger."""
    run: Callable[..., Any] = FixedBatchEngine._run
    work: Callable[..., Any] = Worker._work

    def watched_run(engine: FixedBatchEngine, pixels: Any, *rest: Any) -> Any:
        started = time.thread_time()
        found = run(engine, pixels, *rest)
        ledger.network_s += time.thread_time() - started
        ledger.tiles += len(pixels)
        ledger.places += engine.batch_shape
        return found

    def watched_work(worker: Worker) -> None:
        ledger.begin()
        before = seconds_by_thread()
        work(worker)
        spent = {number: s - before.get(number, 0.0) for number, s in seconds_by_thread().items()}
        ledger.worker_s = spent.pop(threading.get_native_id())
        ledger.main_s = spent.pop(threading.main_thread().native_id or 0)
        ledger.other_s = sum(spent.values())

    for owner, name, watched in ((FixedBatchEngine, "_run", watched_run), (Worker, "_work", watched_work)):
        setattr(owner, name, watched)


def seconds_by_thread() -> dict[int, float]:
    """Processor seconds that each thread of this process has had, by its number in the system; Linux."""
    found = {}
    for task in Path("/proc/self/task").iterdir():
        try:
            found[int(task.name)] = int((task / "schedstat").read_text().split()[0]) * 1e-9
        except OSError:  # has just ended
            continue
    return found


def measure(comm: MPI.Intracomm, settings: RunSettings, ledger: Ledger, n_tiles: int) -> list[float]:
    """One repetition: means of the ranks, one for each of `ENTRIES`; then ratios by wall time, 0 on ranks above 0."""
    bare, tiles_a_cpu_second = bare_engine(comm, settings, n_tiles)
    finished = run_slide(comm, settings)
    own = [1e6 * entry for entry in ledger.milliseconds_a_tile(1 / tiles_a_cpu_second)]
    everyone = allgather(comm, np.array(own))
    ratios = [0.0, 0.0]
    if finished is not None:
        seconds = (float(finished.result.execution.attributes["analyse_s"]), finished.wall_s)
        ratios = [finished.result.tree.n_tiles / s / bare for s in seconds]
    return [*(float(mean) for mean in everyone.mean(axis=0) / 1e6), *ratios]


def main() -> None:
    """Measure and print."""
    parser = command_line(__doc__, "json")
    parser.add_argument("slide", type=Path)
    parser.add_argument("--engine", action="append", required=True, metavar="LIBRARY:MODEL", help="repeatable")
    parser.add_argument("--mpp", type=float, default=None)
    parser.add_argument("--tiles", type=int, default=128, help="tiles that each rank holds in memory")
    parser.add_argument("--repetitions", type=int, default=3)
    arguments = parser.parse_args()
    ledger = Ledger()
    seen: dict[str, list[list[float]]] = defaultdict(list)
    with mpi_session() as comm, tempfile.TemporaryDirectory() as own_folder:
        watch(ledger)
        folder = share_bytes(comm, own_folder.encode() if comm.rank == 0 else None).decode()
        for _ in range(arguments.repetitions):
            for engine in arguments.engine:
                backend, model = engine.split(":", 1)
                settings = RunSettings.of(
                    slide=arguments.slide,
                    model=Path(model),
                    output=Path(folder) / "out.h5",
                    mode=Mode.REFERENCE,
                    mpp=arguments.mpp,
                    overwrite=True,
                    backend=backend,
                )
                seen[engine].append(measure(comm, settings, ledger, arguments.tiles))
        if comm.rank == 0:
            report(figures_of(seen, arguments.slide.name, comm.size), arguments.json)


def figures_of(seen: dict[str, list[list[float]]], slide: str, ranks: int) -> list[Figure]:
    """Medians of the repetitions, and of bare over all threads in each, with its least and most."""
    figures = []
    for engine, runs in seen.items():
        setting = {"engine": Path(engine).name, "slide": slide, "ranks": ranks, "load": f"{os.getloadavg()[0]:.1f}"}
        figures += [
            Figure(name, median(column), "ms a tile", setting)
            for name, column in zip(ENTRIES, zip(*runs, strict=True), strict=False)
        ]
        ratios = {
            "bare engine over all threads": [run[0] / run[len(ENTRIES) - 1] for run in runs],
            "analysis over bare, by wall time": [run[-2] for run in runs],
            "start to file over bare, by wall time": [run[-1] for run in runs],
        }
        figures += [
            Figure(f"{name}, {word.__name__}", word(values), "ratio", setting)
            for name, values in ratios.items()
            for word in (median, min, max)
        ]
    return figures


if __name__ == "__main__":
    main()
