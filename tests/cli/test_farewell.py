"""Ranks that are told to stop before the work say so once."""

from __future__ import annotations

import pytest

from pyramidai_mpi.testing.launch import mpirun

pytestmark = pytest.mark.mpi

TOLD = """
import os, signal
from pyramidai_mpi.cli import session
from pyramidai_mpi.cli.session import mpi_session

session._LET_RANK_0_SPEAK_S = 0.0  # all at once, as on a busy machine
with mpi_session("farewell") as comm:
    comm.Barrier()
    os.kill(os.getpid(), signal.SIGINT)
    comm.Barrier()
"""


@pytest.mark.parametrize("ranks", [1, 4])
def test_one_rank_of_a_host_says_what_all_do(ranks: int) -> None:
    job = mpirun(ranks, ["-c", TOLD])
    assert job.returncode == 75
    assert job.stderr.count("pyramidai: farewell") == 1
