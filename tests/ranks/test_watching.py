"""Ranks watch each other, as far as they hear of each other."""

from __future__ import annotations

import pytest

from pyramidai_mpi.testing.launch import mpirun


@pytest.mark.mpi
def test_ranks_that_hear_nothing_of_each_other_are_named() -> None:
    job = mpirun(3, ["tests/ranks/run_watching.py"], timeout=60)
    assert job.returncode == 0  # a rank that was never heard of is none that has died
    assert "hears nothing of rank 0 by UDP" in job.stderr
    assert "rank 2 on host" in job.stderr
    assert "all are through" in job.stdout
