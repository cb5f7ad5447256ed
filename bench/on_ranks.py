"""Programs on some ranks of this machine, in silence."""

from __future__ import annotations

from typing import TYPE_CHECKING

from pyramidai_mpi.testing.launch import mpirun

if TYPE_CHECKING:
    import os
    from collections.abc import Sequence

_PATIENCE_S = 3600.0


def output_of(ranks: int, program: Sequence[str | os.PathLike[str]]) -> str:
    """What ``python *program`` prints on `ranks` ranks.

    Raises
    ------
    SystemExit
        It failed.
    """
    job = mpirun(ranks, program, timeout=_PATIENCE_S, show=False)
    if job.returncode:
        raise SystemExit(f"{' '.join(job.args)} ended with {job.returncode}\n{job.stderr}")
    return job.stdout


def run_program(ranks: int, arguments: Sequence[str | os.PathLike[str]]) -> None:
    """Run the program itself.

    Raises
    ------
    SystemExit
        It failed.
    """
    output_of(ranks, ["-m", "pyramidai_mpi", *arguments, "-q"])
