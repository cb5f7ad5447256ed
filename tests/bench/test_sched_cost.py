"""The scheduler's own cost, on sizes that say nothing of it but that all of it is measured."""

from __future__ import annotations

import json
import math
from collections import Counter

import pytest

from pyramidai_mpi.testing.launch import mpirun

SMALL = """
from bench.balance import sched_cost as bench
bench.REPETITIONS, bench.TASKS, bench.MILLION, bench.SIDE = 1, {1: 500, 16: 500}, 1000, 16
bench.BATCH_S, bench.BATCHES, bench.IDLE_S = 0.05, 3, 0.2
bench.main()
"""


@pytest.mark.mpi
def test_each_part_of_the_cost_is_measured(tmp_path):
    assert mpirun(3, ["-c", SMALL, "--json", tmp_path / "cost.json"], timeout=60).returncode == 0
    found = json.loads((tmp_path / "cost.json").read_text())
    assert Counter(figure["figure"] for figure in found) == {
        "cost per task": 8,  # two batch sizes, by level or not, with children or without
        "mean reply to a steal request": 2,
        "CPU of an idle rank": 1,
        "CPU of the scheduler on a computing rank": 1,
        "memory, queued tasks": 1,
        "memory, tiles with predictions": 1,
    }
    assert all(math.isfinite(figure["value"]) and figure["value"] >= 0 for figure in found)
    by_name = {figure["figure"]: figure for figure in found}
    assert by_name["memory, tiles with predictions"]["setting"]["tiles"] == 16**2 + 8**2 + 4**2
    assert by_name["mean reply to a steal request"]["setting"]["requests"] > 0


@pytest.mark.mpi
def test_one_rank_alone_is_told_that_a_thief_and_a_victim_are_needed():
    job = mpirun(1, ["-m", "bench.balance.sched_cost"], timeout=60)
    assert job.returncode != 0
    assert "a thief and a victim are needed" in job.stderr
