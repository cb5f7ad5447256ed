"""Standard output that is full, closed, or no longer read."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from pyramidai_mpi.testing.launch import REPOSITORY
from tests.packages import write_package
from tests.results import result_of, write_file
from tests.tiffs import textured, write_slide

if TYPE_CHECKING:
    from subprocess import CompletedProcess

FULL = Path("/dev/full")
PRINTING = (
    "--help",
    "--version",
    "run --help",
    "info slide.tif",
    "info model",
    "info out.h5",
    "digest out.h5",
    "models --help",
    "synth made.tif --size 600x400 --overwrite",
)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("streams")
    write_slide(folder / "slide.tif", [textured(600, 400)])
    write_package(folder / "model")
    write_file(folder / "out.h5", result_of())
    return folder


def in_shell(folder: Path, command: str) -> CompletedProcess[str]:
    environment = dict(os.environ) | {"PYTHONPATH": str(REPOSITORY)}
    line = command.replace("pyramidai", f"{sys.executable} -m pyramidai_mpi", 1)
    return subprocess.run(
        ["bash", "-c", line], cwd=folder, env=environment, capture_output=True, text=True, timeout=120, check=False
    )


@pytest.mark.parametrize("command", PRINTING)
def test_a_full_disk_behind_it_is_one_line_and_74(folder: Path, command: str) -> None:
    if not FULL.exists():
        pytest.skip("no /dev/full here")
    done = in_shell(folder, f"pyramidai {command} > {FULL}")
    assert done.stderr == "pyramidai: error: standard output: cannot be written: No space left on device\n"
    assert done.returncode == 74


def test_closed_it_is_said_and_a_file_that_is_opened_next_does_not_take_its_number(folder: Path) -> None:
    done = in_shell(folder, "pyramidai digest out.h5 >&-")
    assert (done.returncode, done.stderr.count("\n")) == (74, 1)
    assert "standard output" in done.stderr
    before = (folder / "out.h5").read_bytes()
    assert in_shell(folder, "pyramidai export out.h5 --csv out.csv <&- >&- 2>&-").returncode == 0
    assert (folder / "out.h5").read_bytes() == before
    assert (folder / "out.csv").read_text().startswith("minx,")


def test_whoever_reads_one_line_and_leaves_ends_it_in_silence(folder: Path) -> None:
    done = in_shell(folder, "set -o pipefail; pyramidai --help | true")
    assert done.stderr == ""
    assert done.returncode == 141
    done = in_shell(folder, "pyramidai --help | head -1")
    assert (done.returncode, done.stdout.count("\n"), done.stderr) == (0, 1, "")


def test_an_error_that_cannot_be_said_keeps_its_code(folder: Path) -> None:
    if not FULL.exists():
        pytest.skip("no /dev/full here")
    assert in_shell(folder, f"pyramidai info nowhere.tif 2> {FULL}").returncode == 65
    assert in_shell(folder, "pyramidai info nowhere.tif 2>&-").returncode == 65
