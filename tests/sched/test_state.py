"""The state machine as a table of claims: what happens to a rank, and what it does about it."""

from __future__ import annotations

import pytest

from pyramidai_mpi.base.errors import InternalError
from pyramidai_mpi.sched.ending import CENSUS_PAUSE_NEAR_THE_END_S, CENSUS_PAUSE_S
from pyramidai_mpi.sched.events import Send, SetTimer, StopRequested, Timer, TimerRang, WakeWorker
from pyramidai_mpi.sched.messages import (
    CensusAnswer,
    CensusAsk,
    Counts,
    Finished,
    Lifeline,
    Push,
    RankIsIdle,
    StealReply,
    StealRequest,
    StopAsked,
)
from pyramidai_mpi.sched.policy import Policy, hypercube_neighbours
from pyramidai_mpi.sched.state import LONGEST_REST_S, RankState
from tests.sched.states import arrive, compute, numbers, rank, sent, tasks


@pytest.mark.parametrize(
    ("policy", "held", "computing", "given"),
    [
        pytest.param(Policy.STEAL_HALF, 6, True, [0, 1, 2], id="half, oldest first"),
        pytest.param(Policy.STEAL_HALF, 5, True, [0, 1, 2], id="the larger half while computing"),
        pytest.param(Policy.STEAL_HALF, 1, True, [0], id="the only task while computing"),
        pytest.param(Policy.STEAL_HALF, 5, False, [0, 1], id="the smaller half while not computing"),
        pytest.param(Policy.STEAL_HALF, 1, False, [], id="not the only task while not computing"),
        pytest.param(Policy.STEAL_HALF, 0, True, [], id="nothing from an empty queue"),
        pytest.param(Policy.STEAL_ONE, 6, False, [5], id="one leaf from many tasks"),
        pytest.param(Policy.STEAL_ONE, 2, False, [1], id="one leaf of two"),
        pytest.param(Policy.STEAL_ONE, 1, False, [], id="never the last one"),
        pytest.param(Policy.STEAL_ONE, 0, False, [], id="one leaf of none is none"),
    ],
)
def test_a_victim_gives(policy, held, computing, given):
    if computing:
        state = rank(policy, held=held + 1, batch_size=1)
        compute(state, leaving=held)
    else:
        state = rank(policy, held=held)
    state.take_actions()
    arrive(state, 2, StealRequest(9))
    assert sent(state) == [(2, given)]


def test_a_victim_of_the_paper_answers_between_batches():
    state = rank(Policy.STEAL_ONE, held=6, batch_size=4)
    assert numbers(state.take_batch()) == [2, 3, 4, 5]
    arrive(state, 2, StealRequest(1))
    arrive(state, 3, StealRequest(1))
    assert sent(state) == []
    state.finish_batch(tasks(10))
    assert sent(state) == [(2, [10]), (3, [1])]
    assert numbers(state.take_batch()) == [0]


def test_a_victim_of_the_paper_strikes_the_thief_for_good():
    state = rank(Policy.STEAL_ONE, held=1, size=3)
    arrive(state, 2, StealRequest(1))
    state.take_batch()
    state.finish_batch(tasks())
    state.take_actions()
    asked = set()
    for _ in range(20):
        state.take_batch()
        for victim, message in sent(state):
            if isinstance(message, StealRequest):
                asked.add(victim)
                arrive(state, victim, StealReply(message.identity, tasks()))
        state.handle(TimerRang(Timer.RETRY))
    assert asked == {0}
    arrive(state, 0, StealRequest(1))
    state.take_actions()
    state.handle(TimerRang(Timer.RETRY))
    state.take_batch()
    assert [m for _, m in sent(state) if isinstance(m, StealRequest)] == []  # nobody is left to ask


def test_a_thief_asks_before_it_is_idle_one_victim_at_a_time():
    state = rank(held=1)
    state.take_batch()
    ((victim, message),) = sent(state)
    assert victim != 1
    assert message == StealRequest(1)
    state.finish_batch(tasks())
    assert state.take_batch() is None
    assert sent(state) == [(0, RankIsIdle())]  # the request is still open
    arrive(state, victim, StealReply(1, tasks(7, 8)))
    assert WakeWorker() in state.take_actions()
    assert numbers(state.take_batch()) == [8]


def test_a_thief_of_the_paper_asks_when_it_is_idle():
    state = rank(Policy.STEAL_ONE, held=1)
    state.take_batch()
    assert sent(state) == []
    state.finish_batch(tasks())
    assert state.take_batch() is None
    assert [message for _, message in sent(state)] == [RankIsIdle(), StealRequest(1)]


def idle_rank_at_rest(policy=Policy.STEAL_HALF) -> tuple[RankState, list]:
    """Rank 1 of 4 after too many empty replies, and the actions of the last of them."""
    state = rank(policy)
    assert state.take_batch() is None
    while True:
        actions = state.take_actions()
        requests = [a for a in actions if isinstance(a, Send) and isinstance(a.message, StealRequest)]
        if not requests:
            return state, actions
        assert len(requests) == 1
        arrive(state, requests[0].destination, StealReply(requests[0].message.identity, tasks()))


def test_after_four_empty_replies_a_thief_hangs_lifelines_and_rests():
    state, actions = idle_rank_at_rest()
    assert state.requests_sent == 4
    assert actions == [Send(0, Lifeline(True)), Send(3, Lifeline(True)), SetTimer(Timer.RETRY, 0.01)]


def test_a_resting_thief_asks_once_more_at_each_ring_and_rests_longer():
    state, _ = idle_rank_at_rest()
    rests = []
    for _ in range(6):
        state.handle(TimerRang(Timer.RETRY))
        ((victim, message),) = sent(state)
        arrive(state, victim, StealReply(message.identity, tasks()))
        (timer,) = state.take_actions()
        rests.append(timer.seconds)
    assert rests == [0.02, 0.04, 0.08, 0.16, LONGEST_REST_S, LONGEST_REST_S]


def test_work_over_a_lifeline_wakes_the_thief_and_takes_the_other_lifelines_down():
    state, _ = idle_rank_at_rest()
    arrive(state, 0, Push(tasks(5, 6)))
    assert state.take_actions() == [Send(3, Lifeline(False)), WakeWorker()]
    assert (state.pushes, state.tasks_stolen) == (1, 2)


def test_in_the_paper_there_are_no_lifelines():
    _, actions = idle_rank_at_rest(Policy.STEAL_ONE)
    assert actions == [SetTimer(Timer.RETRY, 0.01)]


def test_who_holds_lifelines_shares_what_its_batch_leaves():
    state = rank(batch_size=1)
    for neighbour in (0, 3):
        arrive(state, neighbour, Lifeline(True))
    assert sent(state) == []
    arrive(state, 2, Push(tasks(*range(9))))
    state.take_actions()
    state.take_batch()
    assert sent(state) == [(0, [0, 1, 2]), (3, [3, 4, 5])]
    state.finish_batch(tasks(20, 21))
    state.take_batch()
    assert sent(state) == []  # a lifeline is good for one push


@pytest.mark.parametrize("computing", [False, True])
def test_who_has_nothing_queued_pushes_nothing(computing):
    state = rank(held=1, batch_size=1)
    if computing:
        compute(state, leaving=0)
    else:
        state.take_actions()
    arrive(state, 3, Lifeline(True))
    assert sent(state) == []


def test_a_lifeline_taken_down_gets_nothing():
    state = rank(batch_size=1)
    arrive(state, 3, Lifeline(True))
    arrive(state, 3, Lifeline(False))
    arrive(state, 2, Push(tasks(*range(9))))
    state.take_actions()
    state.take_batch()
    assert sent(state) == []


def test_a_reply_to_an_earlier_request_does_not_answer_the_open_one():
    state = rank()
    state.take_batch()
    state.take_actions()
    arrive(state, 2, StealReply(99, tasks()))
    assert state.awaits_reply
    assert sent(state) == []


@pytest.mark.parametrize(
    ("message", "why"),
    [
        pytest.param(StealReply(99, tasks()), "reply to a request given up", id="empty"),
        pytest.param(StealReply(99, tasks(5)), "reply to a request given up", id="with tasks, which are kept"),
        pytest.param(Push(tasks(5)), "push over a lifeline taken down", id="a push"),
        pytest.param(Lifeline(False), "end of a lifeline used up", id="a lifeline that is not held"),
    ],
)
def test_messages_that_come_too_late_are_counted(message, why):
    state = rank()
    state.take_batch()
    arrive(state, 2, message)
    assert state.stale == {why: 1}
    assert state.counts().queued == (len(message.tasks) if hasattr(message, "tasks") else 0)


def test_tasks_for_a_rank_that_stops_and_messages_after_the_end_are_counted():
    state = rank()
    state.take_batch()
    ((victim, request),) = [(to, m) for to, m in sent(state) if isinstance(m, StealRequest)]
    state.handle(StopRequested())
    arrive(state, victim, StealReply(request.identity, tasks(5)))
    arrive(state, 0, Finished(stopped=True))
    arrive(state, 0, Finished(stopped=True))
    assert state.stale == {"tasks for a rank that stops": 1, "after the end": 1}
    assert state.stale_messages == 2


@pytest.mark.parametrize(
    ("attribute", "value", "claim"),
    [
        ("tasks_done", 1, "no task is lost or made"),
        ("_in_hand", 5, "a batch is of 0 to batch_size tasks"),
        ("_worker_waits", True, "a worker waits for no tasks that are there"),
        ("_request", 7, "the open request is the last one"),
        ("_silent", {1}, "silent ranks are others"),
        ("_lifelines", [2], "my lifelines hang on neighbours"),
        ("_waiting", [3, 3], "a lifeline hangs once"),
        ("_postponed", [(2, 1)], "a request is postponed only during a batch"),
        ("_rest_s", 0.0, "rests have their bounds"),
    ],
)
def test_a_state_that_cannot_be_is_told(attribute, value, claim):
    state = rank(held=3)
    state.check()
    setattr(state, attribute, value)
    with pytest.raises(InternalError, match=claim):
        state.check()


def test_a_census_counts_a_task_until_it_is_expanded():
    state = rank(held=3, batch_size=1)
    assert state.counts() == Counts(created=3, queued=3)
    state.take_batch()
    assert state.counts() == Counts(created=3, queued=2)
    state.finish_batch(tasks(7, 8))
    assert state.counts() == Counts(created=5, completed=1, queued=4)


def test_of_an_idle_subtree_the_parent_hears_once_between_two_waves():
    state = rank(number=1, size=20)
    state.take_batch()
    arrive(state, 9, RankIsIdle())
    arrive(state, 10, RankIsIdle())
    assert [to for to, message in sent(state) if message == RankIsIdle()] == [0]
    arrive(state, 0, CensusAsk(1, stopping=False))
    arrive(state, 10, RankIsIdle())
    assert [to for to, message in sent(state) if message == RankIsIdle()] == [0]


def test_rank_0_hastens_the_census_when_a_rank_has_become_idle():
    state = rank(number=0, size=3, held=5)
    state.take_batch()
    state.handle(TimerRang(Timer.CENSUS))
    for child in (1, 2):
        arrive(state, child, CensusAnswer(1, Counts(created=1)))
    assert SetTimer(Timer.CENSUS, CENSUS_PAUSE_S) in state.take_actions()
    arrive(state, 2, RankIsIdle())
    assert state.take_actions() == [SetTimer(Timer.CENSUS, CENSUS_PAUSE_NEAR_THE_END_S)]


def test_a_stop_is_told_to_rank_0_and_the_batch_in_hand_is_finished():
    state = rank(held=8, batch_size=1)
    state.take_batch()
    state.take_actions()
    state.handle(StopRequested())
    state.handle(StopRequested())
    assert sent(state) == [(0, StopAsked())]
    assert state.counts().frozen == 0
    arrive(state, 2, StealRequest(1))
    assert sent(state) == [(2, [])]
    state.finish_batch(tasks(9))
    assert state.take_batch() is None
    assert state.counts() == Counts(created=9, completed=1, queued=8, frozen=1)
    arrive(state, 0, Finished(stopped=True))
    assert numbers(state.take_unfinished()) == [0, 1, 2, 3, 4, 5, 6, 9]


def test_rank_0_spreads_the_stop_with_the_next_wave():
    state = rank(number=0, held=8)
    arrive(state, 2, StopAsked())
    assert SetTimer(Timer.CENSUS, 0.0) in state.take_actions()
    state.handle(TimerRang(Timer.CENSUS))
    assert sent(state) == [(other, CensusAsk(1, stopping=True)) for other in (1, 2, 3)]


def test_one_rank_alone_finds_the_end_by_itself():
    state = rank(number=0, size=1, held=1)
    state.take_batch()
    state.finish_batch(tasks())
    assert state.take_batch() is None
    assert state.finished
    assert not state.stopped


def test_to_be_told_of_an_end_while_holding_tasks_is_a_bug():
    state = rank(held=1)
    with pytest.raises(InternalError, match="nothing is left"):
        arrive(state, 0, Finished(stopped=False))


@pytest.mark.parametrize("size", [1, 2, 3, 7, 12, 48, 100, 4096])
def test_lifelines_connect_all_ranks_both_ways(size):
    reached, new = {0}, [0]
    while new:
        for neighbour in hypercube_neighbours(new.pop(), size):
            if neighbour not in reached:
                reached.add(neighbour)
                new.append(neighbour)
    assert reached == set(range(size))
    assert all(0 in hypercube_neighbours(n, size) for n in hypercube_neighbours(0, size))
    assert len(hypercube_neighbours(0, size)) == (size - 1).bit_length()


def test_a_victim_that_does_not_answer_is_passed_over_until_it_is_heard_of():
    state = rank(number=1, size=3)
    state.take_batch()
    ((silent, request),) = [(to, m) for to, m in sent(state) if isinstance(m, StealRequest)]
    other = 2 - silent
    for _ in range(2):  # every further request goes to the other one
        state.handle(TimerRang(Timer.PATIENCE) if state._victim == silent else TimerRang(Timer.RETRY))
        ((asked, request_to_other),) = [(to, m) for to, m in sent(state) if isinstance(m, StealRequest)]
        assert asked == other
        arrive(state, other, StealReply(request_to_other.identity, tasks()))
    arrive(state, silent, StealReply(request.identity, tasks(7)))
    assert numbers(state.take_batch()) == [7]
    assert not state._silent


def test_a_thief_whose_only_victim_is_silent_goes_on_looking_now_and_then():
    state = rank(number=1, size=2)
    state.take_batch()
    state.take_actions()
    state.handle(TimerRang(Timer.PATIENCE))
    for _ in range(3):
        assert [a.timer for a in state.take_actions() if isinstance(a, SetTimer)] == [Timer.RETRY]
        state.handle(TimerRang(Timer.RETRY))
    arrive(state, 0, RankIsIdle())
    state.handle(TimerRang(Timer.RETRY))
    assert [to for to, m in sent(state) if isinstance(m, StealRequest)] == [0]


def test_the_patience_of_an_answered_request_means_nothing():
    state = rank(number=1, size=2)
    state.take_batch()
    arrive(state, 0, StealReply(1, tasks(7)))
    state.take_actions()
    state.handle(TimerRang(Timer.PATIENCE))
    assert state.take_actions() == []
