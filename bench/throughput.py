"""Tiles per second: the whole program against bare onnxruntime on the same tiles in memory.

    mpirun -n 2 python -m bench.throughput SLIDE [--mpp X] [--cold] [--json FILE]

All in one run, interleaved, medians of three: (1) onnxruntime alone on level-0 tiles that are in memory already, on
every rank at once; then, for each way of reading, (2) the analysis phase of a reference run of the slide: reading,
inference, scheduling; (3) the same run from start to finished file, with opening, tissue, gathering and writing. Also
by CPU time of the ranks, which other programs on the machine disturb less.
"""

from __future__ import annotations

import argparse
import os
import tempfile
import time
from collections import defaultdict
from dataclasses import replace
from pathlib import Path
from statistics import median

from pyramidai_mpi.cli.launcher import prepare_environment

prepare_environment()

import numpy as np  # noqa: E402 - reads the environment when it is loaded

from bench.figures import Figure, report  # noqa: E402
from pyramidai_mpi.cli.session import mpi_session  # noqa: E402
from pyramidai_mpi.config import RunSettings  # noqa: E402
from pyramidai_mpi.gather import allgather, share_bytes  # noqa: E402
from pyramidai_mpi.job import build_engines, find_tissue, prepare_job  # noqa: E402
from pyramidai_mpi.pipeline import run_slide  # noqa: E402
from pyramidai_mpi.shipped import default_model  # noqa: E402
from pyramidai_mpi.slides.base import UnreadableRegionError  # noqa: E402
from pyramidai_mpi.types import Mode  # noqa: E402

REPETITIONS = 3
WAYS = [("openslide", "never"), ("auto", "never"), ("auto", "auto"), ("openslide", "always"), ("auto", "always")]
"""Reader and whether it reads ahead."""


def parse_arguments() -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("slide", type=Path)
    parser.add_argument("--model", type=Path, default=None)
    parser.add_argument("--mpp", type=float, default=None)
    parser.add_argument("--tiles", type=int, default=256, help="tiles that each rank holds in memory")
    parser.add_argument("--cold", action="store_true", help="have the system forget the slide before each run")
    parser.add_argument("--json", type=Path, default=None)
    return parser.parse_args()


def main() -> None:
    """Measure and print."""
    arguments = parse_arguments()
    with mpi_session() as comm, tempfile.TemporaryDirectory() as own_folder:
        folder = share_bytes(comm, own_folder.encode() if comm.rank == 0 else None).decode()
        settings = RunSettings(
            slide=arguments.slide,
            model=arguments.model or default_model(),
            output=Path(folder) / "out.h5",
            mode=Mode.REFERENCE,
            mpp=arguments.mpp,
            overwrite=True,
        )
        job = prepare_job(comm, settings)
        tiles = find_tissue(comm, job).reference_tiles()
        engine = build_engines(comm, job.package, job.settings)[0]
        mine = tiles[np.linspace(0, len(tiles) - 1, arguments.tiles).astype(int)]
        pixels = []
        for tile in mine:
            try:
                pixels.append(job.pyramid.read_tile(0, int(tile["col"]), int(tile["row"])))
            except UnreadableRegionError:
                continue
        in_memory = np.stack(pixels)
        engine.predict(in_memory[: engine.batch_shape])

        bare: list[float] = []
        bare_cpu: list[float] = []
        seen: dict[tuple[str, str], list[tuple[float, float, float, float]]] = defaultdict(list)
        for _ in range(REPETITIONS):
            allgather(comm, np.zeros(1))  # all start together
            started, started_cpu = time.perf_counter(), time.process_time()
            engine.predict(in_memory)
            bare_cpu.append(len(in_memory) / (time.process_time() - started_cpu))
            seconds = allgather(comm, np.array([1e9 * (time.perf_counter() - started)]))[:, 0] / 1e9
            bare.append(float((len(in_memory) / seconds).sum()))
            for reader, read_ahead in WAYS:
                if arguments.cold:
                    forget(arguments.slide)
                finished = run_slide(comm, replace(settings, reader=reader, read_ahead=read_ahead))
                if finished is not None:
                    execution = finished.result.execution
                    n_tiles, ranks = finished.result.tree.n_tiles, execution.ranks
                    seen[reader, read_ahead].append(
                        (
                            n_tiles / float(execution.attributes["analyse_s"]),
                            n_tiles / finished.wall_s,
                            n_tiles / float(ranks["cpu_s"].sum()),
                            float(ranks["read_s"].sum() / ranks["busy_s"].sum()),
                        )
                    )
        if comm.rank == 0:
            setting = {
                "slide": arguments.slide.name,
                "model": job.package.name,
                "ranks": comm.size,
                "tiles": len(tiles),
                "batch_shape": engine.batch_shape,
                "cold": arguments.cold,
            }
            figures = [
                Figure("bare onnxruntime, tiles in memory", median(bare), "tiles/s", setting),
                Figure("bare onnxruntime, tiles in memory", median(bare_cpu), "tiles/CPU s", setting),
            ]
            for (reader, read_ahead), runs in seen.items():
                analysis, whole, cpu, read_share = (list(column) for column in zip(*runs, strict=True))
                ratio = [a / b for a, b in zip(analysis, bare, strict=True)]
                ratio_cpu = [a / b for a, b in zip(cpu, bare_cpu, strict=True)]
                here = setting | {"reader": reader, "read_ahead": read_ahead}
                way = f"reader {reader}, read ahead {read_ahead}: "
                figures += [
                    Figure(way + "analysis phase (read, infer, schedule)", median(analysis), "tiles/s", here),
                    Figure(way + "whole run (open ... file in place)", median(whole), "tiles/s", here),
                    Figure(way + "analysis phase", median(cpu), "tiles/CPU s", here),
                    Figure(way + "analysis phase / bare", median(ratio), "", here),
                    Figure(way + "analysis phase / bare, by CPU time", median(ratio_cpu), "", here),
                    Figure(way + "share of busy time spent reading", median(read_share), "", here),
                ]
            report(figures, arguments.json)


def forget(path: Path) -> None:
    """Drop a file from the page cache."""
    with path.open("rb") as file:
        os.posix_fadvise(file.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)


if __name__ == "__main__":
    main()
