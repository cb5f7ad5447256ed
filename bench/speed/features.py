"""Writing feature vectors: rank 0 alone against all ranks through MPI-IO, in one run.

    mpirun -n 4 python -m bench.speed.features [--size 12000] [--width 2048] [--json FILE]

Needs an h5py that was built with MPI (`.ci/parallel_hdf5` builds one). All tiles of a generated slide are analysed,
small ones, by a plain network with long feature vectors; then its result is written three times by each
writer, in turn. Seconds are of the writing alone, from the gathered tree to the file in its place; memory is the growth
of a rank's resident set during it, rank 0's and the largest of the others.
"""

from __future__ import annotations

import tempfile
import time
from pathlib import Path
from statistics import median
from typing import TYPE_CHECKING, Any

from bench.command_line import command_line
from pyramidai_mpi.cli.launcher import prepare_environment

prepare_environment()

import numpy as np  # noqa: E402 - reads the environment when it is loaded

from bench.figures import Figure, report  # noqa: E402
from bench.memory import start_peak_anew  # noqa: E402
from bench.speed.tiny_network import write_tiny_package  # noqa: E402
from pyramidai_mpi.base.settings import Regions, RunSettings  # noqa: E402
from pyramidai_mpi.base.types import Mode  # noqa: E402
from pyramidai_mpi.cli.session import mpi_session  # noqa: E402
from pyramidai_mpi.process.memory import peak_resident_bytes  # noqa: E402
from pyramidai_mpi.ranks.collectives import allgather, share_bytes  # noqa: E402
from pyramidai_mpi.run import run as runs  # noqa: E402
from pyramidai_mpi.run.write import write_result  # noqa: E402
from pyramidai_mpi.synth import SynthSpec, write_slide  # noqa: E402

if TYPE_CHECKING:
    from mpi4py import MPI

REPETITIONS = 3
TILE = 64


def timed_writing(comm: MPI.Intracomm, result: Any, output: Path, options: dict[str, Any]) -> tuple[float, list[float]]:
    """Seconds, and growth of each rank's resident set in MB."""
    before = start_peak_anew()
    allgather(comm, np.zeros(1))
    started = time.perf_counter()
    write_result(comm, result, output, **options)
    seconds = time.perf_counter() - started
    growth = allgather(comm, np.array([peak_resident_bytes() - before]))[:, 0] / 2**20
    return seconds, growth.tolist()


def main() -> None:
    """Measure and print."""
    parser = command_line(__doc__, "json")
    parser.add_argument("--size", type=int, default=12000, help="side of the slide in pixels")
    parser.add_argument("--width", type=int, default=2048, help="length of a feature vector")
    arguments = parser.parse_args()
    seconds: dict[bool, list[float]] = {False: [], True: []}
    growth: dict[bool, list[list[float]]] = {False: [], True: []}

    def write_by_turns(comm: MPI.Intracomm, result: Any, output: Path, **options: Any) -> None:
        for _ in range(REPETITIONS):
            for parallel in (False, True):
                taken, grown = timed_writing(comm, result, output, options | {"parallel": parallel, "overwrite": True})
                seconds[parallel].append(taken)
                growth[parallel].append(grown)

    with mpi_session() as comm, tempfile.TemporaryDirectory() as own:
        folder = Path(share_bytes(comm, own.encode() if comm.rank == 0 else None).decode())
        if comm.rank == 0:
            write_slide(SynthSpec(arguments.size, arguments.size, seed=1), folder / "slide.tif")
            write_tiny_package(folder / "model", tile_size=TILE, n_features=arguments.width)
        allgather(comm, np.zeros(1))
        settings = RunSettings.of(
            slide=folder / "slide.tif",
            model=folder / "model",
            output=folder / "out.h5",
            mode=Mode.EXHAUSTIVE,
            regions=Regions(no_tissue=True),
            features=True,
            writer="mpio",
        )
        runs.write_result = write_by_turns  # type: ignore[assignment]
        finished = runs.run_slide(comm, settings)
        if finished is not None:
            n_tiles = finished.result.tree.n_tiles
            megabytes = n_tiles * arguments.width * 4 / 2**20
            setting = {"ranks": comm.size, "tiles": n_tiles, "features_mb": round(megabytes)}
            figures = []
            for parallel, name in ((False, "rank 0 alone"), (True, "all ranks, mpio")):
                figures += [
                    Figure(f"writing, {name}", median(seconds[parallel]), "s", setting),
                    Figure(f"memory of rank 0, {name}", median(g[0] for g in growth[parallel]), "MB", setting),
                    Figure(
                        f"memory of another rank, {name}", median(max(g[1:]) for g in growth[parallel]), "MB", setting
                    ),
                ]
            report(figures, arguments.json)
        allgather(comm, np.zeros(1))


if __name__ == "__main__":
    main()
