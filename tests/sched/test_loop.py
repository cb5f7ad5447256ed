"""The real loop, with its threads, over the network in memory: one thread a rank."""

from __future__ import annotations

import subprocess
import sys
import threading

import numpy as np
import pytest

from pyramidai_mpi.base.errors import InputError
from pyramidai_mpi.sched import Policy, deal_round_robin, loop
from pyramidai_mpi.sched.loop import run_on
from pyramidai_mpi.testing.memory_cluster import JobAbortedError, MemoryNetwork, MemoryTransport
from tests.sched.uts import S4_LEAVES, S4_NODES, TreeSearch, s4_roots


def run_in_threads(works, shares, policy=Policy.STEAL_HALF, seed=0, stops=None):
    """Outcome or exception of each rank."""
    network = MemoryNetwork(len(works), seed)
    ends = [None] * len(works)

    def be_rank(rank):
        try:
            stop = stops[rank] if stops else None
            ends[rank] = run_on(network.endpoint(rank), works[rank], shares[rank], policy, seed, stop)
        except BaseException as failure:
            ends[rank] = failure

    threads = [threading.Thread(target=be_rank, args=(rank,), daemon=True) for rank in range(len(works))]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    assert not any(thread.is_alive() for thread in threads), "a rank hangs"
    return ends


def round_robin(size):
    return [deal_round_robin(s4_roots(), rank, size) for rank in range(size)]


@pytest.mark.parametrize("policy", Policy)
@pytest.mark.parametrize("size", [1, 2, 6])
def test_the_whole_tree_is_searched(policy, size):
    works = [TreeSearch() for _ in range(size)]
    ends = run_in_threads(works, round_robin(size), policy)
    assert 1 + sum(work.nodes for work in works) == S4_NODES
    assert [end.stats.tasks for end in ends] == [work.nodes for work in works]
    assert not any(end.stopped or len(end.unfinished) for end in ends)


class Counting(TreeSearch):
    """Counts nodes and leaves."""

    def __init__(self):
        super().__init__(batch_size=1)
        self.leaves = 0

    def expand(self, tasks):
        children = super().expand(tasks)
        self.leaves += not len(children)
        return children

    def tally(self):
        return (self.nodes, self.leaves)


@pytest.mark.parametrize("size", [1, 2, 3, 10])
def test_what_the_workloads_count_is_summed_and_at_the_end_it_is_all(size):
    works = [Counting() for _ in range(size)]
    run_in_threads(works, round_robin(size))
    for progress in works[0].reports:
        assert progress.tally[0] >= progress.done
    assert works[0].reports[-1].tally == (S4_NODES - 1, S4_LEAVES)


def test_more_ranks_than_tasks():
    works = [TreeSearch() for _ in range(8)]
    shares = [s4_roots()[-1:] if rank == 5 else s4_roots()[:0] for rank in range(8)]
    run_in_threads(works, shares)
    assert 1 <= sum(work.nodes for work in works) < 100


def test_idle_ranks_get_work_while_the_batch_of_the_only_holder_computes():
    works = [TreeSearch(batch_size=4, seconds=0.002) for _ in range(3)]
    ends = run_in_threads(works, [s4_roots()[:200], s4_roots()[:0], s4_roots()[:0]])
    assert min(work.nodes for work in works) > 0
    assert sum(end.stats.tasks_stolen for end in ends) > 0
    thief = ends[1].stats
    assert thief.steal_requests > 0
    assert thief.mean_reply_s > 0
    assert 0 < thief.busy_s <= thief.wall_s
    assert thief.busy_s + thief.idle_s == pytest.approx(thief.wall_s)


def test_expand_is_called_from_one_thread_that_is_not_the_main_thread():
    class Work(TreeSearch):
        def expand(self, tasks):
            self.threads.add(threading.current_thread().name + str(threading.get_ident()))
            return super().expand(tasks)

    work = Work()
    assert isinstance(run_in_threads([work], [s4_roots()])[0].stats.tasks, int)
    assert len(work.threads) == 1
    assert work.threads.pop().startswith("pyramidai-worker")


def test_an_exception_on_one_rank_ends_all_with_its_traceback_and_place(capfd):
    class Work(TreeSearch):
        def expand(self, tasks):
            if self.nodes > 100:
                raise ZeroDivisionError("tile 17 is odd")
            return super().expand(tasks)

    works = [TreeSearch(seconds=1e-4), TreeSearch(seconds=1e-4), Work()]
    ends = run_in_threads(works, round_robin(3))
    assert all(isinstance(end, JobAbortedError) and (end.rank, end.code) == (2, 70) for end in ends)
    said = capfd.readouterr().err
    assert "ZeroDivisionError: tile 17 is odd" in said
    assert "in expand" in said
    assert "rank 2 of 3 on host memory" in said


def test_the_exit_code_is_that_of_the_error(capfd):
    class Work(TreeSearch):
        def expand(self, tasks):
            raise InputError("no such slide")

    ends = run_in_threads([Work(), TreeSearch()], round_robin(2), Policy.STATIC)
    assert {end.code for end in ends} == {65}


def test_on_a_single_rank_the_exception_is_passed_on():
    class Work(TreeSearch):
        def expand(self, tasks):
            raise InputError("no such slide")

    (end,) = run_in_threads([Work()], [s4_roots()])
    assert isinstance(end, InputError)


@pytest.mark.parametrize(
    ("children", "message"),
    [
        pytest.param(None, "not NoneType", id="nothing at all"),
        pytest.param([], "not list", id="a list"),
        pytest.param(np.zeros(2), "float64", id="another dtype"),
        pytest.param(np.zeros((2, 2), TreeSearch.dtype), "shape", id="two dimensions"),
    ],
)
def test_children_must_be_tasks(children, message):
    class Work(TreeSearch):
        def expand(self, tasks):
            return children

    (end,) = run_in_threads([Work()], [s4_roots()])
    assert isinstance(end, TypeError)
    assert message in str(end)


def test_a_stop_on_one_rank_stops_all_and_no_task_is_lost():
    works = [TreeSearch(batch_size=4, seconds=0.001) for _ in range(4)]
    stops = [None, None, lambda: works[2].nodes > 20, None]
    ends = run_in_threads(works, round_robin(4), stops=stops)
    assert all(end.stopped for end in ends)
    found = sum(work.nodes for work in works)
    left = np.concatenate([end.unfinished for end in ends])
    rest = TreeSearch()
    (end,) = run_in_threads([rest], [left])
    assert not end.stopped
    assert 1 + found + rest.nodes == S4_NODES


def test_a_stop_that_comes_with_the_end_is_no_stop():
    work = TreeSearch()
    (end,) = run_in_threads([work], [s4_roots()[:0]], stops=[lambda: True])
    assert not end.stopped


def test_progress_grows_on_rank_0_alone_and_ends_complete():
    works = [TreeSearch(batch_size=8, seconds=0.0002) for _ in range(3)]
    run_in_threads(works, round_robin(3))
    reports = works[0].reports
    assert not works[1].reports
    assert not works[2].reports
    assert [r.done for r in reports] == sorted(r.done for r in reports)
    assert all(r.done <= r.known for r in reports)
    assert (reports[-1].done, reports[-1].known) == (S4_NODES - 1, S4_NODES - 1)
    assert (reports[-1].idle_ranks, reports[-1].ranks) == (3, 3)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"batch_by": "level"}, "not a field"),
        ({"batch_size": 0}, "at least 1"),
        ({"dtype": np.dtype([("x", object)])}, "without Python objects"),
    ],
)
def test_a_workload_that_cannot_be_is_refused(change, message):
    work = TreeSearch()
    for name, value in change.items():
        setattr(work, name, value)
    (end,) = run_in_threads([work], [s4_roots()])
    assert isinstance(end, ValueError)
    assert message in str(end)


def test_the_interpreter_s_switch_interval_is_given_back():
    before = sys.getswitchinterval()
    run_in_threads([TreeSearch()], [s4_roots()])
    assert sys.getswitchinterval() == before


def test_at_level_debug_each_rank_says_at_the_end_what_it_did_last(caplog):
    caplog.set_level("DEBUG", "pyramidai_mpi.sched.loop")
    run_in_threads([TreeSearch(), TreeSearch()], round_robin(2))
    said = [record.getMessage() for record in caplog.records]
    assert not any("\n" in line for line in said)
    heads = sorted(line for line in said if "stale messages: " in line)
    assert [head.split(":")[0] for head in heads] == [f"rank {rank} of 2 on host memory" for rank in range(2)]
    assert any("batch taken, tasks" in line for line in said)
    assert any("from rank 0 Finished(stopped=False)" in line for line in said)


def test_at_level_debug_a_failure_tells_what_its_rank_did_last(caplog):
    class Work(TreeSearch):
        def expand(self, tasks):
            raise InputError("no such slide")

    caplog.set_level("DEBUG", "pyramidai_mpi.sched.loop")
    run_in_threads([Work()], [s4_roots()])
    assert "batch taken, tasks 16" in caplog.text


def test_without_level_debug_nothing_is_logged(caplog):
    run_in_threads([TreeSearch(), TreeSearch()], round_robin(2))
    assert not caplog.records


class LossError(Exception):
    """What MPI would raise when a rank has died."""


class LosingTransport(MemoryTransport):
    """Says that a rank has died as soon as `happens` is set."""

    def __init__(self, network, rank, happens):
        super().__init__(network, rank)
        self.happens, self.abandoned = happens, False

    def receive(self):
        if self.happens.is_set():
            raise LossError
        return super().receive()

    def is_loss(self, failure):
        return isinstance(failure, LossError)

    def abandon(self):
        self.abandoned = True


def test_a_worker_that_waits_for_a_dead_rank_is_woken_before_the_loop_waits_for_it():
    waits, answer = threading.Event(), threading.Event()

    class Work(TreeSearch):
        losses = 0
        woken = False

        def expand(self, tasks):
            waits.set()
            self.woken = answer.wait(30)
            return super().expand(tasks)

        def on_loss(self):
            assert threading.current_thread() is threading.main_thread()
            assert transport.abandoned
            self.losses += 1
            answer.set()

    threads = threading.active_count()
    work, transport = Work(), LosingTransport(MemoryNetwork(2), 0, waits)
    with pytest.raises(LossError):
        run_on(transport, work, s4_roots())
    assert work.woken
    assert work.losses == 1
    assert work.nodes == 16  # of the batch that was in hand; nothing is begun after it
    assert threading.active_count() <= threads


def test_of_another_failure_a_workload_hears_nothing_of_loss(capfd):
    class Work(TreeSearch):
        def expand(self, tasks):
            raise ZeroDivisionError

        def on_loss(self):
            raise AssertionError("nobody was lost")

    ends = run_in_threads([Work(), TreeSearch()], round_robin(2))
    assert all(isinstance(end, JobAbortedError) for end in ends)
    assert "nobody was lost" not in capfd.readouterr().err


def test_roots_are_dealt_in_turn():
    roots = np.arange(7)
    assert [deal_round_robin(roots, rank, 3).tolist() for rank in range(3)] == [[0, 3, 6], [1, 4], [2, 5]]
    assert [len(deal_round_robin(roots[:1], rank, 3)) for rank in range(3)] == [1, 0, 0]


def test_importing_the_scheduler_starts_no_mpi():
    code = "import sys, pyramidai_mpi.sched; sys.exit('mpi4py' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


class WaitsForAPoll:
    """Its only task waits until the main thread has polled after the call for it."""

    dtype = np.dtype([("kind", "u1")])
    batch_size = 1

    def __init__(self):
        self.begun, self.called, self.polled = threading.Event(), threading.Event(), threading.Event()
        self.threads = set()

    def on_start(self, wake):
        self.wake = wake

    def on_poll(self):
        self.threads.add(threading.current_thread())
        if self.called.is_set():
            self.polled.set()
        self.begun.set()
        return False

    def expand(self, tasks):
        assert self.begun.wait(10)  # that poll does not count
        self.called.set()
        self.wake()
        assert self.polled.wait(10)
        return tasks[:0]


def test_a_worker_may_call_for_a_poll(monkeypatch):
    monkeypatch.setattr(loop, "WORKLOAD_POLL_S", 3600.0)
    work = WaitsForAPoll()
    outcome = run_on(MemoryNetwork(1).endpoint(0), work, np.zeros(1, work.dtype))
    assert outcome.stats.tasks == 1
    assert work.threads == {threading.current_thread()}
