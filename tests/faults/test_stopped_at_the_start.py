"""A signal while a rank still loads libraries stops the job, as at any other time; it is no bug."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from pyramidai_mpi.testing.launch import mpirun

if TYPE_CHECKING:
    from pathlib import Path

pytestmark = pytest.mark.mpi

STOPPED = """
import os, signal, sys
from pyramidai_mpi.cli.launcher import launched_rank, launched_size
from pyramidai_mpi.cli import session
from pyramidai_mpi.cli.main import main

where = sys.argv[1]
plain = getattr(session, where)

def interrupted():
    setattr(session, where, plain)  # once
    if launched_rank() == launched_size() - 1:
        try:
            os.kill(os.getpid(), signal.SIGINT)
        except KeyboardInterrupt as wish:
            if where == "_start_mpi":
                raise
            raise ImportError("initialization failed") from wish  # as pybind11 does
    return plain()

setattr(session, where, interrupted)
main(sys.argv[2:])
"""


@pytest.mark.parametrize("ranks", [1, 2, 3])
@pytest.mark.parametrize("where", ["_start_mpi", "_check_addresses"])
def test_a_signal_while_libraries_are_loaded_is_no_bug(where: str, ranks: int, tmp_path: Path) -> None:
    (tmp_path / "s.tif").write_bytes(b"")
    job = mpirun(ranks, ["-c", STOPPED, where, str(tmp_path / "s.tif"), "-o", str(tmp_path / "o.h5")])
    assert job.returncode == 75, job.stderr
    assert not any(word in job.stderr for word in ("bug", "Traceback", "error:"))
