"""Stragglers and odd shapes: a rank that stands still, and far more ranks than tasks."""

from __future__ import annotations

import json

import pytest

from pyramidai_mpi.testing.launch import mpirun
from tests.sched.uts import S4_NODES

pytestmark = pytest.mark.mpi


def test_a_rank_stopped_for_20_s_delays_only_what_it_holds():
    job = mpirun(4, ["tests/mpi/run_stopped_rank.py"], timeout=120)
    assert job.returncode == 0
    found = json.loads(job.stdout)
    assert found["nodes"] == S4_NODES - 1
    assert found["done_meanwhile"] == found["dealt_to_others"]
    assert found["seconds_after"] < 10  # half of the stop


def test_48_ranks_on_two_roots():
    job = mpirun(48, ["tests/mpi/run_uts.py", "--deal", "few"])
    assert job.returncode == 0
    reports = json.loads(job.stdout)
    assert sum(report["nodes"] for report in reports) == reports[0]["expected"]
    assert not job.left_over
