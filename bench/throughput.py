"""Tiles per second: the whole program against bare onnxruntime on the same tiles in memory.

    mpirun -n 2 python -m bench.throughput SLIDE [--mpp X] [--json FILE]

All in one run, interleaved, medians of three: (1) onnxruntime alone on level-0 tiles that are in memory already, on
every rank at once; (2) the analysis phase of a reference run of the slide: reading, inference, scheduling; (3) the same
run from start to finished file, with opening, tissue, gathering and writing.
"""

from __future__ import annotations

import argparse
import tempfile
import time
from pathlib import Path
from statistics import median

from pyramidai_mpi.cli.launcher import prepare_environment

prepare_environment()

import numpy as np  # noqa: E402 - reads the environment when it is loaded

from bench.figures import Figure, report  # noqa: E402
from pyramidai_mpi.cli.session import mpi_session  # noqa: E402
from pyramidai_mpi.config import RunSettings  # noqa: E402
from pyramidai_mpi.gather import allgather  # noqa: E402
from pyramidai_mpi.job import build_engines, find_tissue, prepare_job  # noqa: E402
from pyramidai_mpi.pipeline import run_slide  # noqa: E402
from pyramidai_mpi.shipped import default_model  # noqa: E402
from pyramidai_mpi.slides.base import UnreadableRegionError  # noqa: E402
from pyramidai_mpi.types import Mode  # noqa: E402

REPETITIONS = 3


def parse_arguments() -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("slide", type=Path)
    parser.add_argument("--model", type=Path, default=None)
    parser.add_argument("--mpp", type=float, default=None)
    parser.add_argument("--tiles", type=int, default=256, help="tiles that each rank holds in memory")
    parser.add_argument("--json", type=Path, default=None)
    return parser.parse_args()


def main() -> None:
    """Measure and print."""
    arguments = parse_arguments()
    with mpi_session() as comm, tempfile.TemporaryDirectory() as folder:
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
        engine = build_engines(comm, job.package)[0]
        mine = tiles[np.linspace(0, len(tiles) - 1, arguments.tiles).astype(int)]
        pixels = []
        for tile in mine:
            try:
                pixels.append(job.pyramid.read_tile(0, int(tile["col"]), int(tile["row"])))
            except UnreadableRegionError:
                continue
        in_memory = np.stack(pixels)
        engine.predict(in_memory[: engine.batch_shape])

        bare, analysis, whole, read_share = [], [], [], []
        for _ in range(REPETITIONS):
            allgather(comm, np.zeros(1))  # all start together
            started = time.perf_counter()
            engine.predict(in_memory)
            seconds = allgather(comm, np.array([1e9 * (time.perf_counter() - started)]))[:, 0] / 1e9
            bare.append(float((len(in_memory) / seconds).sum()))
            finished = run_slide(comm, settings)
            if finished is not None:
                execution = finished.result.execution
                n_tiles = finished.result.tree.n_tiles
                analysis.append(n_tiles / float(execution.attributes["analyse_s"]))
                whole.append(n_tiles / finished.wall_s)
                ranks = execution.ranks
                read_share.append(float(ranks["read_s"].sum() / ranks["busy_s"].sum()))
        if comm.rank == 0:
            setting = {
                "slide": arguments.slide.name,
                "model": job.package.name,
                "ranks": comm.size,
                "tiles": len(tiles),
                "batch_shape": engine.batch_shape,
            }
            ratio = [a / b for a, b in zip(analysis, bare, strict=True)]
            report(
                [
                    Figure("bare onnxruntime, tiles in memory", median(bare), "tiles/s", setting),
                    Figure("analysis phase (read, infer, schedule)", median(analysis), "tiles/s", setting),
                    Figure("whole run (open ... file in place)", median(whole), "tiles/s", setting),
                    Figure("analysis phase / bare", median(ratio), "", setting),
                    Figure("share of busy time spent reading", median(read_share), "", setting),
                ],
                arguments.json,
            )


if __name__ == "__main__":
    main()
