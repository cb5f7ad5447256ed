"""The scheduler on real ranks: exact on a tree of known size, and no hang whatever fails."""

from __future__ import annotations

import json

import pytest

from pyramidai_mpi.testing.launch import mpirun
from tests.sched.uts import S4, S4_DEPTH, S4_LEAVES, S4_NODES, S4_SUM

pytestmark = pytest.mark.mpi

POLICIES = ["static", "steal-one", "steal-half"]


def search(ranks: int, *options: str) -> list[list[dict]]:
    """What the ranks of each run report; the job itself has ended well."""
    job = mpirun(ranks, ["tests/mpi/run_uts.py", *options])
    assert job.returncode == 0
    assert not job.left_over
    return [json.loads(line) for line in job.stdout.splitlines()]


def search_by_each(ranks: int, *options: str) -> list[list[dict]]:
    """The same of runs by each policy, one after the other in one job."""
    found = search(ranks, "--policy", *POLICIES, *options)
    assert {reports[0]["policy"] for reports in found} == set(POLICIES)
    assert len(found) % len(POLICIES) == 0
    return found


def assert_found_all(reports: list[dict]) -> None:
    root = int.from_bytes(S4.root()[:8], "big")
    assert 1 + sum(report["nodes"] for report in reports) == S4_NODES
    assert sum(report["leaves"] for report in reports) == S4_LEAVES
    assert max(report["depth"] for report in reports) == S4_DEPTH
    assert (root + sum(report["sum"] for report in reports)) % 2**64 == S4_SUM
    assert [report["stats"]["tasks"] for report in reports] == [report["nodes"] for report in reports]
    assert not any(report["stopped"] or report["unfinished"] for report in reports)


@pytest.mark.parametrize("ranks", [1, 2, 3, 5, 12])
def test_the_tree_s4_has_its_published_size(ranks):
    for reports in search_by_each(ranks, "--seed", str(ranks), "--by-depth", "--runs", "2"):
        assert len(reports) == ranks
        assert_found_all(reports)


def test_all_roots_on_one_rank():
    for reports in search_by_each(5, "--deal", "one-rank"):
        assert_found_all(reports)


def test_no_roots_at_all():
    for reports in search_by_each(4, "--deal", "none"):
        assert [report["nodes"] for report in reports] == [0, 0, 0, 0]


def test_more_ranks_than_roots():
    for reports in search_by_each(7, "--deal", "few"):
        assert 2 <= sum(report["nodes"] for report in reports) == reports[0]["expected"]


def test_batches_of_one_and_of_more_than_there_are():
    assert_found_all(search(3, "--batch-size", "1")[0])
    assert_found_all(search(3, "--batch-size", "5000")[0])


def test_many_runs_on_one_communicator_leave_nothing_behind():
    for reports in search(4, "--runs", "10"):
        assert_found_all(reports)
        assert {report["threads"] for report in reports} == {1}  # no worker is left


def test_slow_tasks_of_one_rank_are_shared_by_stealing():
    (reports,) = search(3, "--deal", "few", "--seconds", "0.02", "--batch-size", "2")
    assert sum(report["stats"]["tasks_stolen"] for report in reports) > 0
    assert all(report["stats"]["steal_requests"] > 0 for report in reports)


@pytest.mark.parametrize("policy", POLICIES)
@pytest.mark.parametrize("stopper", [0, 2])
def test_a_stopped_run_can_be_finished_by_another(policy, stopper):
    job = mpirun(4, ["tests/mpi/run_stopping.py", policy, str(stopper)])
    assert job.returncode == 0
    nothing_left = [(False, 0)] * 4
    assert job.stdout.strip() == f"{S4_NODES - 1} True True {[True] * 4} {nothing_left}"


@pytest.mark.parametrize(
    ("way", "culprit", "said"),
    [
        pytest.param("expand", 2, "RuntimeError: tile 17 is odd", id="expand raises"),
        pytest.param("expand", 0, "RuntimeError: tile 17 is odd", id="expand raises on rank 0"),
        pytest.param("children", 1, "TypeError: children returned by expand()", id="children of another dtype"),
        pytest.param("progress", 0, "RuntimeError: cannot draw the bar", id="on_progress raises"),
        pytest.param("stop", 1, "RuntimeError: cannot read the clock", id="stop raises"),
        pytest.param("roots", 2, "TypeError: roots", id="roots of another dtype on one rank"),
    ],
)
def test_a_failure_on_one_rank_ends_the_job_and_says_where(way, culprit, said):
    job = mpirun(3, ["tests/mpi/run_failing.py", way, str(culprit)])
    assert job.returncode != 0
    assert said in job.stderr
    assert "Traceback (most recent call last)" in job.stderr
    assert f"rank {culprit} of 3 on host " in job.stderr
    assert "got through" not in job.stdout
    assert not job.left_over
    assert job.seconds < 10  # from the start of the launcher


def test_an_interrupt_that_reaches_one_rank_ends_the_job_without_a_report():
    job = mpirun(3, ["tests/mpi/run_failing.py", "interrupt", "1"])
    assert job.returncode == 75  # stopped on request
    assert "Traceback" not in job.stderr
    assert "got through" not in job.stdout
    assert not job.left_over


def test_on_a_single_rank_a_failure_is_an_ordinary_exception():
    job = mpirun(1, ["tests/mpi/run_failing.py", "expand", "0"])
    assert job.returncode == 1
    assert "RuntimeError: tile 17 is odd" in job.stderr
    assert "ending the whole job" not in job.stderr


def test_when_a_rank_stands_still_for_too_long_the_others_give_up_with_70():
    job = mpirun(3, ["tests/mpi/run_silent_rank.py"], timeout=60)
    assert job.returncode == 70
    assert "have not all been heard of for 2 s" in job.stderr
    assert "rank 0 of 3 on host" in job.stderr  # and its last events, one a line
    assert "from rank 2 CensusAnswer" in job.stderr
    assert "Traceback" not in job.stderr
    assert not job.left_over
