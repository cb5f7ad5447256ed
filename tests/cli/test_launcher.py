"""What the launcher's environment says of rank and size, when it contradicts MPI, and ``--ranks``, which calls one."""

from __future__ import annotations

import pytest

from pyramidai_mpi.base.errors import InternalError, UsageError
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


@pytest.fixture
def replaced(monkeypatch, environment):
    """What this process would have become: the words of a command and its environment; empty for nothing else."""
    done: list[tuple[list[str], dict[str, str]]] = []
    monkeypatch.delenv(launcher.STARTED_RANKS, raising=False)
    monkeypatch.setattr(launcher, "usable_cores", lambda: 6)
    monkeypatch.setattr(launcher, "command_for_ranks", lambda n, program: ["/bin/mpirun", "-n", str(n), *program])
    monkeypatch.setattr(launcher.os, "execve", lambda _path, words, variables: done.append((words, variables)))
    monkeypatch.setattr(launcher.sys, "orig_argv", ["python", "-X", "dev", "-m", "pyramidai_mpi", "x.tif", "-q"])
    return done


@pytest.mark.parametrize(("asked", "n"), [("3", "3"), ("auto", "6")])
def test_ranks_are_the_same_command_under_a_launcher(replaced, asked, n):
    launcher.become_ranks(asked)
    ((words, variables),) = replaced
    program = [launcher.sys.executable, "-X", "dev", "-m", "pyramidai_mpi", "x.tif", "-q"]
    assert words == ["/bin/mpirun", "-n", n, *program]
    assert variables[launcher.STARTED_RANKS] == n


def test_one_rank_needs_no_launcher(replaced):
    launcher.become_ranks("1")
    assert replaced == []


@pytest.mark.parametrize("asked", ["0", "-2", "1.5", "all", "", "³"])
def test_no_number_of_ranks_is_an_error(replaced, asked):
    with pytest.raises(UsageError, match="expected a number from 1 on, or auto"):
        launcher.become_ranks(asked)
    assert replaced == []


@pytest.mark.parametrize("asked", ["65", "1000000", "9" * 5000])
def test_more_ranks_than_the_machine_could_hold_are_refused_before_any_is_started(replaced, asked):
    with pytest.raises(UsageError, match=r"more than 64 would bring .* it has 6 cores, and one rank a core") as caught:
        launcher.become_ranks(asked)
    assert len(str(caught.value)) < 200
    assert replaced == []


@pytest.mark.parametrize(("cores", "most"), [(1, 64), (2, 64), (128, 1024)])
def test_a_larger_machine_may_have_more_ranks(monkeypatch, cores, most):
    monkeypatch.setattr(launcher, "usable_cores", lambda: cores)
    assert launcher.parse_ranks(str(most)) == most
    with pytest.raises(UsageError, match=f"more than {most} would"):
        launcher.parse_ranks(str(most + 1))


@pytest.mark.parametrize("asked", ["4", "auto"])
@pytest.mark.parametrize("names", [("PMI_RANK", "PMI_SIZE"), ("OMPI_COMM_WORLD_RANK", "OMPI_COMM_WORLD_SIZE"),
                                   ("SLURM_PROCID", "SLURM_STEP_NUM_TASKS")], ids=lambda names: names[0])  # fmt: skip
def test_ranks_that_a_launcher_has_started_go_on_as_they_are(replaced, environment, asked, names):
    environment(**dict(zip(names, ("2", "4"), strict=True)))
    launcher.become_ranks(asked)
    assert replaced == []


@pytest.mark.parametrize("size", ["1", "2"])
def test_another_number_than_the_launcher_s_is_an_error(replaced, environment, size):
    environment(PMI_RANK="0", PMI_SIZE=size)
    with pytest.raises(UsageError, match=f"--ranks 4: the launcher has started {size}"):
        launcher.become_ranks("4")
    assert replaced == []


def test_the_script_of_a_slurm_job_is_no_rank(replaced, environment):
    environment(SLURM_PROCID="0")
    launcher.become_ranks("2")
    assert len(replaced) == 1


def test_ranks_whose_launcher_tells_them_nothing_do_not_start_ranks_in_turn(replaced, monkeypatch):
    monkeypatch.setenv(launcher.STARTED_RANKS, "4")
    with pytest.raises(InternalError, match="told to start 4 ranks"):
        launcher.become_ranks("4")
    assert replaced == []


def test_a_process_started_alone_is_told_of_idle_cores(replaced):
    assert launcher.advice_on_cores() == (
        "1 of 6 cores is used; --ranks 6 shares the work among all of them, with the same result"
    )


def test_where_ranks_cannot_be_started_the_advice_says_what_is_missing(replaced, monkeypatch):
    def refuse(n, _program):
        raise UsageError(f"{n} ranks: there is no mpirun")

    monkeypatch.setattr(launcher, "command_for_ranks", refuse)
    assert launcher.advice_on_cores() == (
        "1 of 6 cores is used; more ranks would share the work (6 ranks: there is no mpirun)"
    )


def test_whoever_has_one_core_or_a_launcher_needs_no_advice(replaced, environment, monkeypatch):
    environment(PMI_RANK="0", PMI_SIZE="1")
    assert launcher.advice_on_cores() == ""
    monkeypatch.delenv("PMI_RANK")
    monkeypatch.setattr(launcher, "usable_cores", lambda: 1)
    assert launcher.advice_on_cores() == ""
