"""A rank's post office: the worker thread drops messages, the main thread carries them."""

from __future__ import annotations

import threading
from collections import deque
from typing import TYPE_CHECKING

from pyramidai_mpi.base.types import TILE_DTYPE
from pyramidai_mpi.run.pool.messages import Kind, Passport, decode, encode, records

if TYPE_CHECKING:
    from collections.abc import Callable

    from pyramidai_mpi.base.types import TileArray
    from pyramidai_mpi.sched.transport import Transport


class Post:
    """Messages about slides between this rank and the others, itself included.

    Parameters
    ----------
    transport
        Carries them; used by the main thread only.
    receive
        Called by `carry` with (source, kind, slide, payload) for every message that is no owner's answer.
    owner_of
        Rank that owns a slide.
    """

    def __init__(
        self,
        transport: Transport,
        receive: Callable[[int, Kind, int, bytes], None],
        owner_of: Callable[[int], int],
    ) -> None:
        self._transport = transport
        self._receive = receive
        self._owner_of = owner_of
        self._outgoing: deque[tuple[int, bytes]] = deque()
        self._passports: dict[int, Passport] = {}
        self._first_tiles: dict[int, TileArray] = {}
        self._answer_came = threading.Condition()

    def drop(self, destination: int, kind: Kind, slide: int, payload: bytes = b"") -> None:
        """Leave a message to be carried. From any thread."""
        self._outgoing.append((destination, encode(kind, slide, payload)))

    def to_owner(self, kind: Kind, slide: int, payload: bytes = b"") -> None:
        """Leave a message for the slide's owner. From any thread."""
        self.drop(self._owner_of(slide), kind, slide, payload)

    def _keep_passport(self, slide: int, passport: Passport) -> None:
        with self._answer_came:
            self._passports[slide] = passport
            self._answer_came.notify_all()

    def forget_passport(self, slide: int) -> None:
        """Free a passport's memory; it can be asked for again."""
        with self._answer_came:
            self._passports.pop(slide, None)

    def passport(self, slide: int) -> Passport:
        """The slide's passport, waiting for the owner's answer if need be. From the worker thread."""
        with self._answer_came:
            if slide not in self._passports:
                self.to_owner(Kind.ASK, slide)
            # a rank whose main thread fails ends the whole job, so this cannot wait for ever
            self._answer_came.wait_for(lambda: slide in self._passports)
            return self._passports[slide]

    def first_tiles(self, slide: int) -> TileArray:
        """Tiles to begin a slide with, in answer to its passport; waits for the owner. From the worker thread."""
        with self._answer_came:
            self._answer_came.wait_for(lambda: slide in self._first_tiles)
            return self._first_tiles.pop(slide)

    def carry(self) -> bool:
        """Send what was dropped and take what has arrived; whether there was anything. From the main thread."""
        something = False
        while self._outgoing:
            something = True
            destination, message = self._outgoing.popleft()
            if destination == self._transport.rank:
                self._open(destination, message)
            else:
                self._transport.send(destination, message)
        while (arrived := self._transport.receive()) is not None:
            something = True
            self._open(*arrived)
        self._transport.all_sent()
        return something

    def all_carried(self) -> bool:
        """Whether everything dropped so far has been taken by its receiver."""
        return not self._outgoing and self._transport.all_sent()

    def _open(self, source: int, message: bytes | bytearray) -> None:
        kind, slide, payload = decode(message)
        if kind is Kind.PASSPORT:
            self._keep_passport(slide, Passport.from_bytes(payload))
        elif kind is Kind.BEGIN:
            with self._answer_came:
                self._first_tiles[slide] = records(payload, TILE_DTYPE)
                self._answer_came.notify_all()
        else:
            self._receive(source, kind, slide, payload)
