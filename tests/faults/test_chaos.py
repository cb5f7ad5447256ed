"""The short version of ``bench/faults/chaos.py``: kill -9 of ranks and of mpirun at random moments, then resume."""

from __future__ import annotations

import re
import subprocess
import sys

import pytest

from pyramidai_mpi.testing.launch import REPOSITORY

SEED = 20261120


@pytest.mark.mpi
@pytest.mark.slow
def test_kills_at_random_moments_change_nothing() -> None:
    command = [sys.executable, "-m", "bench.faults.chaos", "--kills", "16", "--ranks", "2", "--kills-a-run", "8"]
    done = subprocess.run(
        [*command, "--seed", str(SEED)], cwd=REPOSITORY, capture_output=True, text=True, timeout=280, check=False
    )
    print(done.stdout, done.stderr)
    assert done.returncode == 0
    kills = dict(re.findall(r"(running|resuming|finalising|rank 0): (\d+)", done.stdout))
    assert set(kills) == {"running", "resuming", "finalising", "rank 0"}
    assert min(map(int, kills.values())) >= 2
    assert sum(map(int, kills.values())) >= 15
    assert int(re.search(r"results compared: (\d+)", done.stdout)[1]) >= 2  # type: ignore[index]
