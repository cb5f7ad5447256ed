"""The scheduler under a virtual clock, beside sums on paper and the loads that need no clock."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pyramidai_mpi.sched import Policy
from pyramidai_mpi.simulate.cluster import Simulated, shares, simulate_run
from pyramidai_mpi.simulate.costs import Costs, Network
from pyramidai_mpi.simulate.counting import load_ideal, load_unbalanced
from pyramidai_mpi.simulate.dealing import Dealing, owners
from pyramidai_mpi.simulate.forest import TASK, Forest, plant
from pyramidai_mpi.testing.memory_cluster import play
from tests.simulate.trees import lopsided, parents_of_trees

policies = st.sampled_from(Policy)


def run(
    forest: Forest,
    seconds: np.ndarray,
    workers: int,
    policy: Policy,
    dealing: Dealing = Dealing.ROUND_ROBIN,
    network: Network | None = None,
    **options: float,
) -> Simulated:
    dealt = owners(forest.n_roots, workers, dealing)
    return simulate_run(forest, seconds, dealt, workers, policy, network or Network(), **options)


@settings(max_examples=60)
@given(parents_of_trees(), st.integers(1, 9), policies, st.integers(0, 5), st.sampled_from(list(Dealing)[:3]))
def test_every_task_is_done_once_after_its_parent_and_no_faster_than_can_be(tree, workers, policy, seed, dealing):
    forest = plant(*tree)
    seconds = np.random.default_rng(seed).random(len(forest))
    # itself refuses a task done twice
    simulated = run(forest, seconds, workers, policy, dealing, batch_size=3, seed=seed)
    assert ((simulated.worker >= 0) & (simulated.worker < workers)).all()
    assert simulated.busy_s.sum() == pytest.approx(seconds.sum())
    assert simulated.busy_s == pytest.approx(np.bincount(simulated.worker, seconds, workers))
    assert simulated.worked_s >= load_ideal(forest, seconds, workers, Costs((1.0,))).makespan_s - 1e-9
    assert simulated.makespan_s >= simulated.worked_s


@given(parents_of_trees(), policies)
def test_one_rank_takes_the_sum_of_all_seconds(tree, policy):
    forest = plant(*tree)
    seconds = np.random.default_rng(0).random(len(forest))
    simulated = run(forest, seconds, 1, policy, batch_size=4)
    assert simulated.makespan_s == pytest.approx(seconds.sum(), abs=1e-9)
    assert simulated.messages == 0


@given(parents_of_trees(), st.integers(2, 7), st.sampled_from(list(Dealing)[:3]))
def test_without_stealing_each_rank_does_its_share_and_takes_its_time(tree, workers, dealing):
    forest = plant(*tree)
    costs = Costs((0.5, 0.25, 0.125, 1.0))
    seconds = costs.of(forest)
    dealt = owners(forest.n_roots, workers, dealing)
    simulated = run(forest, seconds, workers, Policy.STATIC, dealing)
    expected = load_unbalanced(forest, seconds, dealt, workers, costs)
    assert simulated.worker.tolist() == forest.handed_down(dealt).tolist()
    assert np.bincount(simulated.worker, minlength=workers).max() == expected.busiest_tiles
    assert simulated.worked_s == pytest.approx(expected.makespan_s)


class Recorder:
    """The forest as a workload of `testing.memory_cluster.play`."""

    dtype, batch_size, batch_by = TASK, 16, "group"

    def __init__(self, forest: Forest) -> None:
        self.forest, self.done = forest, np.zeros(len(forest), int)

    def expand(self, tasks: np.ndarray) -> np.ndarray:
        self.done[tasks["number"]] += 1
        children = np.isin(self.forest.parent, tasks["number"].astype(np.int64))
        return self.forest.tasks()[children]


@pytest.mark.parametrize("policy", Policy)
def test_the_in_process_cluster_does_the_same_tasks(policy):
    """Which rank does what differs where ranks steal, since the other player has no clock; static does not."""
    forest = lopsided(40)
    dealt = owners(forest.n_roots, 5, Dealing.BLOCK)
    works = [Recorder(forest) for _ in range(5)]
    play(works, shares(forest.tasks()[: forest.n_roots], dealt, 5), policy)
    simulated = run(forest, np.ones(len(forest)), 5, policy, Dealing.BLOCK)
    assert sum(work.done for work in works).tolist() == [1] * len(forest)
    if policy is Policy.STATIC:
        assert [work.done.sum() for work in works] == np.bincount(simulated.worker, minlength=5).tolist()


@pytest.mark.parametrize("policy", Policy)
def test_a_seed_means_one_run(policy):
    forest = lopsided(200)
    seconds = Costs((0.1,)).of(forest)
    first, again, other = (run(forest, seconds, 16, policy, seed=seed) for seed in (1, 1, 2))
    assert first.makespan_s == again.makespan_s
    assert first.worker.tolist() == again.worker.tolist()
    assert (first.worker.tolist() == other.worker.tolist()) == (policy is Policy.STATIC)


@pytest.mark.parametrize("dealing", list(Dealing)[:3])
def test_stealing_half_betters_stealing_one_betters_nothing_and_none_betters_the_ideal(dealing):
    forest = lopsided(1000)
    costs = Costs((0.05,))
    seconds = costs.of(forest)
    ideal = load_ideal(forest, seconds, 24, costs).makespan_s
    half, one, none = (
        run(forest, seconds, 24, policy, dealing).makespan_s
        for policy in (Policy.STEAL_HALF, Policy.STEAL_ONE, Policy.STATIC)
    )
    assert ideal <= half <= one <= none
    assert half < 1.1 * ideal
    assert none > 1.2 * ideal


# On paper: rank 0 has two tasks of 1 s, rank 1 none, batches of one. Rank 1 says at once that it is idle, and asks.
# Rank 0 took the newer task and looks for messages every 0.8 ms, as work may be wanted at the beginning; it gives the
# older one away. Rank 1 looks after 50, 100, 200, 400, 400, ... us.


@pytest.mark.parametrize(
    ("network", "worked_s"),
    [
        # asked 0.1 ms, answered at 0.8 ms, arrives at 0.9 ms, seen at 0.75 + 0.4 ms
        (Network(latency_s=0.1e-3, bandwidth=1e30, late_s=0.0), 1 + 1.15e-3),
        # 16 bytes in 1.6 ms, twice, so asked at 3.3 ms; answered at 4 ms, 16 + 12 bytes in 2.8 ms, arrives at 6.9 ms,
        # seen at 0.75 + 15 * 0.4 + 0.8 ms
        (Network(latency_s=0.1e-3, bandwidth=1e4, late_s=0.0), 1 + 7.55e-3),
        # all pauses 0.1 ms longer: answered at 0.9, arrives at 1, seen at 0.75 + 4 * 0.1 ms
        (Network(latency_s=0.1e-3, bandwidth=1e30, late_s=0.1e-3), 1 + 1.15e-3),
    ],
    ids=["latency", "bandwidth", "late"],
)
def test_a_steal_takes_its_messages_and_the_pauses_of_both_sides(network, worked_s):
    forest = plant([0, 0], [-1, -1])
    dealt = np.zeros(2, int)
    simulated = simulate_run(forest, np.ones(2), dealt, 2, Policy.STEAL_HALF, network, batch_size=1)
    assert simulated.worker.tolist() == [1, 0]
    assert simulated.worked_s == pytest.approx(worked_s, abs=1e-9)
    assert simulated.steals == simulated.tasks_moved == 1


def test_steal_one_answers_between_batches_only():
    """Rank 0 has 3 tasks of 1 s in batches of one: it answers after the first, and gives one of the two left."""
    network = Network(latency_s=1e-3, bandwidth=1e30, late_s=0.0)
    forest = plant([0, 0, 0], [-1, -1, -1])
    simulated = simulate_run(forest, np.ones(3), np.zeros(3, int), 2, Policy.STEAL_ONE, network, batch_size=1)
    assert np.bincount(simulated.worker).tolist() == [2, 1]
    assert 2.001 < simulated.worked_s < 2.01


def test_a_batch_costs_its_extra_seconds_once():
    forest = plant([0] * 10, [-1] * 10)
    simulated = run(forest, np.ones(10), 1, Policy.STATIC, batch_size=4, batch_s=0.5)
    assert simulated.batches == 3
    assert simulated.makespan_s == pytest.approx(10 + 3 * 0.5)


def test_the_end_is_found_soon_after_the_last_task():
    forest = lopsided(300)
    for policy in Policy:
        simulated = run(forest, Costs((0.02,)).of(forest), 100, policy)
        assert 0 < simulated.makespan_s - simulated.worked_s < 0.1


def test_no_work_is_over_at_once():
    assert run(plant([], []), np.zeros(0), 5, Policy.STEAL_HALF).makespan_s < 0.1
