"""Ranks die while the others go on: needs Open MPI 5 under --with-ft ulfm."""

from __future__ import annotations

from importlib.metadata import PackageNotFoundError, version
from typing import TYPE_CHECKING

import pytest

from pyramidai_mpi.store.results.reader import read_digest
from pyramidai_mpi.synth import SynthSpec, write_slide
from pyramidai_mpi.testing.launch import REPOSITORY, mpirun

if TYPE_CHECKING:
    from pathlib import Path

    from pyramidai_mpi.testing.launch import Job

try:
    version("openmpi")
except PackageNotFoundError:
    pytest.skip("ranks outlive each other with Open MPI 5 only; .ci/lost_ranks has it", allow_module_level=True)

pytestmark = pytest.mark.mpi

ANALYSING = "pyramidai_mpi.analyses.classify,Analyser.analyse"


@pytest.fixture(scope="module")
def slide(tmp_path_factory) -> Path:
    path = tmp_path_factory.mktemp("slide") / "s.tif"
    write_slide(SynthSpec(6000, 5000, seed=4, tumor_share=0.3), path)
    return path


@pytest.fixture(scope="module")
def undisturbed(slide: Path, tmp_path_factory) -> str:
    output = tmp_path_factory.mktemp("undisturbed") / "out.h5"
    job = mpirun(2, ["-m", "pyramidai_mpi", slide, "-o", output])
    assert job.returncode == 0
    return read_digest(output)


def run_with_deaths(deaths: str, slide: Path, output: Path, *options: str) -> Job:
    script = REPOSITORY / "tests" / "faults" / "run_dying.py"
    words = [script, deaths, slide, "-o", output, "--batch-size", "4", "--no-progress", *options]
    return mpirun(5, words, timeout=120, launcher_args=["--with-ft", "ulfm"])


@pytest.mark.parametrize("rank", range(5))
def test_the_others_finish_when_a_rank_dies_while_analysing(rank: int, slide, undisturbed, tmp_path) -> None:
    job = run_with_deaths(f"{rank},{ANALYSING},3", slide, tmp_path / "out.h5")
    assert job.returncode == 0
    assert "1 of 5 ranks died; the other 4 go on" in job.stderr
    assert read_digest(tmp_path / "out.h5") == undisturbed
    assert [path.name for path in tmp_path.iterdir()] == ["out.h5"]
    assert not job.left_over


@pytest.mark.parametrize("rank", [0, 2])
@pytest.mark.parametrize(
    "where",
    [
        pytest.param("pyramidai_mpi.run.single,build_engines,1", id="while loading"),
        pytest.param("pyramidai_mpi.run.single,close_journal,1", id="after its last batch"),
        pytest.param("pyramidai_mpi.run.single,gather_result,1", id="while gathering"),
        pytest.param("pyramidai_mpi.run.single,write_result,1", id="while writing"),
        pytest.param("pyramidai_mpi.run.single,remove_journal,1", id="when the result is in its place"),
    ],
)
def test_it_may_die_at_any_time(where: str, rank: int, slide, undisturbed, tmp_path) -> None:
    job = run_with_deaths(f"{rank},{where}", slide, tmp_path / "out.h5")
    assert job.returncode == 0
    assert read_digest(tmp_path / "out.h5") == undisturbed
    assert [path.name for path in tmp_path.iterdir()] == ["out.h5"]
    assert not job.left_over


def test_several_may_die_one_after_the_other(slide, undisturbed, tmp_path) -> None:
    # rank 1 dies in the second attempt, which it reaches after rank 0 has died
    deaths = f"0,{ANALYSING},2;1,pyramidai_mpi.run.single,build_engines,2;3,{ANALYSING},2"
    job = run_with_deaths(deaths, slide, tmp_path / "out.h5")
    assert job.returncode == 0
    assert read_digest(tmp_path / "out.h5") == undisturbed
    assert [path.name for path in tmp_path.iterdir()] == ["out.h5"]


def test_a_result_to_be_replaced_is_replaced_once(slide, undisturbed, tmp_path) -> None:
    output = tmp_path / "out.h5"
    assert mpirun(2, ["-m", "pyramidai_mpi", slide, "-o", output, "--threshold", "2=0.99"]).returncode == 0
    assert read_digest(output) != undisturbed
    job = run_with_deaths(f"0,{ANALYSING},2", slide, output, "--overwrite")
    assert job.returncode == 0
    assert read_digest(output) == undisturbed


def test_features_survive_too(slide, tmp_path) -> None:
    import h5py
    import numpy as np

    whole, struck = tmp_path / "whole.h5", tmp_path / "struck.h5"
    assert mpirun(2, ["-m", "pyramidai_mpi", slide, "-o", whole, "--features"]).returncode == 0
    assert run_with_deaths(f"1,{ANALYSING},3", slide, struck, "--features").returncode == 0
    assert read_digest(whole) == read_digest(struck)
    with h5py.File(whole) as a, h5py.File(struck) as b:
        for n in range(3):
            np.testing.assert_array_equal(a[f"levels/{n}/features"][...], b[f"levels/{n}/features"][...])
