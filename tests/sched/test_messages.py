"""Every message survives the wire, and nothing that is not a message does."""

from __future__ import annotations

from dataclasses import fields

import numpy as np
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from pyramidai_mpi.base.errors import InternalError
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
    decode,
    encode,
)

TASK = np.dtype([("level", "u1"), ("col", ">u4")])
TASKS = np.array([(1, 2), (3, 4)], TASK)
MESSAGES = [
    StealRequest(2**40),
    StealReply(7, TASKS),
    StealReply(8, TASKS[:0]),
    Lifeline(wanted=True),
    Lifeline(wanted=False),
    Push(TASKS[::-1]),
    CensusAsk(3, stopping=True),
    CensusAnswer(3, Counts(10**12, 2, 3, 4, 5)),
    CensusAnswer(4, Counts(1, 2, 3, 4, 5, tally=(10**15, -1, 0))),
    RankIsIdle(),
    StopAsked(),
    Finished(stopped=False),
]


@pytest.mark.parametrize("message", MESSAGES, ids=lambda message: type(message).__name__)
def test_a_message_arrives_as_it_was_sent(message):
    arrived = decode(encode(message), TASK)
    assert type(arrived) is type(message)
    for field in fields(message):
        sent, got = getattr(message, field.name), getattr(arrived, field.name)
        assert (got == sent).all() if isinstance(sent, np.ndarray) else got == sent


@pytest.mark.parametrize("message", MESSAGES, ids=lambda message: type(message).__name__)
@pytest.mark.parametrize("change", [lambda d: d[:-1], lambda d: d + b"x", lambda d: d[:7], lambda d: b"\xff" + d[1:]])
def test_a_damaged_message_is_refused(message, change):
    with pytest.raises(InternalError, match=r"message|tasks"):
        decode(change(encode(message)), TASK)


def test_a_message_without_tasks_has_16_bytes():
    assert len(encode(StealRequest(1))) == 16
    assert len(encode(StealReply(1, TASKS))) == 16 + 2 * TASK.itemsize


@given(st.binary(max_size=80))
@example(b"")
def test_any_bytes_are_a_message_or_refused_and_a_message_says_what_it_was_sent_as(data):
    try:
        message = decode(data, TASK)
    except InternalError:
        return
    again = encode(message)
    assert len(again) == len(data)
    assert (again[0], again[16:]) == (data[0], data[16:])  # kind, tasks or counts
