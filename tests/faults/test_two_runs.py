"""Two runs on one output: one wins, the other exits 73 and touches nothing; whoever is gone holds nothing."""

from __future__ import annotations

import csv
import os
import shutil
import signal
import subprocess
from typing import TYPE_CHECKING

import pytest

from pyramidai_mpi.store.results.reader import read_digest
from pyramidai_mpi.testing.launch import REPOSITORY, kill, stand_still, started
from tests.end_to_end.conftest import pyramidai

if TYPE_CHECKING:
    from pathlib import Path

    from tests.faults.conftest import Undisturbed

pytestmark = pytest.mark.mpi

SLOWLY = REPOSITORY / "tests" / "faults" / "run_slowly.py"
PAUSING = REPOSITORY / "tests" / "faults" / "run_pausing.py"


def test_the_second_run_exits_73_whatever_its_options_also_while_the_first_stands_still(
    undisturbed: Undisturbed, tmp_path: Path
) -> None:
    output = tmp_path / "out.h5"
    with started(2, [SLOWLY, "0.02", *undisturbed.arguments(output)]) as first:
        assert first.wait_until(lambda: any(tmp_path.glob("*.journal/*.tiles"))), first.output()
        for pid in first.ranks().values():
            stand_still(pid)
        before = {path: path.read_bytes() for path in tmp_path.rglob("*") if path.is_file()}
        for options, ranks in [((), None), (("--resume",), 2), (("--overwrite",), None)]:
            done = pyramidai(*undisturbed.arguments(output, *options), ranks=ranks)
            assert done.returncode == 73
            assert "is being written by another run" in done.stderr
        assert {path: path.read_bytes() for path in tmp_path.rglob("*") if path.is_file()} == before
        for pid in first.ranks().values():
            kill(pid, signal.SIGCONT)
        assert first.wait() == 3
    assert read_digest(output) == undisturbed.digest
    assert [path.name for path in tmp_path.iterdir()] == ["out.h5"]


def test_of_several_started_at_once_one_wins(undisturbed: Undisturbed, tmp_path: Path) -> None:
    output = tmp_path / "out.h5"
    arguments = [SLOWLY, "0.01", *undisturbed.arguments(output)]
    with started(2, arguments) as one, started(None, arguments) as two, started(2, arguments) as three:
        codes = sorted(job.wait() for job in (one, two, three))
    assert codes == [3, 73, 73]
    assert read_digest(output) == undisturbed.digest


def test_a_signal_before_the_first_tile_ends_all_ranks_with_75_and_leaves_nothing(
    undisturbed: Undisturbed, tmp_path: Path
) -> None:
    output = tmp_path / "out.h5"
    with started(3, [SLOWLY, "0.01", *undisturbed.arguments(output)]) as job:
        assert job.wait_until(lambda: (tmp_path / "out.h5.lock").exists()), job.output()
        kill(job.launcher.pid, signal.SIGTERM)
        assert job.wait() == 75
        assert "--resume" in job.output()
    assert not output.exists()
    assert pyramidai(*undisturbed.arguments(output, "--resume"), ranks=2).returncode == 3
    assert read_digest(output) == undisturbed.digest


@pytest.fixture(scope="module")
def finished_once(undisturbed: Undisturbed, tmp_path_factory: pytest.TempPathFactory) -> tuple[list[str], Path]:
    """Slides and model of a run of several slides, and the folder of its results."""
    folder = tmp_path_factory.mktemp("finished")
    slides = []
    for name in "abc":
        slides.append(folder / f"{name}.tif")
        slides[-1].write_bytes(undisturbed.slide.read_bytes())
    (folder / "results").mkdir()
    arguments = [*map(str, slides), "--model", str(undisturbed.model)]
    assert pyramidai(*arguments, "--results-dir", folder / "results", ranks=2).returncode == 3
    return arguments, folder / "results"


@pytest.fixture
def finished(finished_once: tuple[list[str], Path], tmp_path: Path) -> list[str]:
    """Arguments of a run of several slides that is finished, in a folder of the test."""
    arguments, results = finished_once
    shutil.copytree(results, tmp_path / "results")
    return [*arguments, "--results-dir", str(tmp_path / "results")]


def assert_all_are_complete(results: Path, digest: str) -> None:
    with (results / "summary.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert [(row["status"], row["digest"]) for row in rows] == [("skipped", digest)] * 3
    assert {path.suffix for path in results.iterdir()} == {".h5", ".csv", ".json"}


@pytest.mark.parametrize("resume", [[], ["--resume"]], ids=["", "--resume"])
def test_two_starts_of_what_is_finished_do_not_disturb_each_other(
    undisturbed: Undisturbed, finished: list[str], tmp_path: Path, resume: list[str]
) -> None:
    mark = tmp_path / "mark"
    arguments = [PAUSING, "pyramidai_mpi.run.output,check_same", mark, "60", *finished, *resume]
    with started(None, arguments) as first:
        assert first.wait_until(mark.exists), first.output()  # it is looking at the first result
        assert pyramidai(*finished, *resume).returncode == 3
        assert_all_are_complete(tmp_path / "results", undisturbed.digest)
        mark.with_name("mark.go").touch()
        assert first.wait() == 3, first.output()
    assert_all_are_complete(tmp_path / "results", undisturbed.digest)


def test_nor_do_those_that_start_at_the_same_moment(
    undisturbed: Undisturbed, finished: list[str], tmp_path: Path
) -> None:
    command = ["-m", "pyramidai_mpi", *finished]
    with started(2, command) as one, started(None, command) as other:
        assert [job.wait() for job in (one, other)] == [3, 3]
    assert_all_are_complete(tmp_path / "results", undisturbed.digest)


def test_a_finished_result_may_be_looked_at_where_nothing_can_be_written(
    undisturbed: Undisturbed, tmp_path: Path
) -> None:
    if os.geteuid() != 0:
        pytest.skip("no permission to mount a file system")
    folder = tmp_path / "results"
    folder.mkdir()
    (folder / "out.h5").write_bytes(undisturbed.result.read_bytes())
    for words in (["--bind", folder, folder], ["-o", "remount,bind,ro", folder]):
        if subprocess.run(["mount", *words], capture_output=True, check=False).returncode:
            pytest.skip("no permission to mount a file system")
    try:
        arguments = undisturbed.arguments(folder / "out.h5", "--features")
        assert pyramidai(*arguments, "--resume").returncode == 3
        refused = pyramidai(*arguments, "--overwrite")
    finally:
        subprocess.run(["umount", folder], check=True)
    assert refused.returncode == 74
