"""Slides, models and finished runs that the end-to-end tests share."""

from __future__ import annotations

import os
import subprocess
import sys
from dataclasses import dataclass
from typing import TYPE_CHECKING

import pytest

from pyramidai_mpi.models.shipped import default_model
from pyramidai_mpi.synth import SynthSpec, write_slide
from pyramidai_mpi.testing.launch import REPOSITORY, mpirun
from tests.ready import finished

if TYPE_CHECKING:
    from pathlib import Path

    from tests.end_to_end.strided import Made

REAL_SLIDES = REPOSITORY.parent / "shared" / "data" / "slides"


@dataclass(frozen=True)
class Finished:
    """A command that ended."""

    returncode: int
    stdout: str
    stderr: str


def pyramidai(*arguments: str | os.PathLike[str], ranks: int | None = None, cwd: Path | None = None) -> Finished:
    """Run the real command under mpirun, or alone in a process that has loaded its modules before."""
    words = ["-m", "pyramidai_mpi", *(os.fspath(argument) for argument in arguments)]
    if ranks is not None:
        job = mpirun(ranks, words, cwd=cwd, timeout=120)
        assert not job.left_over, "processes of the job outlived it"
        return Finished(job.returncode, job.stdout, job.stderr)
    quickly = finished(words[2:], cwd, timeout=120)
    if quickly is not None:
        print(*quickly[1:])
        return Finished(*quickly)
    environment = dict(os.environ) | {"PYTHONPATH": str(REPOSITORY)}
    done = subprocess.run(
        [sys.executable, *words], env=environment, cwd=cwd, capture_output=True, text=True, timeout=120, check=False
    )
    print(done.stdout, done.stderr)
    return Finished(done.returncode, done.stdout, done.stderr)


def digest_of(result: Path) -> str:
    """What ``pyramidai digest`` prints."""
    done = pyramidai("digest", result)
    assert done.returncode == 0
    return done.stdout.strip()


@pytest.fixture(scope="session")
def model() -> Path:
    """The shipped model."""
    return default_model()


@pytest.fixture(scope="session")
def slide(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A generated slide with tumour, some hundred level-0 tiles."""
    path = tmp_path_factory.mktemp("slide") / "tumour.tif"
    write_slide(SynthSpec(7000, 6000, seed=11, tumor_share=0.2), path)
    return path


@pytest.fixture(scope="session")
def pyramid_run(slide: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Result of the slide on one rank, without mpirun."""
    path = tmp_path_factory.mktemp("result") / "one.h5"
    assert pyramidai(slide, "-o", path).returncode == 0
    return path


def real_slide(name: str) -> Path:
    """A slide of ../shared/data, or a skip that says why."""
    path = REAL_SLIDES / name
    if not path.exists():
        pytest.skip(f"the real slide {name} is not in ../shared/data/slides")
    return path


@pytest.fixture(scope="session")
def sized_slides(tmp_path_factory: pytest.TempPathFactory) -> dict[tuple[int, int], Path]:
    """Generated slides by width and height, on which windows at a stride take no longer than a few seconds."""
    from tests.end_to_end.strided import UNIFORM

    folder = tmp_path_factory.mktemp("sized")
    paths = {size: folder / f"{size[0]}.tif" for size in set(UNIFORM.values())}
    for (width, height), path in paths.items():
        write_slide(SynthSpec(width, height, seed=2, tumor_share=0.2), path)
    return paths


@pytest.fixture(scope="session")
def small_slide(sized_slides: dict[tuple[int, int], Path]) -> Path:
    """The larger of these."""
    return sized_slides[1500, 1200]


@pytest.fixture(scope="session")
def made(small_slide: Path, tmp_path_factory: pytest.TempPathFactory) -> Made:
    """Its results, each made when it is first asked for."""
    from tests.end_to_end.strided import Made

    return Made(tmp_path_factory.mktemp("made"), small_slide)
