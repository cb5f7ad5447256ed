"""Containers that share a folder, a host name and process numbers are told apart; so is a run that stood still."""

from __future__ import annotations

import csv
import signal
import subprocess
from typing import TYPE_CHECKING

import pytest

from pyramidai_mpi.store.results.reader import read_digest
from pyramidai_mpi.testing.launch import REPOSITORY, kill, stand_still, started
from tests.end_to_end.conftest import pyramidai

if TYPE_CHECKING:
    import os
    from contextlib import AbstractContextManager
    from pathlib import Path

    from pyramidai_mpi.testing.launch import StartedJob
    from tests.faults.conftest import Undisturbed

pytestmark = pytest.mark.mpi

PAUSING = REPOSITORY / "tests" / "faults" / "run_pausing.py"
SLOWLY = REPOSITORY / "tests" / "faults" / "run_slowly.py"
CONTAINER = ("unshare", "--pid", "--fork", "--mount-proc", "--uts", "--kill-child")
STALE_S = 3.0


@pytest.fixture(scope="module", autouse=True)
def _containers() -> None:
    try:
        done = subprocess.run([*CONTAINER, "sh", "-c", "echo $$"], capture_output=True, text=True, check=False)
    except FileNotFoundError:
        pytest.skip("no unshare (util-linux) here to make name spaces with")
    if done.stdout.strip() != "1":
        pytest.skip(f"no right to make name spaces here: {done.stderr.strip()}")


def in_container(script: Path, *arguments: str | os.PathLike[str]) -> AbstractContextManager[StartedJob]:
    """A run whose process number is 1, like any other's here."""
    return started(None, [script, *arguments], under=CONTAINER)


def unpaused(tmp_path: Path, *arguments: str) -> AbstractContextManager[StartedJob]:
    return in_container(PAUSING, "-", tmp_path / "none", str(STALE_S), *arguments)


@pytest.fixture
def output(tmp_path: Path) -> Path:
    folder = tmp_path / "shared"
    folder.mkdir()
    return folder / "out.h5"


def test_of_two_started_at_once_one_wins_and_nothing_is_lost(undisturbed: Undisturbed, output: Path) -> None:
    arguments = ["0.01", *undisturbed.arguments(output)]
    with in_container(SLOWLY, *arguments) as one, in_container(SLOWLY, *arguments) as other:
        codes = {job.wait(): job.output() for job in (one, other)}
    assert sorted(codes) == [3, 73]
    assert codes[73].count("error:") == 1
    assert read_digest(output) == undisturbed.digest
    assert [path.name for path in output.parent.iterdir()] == ["out.h5"]


PLACES = [
    "pyramidai_mpi.analyses.classify,SlideClassifier.look",
    "pyramidai_mpi.run.resume,manifest_of",
    "pyramidai_mpi.run.write,create_file",
    "pyramidai_mpi.run.write,finish_file",
    "pyramidai_mpi.store.files.placing,flush_file",
]


@pytest.mark.parametrize(
    ("place", "replacing"),
    # what is replaced is looked at from the making of the file on
    [(place, False) for place in PLACES] + [(place, True) for place in PLACES[2:]],
    ids=lambda value: value.partition(",")[2] if isinstance(value, str) else "--overwrite" * value,
)
def test_a_run_that_stood_still_so_long_that_another_took_its_place_changes_nothing(
    undisturbed: Undisturbed, output: Path, tmp_path: Path, place: str, replacing: bool
) -> None:
    options = []
    if replacing:
        output.write_bytes(undisturbed.result.read_bytes())
        options = ["--overwrite"]
    mark = tmp_path / "mark"
    with in_container(PAUSING, place, mark, str(STALE_S), *undisturbed.arguments(output, *options)) as first:
        assert first.wait_until(mark.exists), first.output()
        (number,) = first.ranks().values()
        stand_still(number)
        with unpaused(tmp_path, *undisturbed.arguments(output, "--overwrite" if replacing else "--resume")) as second:
            assert second.wait() == 3, second.output()
        before = output.read_bytes()
        mark.with_name("mark.go").touch()
        kill(number, signal.SIGCONT)
        assert first.wait() == 73, first.output()
        said = first.output()
    assert "another run has taken the place of this one" in said
    assert "Traceback" not in said
    assert said.count("error:") == 1
    assert output.read_bytes() == before
    assert read_digest(output) == undisturbed.digest
    assert [path.name for path in output.parent.iterdir()] == ["out.h5"]


def test_of_several_slides_the_one_that_was_taken_over_fails_alone(
    undisturbed: Undisturbed, tmp_path: Path, output: Path
) -> None:
    copy = tmp_path / "copy.tif"
    copy.write_bytes(undisturbed.slide.read_bytes())
    several = [str(undisturbed.slide), str(copy), "--model", str(undisturbed.model)]
    arguments = [*several, "--results-dir", str(output.parent), "--batch-size", "8"]
    mark = tmp_path / "mark"
    with in_container(PAUSING, PLACES[3], mark, str(STALE_S), *arguments) as first:
        assert first.wait_until(mark.exists), first.output()
        (number,) = first.ranks().values()
        stand_still(number)
        # which of the two is being placed is the scheduler's choice
        (taken,) = output.parent.glob(".*.h5.*.part")
        name = taken.name.split(".")[1]
        slide = {"slide": undisturbed.slide, "copy": copy}[name]
        alone = [str(slide), "--model", str(undisturbed.model), "-o", str(output.with_name(f"{name}.h5")), "--resume"]
        with unpaused(tmp_path, *alone) as second:
            assert second.wait() == 3, second.output()
        before = output.with_name(f"{name}.h5").read_bytes()
        mark.with_name("mark.go").touch()
        kill(number, signal.SIGCONT)
        assert first.wait() == 4, first.output()
    status = {row["output"]: row["status"] for row in rows_of(output.parent)}
    assert status.pop(f"{name}.h5") == "failed"
    assert list(status.values()) == ["tiles_unreadable"]
    assert output.with_name(f"{name}.h5").read_bytes() == before
    assert all(read_digest(path) == undisturbed.digest for path in output.parent.glob("*.h5"))
    assert pyramidai(*arguments, "--resume").returncode == 3
    assert not [path for path in output.parent.iterdir() if path.suffix in {".part", ".journal", ".lock"}]


def rows_of(results: Path) -> list[dict[str, str]]:
    with (results / "summary.csv").open(newline="") as file:
        return list(csv.DictReader(file))


def test_one_that_was_killed_in_another_container_is_noticed_when_its_lock_is_not_renewed(
    undisturbed: Undisturbed, output: Path, tmp_path: Path
) -> None:
    mark = tmp_path / "mark"
    with in_container(PAUSING, PLACES[3], mark, str(STALE_S), *undisturbed.arguments(output)) as first:
        assert first.wait_until(mark.exists), first.output()
        kill(next(iter(first.ranks().values())))
        first.wait()
    assert any(output.parent.glob(".*.part"))
    with unpaused(tmp_path, *undisturbed.arguments(output, "--resume")) as second:
        assert second.wait() == 3, second.output()
    assert read_digest(output) == undisturbed.digest
    assert [path.name for path in output.parent.iterdir()] == ["out.h5"]
