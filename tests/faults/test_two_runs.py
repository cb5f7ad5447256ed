"""Two runs on one output: one wins, the other exits 73 and touches nothing; whoever is gone holds nothing."""

from __future__ import annotations

import signal
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
