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
@pytest.mark.parametrize("slides", [1, 3])
def test_kills_at_random_moments_change_nothing(slides: int) -> None:
    command = [sys.executable, "-m", "bench.faults.chaos", "--kills", "12", "--ranks", "2", "--kills-a-run", "6"]
    done = subprocess.run(
        [*command, "--slides", str(slides), "--seed", str(SEED)],
        cwd=REPOSITORY,
        capture_output=True,
        text=True,
        timeout=280,
        check=False,
    )
    print(done.stdout, done.stderr)
    assert done.returncode == 0
    kills = dict(re.findall(r"(opening|resuming|running|finalising|rank 0): (\d+)", done.stdout))
    assert set(kills) == {"opening", "resuming", "running", "finalising", "rank 0"}
    # how many hit which phase is the machine's matter, too
    assert sum(int(number) > 0 for number in kills.values()) >= 4
    assert sum(map(int, kills.values())) >= 11
    assert int(re.search(r"results compared: (\d+)", done.stdout)[1]) >= 2  # type: ignore[index]
