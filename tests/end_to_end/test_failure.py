"""A bug on one rank ends all of them, with its traceback, and leaves nothing behind."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from pyramidai_mpi.testing.launch import REPOSITORY, mpirun

if TYPE_CHECKING:
    from pathlib import Path

pytestmark = pytest.mark.mpi


@pytest.mark.parametrize("rank", [0, 2])
@pytest.mark.parametrize(
    ("module", "name"),
    [
        pytest.param("pyramidai_mpi.analyses.classify", "SlideClassifier.look", id="while analysing"),
        pytest.param("pyramidai_mpi.run.run", "build_engines", id="while loading"),
        pytest.param("pyramidai_mpi.run.run", "rank_record", id="while gathering"),
    ],
)
def test_a_bug_on_one_rank_ends_the_job_with_its_traceback(
    rank: int, module: str, name: str, slide: Path, tmp_path: Path
) -> None:
    script = REPOSITORY / "tests" / "end_to_end" / "run_broken.py"
    job = mpirun(3, [script, str(rank), module, name, str(slide), "-o", str(tmp_path / "out.h5")], timeout=60)
    assert job.returncode == 70
    assert "a planted bug" in job.stderr
    assert "Traceback" in job.stderr
    assert f"rank {rank}" in job.stderr
    assert not job.left_over
    assert list(tmp_path.glob("*.h5")) == []
