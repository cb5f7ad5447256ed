"""Explanations are equal on any number of ranks, and after any kill."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

import pytest
from mpi4py import MPI

from pyramidai_mpi.store.explanations.reader import read_explanation
from pyramidai_mpi.testing.launch import REPOSITORY, kill, mpirun, started
from tests.explaining import write_image, write_maps_package
from tests.mpi.run_explain import explain
from tests.tiffs import drop_tile, textured, write_slide

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

pytestmark = pytest.mark.mpi

PROGRAM = str(REPOSITORY / "tests" / "mpi" / "run_explain.py")
METHODS = ("gradcam", "rise")
N_UNITS = {"gradcam": 8, "rise": 138}


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two slides, one of them damaged, and what one rank says of them: this process."""
    folder = tmp_path_factory.mktemp("slides")
    write_image(folder / "a.tif")
    write_slide(folder / "b.tif", [textured(448, 320, seed=1)], compression="zlib")
    drop_tile(folder / "b.tif", 1, 0)
    write_maps_package(folder / "model")
    assert alone(folder, folder, *METHODS) == sum(N_UNITS.values())
    return folder


def alone(folder: Path, results: Path, *methods: str, resume: bool = False) -> int:
    """Explain on one rank; how many units that took."""
    make_folders(results, methods)
    slides = [folder / f"{name}.tif" for name in "ab"]
    ended, n_units = explain(MPI.COMM_SELF, results, folder / "model", methods, slides, resume=resume)
    assert sorted(code for code, _ in ended) == [*[0] * len(methods), *[3] * len(methods)]
    return n_units


def make_folders(results: Path, methods: Sequence[str]) -> None:
    for method in methods:
        (results / method).mkdir(exist_ok=True)


def arguments(folder: Path, results: Path, methods: Sequence[str], *options: str, seconds: float = 0) -> list[str]:
    make_folders(results, methods)
    slides = [str(folder / f"{name}.tif") for name in "ab"]
    return [PROGRAM, str(results), str(folder / "model"), ",".join(methods), str(seconds), *options, *slides]


def digests_of(results: Path) -> list[str]:
    return [read_explanation(results / f"{name}.explained.h5").digest for name in "ab"]


@pytest.mark.parametrize("ranks", [3, 5])
def test_any_number_of_ranks_explains_alike(folder, tmp_path, ranks):
    job = mpirun(ranks, arguments(folder, tmp_path, METHODS))
    assert job.returncode == 0
    assert sorted(line[:1] for line in job.stdout.splitlines() if line[:2] in {"0 ", "3 "}) == ["0", "0", "3", "3"]
    for method in METHODS:
        assert digests_of(tmp_path / method) == digests_of(folder / method)
        assert sorted(path.name for path in (tmp_path / method).iterdir()) == ["a.explained.h5", "b.explained.h5"]


def test_masks_went_on_for_some_tiles_and_not_for_others(folder):
    used = [read_explanation(folder / "rise" / f"{name}.explained.h5").execution.attributes for name in "ab"]
    assert {one["least_masks"] for one in used} | {one["most_masks"] for one in used} > {256}
    assert len({one["masks"] for one in used}) == 2


def journalled(results: Path) -> int:
    return sum(path.stat().st_size for path in results.glob("*.journal/*.tiles"))


@pytest.mark.parametrize(
    ("method", "ranks", "victim", "n_bytes"), [("gradcam", 2, 1, 2_000), ("rise", 3, 0, 12_000)], ids=METHODS
)
def test_killed_and_resumed_it_explains_alike(folder, tmp_path, method, ranks, victim, n_bytes):
    with started(ranks, arguments(folder, tmp_path, [method], seconds=0.1)) as job:
        assert job.wait_until(lambda: journalled(tmp_path / method) > n_bytes), job.output()
        kill(job.ranks()[victim])
        assert job.wait() != 0
    assert 0 < alone(folder, tmp_path, method, resume=True) < N_UNITS[method]
    assert digests_of(tmp_path / method) == digests_of(folder / method)
    assert sorted(path.name for path in (tmp_path / method).iterdir()) == ["a.explained.h5", "b.explained.h5"]


def test_stopped_in_time_it_keeps_what_was_done(folder, tmp_path):
    stopped = mpirun(2, arguments(folder, tmp_path, ["rise"], "--stop"))
    assert stopped.returncode == 75
    assert int(re.search(r"0 of 2 slides have ended, (\d+) pieces of others are kept", stopped.stdout)[1]) >= 3
    assert 0 < alone(folder, tmp_path, "rise", resume=True) < N_UNITS["rise"]
    assert digests_of(tmp_path / "rise") == digests_of(folder / "rise")
