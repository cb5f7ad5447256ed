"""Training on slides: the same bits on any number of ranks, after any kill; the best epoch is kept."""

from __future__ import annotations

import numpy as np
import pytest

pytest.importorskip("torch")

from pyramidai_mpi.ranks.unit_pool import PoolStoppedError, UnitPool
from pyramidai_mpi.testing.launch import mpirun
from pyramidai_mpi.training.exact.checkpoint import Checkpoint
from pyramidai_mpi.training.slides.bags import steps_of_epoch
from pyramidai_mpi.training.splits import Split
from tests.training.slides.bags_in_memory import HEAD, case_of, networks, train

SCRIPT = "tests/training/slides/bags_in_memory.py"


@pytest.fixture(scope="module")
def alone(tmp_path_factory):
    """Folder of a training without MPI, and what came of it."""
    folder = tmp_path_factory.mktemp("alone")
    return folder, train(UnitPool(), folder)


@pytest.mark.mpi
@pytest.mark.parametrize("ranks", [2, 4])
def test_any_number_of_ranks_one_of_them_slow_comes_to_the_same_bits(alone, tmp_path, ranks) -> None:
    job = mpirun(ranks, [SCRIPT, tmp_path, "abmil", "slow"])
    assert job.returncode == 0
    assert job.stdout == alone[1].digest.hex()
    assert (tmp_path / "log.csv").read_bytes() == (alone[0] / "log.csv").read_bytes()


@pytest.mark.mpi
@pytest.mark.parametrize(("rank", "look"), [(0, 7), (2, 4)])
def test_a_killed_training_goes_on_to_the_same_bits(alone, tmp_path, rank, look) -> None:
    killed = mpirun(3, [SCRIPT, tmp_path, "abmil", f"kill={rank}:{look}"])
    assert killed.returncode != 0
    gone_on = mpirun(2, [SCRIPT, tmp_path, "abmil"])
    assert gone_on.returncode == 0
    assert gone_on.stdout == alone[1].digest.hex()
    assert (tmp_path / "log.csv").read_bytes() == (alone[0] / "log.csv").read_bytes()


@pytest.mark.parametrize("after", [3, 25, 31])
def test_a_training_told_to_stop_goes_on_to_the_same_bits(alone, tmp_path, after) -> None:
    asked = iter(range(1000))
    with pytest.raises(PoolStoppedError):
        train(UnitPool(stop=lambda: next(asked) >= after), tmp_path)
    assert train(UnitPool(), tmp_path).digest == alone[1].digest


def test_two_seeds_differ(alone, tmp_path) -> None:
    assert train(UnitPool(), tmp_path, seed=2, epochs=1).digest != alone[1].digest


def test_the_best_epoch_is_kept_and_a_worse_one_too_many_ends_it(tmp_path, alone) -> None:
    done = train(UnitPool(), tmp_path, epochs=6, patience=1, learning_rate=0.05, encoder_rate=0.05)
    figures = [(float(row["validation_auc"]), -float(row["validation_loss"])) for row in done.rows]
    assert done.best_epoch - 1 == figures.index(max(figures))
    assert len(done.rows) < 6
    assert len(done.rows) == done.best_epoch + 1
    judged = done.judged[Split.VALIDATION]
    assert judged.loss == pytest.approx(done.rows[done.best_epoch - 1]["validation_loss"], rel=1e-12)
    positive = np.array([case.target[0] for case in judged.cases])
    expected = -np.log(judged.predictions[np.arange(3), positive.astype(int)]).mean()
    assert judged.loss == pytest.approx(expected, rel=1e-6)
    assert alone[1].rows[0]["epoch"] == 1


def test_at_first_the_aggregator_may_learn_alone_and_goes_on_after_a_stop(tmp_path) -> None:
    first = networks("abmil")[0].state_dict()

    def encoder_of(folder) -> dict:
        return Checkpoint(folder / "state.pt", {"--seed": 1}).load()["networks"]["encoder"]

    for epochs, name in ((1, "a"), (2, "b")):
        (tmp_path / name).mkdir()
        train(UnitPool(), tmp_path / name, epochs=epochs, frozen_epochs=1)
        same = [bool((first[key] == value).all()) for key, value in encoder_of(tmp_path / name).items()]
        assert all(same) if epochs == 1 else not any(same[::3])
    train(UnitPool(), tmp_path / "a", epochs=2, frozen_epochs=1)
    assert (tmp_path / "a/log.csv").read_bytes() == (tmp_path / "b/log.csv").read_bytes()


def test_slides_are_learnt(tmp_path) -> None:
    done = train(UnitPool(), tmp_path, epochs=12)
    assert done.rows[-1]["loss"] < 0.5 * done.rows[0]["loss"]
    assert done.judged[Split.TEST].figure == 1.0
    assert HEAD.figure_name == "auc"


def test_each_step_of_survival_has_an_event_and_every_case_comes_once() -> None:
    cases = [case_of(n, target=(float(n), float(n % 4 == 0))) for n in range(17)]
    steps = steps_of_epoch(3, 1, cases, 2, events=True)
    assert sorted(case.slides for step in steps for case in step) == [(n,) for n in range(17)]
    assert len(steps) == 5
    assert all(any(case.target[1] for case in step) for step in steps)
    assert [case.slides for step in steps_of_epoch(3, 2, cases, 2, events=True) for case in step] != [
        case.slides for step in steps for case in step
    ]
    assert [len(step) for step in steps_of_epoch(3, 1, cases, 5, events=False)] == [5, 5, 5, 2]
