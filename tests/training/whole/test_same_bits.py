"""Weights trained on whole images do not depend on ranks, their speed or their death."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

pytest.importorskip("torch")

from pyramidai_mpi.ranks.unit_pool import PoolStoppedError, UnitPool
from pyramidai_mpi.testing.launch import mpirun
from tests.training.whole.whole_example import train

if TYPE_CHECKING:
    from pathlib import Path

SCRIPT = "tests/training/whole/whole_example.py"


@pytest.fixture(scope="module")
def alone(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, str]:
    """Folder and digest of the training without any MPI."""
    folder = tmp_path_factory.mktemp("alone")
    return folder, train(UnitPool(), folder).digest().hex()


def test_two_seeds_differ(alone, tmp_path) -> None:
    assert train(UnitPool(), tmp_path, seed=2).digest().hex() != alone[1]


def test_it_stops_at_any_block_and_goes_on_to_the_same_bits(alone, tmp_path) -> None:
    looks = 0

    def is_asked() -> bool:
        nonlocal looks
        looks += 1
        return looks % 17 == 0  # in steps, and between them in validations

    for _ in range(40):
        try:
            done = train(UnitPool(stop=is_asked), tmp_path)
            break
        except PoolStoppedError:
            continue
    assert looks > 40
    assert done.digest().hex() == alone[1]
    assert (tmp_path / "log.csv").read_bytes() == (alone[0] / "log.csv").read_bytes()


@pytest.mark.mpi
@pytest.mark.parametrize(("ranks", "how"), [(2, "slow"), (4, "")])
def test_any_number_of_ranks_comes_to_the_same_bits(alone, tmp_path, ranks, how) -> None:
    job = mpirun(ranks, [SCRIPT, str(tmp_path), *([how] if how else [])])
    assert job.returncode == 0, job.stderr
    assert job.stdout == alone[1]
    assert (tmp_path / "log.csv").read_bytes() == (alone[0] / "log.csv").read_bytes()


@pytest.mark.mpi
def test_a_killed_training_goes_on_to_the_same_bits(alone, tmp_path) -> None:
    killed = mpirun(2, [SCRIPT, str(tmp_path), "kill=1:14"])
    assert killed.returncode != 0
    job = mpirun(3, [SCRIPT, str(tmp_path)])
    assert job.returncode == 0, job.stderr
    assert job.stdout == alone[1]
