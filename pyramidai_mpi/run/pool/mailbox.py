"""A rank's messages about slides: any thread leaves them here, the main thread sends and receives them.

What a rank has done goes to the slides' owners in chunks, by size or by time, so that one owner can serve many ranks.
"""

from __future__ import annotations

import threading
import time
from collections import deque
from typing import TYPE_CHECKING, TypeVar

from pyramidai_mpi.base.errors import LostRankError
from pyramidai_mpi.base.types import TILE_DTYPE
from pyramidai_mpi.run.pool.messages import Kind, SlideDescription, decode, encode, records, untagged

if TYPE_CHECKING:
    from collections.abc import Callable

    import numpy as np

    from pyramidai_mpi.base.types import TileArray
    from pyramidai_mpi.sched.transport import Transport

T = TypeVar("T")

MOST_BYTES = 64 << 20
"""Of messages that wait to be sent or taken; who has more to send waits, so that memory stays as it is."""
CHUNK_BYTES = 64 << 10
CHUNK_S = 0.2
"""A chunk is sent when it is so large or so old. Of 1000 ranks an owner takes 5000 messages a second at most."""


class Mailbox:
    """Messages about slides between this rank and the others, itself included.

    Parameters
    ----------
    transport
        Carries them; used by the main thread only.
    receive
        Called by `exchange` with (source, kind, slide, payload) for every message to an owner, and to rank 0.
    owner_of
        Rank that owns a slide.
    has_room
        Whether more messages may be received now.
    task
        What an analysis says of a tile before it is done.

    Attributes
    ----------
    wake
        Called when the worker begins to wait for an answer, so that the main thread comes at once.
    """

    def __init__(
        self,
        transport: Transport,
        receive: Callable[[int, Kind, int, bytes], None],
        owner_of: Callable[[int], int],
        has_room: Callable[[], bool] = lambda: True,
        task: np.dtype[np.void] = TILE_DTYPE,
    ) -> None:
        self._transport = transport
        self._receive = receive
        self._owner_of = owner_of
        self._has_room = has_room
        self._task = task
        self._outgoing: deque[tuple[int, bytes]] = deque()
        self._chunks: dict[int, _Chunk] = {}
        self._chunks_lock = threading.Lock()
        self._descriptions: dict[int, tuple[int, SlideDescription]] = {}
        self._beginnings: dict[int, tuple[int, TileArray]] = {}
        self._ended: set[int] = set()
        self._is_lost = False
        self._is_asked_for = False
        self.wake: Callable[[], object] = lambda: None
        self._answer_came = threading.Condition()
        self._under_way = self._unconfirmed = 0
        self._bytes_left = threading.Condition()

    def send(self, destination: int, kind: Kind, slide: int, payload: bytes = b"") -> None:
        """Leave a message to be sent. From any thread."""
        message = encode(kind, slide, payload)
        with self._bytes_left:
            self._under_way += len(message)
        self._outgoing.append((destination, message))

    def send_to_owner(self, kind: Kind, slide: int, payload: bytes = b"") -> None:
        """Leave a message for the slide's owner. From any thread."""
        self.send(self._owner_of(slide), kind, slide, payload)

    def send_in_chunks(self, slide: int, batch: bytes) -> None:
        """Leave a batch for the slide's owner, to travel with others. From any thread but the main one.

        Waits while too much is under way.
        """
        with self._bytes_left:
            # a rank whose main thread fails ends the whole job, so this cannot wait for ever
            self._bytes_left.wait_for(lambda: self._under_way < MOST_BYTES or self._is_lost)
            self._under_way += len(batch)
        with self._chunks_lock:
            self._chunks.setdefault(slide, _Chunk(time.monotonic())).add(batch)

    def has_ended(self, slide: int) -> bool:
        """Whether the owner has said that nothing more is wanted of a slide."""
        return slide in self._ended

    def description(self, slide: int) -> tuple[int, SlideDescription]:
        """Tag and description of a slide, waiting for the owner's answer. From the worker thread.

        Raises
        ------
        LostRankError
            When ranks were lost, so that nobody may answer.
        """
        self.send_to_owner(Kind.ASK, slide)
        return self._answer(self._descriptions, slide)

    def beginning(self, slide: int) -> tuple[int, TileArray]:
        """Tag of a slide that this rank has opened, and the tiles to begin with; waits for the owner.

        Raises
        ------
        LostRankError
            As `description`.
        """
        return self._answer(self._beginnings, slide)

    def give_up(self) -> None:
        """Ranks were lost: whoever waits for an answer, or will, gets an error."""
        with self._answer_came:
            self._is_lost = True
            self._answer_came.notify_all()
        with self._bytes_left:
            self._bytes_left.notify_all()

    def exchange(self, *, flush: bool = False) -> None:
        """Send what was left here and take what has arrived. From the main thread.

        Parameters
        ----------
        flush
            Send also chunks that would wait for more.
        """
        self._send_chunks(flush=flush)
        while self._outgoing:
            destination, message = self._outgoing[0]
            to_itself = destination == self._transport.rank
            if to_itself and not self._has_room():
                break
            self._outgoing.popleft()
            if to_itself:
                self._open(destination, message)
                self._has_left(len(message))
            else:
                self._transport.send(destination, message)
                self._unconfirmed += len(message)
        while self._has_room() and (arrived := self._transport.receive()) is not None:
            self._open(*arrived)
        if self._transport.all_sent():
            self._has_left(self._unconfirmed)
            self._unconfirmed = 0

    def is_empty(self) -> bool:
        """Whether everything left here so far has been taken by its receiver. From the main thread."""
        return not self._outgoing and not self._chunks and self._transport.all_sent()

    def is_waiting(self) -> bool:
        """Whether the worker waits for an answer, or so much is under way that MPI moves it only while it is called.

        From the main thread.
        """
        return self._is_asked_for or bool(self._outgoing) or self._unconfirmed > CHUNK_BYTES

    def _has_left(self, n_bytes: int) -> None:
        """So many bytes are no longer under way."""
        if n_bytes:
            with self._bytes_left:
                self._under_way -= n_bytes
                self._bytes_left.notify_all()

    def _send_chunks(self, *, flush: bool) -> None:
        now = time.monotonic()
        with self._chunks_lock:
            due = [slide for slide, chunk in self._chunks.items() if flush or chunk.is_due(now)]
            whole = [(slide, self._chunks.pop(slide)) for slide in due]
        for slide, chunk in whole:
            payload = b"".join(chunk.batches)
            self.send_to_owner(Kind.RECORDS, slide, payload)
            self._has_left(len(payload))  # and counts as a message now

    def _open(self, source: int, message: bytes | bytearray) -> None:
        kind, slide, payload = decode(message)
        match kind:
            case Kind.DESCRIPTION:
                tag, rest = untagged(payload)
                self._keep(self._descriptions, slide, (tag, SlideDescription.from_bytes(rest)))
            case Kind.BEGIN:
                tag, rest = untagged(payload)
                self._keep(self._beginnings, slide, (tag, records(rest, self._task)))
            case Kind.ENDED:
                self._ended.add(slide)
            case _:
                self._receive(source, kind, slide, payload)

    def _keep(self, answers: dict[int, T], slide: int, answer: T) -> None:
        with self._answer_came:
            answers[slide] = answer
            self._answer_came.notify_all()

    def _answer(self, answers: dict[int, T], slide: int) -> T:
        self._is_asked_for = True
        self.wake()
        with self._answer_came:
            # a rank whose main thread fails ends the whole job, so this cannot wait for ever
            self._answer_came.wait_for(lambda: slide in answers or self._is_lost)
            self._is_asked_for = False
            if slide not in answers:
                raise LostRankError(f"no answer about slide {slide}: its owner may be lost")
            return answers.pop(slide)


class _Chunk:
    """Batches of one slide that wait for more."""

    def __init__(self, begun: float) -> None:
        self.batches: list[bytes] = []
        self._begun = begun
        self._bytes = 0

    def add(self, batch: bytes) -> None:
        self.batches.append(batch)
        self._bytes += len(batch)

    def is_due(self, now: float) -> bool:
        return self._bytes >= CHUNK_BYTES or now - self._begun >= CHUNK_S
