"""Another analysis than classifying runs through pool, journals and recovery, which do not know which one it is."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

import numpy as np
import openslide
import pytest

from pyramidai_mpi.synth import SynthSpec, write_slide
from pyramidai_mpi.testing.launch import REPOSITORY, kill, mpirun, started
from tests.packages import write_package

if TYPE_CHECKING:
    from pathlib import Path

pytestmark = pytest.mark.mpi

PROGRAM = str(REPOSITORY / "tests" / "testing" / "run_colours.py")
SIDE = 64


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Three slides, a model that says the levels, and what three undisturbed ranks found."""
    folder = tmp_path_factory.mktemp("colours")
    for seed in (1, 2, 3):
        write_slide(SynthSpec(1500, 1200, seed=seed), folder / f"{seed}.tif")
    write_package(folder / "model", side=SIDE)
    assert run(3, folder, folder).returncode == 0
    return folder


def arguments(folder: Path, results: Path, *options: str, seconds: float = 0) -> list[str]:
    slides = [str(folder / f"{seed}.tif") for seed in (1, 2, 3)]
    return [PROGRAM, str(folder / "model"), str(results), str(seconds), *options, *slides]


def run(ranks: int, folder: Path, results: Path, *options: str):
    return mpirun(ranks, arguments(folder, results, *options))


def records_of(results: Path) -> list[np.ndarray]:
    return [np.load(results / f"{seed}.npz")["records"] for seed in (1, 2, 3)]


def assert_same(found: Path, folder: Path) -> None:
    for ours, others in zip(records_of(found), records_of(folder), strict=True):
        assert ours.tobytes() == others.tobytes()
    assert not [path.name for path in found.iterdir() if path.suffix != ".npz"]


def test_colours_are_those_that_openslide_reads(folder):
    (records, *_) = records_of(folder)
    assert set(records["level"]) == {0, 1, 2}
    finest = records[records["level"] == 0]
    with openslide.OpenSlide(folder / "1.tif") as slide:
        for record in finest[:: len(finest) // 20]:
            corner = int(record["col"]) * SIDE, int(record["row"]) * SIDE
            pixels = np.asarray(slide.read_region(corner, 0, (SIDE, SIDE)).convert("RGB"), np.float64)
            inside = [slide.dimensions[axis] - corner[axis] for axis in (0, 1)]
            if min(inside) >= SIDE:
                assert record["colour"] == pytest.approx(pixels.mean(axis=(0, 1)), abs=1e-4)
    assert (records["tissue"] > 0).all()


@pytest.mark.parametrize("ranks", [1, 5])
def test_any_number_of_ranks_finds_the_same(folder, tmp_path, ranks):
    assert run(ranks, folder, tmp_path).returncode == 0
    assert_same(tmp_path, folder)


def journalled(results: Path) -> int:
    return sum(path.stat().st_size for path in results.glob("*.journal/*.tiles"))


@pytest.mark.parametrize(("ranks", "victim"), [(3, 2), (5, 0)])
def test_killed_and_resumed_it_finds_the_same(folder, tmp_path, ranks, victim):
    with started(ranks, arguments(folder, tmp_path, seconds=0.01)) as job:
        assert job.wait_until(lambda: journalled(tmp_path) > 5000), job.output()
        kill(job.ranks()[victim])
        assert job.wait() != 0
    job = run(3, folder, tmp_path, "--resume")
    assert job.returncode == 0
    restored = sum(int(count) for count in re.findall(r"(\d+) of them from the journal", job.stdout))
    assert restored > 50
    assert_same(tmp_path, folder)
