"""Killed before any call that gives, takes or flushes a name: nothing false is left, and the next start finishes."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from typing import TYPE_CHECKING, Any

import pytest

from pyramidai_mpi.testing.launch import REPOSITORY
from tests.faults.test_resume import interrupted, journal_of

if TYPE_CHECKING:
    from pathlib import Path

    from tests.faults.conftest import Undisturbed

pytestmark = pytest.mark.mpi


def killed_at_each_step(case: Undisturbed, folder: Path, before: Path) -> list[dict[str, Any]]:
    """What came of each run; the last one was not killed."""
    script = REPOSITORY / "tests" / "faults" / "run_killed.py"
    done = subprocess.run(
        [sys.executable, script, folder, before, case.slide, case.model],
        env=dict(os.environ) | {"PYTHONPATH": str(REPOSITORY), "OMP_NUM_THREADS": "1"},
        capture_output=True,
        text=True,
        timeout=500,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return [json.loads(line) for line in done.stdout.splitlines()]


@pytest.mark.parametrize("begun", [False, True], ids=["from the beginning", "resumed"])
@pytest.mark.timeout(600)
def test_a_kill_before_any_step_leaves_what_the_next_start_finishes(
    undisturbed: Undisturbed, tmp_path: Path, begun: bool
) -> None:
    before = tmp_path / "before"
    before.mkdir()
    if begun:
        assert interrupted(undisturbed, before / "out.h5", ranks=2)[0] == 75
        assert journal_of(before / "out.h5").exists()
    *killed, undisturbed_one = killed_at_each_step(undisturbed, tmp_path / "out", before)
    assert undisturbed_one["code"] == 3
    calls = {one["killed_before"].partition(" ")[0] for one in killed}
    assert calls >= {"open", "fsync", "link", "unlink", "rmdir"}
    assert len(killed) > 15
    for one in killed:
        assert one["digest"] in {None, undisturbed.digest}, one
        assert one["code_of_resume"] == 3, one
        assert one["digest_of_resume"] == undisturbed.digest, one
        assert one["left_over"] == [], one
    is_named = [one["digest"] is not None for one in killed]
    assert is_named == sorted(is_named)
    assert any(is_named)
