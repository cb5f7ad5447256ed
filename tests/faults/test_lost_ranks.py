"""Ranks die while the others go on: needs Open MPI 5 under --with-ft ulfm."""

from __future__ import annotations

import re
from importlib.metadata import PackageNotFoundError, version
from typing import TYPE_CHECKING

import pytest

from pyramidai_mpi.store.results.reader import read_digest
from pyramidai_mpi.synth import SynthSpec, write_slide
from pyramidai_mpi.testing.launch import REPOSITORY, mpirun
from tests.faults.conftest import THRESHOLDS
from tests.packages import write_package

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from pyramidai_mpi.testing.launch import Job

try:
    version("openmpi")
except PackageNotFoundError:
    pytest.skip("ranks outlive each other with Open MPI 5 only; .ci/lost_ranks has it", allow_module_level=True)

pytestmark = pytest.mark.mpi

ANALYSING = "pyramidai_mpi.analyses.classify,SlideClassifier.look"
LOADING = "pyramidai_mpi.run.run,build_engines"
N_SLIDES = 6


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
    return mpirun_with_deaths(deaths, slide, "-o", output, "--batch-size", "4", "--no-progress", *options)


def mpirun_with_deaths(deaths: str, *words: str | Path) -> Job:
    script = REPOSITORY / "tests" / "faults" / "run_dying.py"
    return mpirun(5, [script, deaths, *words], timeout=120, launcher_args=["--with-ft", "ulfm"])


@pytest.mark.parametrize("rank", [0, 3])
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
        pytest.param("pyramidai_mpi.run.run,open_by_all,1", id="while opening"),
        pytest.param(f"{LOADING},1", id="while loading"),
        pytest.param("pyramidai_mpi.store.journal.writer,JournalWriter.close,1", id="after its last batch"),
        pytest.param("pyramidai_mpi.run.run,rank_record,1", id="while gathering"),
        pytest.param("pyramidai_mpi.run.run,write_result,1", id="while writing"),
        pytest.param("pyramidai_mpi.run.run,gather_records,2", id="when the result is in its place"),
    ],
)
def test_it_may_die_at_any_time(where: str, rank: int, slide, undisturbed, tmp_path) -> None:
    assert_the_others_finish(f"{rank},{where}", slide, undisturbed, tmp_path)


def test_the_owner_may_die_before_it_has_removed_the_journal_of_a_result_in_its_place(
    slide, undisturbed, tmp_path
) -> None:
    assert_the_others_finish("0,pyramidai_mpi.run.resume,SlideOutput.remove_journal,1", slide, undisturbed, tmp_path)


def assert_the_others_finish(death: str, slide: Path, undisturbed: str, tmp_path: Path) -> None:
    job = run_with_deaths(death, slide, tmp_path / "out.h5")
    assert job.returncode == 0
    assert "1 of 5 ranks died; the other 4 go on" in job.stderr
    assert read_digest(tmp_path / "out.h5") == undisturbed
    assert [path.name for path in tmp_path.iterdir()] == ["out.h5"]
    assert not job.left_over


def test_several_may_die_one_after_the_other(slide, undisturbed, tmp_path) -> None:
    # rank 1 dies in the second attempt, which it reaches after rank 0 has died
    deaths = f"0,{ANALYSING},2;1,{LOADING},2;3,{ANALYSING},2"
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


PLACES = {
    "opening": "pyramidai_mpi.run.run,describe,1",
    "analysing": f"{ANALYSING},2",
    "writing": "pyramidai_mpi.run.finishing,write_result_alone,1",
}


@pytest.fixture(scope="module")
def cohort(tmp_path_factory) -> Path:
    """A folder with six slides, a model, and the results of an undisturbed run."""
    folder = tmp_path_factory.mktemp("cohort")
    for seed in range(N_SLIDES):
        write_slide(SynthSpec(800, 600, seed=seed, tumor_share=0.3), folder / f"{seed}.tif")
    write_package(folder / "model", side=32, gain=0.05, thresholds=THRESHOLDS)
    (folder / "results").mkdir()
    job = mpirun(2, ["-m", "pyramidai_mpi", *words_of(folder, folder / "results")])
    assert job.returncode == 0
    return folder


def words_of(cohort: Path, results: Path) -> list[str | Path]:
    slides = [cohort / f"{seed}.tif" for seed in range(N_SLIDES)]
    return [*slides, "--model", cohort / "model", "--results-dir", results, "--batch-size", "4"]


def assert_the_others_finish_the_cohort(
    deaths: Sequence[str], cohort: Path, results: Path, *, least: int | None = None
) -> None:
    job = mpirun_with_deaths(";".join(deaths), *words_of(cohort, results), "--no-progress")
    assert job.returncode == 0
    died = sum(int(n) for n in re.findall(r"(\d) of \d ranks died", job.stderr))
    assert (len(deaths) if least is None else least) <= died <= len(deaths)
    for seed in range(N_SLIDES):
        assert read_digest(results / f"{seed}.h5") == read_digest(cohort / "results" / f"{seed}.h5")
    left = {path.name for path in results.iterdir() if not path.name.startswith("run_metadata_")}
    assert left == {"summary.csv", *(f"{seed}.h5" for seed in range(N_SLIDES))}
    assert not job.left_over


@pytest.mark.parametrize("rank", [0, 3])  # an owner of two slides, and of one
@pytest.mark.parametrize("where", PLACES)
def test_the_others_finish_all_slides_when_a_rank_dies(where: str, rank: int, cohort, tmp_path) -> None:
    assert_the_others_finish_the_cohort([f"{rank},{PLACES[where]}"], cohort, tmp_path)


@pytest.mark.parametrize(
    "deaths",
    [
        pytest.param([f"0,{PLACES['opening']}", f"1,{LOADING},2", f"2,{LOADING},3"], id="each of them rank 0"),
        pytest.param([f"4,{PLACES['opening']}", f"2,{ANALYSING},6", f"1,{PLACES['writing']}"], id="at other moments"),
        pytest.param([f"{rank},{PLACES['writing']}" for rank in (3, 0, 1)], id="all while writing"),
    ],
)
def test_of_many_slides_several_may_die_one_after_the_other(deaths: list[str], cohort, tmp_path) -> None:
    # after two deaths the others may have written all slides before a third rank's turn comes
    assert_the_others_finish_the_cohort(deaths, cohort, tmp_path, least=2)
