"""What a model is for is said where its scores are met, and takes nothing from runs that began before it was said."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from pyramidai_mpi.base.intended_use import claim_of
from pyramidai_mpi.models.package import load_package
from pyramidai_mpi.models.write import document_of
from pyramidai_mpi.models.write import write_package as write_description
from tests.end_to_end.conftest import digest_of, pyramidai
from tests.end_to_end.test_damage import SIDE, tissue_slide
from tests.packages import write_package

if TYPE_CHECKING:
    from pathlib import Path

CLAIM = claim_of("demonstration")


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A slide, and a model that says nothing."""
    tissue_slide(tmp_path / "slide.tif")
    write_package(tmp_path / "model", side=SIDE, thresholds=(0.5, 0.0, 0.0))
    return tmp_path


def say(model: Path, use: str) -> None:
    """Add the line to a package that is there."""
    package = load_package(model)
    networks = [level.onnx_path for level in package.levels]
    write_description(model, document_of(package) | {"intended_use": use}, networks, overwrite=True)


@pytest.mark.mpi
@pytest.mark.parametrize("ranks", [1, 2, 3])
def test_a_run_with_a_demonstration_says_so_once_in_spite_of_q(folder: Path, ranks: int) -> None:
    say(folder / "model", "demonstration")
    done = pyramidai(folder / "slide.tif", "--model", folder / "model", "-o", folder / "out.h5", "-q", ranks=ranks)
    assert done.returncode == 0
    (line,) = done.stderr.splitlines()
    assert line.endswith(f"model colour: {CLAIM}")
    assert CLAIM in pyramidai("info", folder / "out.h5").stdout


def test_a_slide_that_cannot_be_opened_is_told_in_one_line_as_ever(folder: Path) -> None:
    say(folder / "model", "demonstration")
    (folder / "notes.tif").write_text("no slide")
    done = pyramidai(folder / "notes.tif", "--model", folder / "model", "-o", folder / "out.h5")
    assert (done.returncode, done.stderr.count("\n")) == (65, 1)
    assert "notes.tif" in done.stderr


def test_a_run_with_a_model_for_research_says_nothing_and_its_result_does(folder: Path) -> None:
    say(folder / "model", "research")
    done = pyramidai(folder / "slide.tif", "--model", folder / "model", "-o", folder / "out.h5", "-q")
    assert (done.returncode, done.stderr) == (0, "")
    assert claim_of("research") in pyramidai("info", folder / "out.h5").stdout


def test_a_result_of_before_the_line_was_added_is_the_finished_one(folder: Path) -> None:
    words = [folder / "slide.tif", "--model", folder / "model", "-o", folder / "out.h5"]
    assert pyramidai(*words, "-q").returncode == 0
    before, digest = (folder / "out.h5").read_bytes(), digest_of(folder / "out.h5")
    say(folder / "model", "research")
    again = pyramidai(*words, "--resume")
    assert again.returncode == 0
    assert "is there already, complete" in again.stderr
    assert (folder / "out.h5").read_bytes() == before
    assert pyramidai(*words, "--overwrite", "-q").returncode == 0
    assert digest_of(folder / "out.h5") == digest
