"""Tiles per second: the whole program against a bare engine on the same tiles in memory, with what each phase takes.

    mpirun -n 2 python -m bench.speed.throughput SLIDE [--engine LIBRARY:MODEL]... [--cold] [--json FILE]

In one run, interleaved, medians of `--repetitions`, for one rank (the others sleep) and for all of them: (1) the bare
engine on level-0 tiles that are in memory already, on every rank at once; (2) the analysis phase of a reference run of
the slide: reading, inference, scheduling; (3) that run from start to finished file, with opening, tissue, gathering and
writing. Every engine runs with every reader; all of them in turn within each repetition.

Ratios by CPU time of the ranks stand beside those by wall time: other programs on the machine disturb them less.
"""

from __future__ import annotations

import os
import tempfile
import time
from collections import defaultdict
from dataclasses import asdict, dataclass, fields, replace
from pathlib import Path
from statistics import median
from typing import TYPE_CHECKING

from bench.command_line import Options, command_line
from pyramidai_mpi.cli.launcher import prepare_environment

prepare_environment()

import numpy as np  # noqa: E402 - reads the environment when it is loaded

from bench.figures import Figure, print_table, report  # noqa: E402
from pyramidai_mpi.base.settings import RunSettings  # noqa: E402
from pyramidai_mpi.base.types import Mode  # noqa: E402
from pyramidai_mpi.cli.session import mpi_session  # noqa: E402
from pyramidai_mpi.models.shipped import default_model  # noqa: E402
from pyramidai_mpi.ranks.collectives import allgather, share_bytes  # noqa: E402
from pyramidai_mpi.run.networks import agree_on_package, build_engines  # noqa: E402
from pyramidai_mpi.run.opening import describe, follow  # noqa: E402
from pyramidai_mpi.run.pool.pool import open_by_all  # noqa: E402
from pyramidai_mpi.run.pool.workload import SlideOpener  # noqa: E402
from pyramidai_mpi.run.run import run_slide  # noqa: E402
from pyramidai_mpi.slides.readers.base import UnreadableRegionError  # noqa: E402

if TYPE_CHECKING:
    from mpi4py import MPI

    from pyramidai_mpi.base.types import RgbArray
    from pyramidai_mpi.run.pool.pool import OpenedByAll


@dataclass(frozen=True)
class Way:
    """What is measured: which network in which library, read how, on how many ranks."""

    model: Path
    backend: str
    reader: str
    read_ahead: str
    ranks: int


@dataclass(frozen=True)
class Seen:
    """One repetition of a way.

    Attributes
    ----------
    bare, analysis, whole
        Tiles per second: engine alone, analysis phase, from start to finished file.
    bare_cpu, analysis_cpu
        Tiles per second of the ranks' CPU time.
    read, stain, infer, own, wait
        Shares of the ranks' wall time in the analysis phase: reading, stain normalisation, the network, what else an
        analysing rank does (decisions, journal, children), and the time without a batch.
    """

    bare: float
    bare_cpu: float
    analysis: float
    analysis_cpu: float
    whole: float
    read: float
    stain: float
    infer: float
    own: float
    wait: float


def parse_arguments() -> Options:
    """The command line."""
    parser = command_line(__doc__, "json")
    parser.add_argument("slide", type=Path)
    parser.add_argument(
        "--engine", action="append", metavar="LIBRARY:MODEL", help="repeatable; default: onnxruntime, shipped model"
    )
    parser.add_argument("--reader", action="append", default=None, help="repeatable; default: auto")
    parser.add_argument("--read-ahead", action="append", default=None, help="repeatable; default: auto")
    parser.add_argument("--mpp", type=float, default=None)
    parser.add_argument("--tiles", type=int, default=128, help="tiles that each rank holds in memory")
    parser.add_argument("--repetitions", type=int, default=3)
    parser.add_argument("--cold", action="store_true", help="have the system forget the slide before each run")
    return parser.parse_args()


def main() -> None:
    """Measure and print."""
    arguments = parse_arguments()
    engines = [engine.split(":", 1) for engine in arguments.engine or [f"onnxruntime:{default_model()}"]]
    ways = [
        Way(Path(model), backend, reader, read_ahead, 0)
        for backend, model in engines
        for reader in arguments.reader or ["auto"]
        for read_ahead in arguments.read_ahead or ["auto"]
    ]
    with mpi_session() as comm, tempfile.TemporaryDirectory() as own_folder:
        folder = share_bytes(comm, own_folder.encode() if comm.rank == 0 else None).decode()
        output = Path(folder) / "out.h5"
        seen: dict[Way, list[Seen]] = defaultdict(list)
        for _ in range(arguments.repetitions):
            for ranks in sorted({1, comm.size}):
                part = comm.Split(0 if comm.rank < ranks else 1, comm.rank)
                if comm.rank < ranks:
                    for way in ways:
                        found = measure(part, replace(way, ranks=ranks), arguments, output)
                        if found is not None:
                            seen[replace(way, ranks=ranks)].append(found)
                part.Free()
                allgather(comm, np.zeros(1))  # the others sleep here
        if comm.rank == 0:
            if arguments.json is not None:
                report(figures_of(seen, arguments), arguments.json)
            print_medians(seen)


def measure(comm: MPI.Intracomm, way: Way, arguments: Options, output: Path) -> Seen | None:
    """One repetition of one way; None on ranks above 0."""
    settings = RunSettings.of(
        slide=arguments.slide,
        model=way.model,
        output=output,
        mode=Mode.REFERENCE,
        mpp=arguments.mpp,
        overwrite=True,
        backend=way.backend,
        reader=way.reader,
        read_ahead=way.read_ahead,
    )
    bare, bare_cpu = bare_engine(comm, settings, arguments.tiles)
    if arguments.cold:
        forget(arguments.slide)
    finished = run_slide(comm, settings)
    if finished is None:
        return None
    ranks = finished.result.execution.ranks
    n_tiles = finished.result.tree.n_tiles
    wall, busy = float(ranks["wall_s"].sum()), float(ranks["busy_s"].sum())
    read, stain, infer = (float(ranks[name].sum()) for name in ("read_s", "stain_s", "infer_s"))
    return Seen(
        bare=bare,
        bare_cpu=bare_cpu,
        analysis=n_tiles / float(finished.result.execution.attributes["analyse_s"]),
        analysis_cpu=n_tiles / float(ranks["cpu_s"].sum()),
        whole=n_tiles / finished.wall_s,
        read=read / wall,
        stain=stain / wall,
        infer=infer / wall,
        own=(busy - read - stain - infer) / wall,
        wait=1 - busy / wall,
    )


def bare_engine(comm: MPI.Intracomm, settings: RunSettings, n_tiles: int) -> tuple[float, float]:
    """Tiles per second of all ranks' engines at once, and per second of their CPU time, on tiles in memory."""
    package = agree_on_package(comm, settings)
    opener = SlideOpener(
        lambda _: describe(settings.slide, package),
        lambda _, description: follow(settings.slide, package, description),
    )
    opened = open_by_all(comm, opener, 0)
    pixels = tiles_in_memory(opened, n_tiles)
    engine = build_engines(comm, package, settings)[0]
    opened.slide.pyramid.reader.close()
    engine.predict(pixels[: engine.batch_shape])
    allgather(comm, np.zeros(1))  # all start together
    started, started_cpu = time.perf_counter(), time.process_time()
    engine.predict(pixels)
    own = np.array([time.perf_counter() - started, time.process_time() - started_cpu])
    seconds = allgather(comm, (1e9 * own).astype(np.int64)) / 1e9
    wall, cpu = (len(pixels) / seconds).sum(axis=0)
    return float(wall), float(cpu) / comm.size


def tiles_in_memory(opened: OpenedByAll, n_tiles: int) -> RgbArray:
    """Level-0 tiles from all over the tissue."""
    tiles = opened.rule.reference_tiles()
    pixels = []
    for tile in tiles[np.linspace(0, len(tiles) - 1, n_tiles).astype(int)]:
        try:
            pixels.append(opened.slide.pyramid.read_tile(0, int(tile["col"]), int(tile["row"])))
        except UnreadableRegionError:
            continue
    return np.stack(pixels)


def forget(path: Path) -> None:
    """Drop a file from the page cache."""
    with path.open("rb") as file:
        os.posix_fadvise(file.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)


def figures_of(seen: dict[Way, list[Seen]], arguments: Options) -> list[Figure]:
    """Medians of all that was seen, and ratios within each repetition."""
    figures = []
    for way, runs in seen.items():
        setting = {key: str(value) for key, value in asdict(way).items()} | {
            "model": way.model.name,
            "slide": arguments.slide.name,
            "cold": arguments.cold,
        }
        figures += [
            Figure(field.name, median(getattr(run, field.name) for run in runs), "", setting) for field in fields(Seen)
        ]
        figures += [
            Figure("analysis / bare", median(run.analysis / run.bare for run in runs), "", setting),
            Figure("analysis / bare, CPU", median(run.analysis_cpu / run.bare_cpu for run in runs), "", setting),
            Figure("whole / bare", median(run.whole / run.bare for run in runs), "", setting),
        ]
        alone = seen[replace(way, ranks=1)]
        if way.ranks > 1:
            gains = [together.analysis / one.analysis for together, one in zip(runs, alone, strict=True)]
            figures.append(Figure("analysis / analysis of 1 rank", median(gains), "", setting))
    return figures


def print_medians(seen: dict[Way, list[Seen]]) -> None:
    """The medians as Markdown."""
    speeds, shares = ("bare", "analysis", "whole"), ("read", "stain", "infer", "own", "wait")
    rows = []
    for way, runs in seen.items():
        middle = {field.name: median(getattr(run, field.name) for run in runs) for field in fields(Seen)}
        ratios = [
            median(run.analysis / run.bare for run in runs),
            median(run.analysis_cpu / run.bare_cpu for run in runs),
            median(run.whole / run.bare for run in runs),
        ]
        cells = [*(f"{middle[name]:.1f}" for name in speeds), *(f"{ratio:.3f}" for ratio in ratios)]
        cells += [f"{middle[name]:.1%}" for name in shares]
        rows.append([way.model.name, way.backend, f"{way.reader}, {way.read_ahead}", way.ranks, *cells])
    heads = ["model", "backend", "reader, ahead", "ranks", *speeds, "analysis / bare", "by CPU", "whole / bare"]
    print_table([*heads, *shares], rows)


if __name__ == "__main__":
    main()
