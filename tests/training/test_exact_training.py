"""Weights that do not depend on how many ranks trained them, against plain autograd and torch's own averages."""

from __future__ import annotations

import copy
from pathlib import Path

import numpy as np
import pytest

pytest.importorskip("torch")

import torch

from pyramidai_mpi.base.errors import InputError, OutputExistsError, UsageError
from pyramidai_mpi.ranks.unit_pool import PoolStoppedError, UnitPool
from pyramidai_mpi.testing.launch import mpirun
from pyramidai_mpi.training.exact.checkpoint import Checkpoint, digest_of
from pyramidai_mpi.training.exact.gradients import ExactGradients
from pyramidai_mpi.training.exact.log import TrainingLog
from tests.training.exact_example import LABELS, TILES, new_network, summed_loss, train, units_of_step

SCRIPT = "tests/training/exact_example.py"
UNITS = [np.arange(start, min(start + 7, 44)) for start in range(0, 44, 7)]


def gradient(network) -> np.ndarray:
    return torch.cat([p.grad.reshape(-1) for p in network.parameters() if p.grad is not None]).double().numpy()


def test_gradients_are_those_of_plain_autograd_in_double_precision() -> None:
    network = new_network(dropout=0.0).eval().double()
    whole = copy.deepcopy(network)
    logits = whole(TILES.double())[:, 0]
    loss = torch.nn.functional.binary_cross_entropy_with_logits(logits, LABELS.double())
    loss.backward()
    exact = ExactGradients({"network": network})

    def loss_of(unit: int):
        rows = torch.from_numpy(UNITS[unit])
        logits = network(TILES[rows].double())[:, 0]
        loss = torch.nn.functional.binary_cross_entropy_with_logits(logits, LABELS[rows].double(), reduction="sum")
        return loss, len(rows)

    sums = exact.of_step(UnitPool(), len(UNITS), loss_of)
    assert sums.mean == pytest.approx(loss.item(), rel=1e-11)
    expected = gradient(whole)
    assert np.linalg.norm(gradient(network) - expected) <= 1e-10 * np.linalg.norm(expected)


def test_running_averages_are_torchs_of_one_batch_and_the_mean_over_several() -> None:
    one, several = (new_network(dropout=0.0).train() for _ in range(2))
    theirs = copy.deepcopy(one)
    theirs(TILES)
    everything = np.arange(44)
    ExactGradients({"n": one}).of_step(UnitPool(), 1, lambda _: (summed_loss(one, everything), 44))
    for name, buffer in theirs.named_buffers():
        if not name.endswith("tracked"):
            assert torch.allclose(dict(one.named_buffers())[name], buffer, rtol=1e-6, atol=0), name
    moved = []
    for rows in UNITS:
        alone = copy.deepcopy(several)
        alone(TILES[torch.from_numpy(rows)])
        moved.append({name: buffer.double() for name, buffer in alone.named_buffers()})
    ExactGradients({"n": several}).of_step(
        UnitPool(), len(UNITS), lambda unit: (summed_loss(several, UNITS[unit]), len(UNITS[unit]))
    )
    for name, buffer in several.named_buffers():
        if not name.endswith("tracked"):
            expected = sum(buffers[name] for buffers in moved) / len(UNITS)
            assert torch.allclose(buffer.double(), expected, rtol=1e-5, atol=1e-8), name
    assert several[1].momentum == 0.1
    assert several[4].momentum == 0.3


def test_frozen_parameters_stay_without_gradient() -> None:
    network = new_network(dropout=0.0)
    network[0].requires_grad_(requires_grad=False)
    ExactGradients({"n": network}).of_step(UnitPool(), 1, lambda _: (summed_loss(network, UNITS[0]), 7))
    assert network[0].weight.grad is None
    assert network[3].weight.grad.abs().max() > 0


@pytest.mark.parametrize("where", ["3.weight", "loss"])
def test_what_is_not_finite_is_named(where) -> None:
    network = new_network(dropout=0.0).eval()

    def loss_of(unit: int):
        loss = summed_loss(network, UNITS[unit])
        if unit == 2 and where == "loss":
            loss = loss * float("inf")
        elif unit == 2:
            network[3].weight.register_hook(lambda grad: grad * float("nan"))
        return loss, 7

    with pytest.raises(InputError, match=f"micro-batch 2: .*{where} is not a finite number; try a lower"):
        ExactGradients({"n": network}).of_step(UnitPool(), len(UNITS), loss_of)


def test_a_step_of_no_weight_is_refused() -> None:
    network = new_network()
    with pytest.raises(InputError, match="nothing in this step has any weight"):
        ExactGradients({"n": network}).of_step(UnitPool(), 2, lambda _: (torch.zeros(()), 0.0))


@pytest.fixture(scope="module")
def alone(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, str]:
    """Folder and digest of the training without any MPI."""
    folder = tmp_path_factory.mktemp("alone")
    return folder, train(UnitPool(), folder).digest().hex()


def test_training_learns(alone) -> None:
    losses = [float(line.split(",")[1]) for line in (alone[0] / "log.csv").read_text().splitlines()[1:]]
    assert losses[-1] < 0.9 * losses[0]


@pytest.mark.mpi
@pytest.mark.parametrize("ranks", [2, 3, 5])
def test_any_number_of_ranks_comes_to_the_same_bits_and_the_same_log(alone, tmp_path, ranks) -> None:
    job = mpirun(ranks, [SCRIPT, tmp_path, "3", *(["slow"] if ranks in {2, 3} else [])])
    assert job.returncode == 0
    assert job.stdout == alone[1]
    assert (tmp_path / "log.csv").read_bytes() == (alone[0] / "log.csv").read_bytes()
    times = (tmp_path / "log-times.csv").read_text().splitlines()
    assert times[0].startswith("epoch,seconds,ranks,hosts,busiest_over_ideal")
    assert [line.split(",")[0] for line in times[1:]] == ["1", "2", "3"]


@pytest.mark.mpi
@pytest.mark.parametrize(("rank", "step"), [(0, 5), (2, 12)])
def test_a_training_killed_anywhere_goes_on_to_the_same_bits(alone, tmp_path, rank, step) -> None:
    killed = mpirun(3, [SCRIPT, tmp_path, "3", "every-step", f"kill={rank}:{step}"])
    assert killed.returncode != 0
    gone_on = mpirun(2, [SCRIPT, tmp_path, "3", "every-step"])
    assert gone_on.returncode == 0
    assert gone_on.stdout == alone[1]
    assert (tmp_path / "log.csv").read_bytes() == (alone[0] / "log.csv").read_bytes()


def test_two_seeds_differ(alone, tmp_path) -> None:
    assert train(UnitPool(), tmp_path, seed=2).digest().hex() != alone[1]


@pytest.mark.parametrize("after", [0, 2, 7, 14])
def test_a_training_told_to_stop_saves_what_it_has_and_goes_on_to_the_same_bits(alone, tmp_path, after) -> None:
    taken = []
    stopping = UnitPool(stop=lambda: len(taken) > after)
    with pytest.raises(PoolStoppedError):
        train(stopping, tmp_path, before_step=taken.append)
    state = Checkpoint(tmp_path / "state.pt", {"--seed": 1}).load()
    assert state is not None
    assert state["epoch"] * 5 + state["step"] == after
    assert train(UnitPool(), tmp_path).digest().hex() == alone[1]


def test_a_state_of_another_training_is_refused_with_what_differs(alone) -> None:
    with pytest.raises(InputError, match=r"with another --seed \(1, here 2\); give the same, or --overwrite"):
        train(UnitPool(), alone[0], seed=2)
    with pytest.raises(InputError, match=r"with another --arch \(None, here small\)"):
        train(UnitPool(), alone[0], facts={"--arch": "small"})


def test_a_state_of_more_epochs_than_are_asked_for_is_refused(alone, tmp_path) -> None:
    with pytest.raises(UsageError, match=r"--epochs 2: .*state.pt is of a training that has begun 3; give 3 or more"):
        train(UnitPool(), alone[0], epochs=2)
    taken = []
    with pytest.raises(PoolStoppedError):  # in the first step of its second epoch
        train(UnitPool(stop=lambda: len(taken) > 6), tmp_path, before_step=taken.append)
    with pytest.raises(UsageError, match=r"--epochs 1: .* has begun 2; give 2"):
        train(UnitPool(), tmp_path, epochs=1)
    assert train(UnitPool(), tmp_path).digest().hex() == alone[1]


def test_a_state_is_not_saved_into_a_folder_that_is_anothers_by_now(tmp_path) -> None:
    def refuse() -> None:
        raise OutputExistsError("another run has taken the place of this one")

    (tmp_path / "state.pt").write_bytes(b"of the other")
    with pytest.raises(OutputExistsError, match="another run has taken"):
        Checkpoint(tmp_path / "state.pt", {}, refuse).save({}, (0, 1))
    assert [path.name for path in tmp_path.iterdir()] == ["state.pt"]
    assert (tmp_path / "state.pt").read_bytes() == b"of the other"


@pytest.mark.parametrize("content", [b"", b"nothing of the kind", b"PK\x03\x04" + bytes(200)])
def test_a_file_that_is_no_state_is_refused(tmp_path, content) -> None:
    path = tmp_path / "state.pt"
    path.write_bytes(content)
    with pytest.raises(InputError, match="not a state that training can go on from"):
        Checkpoint(path, {}).load()


def test_a_torn_state_is_refused_and_no_partial_one_is_left(alone, tmp_path) -> None:
    whole = (alone[0] / "state.pt").read_bytes()
    (tmp_path / "state.pt").write_bytes(whole[: len(whole) // 2])
    with pytest.raises(InputError, match="not a state"):
        Checkpoint(tmp_path / "state.pt", {"--seed": 1}).load()
    assert not list(alone[0].glob("partial-*"))


def test_the_digest_sees_every_tensor_and_number() -> None:
    state = {"a": torch.zeros(2), "b": {"c": [1, torch.ones(1)]}}
    digests = {digest_of(state)}
    digests.add(digest_of({"a": torch.zeros(2), "b": {"c": [1, torch.zeros(1)]}}))
    digests.add(digest_of({"a": torch.zeros(2), "b": {"c": [2, torch.ones(1)]}}))
    digests.add(digest_of({"a": torch.zeros(2, 1), "b": {"c": [1, torch.ones(1)]}}))
    digests.add(digest_of({"a": -torch.zeros(2), "b": {"c": [1, torch.ones(1)]}}))
    assert len(digests) == 5


def test_units_of_a_step_are_all_tiles_once_an_epoch() -> None:
    rows = np.concatenate([unit for step in range(5) for unit in units_of_step(1, 4, step)])
    assert sorted(rows) == list(range(44))
    log = TrainingLog(Path("nowhere"))
    assert log.rows == []
