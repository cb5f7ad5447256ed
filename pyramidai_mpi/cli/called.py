"""Runs that a Python program has called for: in its own process, or on ranks that are started for it."""

from __future__ import annotations

import os
import sys
from typing import TYPE_CHECKING

from pyramidai_mpi.slides.dicom import file_of_slide

if TYPE_CHECKING:
    from pathlib import Path

    from mpi4py import MPI

    from pyramidai_mpi.base.settings import RunSettings
    from pyramidai_mpi.cli.progress import ProgressBar

_COLUMNS = 100
"""Of a bar where there is no terminal: in a notebook, or in a file."""


def run_on(ranks: str, settings: RunSettings, time_limit: str | None, progress: bool | None) -> None:
    """Start ranks on this machine, see `launcher.parse_ranks`, and wait for them; raises what their run ends with.

    Parameters
    ----------
    time_limit, progress
        See `pyramidai_mpi.analyse`.
    """
    from pyramidai_mpi.cli.launcher import parse_ranks
    from pyramidai_mpi.cli.started import run_on_ranks

    bar = _bar(progress)
    try:
        run_on_ranks(parse_ranks(ranks), settings, time_limit, bar.show if bar else None)
    finally:
        if bar:
            bar.close()


def run_here(comm: MPI.Intracomm | None, settings: RunSettings, time_limit: str | None, progress: bool | None) -> None:
    """Run on the ranks of a communicator, None for this process alone; raises what the run ends with. Collective.

    Parameters
    ----------
    time_limit, progress
        See `pyramidai_mpi.analyse`.
    """
    from pyramidai_mpi.process.stop import StopWish, parse_duration
    from pyramidai_mpi.run.run import run_slide

    ranks = this_process() if comm is None else comm
    stop = None if time_limit is None else StopWish.of_job(parse_duration(time_limit))
    bar = _bar(progress) if ranks.rank == 0 else None
    try:
        run_slide(ranks, settings, bar.show if bar else None, stop)
    finally:
        if bar:
            bar.close()


def slide_of_all(comm: MPI.Intracomm | None, slide: Path, *, is_sent: bool) -> Path:
    """The file that stands for a slide, see `dicom.file_of_slide`: of one that is sent, as rank 0 has it. Collective.

    Raises
    ------
    InputError
        The folder is of several slides, or cannot be read.
    """
    if comm is None or not is_sent:
        return file_of_slide(slide)
    from pyramidai_mpi.ranks.collectives import on_rank0, share_bytes

    found = on_rank0(comm, lambda: file_of_slide(slide))
    name = share_bytes(comm, None if found is None else b"" if found == slide else os.fsencode(found.name))
    return slide / os.fsdecode(name) if name else slide


def this_process() -> MPI.Intracomm:
    """The communicator of this process alone; MPI starts with it, unless it runs already."""
    from pyramidai_mpi.cli.mpi_start import start_mpi

    own: MPI.Intracomm = start_mpi().COMM_SELF
    return own


def _bar(wanted: bool | None) -> ProgressBar | None:
    """A bar, where it is wanted, or where somebody looks: a library is quiet elsewhere."""
    if wanted or (wanted is None and (sys.stderr.isatty() or "ipykernel" in sys.modules)):
        from pyramidai_mpi.cli.launcher import terminal_width
        from pyramidai_mpi.cli.progress import ProgressBar

        return ProgressBar(terminal_width() or _COLUMNS)
    return None
