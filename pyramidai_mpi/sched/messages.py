"""What ranks tell each other, and its form on the wire.

A message is a header of 16 bytes (kind, flag, identity) and a payload: task records, or the counts of a census. Nothing
is pickled, and every length is checked on receipt. All integers are little endian; tasks travel in the byte order of
their dtype.
"""

from __future__ import annotations

import struct
from dataclasses import dataclass
from enum import IntEnum
from itertools import zip_longest
from typing import TYPE_CHECKING, Any, TypeAlias

import numpy as np

from pyramidai_mpi.base.errors import InternalError

if TYPE_CHECKING:
    from pyramidai_mpi.sched.workload import Tasks


@dataclass(frozen=True, slots=True)
class Counts:
    """State of one rank, or the sum over several.

    Attributes
    ----------
    created : int
        Tasks that came into being here: roots and children.
    completed : int
        Tasks expanded here, wherever they came from.
    queued : int
        Tasks in the queue.
    idle : int
        1 if nothing is queued or computed here.
    frozen : int
        1 if the rank has heard of the stop and computes nothing: it will never again expand or send tasks.
    tally : tuple of int
        What the workload counts of its own, see `workload.Tallies`; empty for nothing.
    """

    created: int = 0
    completed: int = 0
    queued: int = 0
    idle: int = 0
    frozen: int = 0
    tally: tuple[int, ...] = ()

    def __add__(self, other: Counts) -> Counts:
        return Counts(
            self.created + other.created,
            self.completed + other.completed,
            self.queued + other.queued,
            self.idle + other.idle,
            self.frozen + other.frozen,
            tuple(a + b for a, b in zip_longest(self.tally, other.tally, fillvalue=0)),
        )

    @property
    def numbers(self) -> tuple[int, ...]:
        """All of them, the tally last."""
        return (self.created, self.completed, self.queued, self.idle, self.frozen, *self.tally)

    @property
    def outstanding(self) -> int:
        """Tasks created and not completed, as far as these counts know."""
        return self.created - self.completed


@dataclass(frozen=True, slots=True)
class StealRequest:
    """Thief to victim: give me work. `identity` numbers the requests of one thief."""

    identity: int


@dataclass(frozen=True, slots=True, eq=False)
class StealReply:
    """Victim to thief: `tasks` (n,), n >= 0, in answer to the request with this `identity`."""

    identity: int
    tasks: Tasks


@dataclass(frozen=True, slots=True)
class Lifeline:
    """Neighbour to neighbour: send me work when you have some (`wanted`), or no longer."""

    wanted: bool


@dataclass(frozen=True, slots=True, eq=False)
class Push:
    """Neighbour to neighbour: `tasks` (n,), n >= 1, for the lifeline you hold; the lifeline is used up by it."""

    tasks: Tasks


@dataclass(frozen=True, slots=True)
class CensusAsk:
    """Down the tree: count yourselves, for the wave of this number; `stopping` tells that the run is to stop."""

    wave: int
    stopping: bool


@dataclass(frozen=True, slots=True)
class CensusAnswer:
    """Up the tree: the sum of counts over the sender's subtree."""

    wave: int
    counts: Counts


@dataclass(frozen=True, slots=True)
class RankIsIdle:
    """Up the tree: a rank of the sender's subtree has nothing to do, a census may be worth while."""


@dataclass(frozen=True, slots=True)
class StopAsked:
    """To rank 0: this rank was told to stop."""


@dataclass(frozen=True, slots=True)
class Finished:
    """Down the tree: all is over; `stopped` when tasks are left undone."""

    stopped: bool


Message: TypeAlias = (
    StealRequest | StealReply | Lifeline | Push | CensusAsk | CensusAnswer | RankIsIdle | StopAsked | Finished
)


class _Kind(IntEnum):
    STEAL_REQUEST = 1
    STEAL_REPLY = 2
    LIFELINE = 3
    PUSH = 4
    CENSUS_ASK = 5
    CENSUS_ANSWER = 6
    STOP_ASKED = 7
    FINISHED = 8
    RANK_IS_IDLE = 9


_HEADER = struct.Struct("<BB6xQ")
_COUNT_BYTES = 8
_FEWEST_COUNTS = len(Counts().numbers)


def encode(message: Message) -> bytes:
    """Bytes of `message`."""
    match message:
        case StealRequest(identity):
            return _HEADER.pack(_Kind.STEAL_REQUEST, 0, identity)
        case StealReply(identity, tasks):
            return _HEADER.pack(_Kind.STEAL_REPLY, 0, identity) + tasks.tobytes()
        case Lifeline(wanted):
            return _HEADER.pack(_Kind.LIFELINE, wanted, 0)
        case Push(tasks):
            return _HEADER.pack(_Kind.PUSH, 0, 0) + tasks.tobytes()
        case CensusAsk(wave, stopping):
            return _HEADER.pack(_Kind.CENSUS_ASK, stopping, wave)
        case CensusAnswer(wave, counts):
            return _HEADER.pack(_Kind.CENSUS_ANSWER, 0, wave) + struct.pack(f"<{len(counts.numbers)}q", *counts.numbers)
        case RankIsIdle():
            return _HEADER.pack(_Kind.RANK_IS_IDLE, 0, 0)
        case StopAsked():
            return _HEADER.pack(_Kind.STOP_ASKED, 0, 0)
        case Finished(stopped):
            return _HEADER.pack(_Kind.FINISHED, stopped, 0)


def decode(data: bytes | bytearray, dtype: np.dtype[Any]) -> Message:
    """Message of `data`; tasks are of `dtype`.

    Raises
    ------
    InternalError
        Too short or too long for its kind, tasks cut off, or of no known kind.
    """
    if len(data) < _HEADER.size:
        raise InternalError(f"a message of {len(data)} bytes is shorter than its header of {_HEADER.size}")
    kind, flag, identity = _HEADER.unpack_from(data)
    payload = memoryview(data)[_HEADER.size :]
    if kind in (_Kind.STEAL_REPLY, _Kind.PUSH):
        if len(payload) % dtype.itemsize:
            raise InternalError(f"{len(payload)} bytes of tasks are no multiple of {dtype.itemsize}")
        tasks = np.frombuffer(payload, dtype)
        return StealReply(identity, tasks) if kind == _Kind.STEAL_REPLY else Push(tasks)
    n_counts, rest = divmod(len(payload), _COUNT_BYTES)
    if rest or (n_counts < _FEWEST_COUNTS if kind == _Kind.CENSUS_ANSWER else n_counts):
        raise InternalError(f"a message of kind {kind} has a payload of {len(payload)} bytes")
    match kind:
        case _Kind.STEAL_REQUEST:
            return StealRequest(identity)
        case _Kind.LIFELINE:
            return Lifeline(bool(flag))
        case _Kind.CENSUS_ASK:
            return CensusAsk(identity, bool(flag))
        case _Kind.CENSUS_ANSWER:
            numbers = struct.unpack(f"<{n_counts}q", payload)
            created, completed, queued, idle, frozen, *tally = numbers
            return CensusAnswer(identity, Counts(created, completed, queued, idle, frozen, tuple(tally)))
        case _Kind.RANK_IS_IDLE:
            return RankIsIdle()
        case _Kind.STOP_ASKED:
            return StopAsked()
        case _Kind.FINISHED:
            return Finished(bool(flag))
        case _:
            raise InternalError(f"a message is of the unknown kind {kind}")
