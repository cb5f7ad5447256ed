"""The thread of a rank that computes.

It takes its next batch itself, under the lock that guards the state, so that no batch waits for the main thread to wake
up. The two threads wake each other with bells.
"""

from __future__ import annotations

import threading
import time
from typing import TYPE_CHECKING, Any

from pyramidai_mpi.sched.look_ahead import LookAhead
from pyramidai_mpi.sched.workload import Prepares, Tasks, checked_tasks

if TYPE_CHECKING:
    import numpy as np

    from pyramidai_mpi.sched.history import History
    from pyramidai_mpi.sched.state import RankState
    from pyramidai_mpi.sched.workload import Workload


class Bell:
    """Wakes one waiting thread; a ring before the wait is not lost, two rings count as one.

    A bare lock, since a ring must not be lost when nobody waits yet, and a `threading.Condition` would need a flag and
    a second lock for that. One thread may ring and one may wait.
    """

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._lock.acquire()

    def ring(self) -> None:
        """Wake the waiting thread, or the next one that waits."""
        if self._lock.locked():
            self._lock.release()

    def wait(self, timeout: float = -1) -> bool:
        """Wait for a ring, at most `timeout` seconds (for ever if negative); whether it rang."""
        return self._lock.acquire(timeout=timeout)


class Worker(threading.Thread):
    """Expands batch after batch until it is closed.

    Parameters
    ----------
    state : RankState
        Used under `lock` only.
    history : History
        Where batches are noted.
    main_bell : Bell
        Rung when the state has actions for the main thread, and on a failure.

    Attributes
    ----------
    bell : Bell
        To be rung when the state may have work again.
    busy_s : float
        Wall time inside `expand` so far, seconds.
    failure : BaseException or None
        What `expand` raised; the thread has ended then.
    """

    def __init__(
        self,
        state: RankState,
        lock: threading.Lock,
        workload: Workload,
        dtype: np.dtype[Any],
        history: History,
        main_bell: Bell,
    ) -> None:
        super().__init__(name="pyramidai-worker", daemon=True)
        self.bell = Bell()
        self.busy_s = 0.0
        self.failure: BaseException | None = None
        self._state = state
        self._lock = lock
        self._expand = workload.expand
        self._dtype = dtype
        self._history = history
        self._main_bell = main_bell
        self._closing = False
        self._look_ahead: LookAhead | None = None
        if isinstance(workload, Prepares):
            self._expand_prepared = workload.expand
            self._look_ahead = LookAhead(state, lock, workload, workload.batch_size, self._fail)

    def dismiss(self) -> None:
        """Let the thread end after its batch; does not wait for that."""
        self._closing = True
        self.bell.ring()

    def close(self) -> None:
        """Let the thread end, after its batch if it has one, and wait for that."""
        self._closing = True
        self.bell.ring()
        self.join()
        if self._look_ahead is not None:
            self._look_ahead.close()

    def run(self) -> None:
        """Body of the thread."""
        try:
            if self._look_ahead is not None:
                self._look_ahead.start()
            self._work()
        except BaseException as failure:
            self._fail(failure)

    def _fail(self, failure: BaseException) -> None:
        """Hand `failure` to the main thread, which ends the job with it."""
        self.failure = failure
        self._main_bell.ring()

    def _work(self) -> None:
        children: Tasks | None = None
        while not self._closing:
            with self._lock:
                if children is not None:
                    self._state.finish_batch(children)
                    self._history.note_batch(time.perf_counter(), "batch finished, children", len(children))
                batch = self._state.take_batch()
                self._history.note_batch(time.perf_counter(), "batch taken, tasks", 0 if batch is None else len(batch))
                main_is_needed = self._state.has_actions
            children = None
            if main_is_needed:
                self._main_bell.ring()
            if batch is None:
                self.bell.wait()
                continue
            start = time.perf_counter()
            children = checked_tasks(self._do(batch), self._dtype, "children returned by expand()")
            self.busy_s += time.perf_counter() - start

    def _do(self, batch: Tasks) -> object:
        if self._look_ahead is None:
            return self._expand(batch)
        self._look_ahead.look_again()
        return self._expand_prepared(batch, self._look_ahead.collect(batch))
