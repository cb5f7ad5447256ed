"""What the journal costs: the same run with it and without it, in turn.

    mpirun -n 2 python -m bench.speed.journal_cost [--size 12000] [--repeats 5] [--json FILE]

A generated slide is analysed with the shipped model. The share is the time inside the journal's writes over the time
inside the analysis of batches, summed over ranks; flushes happen in a thread of their own and show in the wall times
alone, which are medians over the repeats.
"""

from __future__ import annotations

import tempfile
from pathlib import Path
from statistics import median
from typing import TYPE_CHECKING, Any

from bench.command_line import command_line
from pyramidai_mpi.cli.launcher import prepare_environment

prepare_environment()

from bench.figures import Figure, report  # noqa: E402
from pyramidai_mpi.base.settings import RunSettings  # noqa: E402
from pyramidai_mpi.cli.session import mpi_session  # noqa: E402
from pyramidai_mpi.models.shipped import default_model  # noqa: E402
from pyramidai_mpi.ranks.collectives import share_bytes  # noqa: E402
from pyramidai_mpi.run.run import run_slide  # noqa: E402
from pyramidai_mpi.store.journal.writer import JournalWriter  # noqa: E402
from pyramidai_mpi.synth import SynthSpec, write_slide  # noqa: E402

if TYPE_CHECKING:
    from mpi4py import MPI

real_append = JournalWriter.append


def keep_nothing(self: JournalWriter, *_arguments: Any) -> None:
    """In place of `JournalWriter.append`."""


def measure(comm: MPI.Intracomm, size: int, repeats: int) -> list[Figure]:
    """Run with and without the journal, in turn; figures on rank 0."""
    name = share_bytes(comm, tempfile.mkdtemp().encode() if comm.rank == 0 else None).decode()
    slide = Path(name) / "slide.tif"
    if comm.rank == 0:
        write_slide(SynthSpec(size, size, seed=1, tumor_share=0.2), slide)
    share_bytes(comm, b"" if comm.rank == 0 else None)
    walls: dict[bool, list[float]] = {True: [], False: []}
    shares, tiles = [], 0
    for repeat in range(2 * repeats):
        with_journal = repeat % 2 == 0
        JournalWriter.append = real_append if with_journal else keep_nothing  # type: ignore[method-assign]
        finished = run_slide(comm, RunSettings.of(slide, default_model(), Path(name) / "out.h5", overwrite=True))
        if finished is not None:
            ranks = finished.result.execution.ranks
            walls[with_journal].append(float(ranks["wall_s"].max()))
            tiles = finished.result.tree.n_tiles
            if with_journal:
                shares.append(float(ranks["journal_s"].sum() / ranks["busy_s"].sum()))
    if comm.rank != 0:
        return []
    setting = {"ranks": comm.size, "tiles": tiles, "repeats": repeats}
    return [
        Figure("time in the journal's writes over time in batches", 100 * median(shares), "%", setting),
        Figure("analysis with journal", median(walls[True]), "s", setting),
        Figure("analysis without journal", median(walls[False]), "s", setting),
    ]


def main() -> None:
    """See the module."""
    parser = command_line(__doc__, "json")
    parser.add_argument("--size", type=int, default=12000)
    parser.add_argument("--repeats", type=int, default=5)
    options = parser.parse_args()
    with mpi_session() as comm:
        figures = measure(comm, options.size, options.repeats)
        if figures:
            report(figures, options.json)


if __name__ == "__main__":
    main()
