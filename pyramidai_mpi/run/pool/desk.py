"""A rank's owner in real time: one thread takes its messages, another one finishes slides."""

from __future__ import annotations

import logging
import threading
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import suppress
from typing import TYPE_CHECKING, Any

from pyramidai_mpi.base.errors import PyramidError
from pyramidai_mpi.run.pool.messages import SlideEnd

if TYPE_CHECKING:
    from collections.abc import Callable

    from pyramidai_mpi.run.pool.messages import Kind
    from pyramidai_mpi.run.pool.owner import Collected, Owner

log = logging.getLogger(__name__)

_MOST_BYTES = 64 << 20
"""Of messages that wait for the owner's thread; more are left where they are."""


class OwnerDesk:
    """Does what an owner has to do beside the thread that answers steals.

    Journals are read and records are taken in by one thread; result files are written by another, so that a large file
    keeps nobody waiting for an answer.

    Parameters
    ----------
    write
        Called with (slide, collected) by the writing thread; returns how the slide has ended, as does what it raises.
    name
        Of a slide, for messages.
    """

    def __init__(self, write: Callable[[int, Collected], SlideEnd], name: Callable[[int], str]) -> None:
        self.owner: Owner
        self._write = write
        self._name = name
        self._desk = ThreadPoolExecutor(1, thread_name_prefix="pyramidai-owner")
        self._writer = ThreadPoolExecutor(1, thread_name_prefix="pyramidai-writer")
        self._lock = threading.Lock()
        self._pending: list[Future[Any]] = []
        self._waiting: dict[int, Collected] = {}
        self._bytes = 0

    def receive(self, source: int, kind: Kind, slide: int, payload: bytes) -> None:
        """Take a message about an owned slide. From the main thread."""
        with self._lock:
            self._bytes += len(payload)
        self._submit(self._desk, self._handle, source, kind, slide, payload)

    def do(self, action: Callable[..., None], *arguments: Any) -> None:
        """Have something done by the owner's thread, after what came before."""
        self._submit(self._desk, action, *arguments)

    def has_room(self) -> bool:
        """Whether more messages may be taken in: pictures come faster than a slow disk takes them."""
        return self._bytes < _MOST_BYTES

    def finish(self, slide: int, collected: Collected) -> None:
        """Have the result of a complete slide written. From the owner's thread."""
        self._waiting[slide] = collected
        self._submit(self._writer, self._finish, slide)

    def is_idle(self) -> bool:
        """Whether nothing that came so far is left to be done.

        Raises
        ------
        Exception
            What went wrong in one of the threads.
        """
        with self._lock:
            done = [future for future in self._pending if future.done()]
            self._pending = [future for future in self._pending if not future.done()]
            left = len(self._pending)
        for future in done:
            future.result()
        return left == 0

    def close(self) -> None:
        """End both threads, after what they have in hand; slides whose writing has not begun are let go of."""
        self._desk.shutdown(cancel_futures=True)
        self._writer.shutdown(cancel_futures=True)
        for collected in self._waiting.values():
            with suppress(PyramidError):
                collected.close()
        if self.owner.n_stale:
            log.debug("%d batches came for slides that had ended badly", self.owner.n_stale)

    def _handle(self, source: int, kind: Kind, slide: int, payload: bytes) -> None:
        try:
            self.owner.handle(source, kind, slide, payload)
        finally:
            with self._lock:
                self._bytes -= len(payload)

    def _finish(self, slide: int) -> None:
        try:
            end = self._write(slide, self._waiting.pop(slide))
        except Exception as error:  # ends this slide, not the others
            end = SlideEnd.by(error, self._name(slide))
        self._submit(self._desk, self.owner.has_finished, slide, end)

    def _submit(self, thread: ThreadPoolExecutor, action: Callable[..., None], *arguments: Any) -> None:
        with self._lock:
            self._pending.append(thread.submit(action, *arguments))
