"""What the scheduler itself costs: time per task, time of a reply, CPU of an idle rank, memory per tile.

    mpirun -n 4 python -m bench.balance.sched_cost [--json FILE]

Memory: peak growth of rank 0 while it does a million tiles alone, by the scheduler (all of them known from the start)
and by the pool of a run, with its journal and the predictions that it keeps. Cost: rank 0 alone, tasks that do nothing,
the call of the empty `expand` included; CPU time of all threads. Replies: rank 0 computes batches of 300 ms and rank 1
asks it again and again; the batch hashes large blocks, which releases the interpreter's lock as inference does, or
loops in Python, which holds it. Idle: rank 0 sleeps in its only task, the others have nothing to do. Medians of three.
"""

from __future__ import annotations

import hashlib
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path
from statistics import median
from typing import TYPE_CHECKING, Any, ClassVar, NoReturn

from bench.command_line import command_line
from pyramidai_mpi.cli.launcher import prepare_environment

prepare_environment()

import numpy as np  # noqa: E402 - reads the environment when it is loaded

from bench.balance.uts import wait_politely  # noqa: E402
from bench.figures import Figure, report  # noqa: E402
from bench.memory import start_peak_anew  # noqa: E402
from pyramidai_mpi.analyses.base import FAILED_DTYPE, Look, OpenSlide  # noqa: E402
from pyramidai_mpi.analyses.classify import Classify  # noqa: E402
from pyramidai_mpi.base.settings import Schedule  # noqa: E402
from pyramidai_mpi.base.types import TILE_DTYPE, Decision, Mode  # noqa: E402
from pyramidai_mpi.cli.session import mpi_session  # noqa: E402
from pyramidai_mpi.process.memory import peak_resident_bytes  # noqa: E402
from pyramidai_mpi.process.stop import StopWish  # noqa: E402
from pyramidai_mpi.pyramid.grid import Grid  # noqa: E402
from pyramidai_mpi.pyramid.rule import TileRule  # noqa: E402
from pyramidai_mpi.pyramid.tissue import TissueMap  # noqa: E402
from pyramidai_mpi.run.pool.messages import SlideDescription, SlideEnd  # noqa: E402
from pyramidai_mpi.run.pool.owner import Beginning  # noqa: E402
from pyramidai_mpi.run.pool.pool import OpenedByAll, PoolJob, run_pool  # noqa: E402
from pyramidai_mpi.run.pool.workload import SlideOpener  # noqa: E402
from pyramidai_mpi.run.resume import Journals, record_format_of  # noqa: E402
from pyramidai_mpi.sched import Tasks, run  # noqa: E402
from pyramidai_mpi.slides.readers.base import SlideInfo  # noqa: E402
from pyramidai_mpi.store.journal.folder import JournalFolder  # noqa: E402
from pyramidai_mpi.store.journal.reader import FRAME_DTYPE  # noqa: E402

if TYPE_CHECKING:
    from mpi4py import MPI

REPETITIONS = 3
TASKS = {1: 60_000, 512: 600_000}
"""Tasks done at each batch size."""
MILLION = 1_000_000
SIDE = 880
"""Tiles of level 0 along each side; three levels make 1.01 million."""
BATCH_S = 0.3
BATCHES = 12
LOOT = 64
"""Children of a batch of 300 ms: halved by each steal."""
IDLE_S = 5.0
CHILDREN = 4


class EmptyTasks:
    """Tasks that do nothing; with children, those of level 1 have four each."""

    dtype = TILE_DTYPE

    def __init__(self, batch_size: int, by_level: bool, children: bool) -> None:
        self.batch_size, self.batch_by, self.children = batch_size, "level" if by_level else None, children
        self.offspring = np.zeros(CHILDREN * batch_size, TILE_DTYPE)

    def expand(self, tasks: Tasks) -> Tasks:
        """Nothing, but the children."""
        if self.children and tasks["level"][0]:
            return self.offspring[: CHILDREN * len(tasks)]
        return self.offspring[:0]


def measure_cost(alone: MPI.Intracomm) -> list[Figure]:
    """Microseconds per task on one rank."""
    figures = []
    for batch_size, tasks in TASKS.items():
        for by_level in (False, True):
            for children in (False, True):
                roots = np.zeros(tasks // (1 + CHILDREN) if children else tasks, TILE_DTYPE)
                roots["level"] = 1
                cpu, wall = [], []
                for _ in range(REPETITIONS):
                    work = EmptyTasks(batch_size, by_level, children)
                    stats = run(alone, work, roots).stats
                    cpu.append(1e6 * stats.cpu_s / stats.tasks)
                    wall.append(1e6 * stats.wall_s / stats.tasks)
                setting = {"batch_size": batch_size, "batch_by": work.batch_by, "children": children, "tasks": tasks}
                setting["wall_us"] = round(median(wall), 3)
                figures.append(Figure("cost per task", median(cpu), "us", setting))
    return figures


class Computing:
    """Rank 0: 300 ms a task, each with children to be stolen while the next is computed; elsewhere nothing."""

    dtype = np.dtype([("kind", "u1")])
    batch_size = 1

    def __init__(self, computes: bool, holds_the_lock: bool) -> None:
        self.computes, self.holds_the_lock = computes, holds_the_lock
        self.batches = 0
        self.block = bytes(1 << 21)

    def expand(self, tasks: Tasks) -> Tasks:
        """Compute on rank 0, as often as is wanted; the thief does its loot at once and comes again."""
        if not self.computes or self.batches == BATCHES:
            return tasks[:0]
        self.batches += 1
        end = time.perf_counter() + BATCH_S
        while time.perf_counter() < end:
            if not self.holds_the_lock:
                hashlib.sha1(self.block)
        return np.zeros(LOOT, self.dtype)


def measure_replies(pair: MPI.Intracomm) -> list[Figure]:
    """Mean milliseconds from asking to having the answer, thief and victim on ranks 1 and 0."""
    figures = []
    for holds_the_lock in (False, True):
        means, requests = [], 0
        for repetition in range(REPETITIONS):
            roots = np.zeros(int(pair.rank == 0), Computing.dtype)
            wait_politely(pair)
            stats = run(pair, Computing(pair.rank == 0, holds_the_lock), roots, seed=repetition).stats
            mean, asked = pair.bcast((stats.mean_reply_s, stats.steal_requests), root=1)
            means.append(1e3 * mean)
            requests += asked
        name = "held" if holds_the_lock else "released"
        setting = {
            "interpreter_lock": name,
            "batch_ms": 1e3 * BATCH_S,
            "requests": requests,
            "worst": round(max(means), 2),
        }
        figures.append(Figure("mean reply to a steal request", median(means), "ms", setting))
    return figures


class OneLongTask:
    """Sleeps."""

    dtype = np.dtype([("kind", "u1")])
    batch_size = 1

    def expand(self, tasks: Tasks) -> Tasks:
        """Sleep, so that the CPU seen is the scheduler's."""
        time.sleep(IDLE_S)
        return tasks[:0]


def measure_idleness(comm: MPI.Intracomm) -> list[Figure]:
    """Share of a core that ranks without work use, and the main thread of one that computes."""
    idle, computing = [], []
    for repetition in range(REPETITIONS):
        wait_politely(comm)
        stats = run(comm, OneLongTask(), np.zeros(int(comm.rank == 0), OneLongTask.dtype), seed=repetition).stats
        shares = comm.allgather(stats.cpu_s / stats.wall_s)
        computing.append(100 * shares[0])
        idle += [100 * share for share in shares[1:]]
    setting = {"ranks": comm.size, "seconds": IDLE_S}
    return [
        Figure("CPU of an idle rank", median(idle), "% of core", setting | {"worst": round(max(idle), 2)}),
        Figure("CPU of the scheduler on a computing rank", median(computing), "% of core", setting),
    ]


class EmptyAnalysis(Classify):
    """Zooms into every tile without a look at it."""

    batch_grain = 1  # there are no networks

    def on(self, _slide: OpenSlide, rule: TileRule) -> Any:
        """Begin on a slide."""
        return OnOneSlide(self, rule)


@dataclass
class OnOneSlide:
    """What `EmptyAnalysis` does to the tiles of a slide."""

    analysis: EmptyAnalysis
    rule: TileRule

    def prepare(self, tiles: Tasks) -> list[None]:
        """There is nothing to read."""
        return [None] * len(tiles)

    def close(self) -> None:
        """Nor to close."""

    def look(self, tiles: Tasks, _prepared: object = None) -> Look:
        """Zoom into everything."""
        records = np.zeros(len(tiles), self.analysis.record)
        for name in TILE_DTYPE.names or ():
            records[name] = tiles[name]
        records["decision"] = Decision.ZOOM
        return Look(records, self.analysis.closer(self.rule, records), np.empty(0, FAILED_DTYPE))


class NoOutput:
    """In place of a result on the disk."""

    replaces = False
    attributes: ClassVar[dict[str, str | int | float]] = {}

    def remove_journal(self) -> None:
        """It lies in a folder that goes."""

    def close(self) -> None:
        """There is nothing to let go of."""


def never(*_: Any) -> NoReturn:
    """Open a slide: it is open already."""
    raise AssertionError("the slide is open")


def do_all_tiles(alone: MPI.Intracomm, rule: TileRule, folder: Path) -> int:
    """Do all tiles of a slide that was opened, as a run does; their number."""
    engines: Any = [None] * rule.grid.n_levels  # nothing is asked of them
    analysis = EmptyAnalysis(engines, [0.0] * len(engines), 2, 1, Mode.EXHAUSTIVE)
    slide: Any = None  # nor of the slide
    mask = rule.tissue.mask
    info = SlideInfo(Path("none"), "none", (1, 1), ((1, 1),), (1.0,), (True,), 1.0, (0, 0))
    opened = OpenedByAll(0, slide, rule, SlideDescription(info, "", 1.0, "", mask))
    opener = SlideOpener(never, never)
    home = JournalFolder(folder)
    journals = Journals(home, home, home.first_start(), (), np.empty(0, FRAME_DTYPE), record_format_of(analysis))
    job = PoolJob(
        analysis,
        opener,
        lambda _slide, _description: Beginning(slide, rule, 1, analysis.first(rule), (), NoOutput()),
        lambda _slide, _collected: SlideEnd(0, ""),
    )
    plan = Schedule(batch_size=16)
    outcome = run_pool(alone, job, np.zeros(1, np.int64), journals, plan, StopWish(), opened=opened)
    assert outcome.held is not None
    return len(outcome.held.records.rows)


def measure_memory(alone: MPI.Intracomm) -> list[Figure]:
    """Bytes per tile by which the peak of this process grows."""
    before = start_peak_anew()
    run(alone, EmptyTasks(16, by_level=True, children=False), np.zeros(MILLION, TILE_DTYPE))
    queued = (peak_resident_bytes() - before) / MILLION

    grid = Grid.of_tiles(SIDE * 224, SIDE * 224, 224, 2, 3, 1.0)
    rule = TileRule(TissueMap(grid, np.ones((SIDE, SIDE), bool), 1), 0.05)
    with tempfile.TemporaryDirectory() as folder:
        before = start_peak_anew()
        tiles = do_all_tiles(alone, rule, Path(folder))
        kept = (peak_resident_bytes() - before) / tiles
    return [
        Figure("memory, queued tasks", queued, "bytes", {"tasks": MILLION, "record": TILE_DTYPE.itemsize}),
        Figure("memory, tiles with predictions", kept, "bytes", {"tiles": tiles, "batch_size": 16}),
    ]


def main() -> None:
    """Measure and print."""
    parser = command_line(__doc__, "json")
    options = parser.parse_args()
    with mpi_session() as comm:
        from mpi4py import MPI

        if comm.size < 2:
            raise SystemExit("a thief and a victim are needed: mpirun -n 4 python -m bench.balance.sched_cost")
        figures: list[Figure] = []
        if comm.rank == 0:
            figures += measure_memory(MPI.COMM_SELF)
            figures += measure_cost(MPI.COMM_SELF)
        wait_politely(comm)
        pair = comm.Split(0 if comm.rank < 2 else MPI.UNDEFINED)
        if comm.rank < 2:
            figures += measure_replies(pair)
        wait_politely(comm)
        figures += measure_idleness(comm)
        if comm.rank == 0:
            report(figures, options.json)


if __name__ == "__main__":
    main()
