"""A rank that was started otherwise, or sees something else, is named, and all leave with one exit code."""

from __future__ import annotations

import os
import shutil
import sys
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import pytest

import pyramidai_mpi
from pyramidai_mpi.process.host import host_name
from pyramidai_mpi.testing.launch import REPOSITORY, mpirun
from tests.cluster.conftest import mpi_library
from tests.end_to_end.conftest import pyramidai
from tests.end_to_end.test_bad_input import small_slide
from tests.packages import write_package

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from pyramidai_mpi.testing.launch import Job

pytestmark = pytest.mark.mpi

RUN = ["slides", "--model", "model", "--results-dir", "results"]


@dataclass
class Odd:
    """How one rank differs: its arguments, what its folder lacks, what is found before our own modules."""

    words: list[str] = field(default_factory=lambda: RUN)
    modules: dict[str, str] = field(default_factory=dict)
    environment: dict[str, str] = field(default_factory=dict)
    change: Callable[[Path], None] = lambda _folder: None
    common: list[str] | None = None
    """What the other ranks are started with, where it is not the same."""


def make_place(folder: Path) -> Path:
    """A folder to start a rank in: slides, a table of them, regions, a model, a place for results."""
    for name in ("slides", "results"):
        (folder / name).mkdir(parents=True)
    for name in ("a", "b"):
        small_slide(folder / "slides" / f"{name}.tif")
    (folder / "list.csv").write_text("wsi\nslides/a.tif\nslides/b.tif\n")
    (folder / "roi.geojson").write_text(
        '{"type": "Polygon", "coordinates": [[[100, 100], [500, 100], [500, 300], [100, 100]]]}'
    )
    write_package(folder / "model", side=64)
    return folder


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Such a folder, to be copied."""
    return make_place(tmp_path_factory.mktemp("made") / "place")


def run_with(odd: Odd, made: Path, tmp_path: Path, odd_rank: int) -> Job:
    """Three ranks, of which one is started as `odd` says, in a folder of its own beside that of the others."""
    place = tmp_path / "usual" / "place"
    shutil.copytree(made, place)
    other = tmp_path / "odd" / "place"
    shutil.copytree(place, other)
    shutil.rmtree(other / "results")
    (other / "results").symlink_to(place / "results")
    odd.change(other)
    early = tmp_path / "early"
    early.mkdir()
    for name, text in odd.modules.items():
        (early / name).parent.mkdir(parents=True, exist_ok=True)
        (early / name).write_text(text)
    path = os.pathsep.join([str(early), str(REPOSITORY), os.environ.get("PYTHONPATH", "")])
    variables = [f"{name}={value}" for name, value in ({"PYTHONPATH": path} | odd.environment).items()]
    program = [sys.executable, "-m", "pyramidai_mpi"]
    usual_rank = ["env", "-C", str(place), *program, *(odd.common or odd.words)]
    odd_start = ["env", "-C", str(other), *variables, *program, *odd.words]
    starts = [odd_start if rank == odd_rank else usual_rank for rank in range(3)]
    words = [word for start in starts for word in (":", "-n", "1", *start)][3:]
    # `mpirun` begins with this Python, which becomes the first rank's command
    first = ["-c", "import os, sys; os.execvp(sys.argv[1], sys.argv[1:])"]
    return mpirun(1, [*first, *words])


def remove(name: str) -> Callable[[Path], None]:
    def change(folder: Path) -> None:
        path = folder / name
        shutil.rmtree(path) if path.is_dir() and not path.is_symlink() else path.unlink()

    return change


def empty(name: str) -> Callable[[Path], None]:
    def change(folder: Path) -> None:
        for path in (folder / name).iterdir():
            path.unlink()

    return change


def replaced(name: str, old: str, new: str) -> Callable[[Path], None]:
    def change(folder: Path) -> None:
        text = (folder / name).read_text()
        assert old in text
        (folder / name).write_text(text.replace(old, new))

    return change


def another_folder(folder: Path) -> None:
    (folder / "results").unlink()
    (folder / "results").mkdir()


def as_package(version: str) -> dict[str, str]:
    """A module that stands before the program and is the program, of another version."""
    source = (REPOSITORY / "pyramidai_mpi" / "__init__.py").read_text()
    changed = source.replace(f'__version__ = "{pyramidai_mpi.__version__}"', f'__version__ = "{version}"')
    assert changed != source
    whole = f"__path__ = [{str(REPOSITORY / 'pyramidai_mpi')!r}]\n"
    return {"pyramidai_mpi/__init__.py": changed.replace("from typing import", f"{whole}from typing import", 1)}


TABLE = ["--slides", "list.csv", *RUN[1:]]
SINGLE = ["slides/a.tif", "--model", "model", "-o", "results/a.h5"]
CASES = {
    "no slides": (Odd(change=empty("slides")), 65, "holds no slide"),
    "no folder of slides": (Odd(change=remove("slides")), 65, "slides"),
    "a slide less": (Odd(change=remove("slides/b.tif")), 65, "b.tif"),
    "no table": (Odd(TABLE, change=remove("list.csv")), 65, "list.csv"),
    "another table": (Odd(TABLE, change=replaced("list.csv", "b.tif", "c.tif")), 65, "c.tif"),
    "no slide": (Odd(SINGLE, change=remove("slides/a.tif")), 65, "a.tif"),
    "no folder for results": (Odd(change=remove("results")), 74, "results"),
    "another folder for results": (Odd(change=another_folder), 74, "another folder"),
    "another folder for the result": (Odd(SINGLE, change=another_folder), 74, "another folder"),
    "no model": (Odd(change=remove("model")), 65, "model"),
    "another model": (Odd(change=replaced("model/model.yaml", "threshold: 0.3", "threshold: 0.31")), 65, "model"),
    "no region": (Odd([*SINGLE, "--roi", "roi.geojson"], change=remove("roi.geojson")), 65, "--roi"),
    "another region": (
        Odd([*SINGLE, "--roi", "roi.geojson"], change=replaced("roi.geojson", "500, 300", "500, 301")),
        65,
        "--roi",
    ),
    "other arguments": (Odd([*RUN, "--seed", "3"], common=RUN), 65, "--seed"),
    "a wrong value": (Odd([*RUN, "--threshold", "1=7"], common=RUN), 65, "--threshold"),
    "an unknown option": (Odd([*RUN, "--nonsense"], common=RUN), 65, "--nonsense"),
    "another version": (Odd(modules=as_package("99.1")), 65, "99.1"),
    "another library": (
        Odd(modules={"numpy-99.2.dist-info/METADATA": "Metadata-Version: 2.1\nName: numpy\nVersion: 99.2\n"}),
        65,
        "99.2",
    ),
    "survival of ranks": (Odd(environment={"OMPI_MCA_mpi_ft_enable": "1"}), 65, "loss of ranks"),
    "no MPI": (Odd(modules={"mpi4py/__init__.py": "raise ImportError('not on this host')"}), 70, "not on this host"),
    "a bug before MPI starts": (Odd(modules={"tqdm.py": "", "csv.py": "1 / 0"}), 70, "ZeroDivisionError"),
}


IN_TURN = [(case, 2 * (number % 2)) for number, case in enumerate(CASES)]
"""Each case on the first rank or the last; some on the other one, too, as these two are met in different places."""
ON_BOTH = ("a slide less", "another folder for results", "another model", "other arguments", "no MPI")


@pytest.mark.parametrize(
    ("case", "odd_rank"), [*IN_TURN, *((case, 2 - rank) for case, rank in IN_TURN if case in ON_BOTH)]
)
def test_a_rank_that_differs_is_named_and_all_leave_with_one_code(
    case: str, odd_rank: int, place: Path, tmp_path: Path
) -> None:
    odd, code, words = CASES[case]
    if case == "survival of ranks" and mpi_library() != "MPICH":
        pytest.skip("Open MPI reads that variable itself: its ranks then fit together no longer, whoever started them")
    job = run_with(odd, place, tmp_path, odd_rank)
    assert job.returncode == code
    assert not job.left_over
    assert "Traceback" not in job.stderr or code == 70
    lines = [line for line in job.stderr.splitlines() if "pyramidai: " in line]
    assert lines
    assert words in job.stderr
    assert any(f"rank {odd_rank}" in line and f"host {host_name()}" in line for line in lines)
    assert not list((tmp_path / "usual" / "place" / "results").iterdir())


def test_what_all_ranks_have_done_wrong_is_one_line_without_a_rank(tmp_path: Path) -> None:
    make_place(tmp_path / "place")
    for words, code, said in (
        (["slides", "--threshold", "1=7"], 64, "--threshold 1=7"),
        (["slides", "--nonsense"], 64, "--nonsense"),
        (["--slides", "gone.csv"], 65, "gone.csv"),
        (["slides", "--results-dir", "list.csv"], 74, "list.csv"),
        (["exprot", "slides", "--csv", "tiles.csv"], 64, "did you mean 'export'"),
        (["exprot", "slides/a.tif", "--results-dir", "made"], 64, "did you mean 'export'"),
    ):
        done = pyramidai(*words, ranks=3, cwd=tmp_path / "place")
        assert done.returncode == code
        (line,) = [
            line for line in done.stderr.splitlines() if "pyramidai: " in line
        ]  # Open MPI's launcher adds its own
        assert line.startswith("pyramidai: error: ")
        assert said in line
        assert "rank" not in line
        assert not (tmp_path / "place" / "made").exists()


def test_a_folder_for_results_is_made_before_any_rank_looks_for_it(tmp_path: Path) -> None:
    make_place(tmp_path / "place")
    words = ["slides", "--model", "model", "--results-dir", "new/deeper", "-q"]
    done = pyramidai(*words, ranks=3, cwd=tmp_path / "place")
    assert done.returncode == 0, done.stderr
    assert {path.name for path in (tmp_path / "place/new/deeper").glob("*.h5")} == {"a.h5", "b.h5"}
