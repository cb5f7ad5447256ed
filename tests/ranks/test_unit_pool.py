"""What the ranks get of units that they do together, on one to five ranks, and alone without MPI."""

from __future__ import annotations

import json

import numpy as np
import pytest

from pyramidai_mpi.base.errors import InputError
from pyramidai_mpi.ranks.unit_pool import PoolStoppedError, UnitPool
from pyramidai_mpi.testing.launch import mpirun

POLICIES = ("static", "steal-one", "steal-half")


@pytest.fixture(scope="module", params=[1, 2, 3, 5], ids=lambda size: f"{size} ranks")
def each(request):
    """What each rank found, by the words of `run_units`."""
    job = mpirun(request.param, ["tests/ranks/run_units.py"])
    assert job.returncode == 0
    assert not job.left_over
    everyone = json.loads(job.stdout)
    assert len(everyone) == request.param
    return everyone


def test_sums_are_equal_to_the_bit_on_any_number_of_ranks_under_any_policy(each) -> None:
    terms = [np.random.default_rng(number).normal(size=4).astype(np.float32) for number in range(23)]
    whole = sum(np.rint(term.astype(np.float64) * 2.0**40).astype(np.int64) for term in terms)
    expected = [(whole / 2.0**40).tobytes().hex(), [23.0]]
    for found in each:
        assert [found[policy] for policy in POLICIES] == [expected] * 3


def test_rows_come_in_the_order_of_the_units_with_their_bits(each) -> None:
    made = [np.array([[n, -0.0], [np.nan, -n]], np.float32)[: n % 3] for n in range(11)]
    expected = np.concatenate(made).tobytes().hex()
    assert [found["rows"] for found in each] == [expected] * len(each)
    assert each[0]["rows on rank 0"] == expected


def test_each_unit_is_done_once(each) -> None:
    assert sum(found["units"] for found in each) == 2 * 11
    assert [found["no units"] for found in each] == [[[0.0] * 4, [0.0]]] * len(each)


def test_an_error_of_one_unit_is_one_of_all_ranks(each) -> None:
    messages = {found["error"][0] for found in each}
    assert len(messages) == 1
    assert messages <= {"unit 5 cannot be read", "unit 6 cannot be read"}
    assert all(found["error"][1] for found in each)


def test_a_rank_that_is_told_to_stop_stops_all_and_they_can_go_on(each) -> None:
    assert all(found["stopped"] for found in each)
    assert all(found["goes on"] == [0, 1, 2, 3, 4] for found in each)


def test_alone_without_mpi_it_does_the_same() -> None:
    pool = UnitPool()
    assert pool.rows([2, 0, 1], lambda n: np.arange(2 - n // 2 if n != 1 else 0) + n, np.int64).tolist() == [0, 1, 2]
    (total,) = pool.sums(4, lambda n: [np.array([n / 2])], {"x": 1})
    assert total.tolist() == [3.0]
    assert (pool.units, pool.size, pool.rank) == (7, 1, 0)
    assert pool.busy_s > 0

    def fail(number: int) -> None:
        raise InputError(f"unit {number}")

    with pytest.raises(InputError, match="unit 0"):
        pool.do(3, fail)
    done = []
    with pytest.raises(PoolStoppedError):
        UnitPool(stop=lambda: len(done) == 2).do(5, done.append)
    assert done == [0, 1]
