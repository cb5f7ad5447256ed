"""Hosts that share no files are lost while the others go on: needs Open MPI 5 under --with-ft ulfm."""

from __future__ import annotations

from importlib.metadata import PackageNotFoundError, version
from typing import TYPE_CHECKING

import pytest

from pyramidai_mpi.testing.launch import REPOSITORY
from tests.apart import Apart, slides_and_model

if TYPE_CHECKING:
    from pathlib import Path

    from pyramidai_mpi.testing.launch import Job

try:
    version("openmpi")
except PackageNotFoundError:
    pytest.skip("ranks outlive each other with Open MPI 5 only; .ci/lost_ranks has it", allow_module_level=True)

pytestmark = pytest.mark.mpi

HOSTS = [0, 0, 1, 1, 2]
LOOK = "pyramidai_mpi.analyses.classify,SlideClassifier.look"
DYING = str(REPOSITORY / "tests" / "faults" / "run_dying.py")
ONE = ("slides/b.tif", "--model", "model", "-o", "out/b.h5", "--batch-size", "4")
SEVERAL = ("slides", "--model", "model", "--results-dir", "out", "--batch-size", "4")


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two slides and a model."""
    return slides_and_model(tmp_path_factory.mktemp("made"), (1500, 1200))


@pytest.fixture(scope="module")
def digests(made: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    """What one rank makes of them."""
    apart = Apart(tmp_path_factory.mktemp("alone"))
    apart.add(made, 0)
    assert apart.run([0], *SEVERAL).returncode == 0
    return {stem: apart.digest(f"out/{stem}.h5") for stem in ("a", "b")}


def run_with_deaths(apart: Apart, deaths: str, *words: str) -> Job:
    return apart.run(HOSTS, deaths, *words, program=[DYING], launcher_args=["--with-ft", "ulfm"])


@pytest.mark.parametrize("option", ["--own-disks", "--send-slide"])
def test_rank_0s_host_is_lost_and_the_result_is_the_next_ones(
    option: str, made: Path, digests: dict[str, str], tmp_path: Path
) -> None:
    apart = Apart(tmp_path)
    apart.add(made, *(range(3) if option == "--own-disks" else [0]))
    for host in (1, 2):
        apart.host(host).mkdir(exist_ok=True)
    job = run_with_deaths(apart, f"0,{LOOK},3;1,{LOOK},3", *ONE, option)
    assert job.returncode == 0
    assert apart.digest("out/b.h5", 1) == digests["b"]
    assert apart.names(1, "out") == {"b.h5"}
    assert apart.names(2, "out") == set()
    assert not any(list(apart.scratch(host).iterdir()) for host in range(3))
    assert not job.left_over


def test_the_last_rank_goes_on_with_what_was_sent_to_it(made: Path, digests: dict[str, str], tmp_path: Path) -> None:
    apart = Apart(tmp_path)
    apart.add(made, 0)
    apart.host(1).mkdir()
    words = [f"0,{LOOK},3", *ONE, "--send-slide"]
    job = apart.run([0, 1], *words, program=[DYING], launcher_args=["--with-ft", "ulfm"])
    assert job.returncode == 0
    assert apart.digest("out/b.h5", 1) == digests["b"]
    assert apart.names(1, "out") == {"b.h5"}
    assert not list(apart.scratch(1).iterdir())


def test_another_host_is_lost_in_a_cohort(made: Path, digests: dict[str, str], tmp_path: Path) -> None:
    apart = Apart(tmp_path)
    apart.add(made, 0, 1, 2)
    job = run_with_deaths(apart, f"2,{LOOK},3;3,{LOOK},3", *SEVERAL, "--own-disks")
    assert job.returncode == 0
    assert {stem: apart.digest(f"out/{stem}.h5") for stem in ("a", "b")} == digests
    assert {name for name in apart.names(0, "out") if name.endswith((".journal", ".lock"))} == set()
    assert apart.names(2, "out") == set()
    assert not job.left_over


def test_a_slide_that_was_finished_before_a_loss_is_known_by_the_copy_that_was_sent(
    made: Path, digests: dict[str, str], tmp_path: Path
) -> None:
    apart = Apart(tmp_path)
    apart.add(made, 0)
    apart.host(1).mkdir()
    (apart.host(1) / "out").symlink_to(apart.host(0) / "out")  # results are on a disk that both see
    words = ["0,pyramidai_mpi.run.run,_Run._ended,1", *SEVERAL, "--send-slide"]
    job = apart.run([0, 1, 1], *words, program=[DYING], launcher_args=["--with-ft", "ulfm"])
    assert job.returncode == 0
    assert {stem: apart.digest(f"out/{stem}.h5") for stem in ("a", "b")} == digests
    assert not list(apart.scratch(1).iterdir())
    assert not job.left_over
