"""Which launcher starts ranks: the one of mpi4py's MPI, and a line that says what to do where there is none."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest

from pyramidai_mpi.base.errors import UsageError
from pyramidai_mpi.process import ranks
from pyramidai_mpi.testing.launch import launcher

VERSIONS = {
    "MPICH": "HYDRA build details:\n    Version:    5.0.2",
    "Open MPI": "mpirun (Open MPI) 5.0.11\n",
    "Intel": "Intel(R) MPI Library for Linux* OS, Version 2021.13 Build 20240515",
    "another": "runs everything 1.0",
}
LIBRARIES = {
    "MPICH": "MPICH Version:      5.0.2\nMPICH Device: ch4:ucx",
    "Open MPI": "Open MPI v5.0.11, package: Open MPI user@host Distribution",
    "Intel": "Intel(R) MPI Library 2021.13 for Linux* OS",
    "another": "Fine MPI 3",
}


@pytest.fixture
def machine(monkeypatch, tmp_path):
    """A machine without any launcher; call it to put one into a folder of PATH, or beside this Python."""
    monkeypatch.delenv("SLURM_JOB_ID", raising=False)
    monkeypatch.setattr(sys, "executable", str(tmp_path / "python" / "python"))
    monkeypatch.setenv("PATH", os.pathsep.join(str(tmp_path / folder) for folder in ("first", "second")))

    def put(folder: str, of: str, name: str = "mpirun") -> str:
        path = tmp_path / folder / name
        path.parent.mkdir(exist_ok=True)
        path.write_text(f"#!/bin/sh\necho '{VERSIONS[of]}'\n")
        path.chmod(0o755)
        return str(path)

    return put


@pytest.fixture
def library(machine, tmp_path):
    """Call it to say of which MPI mpi4py is: what Python prints when asked."""

    def be(of: str | None) -> None:
        python = tmp_path / "python" / "python"
        python.parent.mkdir(exist_ok=True)
        python.write_text("#!/bin/sh\nexit 1\n" if of is None else f"#!/bin/sh\necho '{LIBRARIES[of]}'\n")
        python.chmod(0o755)

    return be


@pytest.mark.parametrize("of", ["MPICH", "Open MPI", "Intel"])
def test_the_launcher_beside_python_comes_first(machine, library, of):
    library(of)
    machine("first", of)
    beside = machine("python", of)
    assert ranks.find_launcher() == beside


@pytest.mark.parametrize(("of", "other"), [("MPICH", "Open MPI"), ("Open MPI", "MPICH"), ("Open MPI", "another")])
def test_one_of_another_mpi_is_passed_over(machine, library, of, other):
    library(of)
    machine("python", other)
    machine("first", other)
    right = machine("second", of)
    assert ranks.find_launcher() == right


def test_where_a_system_has_both_the_name_with_the_mpi_in_it_is_found(machine, library):
    library("Open MPI")
    machine("first", "MPICH")
    machine("first", "MPICH", "mpirun.mpich")
    right = machine("first", "Open MPI", "mpirun.openmpi")
    assert ranks.find_launcher() == right


def test_what_belongs_to_another_mpi_is_named(machine, library):
    library("Open MPI")
    path = machine("first", "MPICH")
    with pytest.raises(UsageError, match=f"4 ranks: mpi4py uses Open MPI, and {path} belongs to MPICH; .* launcher"):
        ranks.find_launcher(4)


def test_without_a_launcher_the_line_says_what_to_install(machine, library):
    library("MPICH")
    with pytest.raises(UsageError, match=r"there is no mpirun beside .*; pip install 'pyramidai-mpi\[mpi\]'"):
        ranks.find_launcher(4)


def test_without_an_mpi_the_line_says_what_to_install(machine, library):
    library(None)
    machine("first", "MPICH")
    with pytest.raises(UsageError, match=r"no MPI library can be loaded; pip install 'pyramidai-mpi\[mpi\]'"):
        ranks.find_launcher(4)


def test_an_mpi_that_is_not_known_is_not_guessed_at(machine, library):
    library("another")
    machine("first", "another")
    with pytest.raises(UsageError, match=r"mpi4py uses Fine MPI 3, and .* belongs to an unknown MPI"):
        ranks.find_launcher()


def test_the_command_is_the_launcher_s(machine, library):
    library("MPICH")
    path = machine("first", "MPICH")
    assert ranks.command_for_ranks(3, ["python", "x.py"]) == [path, "-n", "3", "python", "x.py"]


def test_in_a_slurm_job_srun_starts_ranks(machine, library, monkeypatch):
    library("MPICH")
    machine("first", "MPICH")
    monkeypatch.setenv("SLURM_JOB_ID", "17")
    with pytest.raises(UsageError, match=r"SLURM job.*srun -n 3"):
        ranks.command_for_ranks(3, ["python", "x.py"])


def test_no_ranks_are_an_error(machine):
    with pytest.raises(UsageError, match="0 ranks: expected at least 1"):
        ranks.command_for_ranks(0, ["python"])


def test_what_the_user_has_set_stays_and_what_would_make_children_ranks_goes(monkeypatch):
    monkeypatch.setenv("PRTE_MCA_hwloc_default_binding_policy", "core")
    monkeypatch.setenv("PMI_RANK", "0")
    environment = ranks.environment_for_ranks(2)
    assert environment["PRTE_MCA_hwloc_default_binding_policy"] == "core"
    assert environment["PRTE_MCA_rmaps_default_mapping_policy"] == ":oversubscribe"
    assert "PMI_RANK" not in environment
    assert environment["PATH"] == os.environ["PATH"]


@pytest.mark.parametrize(("user", "allowed"), [(0, True), (1000, False)])
def test_only_root_is_allowed_to_be_root(monkeypatch, user, allowed):
    monkeypatch.setattr(os, "geteuid", lambda: user)
    monkeypatch.delenv("OMPI_ALLOW_RUN_AS_ROOT", raising=False)
    assert ("OMPI_ALLOW_RUN_AS_ROOT" in ranks.environment_for_ranks(2)) == allowed


@pytest.mark.mpi
def test_here_the_launcher_is_that_of_this_environment_and_starts_ranks_that_see_each_other(monkeypatch):
    monkeypatch.delenv("SLURM_JOB_ID", raising=False)
    program = [sys.executable, "-c", "from mpi4py import MPI; print(f' {MPI.COMM_WORLD.size} ')"]
    command = ranks.command_for_ranks(3, program)
    assert os.path.realpath(command[0]) == os.path.realpath(launcher())
    done = subprocess.run(
        command, env=ranks.environment_for_ranks(3), capture_output=True, text=True, check=True, timeout=120
    )
    assert done.stdout.split() == ["3", "3", "3"]
