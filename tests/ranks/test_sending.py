"""Files between ranks arrive whole, and no rank waits for one that cannot write."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from pyramidai_mpi.testing.launch import REPOSITORY, mpirun

if TYPE_CHECKING:
    from pathlib import Path


@pytest.mark.mpi
def test_files_are_sent_and_ranks_are_grouped_by_what_they_see(tmp_path: Path) -> None:
    job = mpirun(3, [REPOSITORY / "tests" / "ranks" / "run_sending.py", tmp_path])
    assert job.returncode == 0
    assert job.stdout.count("sent") == 3
    assert not job.left_over
    assert not list(tmp_path.glob("**/.pyramidai*"))
