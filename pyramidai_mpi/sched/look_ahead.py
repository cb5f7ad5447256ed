"""The thread of a rank that prepares tasks before their turn.

It looks, without taking, at the batch that the worker would take next, and prepares it in small portions, looking again
before each: the queue may have changed. So a task stays anybody's until its batch is taken, and what a thief costs is
the preparation of the tasks that it takes. Where nothing came of the last portion, preparing costs next to nothing, and
the whole batch is one: each portion wakes this thread, which may share its core with the worker. Results wait in a
bounded store, the oldest making room.
"""

from __future__ import annotations

import threading
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Callable

    from pyramidai_mpi.sched.state import RankState
    from pyramidai_mpi.sched.workload import Prepares, Tasks

PORTION = 4
"""Tasks prepared between two looks at the queue."""
STORED_BATCHES = 4
"""Results kept, in batches: the next batch of each level of a pyramid of four, as children go before their elders."""


class LookAhead(threading.Thread):
    """Prepares what the worker is likely to take next.

    Parameters
    ----------
    state, lock
        The state, and what guards it.
    workload
        What prepares.
    on_failure
        Called with what `prepare` raised; the thread has ended then.
    """

    def __init__(
        self,
        state: RankState,
        lock: threading.Lock,
        workload: Prepares,
        batch_size: int,
        on_failure: Callable[[BaseException], None],
    ) -> None:
        super().__init__(name="pyramidai-look-ahead", daemon=True)
        self._state = state
        self._lock = lock
        self._prepare = workload.prepare
        self._most = STORED_BATCHES * batch_size
        self._portion = PORTION
        self._on_failure = on_failure
        self._changed = threading.Condition()
        self._looks = 0  # how often the queue may have changed
        self._closing = False
        self._results: dict[bytes, Any] = {}
        self._in_work: frozenset[bytes] = frozenset()

    def look_again(self) -> None:
        """The queue has changed."""
        with self._changed:
            self._looks += 1
            self._changed.notify_all()

    def collect(self, tasks: Tasks) -> list[Any]:
        """Results of `tasks` (n,), None where there is none; waits for those being prepared now."""
        keys = _keys(tasks)
        with self._changed:
            while self.is_alive() and not self._in_work.isdisjoint(keys):
                self._changed.wait()
            return [self._results.pop(key, None) for key in keys]

    def close(self) -> None:
        """Let the thread end, after its portion if it has one, and wait for that."""
        with self._changed:
            self._closing = True
            self._changed.notify_all()
        self.join()

    def run(self) -> None:
        """Body of the thread."""
        try:
            self._work()
        except BaseException as failure:  # handed to the main thread, which ends the job with it
            self._on_failure(failure)
        finally:
            with self._changed:
                self._in_work = frozenset()
                self._changed.notify_all()

    def _work(self) -> None:
        while not self._closing:
            looks = self._looks
            portion = self._next_portion()
            if portion is None:
                with self._changed:
                    while self._looks == looks and not self._closing:
                        self._changed.wait()
                continue
            results = self._prepare(portion)
            keys = _keys(portion)
            if len(results) != len(keys):
                raise ValueError(f"prepare() returned {len(results)} results for {len(keys)} tasks")
            self._portion = self._most if all(result is None for result in results) else PORTION
            with self._changed:
                self._results.update(zip(keys, results, strict=True))
                self._in_work = frozenset()
                while len(self._results) > self._most:
                    del self._results[next(iter(self._results))]
                self._changed.notify_all()

    def _next_portion(self) -> Tasks | None:
        """Tasks to prepare now, marked as being in work; None when the next batch is prepared, or there is none."""
        with self._lock:
            tasks = self._state.peek_batch()
            if tasks is None:
                return None
            # marked before the lock is given back, so that the worker cannot take them unseen in between
            with self._changed:
                missing = [place for place, key in enumerate(_keys(tasks)) if key not in self._results]
                portion = tasks[missing[: self._portion]].copy()
                self._in_work = frozenset(_keys(portion))
        return portion if missing else None


def _keys(tasks: Tasks) -> list[bytes]:
    return [task.tobytes() for task in tasks]
