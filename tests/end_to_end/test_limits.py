"""Runs under the limits that clusters and machines set: they work, or the limit is named."""

from __future__ import annotations

import os
import subprocess
import sys
from typing import TYPE_CHECKING

import pytest

from pyramidai_mpi.store.results.reader import read_digest
from pyramidai_mpi.testing.launch import REPOSITORY
from tests.end_to_end.conftest import pyramidai
from tests.end_to_end.test_damage import SIDE, tissue_slide
from tests.packages import write_package

if TYPE_CHECKING:
    from pathlib import Path
    from subprocess import CompletedProcess


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A slide, a model, and the result of an undisturbed run."""
    folder = tmp_path_factory.mktemp("limits")
    tissue_slide(folder / "slide.tif")
    write_package(folder / "model", side=SIDE, thresholds=(0.5, 0.0, 0.0))
    assert pyramidai("slide.tif", "--model", "model", "-o", "whole.h5", cwd=folder).returncode == 0
    return folder


def limited(folder: Path, limit: str, words: str, **environment: str) -> CompletedProcess[str]:
    """The command after a command of the shell that sets a limit."""
    done = subprocess.run(
        ["bash", "-c", f"{limit}; exec {sys.executable} -m pyramidai_mpi {words}"],
        cwd=folder, env={**os.environ, "PYTHONPATH": str(REPOSITORY), **environment},
        capture_output=True, text=True, timeout=120, check=False,
    )  # fmt: skip
    print(done.stderr)
    return done


@pytest.mark.parametrize("kilobytes", [4_000_000, 1_500_000])
def test_a_limit_of_addresses_that_a_run_fits_in_changes_nothing(folder: Path, tmp_path: Path, kilobytes: int) -> None:
    out = tmp_path / "out.h5"
    done = limited(folder, f"ulimit -v {kilobytes}", f"slide.tif --model model -o {out} -q")
    assert (done.returncode, done.stderr) == (0, "")
    assert read_digest(out) == read_digest(folder / "whole.h5")
    assert limited(folder, f"ulimit -v {kilobytes}", "info model").returncode == 0


@pytest.mark.parametrize("kilobytes", [400_000, 600_000])
def test_a_limit_of_addresses_that_no_run_fits_in_is_named_with_its_size(
    folder: Path, tmp_path: Path, kilobytes: int
) -> None:
    done = limited(folder, f"ulimit -v {kilobytes}", f"slide.tif --model model -o {tmp_path}/out.h5 -q")
    assert done.returncode == 74
    assert "768 MiB of addresses" in done.stderr
    assert f"grants {kilobytes // 1024} MiB (ulimit -v, h_vmem)" in done.stderr
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("more", [2, 3, 4, 6, 8, 12])
def test_too_few_open_files_are_nobodys_bug(folder: Path, tmp_path: Path, more: int) -> None:
    program = (
        "import os, resource, sys\n"
        "import mpi4py; mpi4py.rc.thread_level = 'funneled'\n"
        "from mpi4py import MPI\n"  # which needs more than we can know, and crashes without
        f"highest = max(map(int, os.listdir('/proc/self/fd'))) + {more}\n"
        "resource.setrlimit(resource.RLIMIT_NOFILE, (highest, highest))\n"
        "from pyramidai_mpi.cli.main import main\n"
        "main(sys.argv[1:])\n"
    )
    words = ["slide.tif", "--model", "model", "-o", str(tmp_path / "out.h5"), "-q"]
    done = subprocess.run(
        [sys.executable, "-c", program, *words],
        cwd=folder, env={**os.environ, "PYTHONPATH": str(REPOSITORY)},
        capture_output=True, text=True, timeout=120, check=False,
    )  # fmt: skip
    print(done.stderr)
    assert done.returncode in {0, 74}
    for word in ("Traceback", "bug", "damaged", "malicious"):
        assert word not in done.stderr
    assert done.returncode == 0 or "open files" in done.stderr


def test_a_folder_for_temporary_files_that_is_not_there_is_named(folder: Path, tmp_path: Path) -> None:
    write_package(tmp_path / "model", side=SIDE, thresholds=(0.5, 0.0, 0.0), with_features=True)
    words = f"slide.tif --model {tmp_path}/model -o {tmp_path}/out.h5 --features -q"
    done = limited(folder, "true", words, TMPDIR=str(tmp_path / "gone"))
    assert done.returncode == 74
    assert "TMPDIR" in done.stderr
    assert "Traceback" not in done.stderr


@pytest.mark.parametrize("kind", ["a pipe", "a device", "a socket"])
def test_what_is_no_file_is_said_to_be_none(folder: Path, tmp_path: Path, kind: str) -> None:
    path = tmp_path / "it.tif"
    if kind == "a pipe":
        os.mkfifo(path)
    elif kind == "a device":
        path.symlink_to("/dev/zero")
    else:
        import socket

        with socket.socket(socket.AF_UNIX) as one:
            one.bind(str(path))
    for words in (f"{path} --model model -o {tmp_path}/out.h5 -q", f"info {path}"):
        done = limited(folder, "true", words)
        assert done.returncode == 65
        assert done.stderr.count("\n") == 1
        assert "is no file" in done.stderr


def test_a_name_that_leaves_no_room_for_the_names_beside_it_is_refused_before_the_work(
    folder: Path, tmp_path: Path
) -> None:
    name = "y" * 245
    (tmp_path / f"{name}.tif").symlink_to(folder / "slide.tif")
    done = limited(tmp_path, "true", f"{name}.tif --model {folder}/model -q")
    assert done.returncode == 74
    assert done.stderr.count("\n") == 1
    assert "its name is too long" in done.stderr
    assert [path.name for path in tmp_path.iterdir()] == [f"{name}.tif"]
    done = limited(tmp_path, "true", f"{name}.tif --model {folder}/model -o short.h5 -q")
    assert done.returncode == 0
