"""A run that was stopped or killed goes on where it was, and says in the end what an undisturbed one says."""

from __future__ import annotations

import shutil
import signal
from typing import TYPE_CHECKING

import h5py
import numpy as np
import pytest

from pyramidai_mpi.store.results.reader import read_digest
from pyramidai_mpi.testing.launch import REPOSITORY, StartedJob, kill, started
from tests.end_to_end.conftest import Finished, pyramidai

if TYPE_CHECKING:
    from pathlib import Path

    from tests.faults.conftest import Undisturbed

pytestmark = pytest.mark.mpi

SLOWLY = REPOSITORY / "tests" / "faults" / "run_slowly.py"
ENOUGH_BYTES = 3000


def journal_of(output: Path) -> Path:
    return output.with_name(f"{output.name}.journal")


def has_done_something(output: Path) -> bool:
    return sum(path.stat().st_size for path in journal_of(output).glob("*.tiles")) > ENOUGH_BYTES


def interrupted(
    case: Undisturbed, output: Path, *options: str, ranks: int | None = 3, number: signal.Signals = signal.SIGTERM
) -> tuple[int, str]:
    """Start a run, signal its launcher while it analyses; exit code and output."""
    with started(ranks, [SLOWLY, "0.005", *case.arguments(output, *options)]) as job:
        assert job.wait_until(lambda: has_done_something(output)), job.output()
        kill(job.launcher.pid, number)
        return job.wait(), job.output()


def resumed(case: Undisturbed, output: Path, *options: str, ranks: int | None = 2) -> Finished:
    return pyramidai(*case.arguments(output, *options, "--resume"), ranks=ranks)


def assert_is_undisturbed(case: Undisturbed, output: Path) -> None:
    assert read_digest(output) == case.digest
    assert [path.name for path in output.parent.iterdir()] == [output.name]


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGUSR1, signal.SIGINT], ids=lambda number: number.name)
def test_a_signal_stops_all_ranks_with_75_and_resume_goes_on(
    undisturbed: Undisturbed, tmp_path: Path, number: signal.Signals
) -> None:
    output = tmp_path / "out.h5"
    code, said = interrupted(undisturbed, output, number=number)
    assert code == 75
    assert "--resume" in said
    assert [path.name for path in tmp_path.iterdir()] == ["out.h5.journal"]
    done = resumed(undisturbed, output)
    assert done.returncode == 3
    assert "going on from the journal" in done.stderr
    assert_is_undisturbed(undisturbed, output)


@pytest.mark.parametrize("rank", [0, 1])
def test_a_signal_to_one_rank_stops_all(undisturbed: Undisturbed, tmp_path: Path, rank: int) -> None:
    output = tmp_path / "out.h5"
    with started(3, [SLOWLY, "0.005", *undisturbed.arguments(output)]) as job:
        assert job.wait_until(lambda: has_done_something(output))
        kill(job.ranks()[rank], signal.SIGUSR1)
        assert job.wait() == 75
    assert resumed(undisturbed, output).returncode == 3
    assert_is_undisturbed(undisturbed, output)


def killed(case: Undisturbed, output: Path, victim: int | None, *options: str, ranks: int = 3) -> None:
    """Kill -9 a rank, or the launcher, of a run or of its resumption."""

    def size() -> int:
        return sum(path.stat().st_size for path in journal_of(output).glob("*.tiles"))

    before = size()
    with started(ranks, [SLOWLY, "0.005", *case.arguments(output, *options)]) as job:
        assert job.wait_until(lambda: size() > before + ENOUGH_BYTES), job.output()
        kill(job.launcher.pid if victim is None else job.ranks()[victim])
        assert job.wait() != 0


@pytest.mark.parametrize("features", [[], ["--features"]], ids=["", "with features"])
def test_killed_again_and_again_with_other_ranks_each_time_it_ends_as_if_nothing_had_been(
    undisturbed: Undisturbed, tmp_path: Path, features: list[str]
) -> None:
    output = tmp_path / "out.h5"
    killed(undisturbed, output, 1, *features, ranks=3)
    killed(undisturbed, output, 0, "--resume", *features, ranks=2)
    killed(undisturbed, output, None, "--resume", *features, ranks=5)
    assert resumed(undisturbed, output, *features, ranks=None).returncode == 3
    assert_is_undisturbed(undisturbed, output)
    with h5py.File(output) as found, h5py.File(undisturbed.result) as expected:
        assert found["execution"].attrs["tiles_from_journal"] > 0
        np.testing.assert_array_equal(found["failed"][...], expected["failed"][...])
        for level in "012" if features else "":
            np.testing.assert_array_equal(
                found[f"levels/{level}/features"][...], expected[f"levels/{level}/features"][...]
            )


@pytest.fixture(scope="module")
def half_done(undisturbed: Undisturbed, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A journal of a run of two ranks that was stopped; never resumed itself."""
    output = tmp_path_factory.mktemp("half") / "out.h5"
    assert interrupted(undisturbed, output, ranks=2)[0] == 75
    return journal_of(output)


@pytest.fixture
def output(half_done: Path, tmp_path: Path) -> Path:
    """An output with a copy of that journal."""
    journal = tmp_path / "out.h5.journal"
    journal.mkdir()
    for path in half_done.iterdir():
        (journal / path.name).write_bytes(path.read_bytes())
    return tmp_path / "out.h5"


def test_a_journal_and_neither_resume_nor_overwrite_is_73_and_nothing_is_touched(
    undisturbed: Undisturbed, output: Path
) -> None:
    before = {path.name: path.read_bytes() for path in journal_of(output).iterdir()}
    done = pyramidai(*undisturbed.arguments(output))
    assert done.returncode == 73
    assert "--resume" in done.stderr
    assert {path.name: path.read_bytes() for path in journal_of(output).iterdir()} == before


def test_overwrite_begins_anew(undisturbed: Undisturbed, output: Path) -> None:
    assert pyramidai(*undisturbed.arguments(output, "--overwrite")).returncode == 3
    assert_is_undisturbed(undisturbed, output)
    with h5py.File(output) as file:
        assert file["execution"].attrs["tiles_from_journal"] == 0


@pytest.mark.parametrize(
    ("options", "named"),
    [
        (["--threshold", "1=0.31"], "thresholds"),
        (["--mode", "exhaustive"], "mode"),
        (["--features"], "features"),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, list) else "",
)
def test_a_journal_of_other_settings_is_65_and_says_which(
    undisturbed: Undisturbed, output: Path, options: list[str], named: str
) -> None:
    done = resumed(undisturbed, output, *options, ranks=None)
    assert done.returncode == 65
    assert f"other {named} (" in done.stderr
    assert not output.exists()
    assert journal_of(output).is_dir()


def test_a_torn_last_record_is_done_again(undisturbed: Undisturbed, output: Path) -> None:
    for path in journal_of(output).glob("*.tiles"):
        path.write_bytes(path.read_bytes()[:-5])
    assert resumed(undisturbed, output).returncode == 3
    assert_is_undisturbed(undisturbed, output)


def test_a_file_that_was_removed_is_done_again(undisturbed: Undisturbed, output: Path) -> None:
    min(journal_of(output).glob("*.tiles")).unlink()
    assert resumed(undisturbed, output).returncode == 3
    assert_is_undisturbed(undisturbed, output)


def test_a_damaged_middle_is_65_and_names_the_file(undisturbed: Undisturbed, output: Path) -> None:
    victim = max(journal_of(output).glob("*.tiles"), key=lambda path: path.stat().st_size)
    data = bytearray(victim.read_bytes())
    data[len(data) // 4] ^= 4  # of the largest file: other batches follow, so it is no torn end
    victim.write_bytes(bytes(data))
    done = resumed(undisturbed, output)
    assert done.returncode == 65
    assert victim.name in done.stderr
    assert not output.exists()


def test_a_damaged_manifest_is_65(undisturbed: Undisturbed, output: Path) -> None:
    manifest = journal_of(output) / "manifest.json"
    manifest.write_text(manifest.read_text().replace("0.3", "0.4"))
    done = resumed(undisturbed, output, ranks=None)
    assert done.returncode == 65
    assert "manifest.json" in done.stderr


def test_without_a_journal_resume_is_a_fresh_start_and_after_the_end_it_does_nothing(
    undisturbed: Undisturbed, tmp_path: Path
) -> None:
    output = tmp_path / "out.h5"
    assert resumed(undisturbed, output, ranks=None).returncode == 3
    assert_is_undisturbed(undisturbed, output)
    before = output.read_bytes()
    done = resumed(undisturbed, output)
    assert done.returncode == 3
    assert "complete" in done.stderr
    assert output.read_bytes() == before
    assert resumed(undisturbed, output, "--threshold", "1=0.9", ranks=None).returncode == 65
    assert output.read_bytes() == before


def test_a_kill_between_the_last_two_steps_leaves_a_journal_that_resume_removes(
    undisturbed: Undisturbed, output: Path
) -> None:
    journal = shutil.copytree(journal_of(output), output.parent.parent / f"{output.parent.name}.journal")
    assert resumed(undisturbed, output, ranks=None).returncode == 3
    shutil.move(journal, journal_of(output))
    assert resumed(undisturbed, output, ranks=None).returncode == 3
    assert_is_undisturbed(undisturbed, output)


def test_a_journal_of_another_run_than_the_finished_result_stays(undisturbed: Undisturbed, output: Path) -> None:
    output.write_bytes(undisturbed.result.read_bytes())
    done = resumed(undisturbed, output, "--features", ranks=None)
    assert done.returncode == 3
    assert "is the journal of another run than the finished result's" in done.stderr
    assert journal_of(output).is_dir()


def test_a_run_that_replaces_a_result_does_so_also_when_it_was_stopped(
    undisturbed: Undisturbed, tmp_path: Path
) -> None:
    output = tmp_path / "out.h5"
    output.write_bytes(b"what was there")
    assert interrupted(undisturbed, output, "--overwrite", ranks=2)[0] == 75
    assert output.read_bytes() == b"what was there"
    assert resumed(undisturbed, output).returncode == 3
    assert_is_undisturbed(undisturbed, output)


def test_resume_and_overwrite_exclude_each_other(undisturbed: Undisturbed, tmp_path: Path) -> None:
    assert resumed(undisturbed, tmp_path / "out.h5", "--overwrite", ranks=None).returncode == 64


def test_a_time_limit_stops_the_run_by_itself(undisturbed: Undisturbed, tmp_path: Path) -> None:
    output = tmp_path / "out.h5"
    with started(2, [SLOWLY, "0.1", *undisturbed.arguments(output, "--time-limit", "66")]) as job:
        assert wait_for_end(job) == 75
        assert "the time limit is near" in job.output()
    assert resumed(undisturbed, output).returncode == 3
    assert_is_undisturbed(undisturbed, output)


def wait_for_end(job: StartedJob) -> int:
    """Exit code of a job that ends by itself, before its limit does."""
    return job.wait(timeout=60)
