"""What the launcher's environment says of rank and size, and when it contradicts MPI."""

from __future__ import annotations

import pytest

from pyramidai_mpi.base.errors import InternalError
from pyramidai_mpi.cli import launcher

VARIABLES = (
    "PMI_RANK", "OMPI_COMM_WORLD_RANK", "PMIX_RANK", "SLURM_PROCID",
    "PMI_SIZE", "OMPI_COMM_WORLD_SIZE", "SLURM_STEP_NUM_TASKS",
)  # fmt: skip


@pytest.fixture
def environment(monkeypatch):
    """An environment that no launcher has touched; call it to set variables."""
    for name in VARIABLES:
        monkeypatch.delenv(name, raising=False)

    def set_variables(**variables: str) -> None:
        for name, value in variables.items():
            monkeypatch.setenv(name, value)

    return set_variables


def test_without_a_launcher_a_process_is_rank_0(environment):
    assert launcher.launched_rank() == 0


@pytest.mark.parametrize("name", VARIABLES[:4])
def test_every_launcher_tells_the_rank(environment, name):
    environment(**{name: "3"})
    assert launcher.launched_rank() == 3


def test_the_launcher_nearest_to_the_process_counts_under_slurm(environment):
    # mpirun in an sbatch script: Slurm's own variable is the script's
    environment(SLURM_PROCID="0", PMI_RANK="5")
    assert launcher.launched_rank() == 5


def test_a_rank_that_is_no_number_is_passed_over(environment):
    environment(PMI_RANK="", OMPI_COMM_WORLD_RANK="2")
    assert launcher.launched_rank() == 2


@pytest.mark.parametrize("name", VARIABLES[4:])
def test_many_processes_that_each_see_themselves_alone_are_an_error(environment, name):
    environment(**{name: "12"})
    with pytest.raises(InternalError, match=r"12 processes.*mpirun.*srun") as caught:
        launcher.check_world_size(1)
    assert caught.value.exit_code == 70


@pytest.mark.parametrize(("launched", "seen"), [("12", 12), ("1", 1), (None, 1), (None, 4)])
def test_sizes_that_agree_pass(environment, launched, seen):
    if launched:
        environment(PMI_SIZE=launched)
    launcher.check_world_size(seen)


def test_without_a_terminal_there_is_no_width(monkeypatch, tmp_path):
    monkeypatch.setattr(launcher, "_ancestors", list)
    with (tmp_path / "log").open("w") as log:
        monkeypatch.setattr(launcher.sys, "stderr", log)
        assert launcher.terminal_width() is None


def test_a_launcher_whose_errors_go_to_a_file_has_no_terminal(monkeypatch, tmp_path):
    (tmp_path / "fd").mkdir()
    (tmp_path / "comm").write_text("mpiexec.hydra\n")
    (tmp_path / "fd" / "2").symlink_to(tmp_path / "log")
    monkeypatch.setattr(launcher, "_ancestors", lambda: [tmp_path])
    with (tmp_path / "log").open("w") as log:
        monkeypatch.setattr(launcher.sys, "stderr", log)
        assert launcher.terminal_width() is None
