"""Engines that are wrong now and then, and how often `run --audit P` finds them: beside what arithmetic gives.

    python -m bench.faults.lying_engine [--trials 20000] [--seed 0] [--seal]
    mpirun -n 3 python -m bench.faults.lying_engine --runs 60 [--one-in 200] [--audit 1] [--seed 0]
    mpirun -n 2 python -m bench.faults.lying_engine --cost SLIDE [--rounds 3]

By itself: trials in memory, by the code that chooses tiles and judges what comes back. One rank of three is wrong once
in 10^5 tiles, each tile by itself. A trial is caught when that rank is named; with N tiles, a rate q and a share p
audited, of N independent tiles each is wrong and audited with probability p q: caught is 1 - (1 - p q)^N.

On several ranks: runs of the program of some 11000 tiles of 16 px, each rank's engine wrong for one tile in so many, by
a hash of rank, seed and pixels, whether it looks first or again: caught is 1 - (1 - p (2 q - q^2))^N. Of a run that is
caught there must be no result; one that is not must have one.

With --seal: what checksums of messages take. With a slide: CPU seconds of all ranks, in runs of the shipped model
without and with audits, in turn.
"""

from __future__ import annotations

import hashlib
import statistics
import tempfile
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from bench.command_line import command_line
from pyramidai_mpi.analyses.base import Look
from pyramidai_mpi.base.errors import StorageError
from pyramidai_mpi.base.types import TILE_DTYPE, prediction_dtype
from pyramidai_mpi.run.pool.audit import AuditBook
from pyramidai_mpi.run.pool.record_table import RecordTable
from pyramidai_mpi.run.pool.witness import Audit, Witness, order_from_bytes

if TYPE_CHECKING:
    from mpi4py import MPI

    from pyramidai_mpi.run.pool.messages import Kind

RANKS, LIAR = 3, 1
RATE = 1e-5
ROWS = ((10**5, 1.0), (10**5, 10.0), (10**6, 1.0), (10**6, 10.0), (10**7, 1.0), (3 * 10**7, 1.0))
"""Tiles, and per cent audited."""
SIDE, TILE = 1700, 16


class _Analysis:
    """What a book knows of an analysis."""

    task = TILE_DTYPE
    record = prediction_dtype(2)


class Trial:
    """One slide whose tiles of level 0 are done by the rank that lies; only those of which it lies are looked at."""

    def __init__(self, n_tiles: int, percent: float, seed: int) -> None:
        self._rng = np.random.default_rng([n_tiles, round(percent * 1000), seed])
        self._n_tiles = n_tiles
        audit = Audit(percent / 100, seed, [f"n{rank}" for rank in range(RANKS)], ["x"] * RANKS, _Analysis)
        self._orders: list[tuple[int, bytes]] = []
        self._book = AuditBook(audit, _Analysis(), self._send, 16)
        self._choice = audit.choice("ab")

    def is_caught(self) -> bool:
        """Whether the rank that lies is named."""
        n_lies = int(self._rng.binomial(self._n_tiles, RATE))
        places = np.unique(self._rng.integers(self._n_tiles, size=n_lies))
        tiles = np.zeros(len(places), TILE_DTYPE)
        tiles["col"], tiles["row"] = places % 10_000, places // 10_000
        table = RecordTable(_Analysis.record)
        self._book.begin(0, "ab", table)
        checked = self._choice.chosen(tiles)
        look = self._look(tiles, is_lie=True)
        if checked.any():
            self._book.witnessed(0, LIAR, Witness.of(tiles, look, checked).to_bytes())
        table.append(look.records)
        self._book.recorded(0, LIAR, 0)
        self._book.completed(0)
        while not self._book.is_settled(0) and self._book.failure is None:
            rank, payload = self._orders.pop()
            ticket, _, tasks = order_from_bytes(payload, TILE_DTYPE)
            found = self._look(tasks, is_lie=rank == LIAR)
            self._book.answered(0, rank, Witness.of(tasks, found, np.ones(len(tasks), bool)).to_bytes(ticket))
        assert self._book.suspects <= {LIAR}, "an honest rank is named"
        return self._book.failure is not None

    def _send(self, destination: int, _kind: Kind, _slide: int, payload: bytes) -> None:
        self._orders.append((destination, payload))

    @staticmethod
    def _look(tiles: np.ndarray, *, is_lie: bool) -> Look:
        records = np.zeros(len(tiles), _Analysis.record)
        for name in TILE_DTYPE.names or ():
            records[name] = tiles[name]
        records["probability"][:, 1] = 0.75 if is_lie else 0.25
        return Look(records, tiles[:0], np.empty(0), pixels=np.zeros(len(tiles), np.uint32))


def bounds(trials: int, expected: float) -> tuple[int, int]:
    """Between which numbers 99 % of such trials lie."""
    from scipy.stats import binom

    low, high = binom.interval(0.99, trials, expected)
    return int(low), int(high)


def in_memory(trials: int, seed: int) -> bool:
    """Print the table of trials in memory; whether all rows are as they must be."""
    print("| tiles | audited | trials | caught | 1 - (1 - p q)^N | 99 % of such trials |")
    print("| --- | --- | --- | --- | --- | --- |")
    fits = True
    for n_tiles, percent in ROWS:
        caught = sum(Trial(n_tiles, percent, seed + trial).is_caught() for trial in range(trials))
        expected = 1 - (1 - percent / 100 * RATE) ** n_tiles
        low, high = bounds(trials, expected)
        fits &= low <= caught <= high
        most = f"{low / trials:.4f} to {high / trials:.4f}"
        print(f"| {n_tiles} | {percent:g} % | {trials} | {caught / trials:.4f} | {expected:.4f} | {most} |")
    return fits


def seal_cost() -> None:
    """Print what sealing a message takes, and looking at the seal, the best of some."""
    import os
    import timeit

    from pyramidai_mpi.sched.sealing import sealed, unsealed

    for n_bytes in (64, 64 << 10, 1 << 20):
        data, often = os.urandom(n_bytes), max(5, (32 << 20) // max(n_bytes, 4096))
        whole = sealed(data)
        copying = min(timeit.repeat(lambda: bytearray(whole), number=often, repeat=5)) / often  # noqa: B023
        looking = min(timeit.repeat(lambda: unsealed(bytearray(whole), 0), number=often, repeat=5)) / often  # noqa: B023
        sealing = min(timeit.repeat(lambda: sealed(data), number=often, repeat=5)) / often  # noqa: B023
        print(f"{n_bytes} bytes: sealed in {sealing * 1e6:.1f} us, looked at in {(looking - copying) * 1e6:.1f} us")


def plant(rank: int, one_in: int) -> list[int]:
    """Let this rank's engines be wrong for one tile in so many; the first number of the list is the seed."""
    from pyramidai_mpi.models.engines.fixed_batch import FixedBatchEngine

    real, seed = FixedBatchEngine.predict, [0]

    def predict(self: FixedBatchEngine, pixels: np.ndarray, **options: Any) -> Any:
        found = real(self, pixels, **options)
        key = f"{rank} {seed[0]}".encode()
        for n, tile in enumerate(pixels):
            digest = hashlib.blake2b(tile.tobytes(), digest_size=8, key=key).digest()
            if int.from_bytes(digest, "little") % one_in == 0:
                found[0][n] = 1 - found[0][n]
        return found

    FixedBatchEngine.predict = predict  # type: ignore[method-assign]
    return seed


def runs(comm: MPI.Intracomm, n_runs: int, one_in: int, percent: float, first_seed: int) -> bool:
    """Print how many of some runs of the program were caught; whether that is as it must be. Collective."""
    from bench.speed.tiny_network import write_tiny_package
    from pyramidai_mpi.base.settings import RunSettings
    from pyramidai_mpi.base.types import Mode
    from pyramidai_mpi.ranks.collectives import on_rank0, share_bytes
    from pyramidai_mpi.run.run import run_slide
    from pyramidai_mpi.synth.slide import write_slide
    from pyramidai_mpi.synth.spec import SynthSpec

    seed = plant(comm.rank, one_in)
    caught, n_tiles, started = 0, 0, time.perf_counter()
    with tempfile.TemporaryDirectory() as own:
        folder = Path(share_bytes(comm, own.encode() if comm.rank == 0 else None).decode())
        slide, model = folder / "slide.tif", folder / "model"

        def prepare() -> None:
            write_slide(SynthSpec(SIDE, SIDE, seed=1), slide)
            write_tiny_package(model, tile_size=TILE, thresholds=(0.5,))

        on_rank0(comm, prepare)
        for run in range(n_runs):
            seed[0] = first_seed + run
            output = folder / f"{run}.h5"
            schedule = {"seed": first_seed + run, "audit": percent, "batch_size": 256}
            settings = RunSettings.of(slide, model, output, mode=Mode.REFERENCE, **schedule)
            try:
                report = run_slide(comm, settings)
            except StorageError as error:
                assert "audit: level 0" in str(error), error
                caught += 1
                assert not output.exists()
            else:
                if report is not None:
                    n_tiles = report.result.tree.n_tiles
                    assert output.exists()
            comm.barrier()
    if comm.rank:
        return True
    rate, share = 1 / one_in, percent / 100
    expected = 1 - (1 - share * (2 * rate - rate**2)) ** n_tiles
    low, high = bounds(n_runs, expected)
    seconds = time.perf_counter() - started
    print(
        f"{n_runs} runs of {n_tiles} tiles on {comm.size} ranks, each wrong once in {one_in}, {percent:g} % audited: "
        f"{caught} caught, expected {expected * n_runs:.1f} (99 %: {low} to {high}); {seconds:.0f} s"
    )
    return low <= caught <= high


def cost(comm: MPI.Intracomm, slide: Path, rounds: int) -> None:
    """Print CPU seconds of all ranks with shares of 0, 1, 10 and 100 per cent audited. Collective."""
    from pyramidai_mpi.base.settings import RunSettings
    from pyramidai_mpi.base.types import Mode
    from pyramidai_mpi.models.shipped import default_model
    from pyramidai_mpi.ranks.collectives import gather_records, share_bytes
    from pyramidai_mpi.run.run import run_slide

    taken: dict[float, list[float]] = {0.0: [], 1.0: [], 10.0: [], 100.0: []}
    with tempfile.TemporaryDirectory() as own:
        folder = Path(share_bytes(comm, own.encode() if comm.rank == 0 else None).decode())
        for n in range(rounds + 1):  # the first is not counted
            for percent, seconds in taken.items():
                output = folder / f"{n}-{percent}.h5"
                settings = RunSettings.of(slide, default_model(), output, mode=Mode.REFERENCE, audit=percent)
                began = time.process_time()
                report = run_slide(comm, settings)
                all_ranks = gather_records(comm, np.array([(time.process_time() - began,)], [("s", "<f8")]))
                if all_ranks is not None and report is not None and n:
                    seconds.append(float(all_ranks["s"].sum()))
    for percent, seconds in taken.items() if comm.rank == 0 else ():
        median = statistics.median(seconds)
        more = 100 * (median / statistics.median(taken[0.0]) - 1)
        print(f"| {percent:g} % | {median:.2f} | {min(seconds):.2f} to {max(seconds):.2f} | {more:+.1f} % |")


def main() -> None:
    """Do what was asked for."""
    parser = command_line(__doc__)
    parser.add_argument("--trials", type=int, default=20_000)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--seal", action="store_true")
    parser.add_argument("--runs", type=int, help="Runs of the program, on the ranks that there are.")
    parser.add_argument("--one-in", type=int, default=200)
    parser.add_argument("--audit", type=float, default=1.0, metavar="P")
    parser.add_argument("--cost", type=Path, metavar="SLIDE")
    parser.add_argument("--rounds", type=int, default=3)
    given = parser.parse_args()
    if given.seal:
        seal_cost()
        return
    if given.runs is None and given.cost is None:
        raise SystemExit(0 if in_memory(given.trials, given.seed) else 1)
    import mpi4py

    mpi4py.rc.thread_level = "funneled"
    from mpi4py import MPI

    comm = MPI.COMM_WORLD
    if given.cost is not None:
        cost(comm, given.cost, given.rounds)
    elif not runs(comm, given.runs, given.one_in, given.audit, given.seed):
        raise SystemExit(1)


if __name__ == "__main__":
    main()
