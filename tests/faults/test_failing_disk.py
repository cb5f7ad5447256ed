"""A disk that is full or dies at any moment: exit 74, no file under the final name, and resume goes on afterwards."""

from __future__ import annotations

import errno
import json
import os
import shutil
import subprocess
import sys
from typing import TYPE_CHECKING, Any

import pytest

from bench.faults.campaign.trial import compiled_surroundings
from pyramidai_mpi.store.results.reader import read_digest
from pyramidai_mpi.testing.launch import REPOSITORY
from tests.end_to_end.conftest import pyramidai
from tests.end_to_end.test_damage import tissue_slide
from tests.faults.conftest import THRESHOLDS
from tests.packages import write_package

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

HERE = REPOSITORY / "tests" / "faults"
BATCH = 8


@pytest.fixture(scope="module")
def case(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a slide and a model."""
    folder = tmp_path_factory.mktemp("case")
    tissue_slide(folder / "slide.tif")
    write_package(folder / "model", side=64, gain=0.05, thresholds=THRESHOLDS)
    return folder


@pytest.fixture(scope="module")
def shim(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The campaign's surroundings, compiled."""
    if shutil.which("gcc") is None and shutil.which("cc") is None:
        pytest.skip("no C compiler to build the failing disk with")
    return compiled_surroundings(tmp_path_factory.mktemp("shim"))


def attempts(case: Path, shim: Path, folder: Path, number: int, how: str, stride: int) -> list[dict[str, Any]]:
    """What each run said, the undisturbed one first."""
    command = [sys.executable, HERE / "run_failing_disk.py", folder, case / "slide.tif", case / "model"]
    environment = dict(os.environ) | {"LD_PRELOAD": str(shim), "PYTHONPATH": str(REPOSITORY), "OMP_NUM_THREADS": "1"}
    done = subprocess.run(
        [*command, str(number), how, str(stride)], env=environment, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    return [json.loads(line) for line in done.stdout.splitlines()]


STRIDE = int(os.environ.get("PYRAMIDAI_STRIDE", "4"))
"""Every which call of the disk fails: 1 takes all, two minutes and more."""


@pytest.mark.slow
@pytest.mark.timeout(900)
@pytest.mark.parametrize(
    ("number", "how", "stride"),
    [
        pytest.param(errno.ENOSPC, "sticky", STRIDE, id="full from some call on"),
        pytest.param(errno.EIO, "once", STRIDE + 1, id="an error at some call"),
        pytest.param(errno.EDQUOT, "sticky", 3 * STRIDE - 2, id="a quota used up from some call on"),
    ],
)
def test_no_call_of_the_disk_can_fail_and_leave_a_false_success(
    case: Path, shim: Path, tmp_path: Path, number: int, how: str, stride: int
) -> None:
    undisturbed, *failed = attempts(case, shim, tmp_path, number, how, stride)
    assert undisturbed["code"] == 0
    kinds = {attempt["victim"].split()[0] for attempt in failed}
    assert kinds >= {"create", "write", "pwrite"}
    assert undisturbed["calls"] > 50
    assert len(failed) == -(-undisturbed["calls"] // stride)
    if stride == 1:  # which of the others a stride meets is chance
        assert kinds >= {"fsync", "mkdir", "rename", "link"}
    for attempt in failed:
        if attempt["victim"].split()[0] in {"unlink", "rmdir"}:  # the result is complete when the journal goes
            assert attempt["code"] in {0, 74}, attempt
        else:
            assert attempt["code"] == 74, attempt
            assert attempt["digest"] is None, attempt
        assert_all_is_there_in_the_end(attempt, undisturbed)


def assert_all_is_there_in_the_end(attempt: dict[str, Any], undisturbed: dict[str, Any]) -> None:
    """A result that is there is the right one, and once it was resumed it is all that is there."""
    assert attempt["digest"] in {None, undisturbed["digest"]}, attempt
    assert attempt["code_of_resume"] == 0, attempt
    assert attempt["digest_of_resume"] == undisturbed["digest"], attempt
    assert attempt["left_over"] == [], attempt


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_a_look_that_gets_no_answer_does_not_begin_the_work_anew(case: Path, shim: Path, tmp_path: Path) -> None:
    undisturbed, *failed = attempts(case, shim, tmp_path, errno.ESTALE, "look", STRIDE - 1 or 1)
    assert undisturbed["looks"] > 50
    assert {attempt["code"] for attempt in failed} == {0, 74}
    for attempt in failed:
        assert attempt["victim"].startswith("look "), attempt
        assert attempt["tiles"] <= undisturbed["tiles"] + BATCH, attempt
        assert_all_is_there_in_the_end(attempt, undisturbed)


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A file system of 4 KB."""
    disk = tmp_path / "disk"
    disk.mkdir()
    if os.geteuid() != 0 or resize(disk, 4, "mount").returncode != 0:
        pytest.skip("no permission to mount a file system")
    yield disk
    subprocess.run(["umount", disk], check=True)


def resize(disk: Path, kilobytes: int, how: str = "mount,remount") -> subprocess.CompletedProcess[str]:
    command, *options = how.split(",")
    words = [command, "-t", "tmpfs", "-o", ",".join([*options, f"size={kilobytes}k"]), "pyramidai-test", disk]
    return subprocess.run(words, capture_output=True, text=True, check=False)


@pytest.mark.mpi
def test_a_run_goes_on_as_its_disk_grows(case: Path, small_disk: Path, tmp_path: Path) -> None:
    output = small_disk / "out.h5"
    arguments = [case / "slide.tif", "--model", case / "model", "--batch-size", "8", "--resume"]
    filled_by = []
    for kilobytes in (4, 16, 32):
        assert resize(small_disk, kilobytes).returncode == 0
        done = pyramidai(*arguments, "-o", output, ranks=2)
        assert done.returncode == 74
        assert "No space left on device" in done.stderr
        assert "Traceback" not in done.stderr
        assert not output.exists()
        filled_by.append(sum(path.stat().st_size for path in small_disk.glob("*/*.tiles")))
    assert filled_by[0] == 0
    assert filled_by[-1] > filled_by[0]
    assert resize(small_disk, 4000).returncode == 0
    assert pyramidai(*arguments, "-o", output, ranks=2).returncode == 0
    assert pyramidai(*arguments, "-o", tmp_path / "undisturbed.h5").returncode == 0
    assert read_digest(output) == read_digest(tmp_path / "undisturbed.h5")
    assert [path.name for path in small_disk.iterdir()] == ["out.h5"]
