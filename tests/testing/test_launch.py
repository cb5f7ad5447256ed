"""The launcher of these tests: what it promises when a job does not end, and where it runs things."""

from __future__ import annotations

import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from pyramidai_mpi.testing import launch
from pyramidai_mpi.testing.launch import REPOSITORY, JobHangsError, mpirun

pytestmark = pytest.mark.mpi


def test_output_and_exit_code_come_back():
    # the barrier: a rank that leaves with an error ends the others, maybe before they have written
    program = "from mpi4py.MPI import COMM_WORLD as c; print(c.rank, flush=True); c.Barrier(); raise SystemExit(3)"
    job = mpirun(2, ["-c", program])
    # digits and line ends of two ranks may come in any order
    assert sorted("".join(job.stdout.split())) == ["0", "1"]
    assert job.returncode != 0
    assert job.left_over == ()


def test_a_hang_shows_the_stacks_of_all_ranks():
    program = "import time\nfrom mpi4py import MPI\ndef waits_for_ever():\n    time.sleep(1e6)\nwaits_for_ever()"
    with pytest.raises(JobHangsError, match="no end after 5 s") as caught:
        mpirun(3, ["-c", program], timeout=5)
    assert str(caught.value).count("in waits_for_ever") == 3


def test_a_process_that_outlives_its_job_is_found_and_killed():
    program = (
        "import subprocess as sub, sys\n"
        "command = [sys.executable, '-c', 'import time; time.sleep(1e6)']\n"
        "sub.Popen(command, stdin=sub.DEVNULL, stdout=sub.DEVNULL, stderr=sub.DEVNULL, start_new_session=True)"
    )
    job = mpirun(1, ["-c", program], timeout=20)
    assert len(job.left_over) == 1


def test_jobs_run_in_the_repository_wherever_they_are_started(tmp_path, monkeypatch):
    assert Path(__file__).is_relative_to(REPOSITORY)
    monkeypatch.chdir(tmp_path)
    assert Path(mpirun(1, ["-c", "import os, pyramidai_mpi; print(os.getcwd())"]).stdout.strip()) == REPOSITORY


def test_jobs_of_an_installed_package_run_where_they_are_started_and_find_it(tmp_path):
    module = tmp_path / "site-packages" / "installed_package" / "testing" / "launch.py"
    module.parent.mkdir(parents=True)
    shutil.copy(launch.__file__, module)
    own = tmp_path / "own"
    own.mkdir()
    job = "import os, installed_package.testing.launch as it; print(os.getcwd(), it.__file__)"
    program = f"from installed_package.testing.launch import mpirun; mpirun(1, ['-c', {job!r}])"
    done = subprocess.run(
        [sys.executable, "-c", f"import sys; sys.path.insert(0, {str(module.parents[2])!r}); {program}"],
        cwd=own, capture_output=True, text=True, check=True,
    )  # fmt: skip
    assert f"{own} {module}" in done.stdout
