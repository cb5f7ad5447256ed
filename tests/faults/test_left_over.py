"""What a start that was killed or failed at its very end leaves is no trouble to the next one, nor to itself."""

from __future__ import annotations

import shutil
from typing import TYPE_CHECKING

import pytest

from pyramidai_mpi.synth import SynthSpec, write_slide
from pyramidai_mpi.testing.launch import mpirun
from tests.end_to_end.conftest import digest_of, pyramidai

if TYPE_CHECKING:
    from pathlib import Path

pytestmark = pytest.mark.mpi


@pytest.fixture(scope="module")
def slides(tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    folder = tmp_path_factory.mktemp("slides")
    slides = [folder / "first.tif", folder / "second.tif"]
    for seed, slide in enumerate(slides):
        write_slide(SynthSpec(1500, 1500, seed=seed), slide)
    return slides


@pytest.fixture(scope="module")
def alone(slides: list[Path], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the result of each."""
    folder = tmp_path_factory.mktemp("alone")
    for slide in slides:
        assert pyramidai(slide, "-o", folder / f"{slide.stem}.h5").returncode == 0
    return folder


@pytest.mark.parametrize("resume", [[], ["--resume"]])
def test_one_slide_that_is_left_of_several_is_finished(
    resume: list[str], slides: list[Path], alone: Path, tmp_path: Path
) -> None:
    shutil.copyfile(alone / "first.h5", tmp_path / "first.h5")
    assert pyramidai(*slides, "--results-dir", tmp_path, *resume, ranks=2).returncode == 0
    assert digest_of(tmp_path / "second.h5") == digest_of(alone / "second.h5")
    assert not list(tmp_path.glob("*.journal"))


def test_files_that_a_start_left_after_its_last_slide_go_with_the_next(slides: list[Path], tmp_path: Path) -> None:
    assert pyramidai(*slides, "--results-dir", tmp_path).returncode == 0
    (tmp_path / "pyramidai.journal").mkdir()
    (tmp_path / "pyramidai.journal" / "0001-0123abcd-00000.tiles").write_bytes(b"")
    assert pyramidai(*slides, "--results-dir", tmp_path, "--resume").returncode == 0
    assert not list(tmp_path.glob("*.journal"))


FAILING_AT_ITS_END = """
import sys
from pyramidai_mpi.base.errors import StorageError
from pyramidai_mpi.cli.main import main
from pyramidai_mpi.store.journal.writer import JournalWriter
real = JournalWriter.close
def close(self):
    real(self)
    raise StorageError("the disk fails at the very end")
JournalWriter.close = close
main(sys.argv[1:])
"""


def test_a_disk_that_fails_when_journals_are_closed_is_one_line(slides: list[Path], tmp_path: Path) -> None:
    job = mpirun(2, ["-c", FAILING_AT_ITS_END, *slides, "--results-dir", tmp_path])
    assert job.returncode == 74
    assert "the disk fails at the very end" in job.stderr
    assert "Traceback" not in job.stderr
