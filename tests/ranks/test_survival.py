"""Going on without lost ranks, with a communicator that does as it is told."""

from __future__ import annotations

import logging
import sys
from types import SimpleNamespace

import pytest

from pyramidai_mpi.base.errors import InputError
from pyramidai_mpi.ranks.survival import can_survive, through_losses

LAUNCHED = "OMPI_MCA_mpi_ft_enable"


class LossError(Exception):
    """What MPI would raise when a rank has died."""


class Communicator:
    """This rank's view of the ranks.

    Attributes
    ----------
    agreements : list
        What each agreement answers, or raises; all ranks being through unless it says so.
    seen : list
        What was done, in order, over all that it shrank to.
    """

    def __init__(self, rank, size, agreements, seen=None):
        self.rank, self.size, self.agreements = rank, size, agreements
        self.seen = [] if seen is None else seen

    def Revoke(self):  # noqa: N802
        self.seen.append("revoke")

    def Agree(self, flag):  # noqa: N802
        self.seen.append(f"agree {flag}")
        answer = self.agreements.pop(0)
        if isinstance(answer, Exception):
            raise answer
        return flag & answer

    def Shrink(self):  # noqa: N802
        self.seen.append("shrink")
        return Communicator(max(self.rank - 1, 0), self.size - 1, self.agreements, self.seen)


@pytest.fixture(autouse=True)
def _ulfm(monkeypatch):
    """Ranks that outlive each other; without loading MPI."""
    monkeypatch.setenv(LAUNCHED, "1")
    fake = SimpleNamespace(is_loss=lambda failure: isinstance(failure, LossError))
    monkeypatch.setitem(sys.modules, "pyramidai_mpi.sched.transport", fake)


def attempts(comm, *ends):
    """An attempt that ends in turn as told, noting what it was given; an exception is raised."""
    left = list(ends)

    def attempt(ranks, again):
        comm.seen.append(f"attempt on {ranks.size}{' again' if again else ''}")
        end = left.pop(0)
        if isinstance(end, Exception):
            raise end
        return end

    return attempt


@pytest.mark.parametrize(("value", "can"), [("1", True), ("true", True), ("0", False), ("", False), (None, False)])
def test_ranks_outlive_each_other_when_they_were_launched_so(monkeypatch, value, can):
    monkeypatch.setenv(LAUNCHED, value) if value is not None else monkeypatch.delenv(LAUNCHED)
    assert can_survive() is can


def test_an_attempt_that_all_are_through_with_counts():
    comm = Communicator(1, 3, [1])
    assert through_losses(comm, attempts(comm, "done"), pytest.fail) == ("done", comm)
    assert comm.seen == ["attempt on 3", "agree 1"]


def test_a_loss_is_told_to_the_others_and_the_survivors_begin_again(caplog):
    comm = Communicator(1, 3, [1, 1])
    value, left = through_losses(comm, attempts(comm, LossError(), "done"), pytest.fail)
    assert comm.seen == ["attempt on 3", "revoke", "agree 0", "shrink", "attempt on 2 again", "agree 1"]
    assert value == "done"
    assert (left.rank, left.size) == (0, 2)
    assert "1 of 3 ranks died; the other 2 go on" in caplog.text


def test_a_rank_that_was_through_begins_again_with_those_that_were_not():
    comm = Communicator(2, 3, [0, 1])
    value, left = through_losses(comm, attempts(comm, "too early", "done"), pytest.fail)
    assert comm.seen == ["attempt on 3", "agree 1", "shrink", "attempt on 2 again", "agree 1"]
    assert (value, left.size) == ("done", 2)


def test_a_rank_that_dies_before_the_agreement_undoes_it():
    comm = Communicator(2, 3, [LossError(), 1])
    assert through_losses(comm, attempts(comm, "too early", "done"), pytest.fail)[0] == "done"
    assert comm.seen == ["attempt on 3", "agree 1", "shrink", "attempt on 2 again", "agree 1"]


def test_ranks_may_die_one_after_the_other():
    comm = Communicator(3, 4, [1, 0, LossError(), 1])
    ends = [LossError(), "too early", "too early", "done"]
    value, left = through_losses(comm, attempts(comm, *ends), pytest.fail)
    assert (value, left.size) == ("done", 1)
    assert comm.seen.count("shrink") == 3


def agreed_error():
    error = InputError("no such slide")
    error.agreed = True
    return error


def test_an_error_that_all_share_is_through_and_said_by_the_rank_that_says_it_anyway():
    comm = Communicator(0, 3, [1])
    with pytest.raises(InputError, match="no such slide"):
        through_losses(comm, attempts(comm, agreed_error()), pytest.fail)
    assert comm.seen == ["attempt on 3", "agree 1"]


def test_after_the_loss_of_rank_0_the_new_one_says_the_error():
    comm = Communicator(1, 3, [1, 1])
    said = []
    with pytest.raises(InputError):
        through_losses(comm, attempts(comm, LossError(), agreed_error()), said.append)
    assert said == ["no such slide"]


@pytest.mark.parametrize("failure", [InputError("of this rank alone"), ZeroDivisionError()])
def test_any_other_failure_is_passed_on_at_once(failure):
    comm = Communicator(1, 3, [])
    with pytest.raises(type(failure)):
        through_losses(comm, attempts(comm, failure), pytest.fail)
    assert comm.seen == ["attempt on 3"]


def test_a_failure_of_the_agreement_that_is_no_loss_is_passed_on():
    comm = Communicator(1, 3, [ZeroDivisionError()])
    with pytest.raises(ZeroDivisionError):
        through_losses(comm, attempts(comm, "done"), pytest.fail)


def test_where_ranks_cannot_outlive_each_other_nothing_is_agreed_and_a_loss_is_a_failure(monkeypatch, caplog):
    monkeypatch.delenv(LAUNCHED)
    caplog.set_level(logging.WARNING)
    comm = Communicator(1, 3, [])
    assert through_losses(comm, attempts(comm, "done"), pytest.fail)[0] == "done"
    with pytest.raises(LossError):
        through_losses(comm, attempts(comm, LossError()), pytest.fail)
    assert comm.seen == ["attempt on 3", "attempt on 3"]
    assert not caplog.records
