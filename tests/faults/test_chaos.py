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
@pytest.mark.parametrize(("what", "slides", "n"), [("run", 1, 4), ("run", 3, 6), ("extract", 2, 4)])
def test_kills_at_random_moments_change_nothing(what: str, slides: int, n: int) -> None:
    command = [sys.executable, "-m", "bench.faults.chaos", "--command", what, "--kills", str(n)]
    command += ["--ranks", "2", "--kills-a-run", str(n // 2)]
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
    assert sum(int(number) > 0 for number in kills.values()) >= min(4, n // 2)
    assert sum(map(int, kills.values())) >= n - 1
    assert int(re.search(r"results compared: (\d+)", done.stdout)[1]) >= 2  # type: ignore[index]
