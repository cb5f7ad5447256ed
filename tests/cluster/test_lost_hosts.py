"""Over three hosts ranks die, and a whole host with its part of the launcher: needs Open MPI 5, and root.

Ranks 0 and 1 are on n1, where mpirun is, 2 and 3 on n2, 4 and 5 on n3.
"""

from __future__ import annotations

from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, version
from typing import TYPE_CHECKING

import pytest

from pyramidai_mpi.patches.database import open_patches
from pyramidai_mpi.store.explanations.contents import explanation_digest
from pyramidai_mpi.store.explanations.reader import read_explanation
from pyramidai_mpi.store.results.reader import read_digest
from pyramidai_mpi.testing.launch import REPOSITORY, mpirun
from tests.explaining import write_image, write_maps_package
from tests.faults.run_dying import WITH_HOST
from tests.tiffs import textured, write_slide

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from pyramidai_mpi.testing.launch import Job
    from tests.cluster.conftest import Hosts, Reference

try:
    version("openmpi")
except PackageNotFoundError:
    pytest.skip("ranks outlive each other with Open MPI 5 only; .ci/lost_ranks has it", allow_module_level=True)

DYING = REPOSITORY / "tests" / "faults" / "run_dying.py"
ANALYSING = "pyramidai_mpi.analyses.classify,SlideClassifier.look"
LOADING = "pyramidai_mpi.run.run,build_engines"
SURVIVING = ("--with-ft", "ulfm")


def run(hosts: Hosts, deaths: str, reference: Reference, results: Path, grace_s: float = 0.5) -> Job:
    words = [*reference.slides, "--model", reference.model, "--results-dir", results, "--batch-size", "2"]
    return hosts.mpirun([DYING, deaths, *words, "--no-progress"], options=SURVIVING, grace_s=grace_s)


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
    job = run(hosts, f"4,{ANALYSING},2,{WITH_HOST}", reference, tmp_path, grace_s=30)
    assert (
        not job.left_over
    )  # Open MPI's launcher ends it, with code 0 and not always a word; ranks see that it is gone
    assert not all((tmp_path / f"{slide.stem}.h5").exists() for slide in reference.slides)
    words = [*reference.slides, "--model", reference.model, "--results-dir", tmp_path, "--resume"]
    assert hosts.pyramidai(*words, ranks_per_host=1).returncode == 0
    assert_all_is_right(reference, tmp_path)


@dataclass(frozen=True)
class Kind:
    """A kind of work.

    Attributes
    ----------
    words
        The command, of a folder of inputs and one of outputs.
    place
        A function that each rank calls again and again.
    digest
        Of the outputs.
    """

    words: Callable[[Path, Path], list[str | Path]]
    place: str
    digest: Callable[[Path], object]


def dense_words(folder: Path, out: Path) -> list[str | Path]:
    windows = ["--stride", "16", "--mode", "reference", "--batch-size", "1"]
    return ["run", folder / "slide.tif", "--mpp", "0.25", "--model", folder / "model", "-o", out / "out.h5", *windows]


def patches_words(folder: Path, out: Path) -> list[str | Path]:
    cells = ["--size", "48", "--stride", "16", "--level", "0", "--no-tissue"]
    return ["patches", "extract", folder / "0.tif", folder / "1.tif", "-o", out, *cells]


def explain_words(folder: Path, out: Path) -> list[str | Path]:
    tiles = [word for tile in ("l0:10,10", "l0:200,100", "l0:330,260") for word in ("--tiles", tile)]
    asked = ["--method", "occlusion", "--mpp", "0.25", *tiles]
    return ["explain", folder / "slide.tif", "--model", folder / "model", "-o", out, *asked]


def patches_digest(out: Path) -> object:
    digests = []
    for path in sorted(out.glob("*.patches.h5")):
        with open_patches(path) as patches:
            digests.append(patches.digest)
    return digests


KINDS = {
    "dense": Kind(dense_words, "pyramidai_mpi.analyses.dense,SlideDense.look", lambda out: read_digest(out / "out.h5")),
    "patches": Kind(patches_words, "pyramidai_mpi.analyses.extract,CellsOfSlide.look", patches_digest),
    "explain": Kind(
        explain_words,
        "pyramidai_mpi.analyses.explain,UnitsOfSlide.look",
        lambda out: explanation_digest(read_explanation(out / "slide.explained.h5")),
    ),
}


@pytest.fixture(scope="module")
def inputs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Slides and a model of every kind's."""
    folder = tmp_path_factory.mktemp("inputs")
    write_image(folder / "slide.tif")
    write_maps_package(folder / "model")
    for seed in range(2):
        write_slide(folder / f"{seed}.tif", [textured(640, 512, seed=seed)])
    return folder


@pytest.mark.parametrize("name", KINDS)
def test_other_kinds_of_work_outlive_ranks_too(name: str, hosts: Hosts, inputs: Path, tmp_path: Path) -> None:
    kind = KINDS[name]
    whole, struck = tmp_path / "whole", tmp_path / "struck"
    whole.mkdir()
    struck.mkdir()
    assert mpirun(1, ["-m", "pyramidai_mpi", *kind.words(inputs, whole)]).returncode == 0
    job = hosts.mpirun([DYING, f"0,{kind.place},1;3,{kind.place},1", *kind.words(inputs, struck)], options=SURVIVING)
    assert job.returncode == 0
    assert "ranks died" in job.stderr
    assert kind.digest(struck) == kind.digest(whole)
    assert not job.left_over
