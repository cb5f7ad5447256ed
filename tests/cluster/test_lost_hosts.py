"""Over three hosts ranks die, and a whole host with its part of the launcher: needs Open MPI 5, and root.

Ranks 0 and 1 are on n1, where mpirun is, 2 and 3 on n2, 4 and 5 on n3.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from pyramidai_mpi.store.results.reader import read_digest
from pyramidai_mpi.testing.launch import REPOSITORY
from tests.cluster.conftest import mpi_library
from tests.faults.run_dying import WITH_HOST

if TYPE_CHECKING:
    from pathlib import Path

    from pyramidai_mpi.testing.launch import Job
    from tests.cluster.conftest import Hosts, Reference

DYING = REPOSITORY / "tests" / "faults" / "run_dying.py"
ANALYSING = "pyramidai_mpi.analyses.classify,SlideClassifier.look"
LOADING = "pyramidai_mpi.run.run,build_engines"
SURVIVING = ("--with-ft", "ulfm")


@pytest.fixture(autouse=True)
def needs_ulfm() -> None:
    if mpi_library() != "Open MPI v5":
        pytest.skip("ranks outlive each other with Open MPI 5 only; .ci/lost_ranks has it")


def run(hosts: Hosts, deaths: str, reference: Reference, results: Path) -> Job:
    words = [*reference.slides, "--model", reference.model, "--results-dir", results, "--batch-size", "2"]
    return hosts.mpirun([DYING, deaths, *words, "--no-progress"], options=SURVIVING)


def assert_all_is_right(reference: Reference, results: Path) -> None:
    assert [read_digest(results / f"{slide.stem}.h5") for slide in reference.slides] == reference.digests
    assert not [path.name for path in results.iterdir() if path.name.endswith((".journal", ".lock", ".part"))]


@pytest.mark.parametrize(
    "deaths",
    [
        pytest.param(f"3,{ANALYSING},2", id="one"),
        pytest.param(f"0,{ANALYSING},2", id="rank 0"),
        pytest.param(f"1,{ANALYSING},1;3,{ANALYSING},1;4,{ANALYSING},1", id="one of each host"),
        pytest.param("1,pyramidai_mpi.run.finishing,write_result_alone,1", id="an owner, writing"),
        pytest.param(f"4,{ANALYSING},1;2,{LOADING},2", id="one, and one while they recover"),
    ],
)
def test_ranks_of_three_hosts_outlive_others(deaths: str, hosts: Hosts, reference: Reference, tmp_path: Path) -> None:
    job = run(hosts, deaths, reference, tmp_path)
    assert job.returncode == 0
    assert "ranks died; the other" in job.stderr
    assert_all_is_right(reference, tmp_path)
    assert not job.left_over


def test_a_whole_host_ends_the_job_and_resume_goes_on(hosts: Hosts, reference: Reference, tmp_path: Path) -> None:
    job = run(hosts, f"4,{ANALYSING},2,{WITH_HOST}", reference, tmp_path)
    assert job.returncode not in {0, None}
    assert not job.left_over
    words = [*reference.slides, "--model", reference.model, "--results-dir", tmp_path, "--resume"]
    assert hosts.pyramidai(*words, ranks_per_host=1).returncode == 0
    assert_all_is_right(reference, tmp_path)
