from __future__ import annotations

import numpy as np
import pytest

from pyramidai_mpi.base.errors import UsageError
from pyramidai_mpi.simulate.costs import Costs, Network
from pyramidai_mpi.simulate.counting import (
    load_ideal,
    load_level_by_level,
    load_reference,
    load_unbalanced,
)
from pyramidai_mpi.simulate.dealing import Dealing, owners
from tests.simulate.trees import small

COSTS = Costs((10.0, 1.0), batch_size=2)
INSTANT = Network(latency_s=0.0, bandwidth=1e30)


def test_tasks_are_dealt_in_turn_in_blocks_or_shuffled():
    assert owners(5, 2, Dealing.ROUND_ROBIN).tolist() == [0, 1, 0, 1, 0]
    assert owners(5, 2, Dealing.BLOCK).tolist() == [0, 0, 0, 1, 1]
    assert owners(2, 4, Dealing.BLOCK).tolist() == [0, 1]
    shuffled = owners(1000, 7, Dealing.RANDOM, seed=3)
    assert np.bincount(shuffled).tolist() == np.bincount(np.arange(1000) % 7).tolist()
    assert (shuffled == owners(1000, 7, Dealing.RANDOM, seed=3)).all()
    assert (shuffled != owners(1000, 7, Dealing.RANDOM, seed=4)).any()
    assert (shuffled != np.arange(1000) % 7).any()


# By hand: roots of 1 s; only the first has children, four of 10 s each.


@pytest.mark.parametrize(
    ("workers", "dealing", "tiles", "seconds"),
    [
        (1, Dealing.ROUND_ROBIN, 8, 44),
        (2, Dealing.ROUND_ROBIN, 6, 42),
        (2, Dealing.BLOCK, 6, 42),
        (3, Dealing.ROUND_ROBIN, 6, 42),  # roots 0 and 3
        (4, Dealing.BLOCK, 5, 41),
        (9, Dealing.BLOCK, 5, 41),
    ],
)
def test_without_balancing_a_worker_does_all_that_grows_from_its_roots(workers, dealing, tiles, seconds):
    forest = small()
    load = load_unbalanced(forest, COSTS.of(forest), owners(4, workers, dealing), workers, COSTS)
    assert (load.busiest_tiles, load.makespan_s) == (tiles, seconds)


@pytest.mark.parametrize(
    ("workers", "tiles", "seconds"), [(1, 8, 44), (2, 4, 2 + 20), (3, 4, 2 + 20), (4, 2, 1 + 10), (9, 2, 1 + 10)]
)
@pytest.mark.parametrize("dealing", list(Dealing)[:3])
def test_level_by_level_each_level_takes_as_long_as_its_largest_share(workers, tiles, seconds, dealing):
    forest = small()
    load = load_level_by_level(forest, COSTS.of(forest), workers, dealing, COSTS, INSTANT)
    assert load.makespan_s == seconds
    if dealing is Dealing.ROUND_ROBIN:  # otherwise another worker may be the one with two tiles of the next level
        assert load.busiest_tiles == tiles


def test_waiting_for_each_other_between_levels_costs_messages():
    forest = small()
    slow = Network(latency_s=0.25, bandwidth=12.0)  # a task of 12 bytes a second
    load = load_level_by_level(forest, COSTS.of(forest), 4, Dealing.BLOCK, COSTS, slow)
    assert load.makespan_s == pytest.approx(11 + 2 * 2 * 0.25 + 1)  # two steps up, two down; a share of one task


@pytest.mark.parametrize(("workers", "tiles", "seconds"), [(1, 8, 44), (2, 4, 22), (3, 3, 44 / 3), (8, 1, 11)])
def test_nothing_betters_an_even_share_nor_the_longest_way(workers, tiles, seconds):
    load = load_ideal(small(), COSTS.of(small()), workers, COSTS)
    assert (load.busiest_tiles, load.makespan_s) == (tiles, pytest.approx(seconds))


def test_a_reference_run_is_a_pile_of_tiles():
    load = load_reference(16, 3, Costs((10.0, 1.0), batch_size=4, batch_s=0.5))
    assert (load.busiest_tiles, load.makespan_s) == (6, 6 * 10 + 2 * 0.5)


def test_batches_cost_extra_and_hold_one_level():
    costs = Costs((10.0, 1.0), batch_size=3, batch_s=0.5)
    forest = small()
    alone = load_unbalanced(forest, costs.of(forest), owners(4, 1, Dealing.BLOCK), 1, costs)
    assert alone.makespan_s == 44 + 0.5 * (2 + 2)  # 3 + 1 roots, 3 + 1 children
    assert load_ideal(forest, costs.of(forest), 1, costs).makespan_s == alone.makespan_s
    stepwise = load_level_by_level(forest, costs.of(forest), 2, Dealing.BLOCK, costs, INSTANT)
    assert stepwise.makespan_s == 2 + 0.5 + 20 + 0.5


def test_openings_cost_seconds_and_count_as_no_tiles():
    costs = Costs((10.0, 1.0), opening_s=100.0)
    forest = small().with_openings()
    assert costs.of(forest).tolist() == [100, 1, 1, 1, 1, 10, 10, 10, 10]
    load = load_unbalanced(forest, costs.of(forest), owners(1, 3, Dealing.SLIDES), 3, costs)
    assert (load.busiest_tiles, load.makespan_s) == (8, 144)


def test_the_last_seconds_given_serve_the_levels_above():
    assert Costs((0.33,)).of(small()).tolist() == [0.33] * 8


@pytest.mark.parametrize("wrong", [{"level_s": ()}, {"level_s": (0.0,)}, {"level_s": (-1.0, 2.0)},
                                   {"level_s": (1.0,), "batch_size": 0}, {"level_s": (float("nan"),)}])  # fmt: skip
def test_impossible_costs_are_refused(wrong):
    with pytest.raises(UsageError):
        Costs(**wrong)
