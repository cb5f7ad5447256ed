"""Stopping early: on a signal, or in time before the job's end."""

from __future__ import annotations

import math
import os
import re
import signal
import time
from contextlib import contextmanager
from typing import TYPE_CHECKING

from pyramidai_mpi.base.errors import StoppedError, UsageError

if TYPE_CHECKING:
    from collections.abc import Iterator
    from types import FrameType

SIGNALS = (signal.SIGTERM, signal.SIGINT, signal.SIGUSR1)
STOP_BEFORE_END_S = 65.0
"""A minute, and what the last batch and the way out take."""
_SLURM_END = "SLURM_JOB_END_TIME"
_UNITS = {"s": 1.0, "m": 60.0, "h": 3600.0, "d": 86400.0}


class StopWish:
    """Whether the run is to stop.

    A signal that arrives while the ranks analyse is remembered, and `is_asked` tells the scheduler. At any other time
    it raises KeyboardInterrupt, which ends all ranks at once. Once the ranks are on their way out, signals do nothing.

    Parameters
    ----------
    end
        When the job is ended from outside, in seconds of `time.monotonic`: setting a clock ends or prolongs nothing.
    why
        What to say of that.
    """

    def __init__(self, end: float = math.inf, why: str = "") -> None:
        self.reason = ""
        """Why to stop, in words; empty as long as this rank has no reason of its own."""
        self._end, self._end_reason = end, why
        self._signalled = False
        self._waits_for_batches = False
        self._leaving = False

    @classmethod
    def of_job(cls, limit_s: float | None = None) -> StopWish:
        """With the end that SLURM or the user has set, whichever comes first.

        Parameters
        ----------
        limit_s
            Seconds from now on that the job may last, None for any time.
        """
        ends = [] if limit_s is None else [(time.monotonic() + limit_s, "the time limit is near")]
        slurm_end = os.environ.get(_SLURM_END, "")
        if slurm_end.isdigit():
            left_s = float(slurm_end) - time.time()  # once: whoever sets the clock later does not move the job's end
            ends.append((time.monotonic() + left_s, "the end of the SLURM job is near"))
        return cls(*min(ends)) if ends else cls()

    def is_asked(self) -> bool:
        """Whether the run is to stop, as far as this rank knows."""
        if not self._signalled and time.monotonic() > self._end - STOP_BEFORE_END_S:
            self.reason = self.reason or self._end_reason
        return bool(self.reason)

    @contextmanager
    def letting_batches_finish(self) -> Iterator[None]:
        """Wait for the current batches instead of ending at once: for the time in which `is_asked` is polled.

        Raises
        ------
        KeyboardInterrupt
            At the end, when a signal came too late for that.
        """
        self._waits_for_batches = True
        try:
            yield
        finally:
            self._waits_for_batches = False
        if self._signalled and not self._leaving:
            raise KeyboardInterrupt

    def leave(self) -> None:
        """All ranks have agreed to stop: from now on signals do nothing."""
        self._leaving = True

    def listen(self) -> None:
        """Take over the signals of this process, for good: at its end the second of two must not kill it."""
        for number in SIGNALS:
            signal.signal(number, self._hear)

    def _hear(self, number: int, _frame: FrameType | None) -> None:
        if self._leaving:
            return
        self._signalled = True
        self.reason = f"{signal.Signals(number).name} was received"
        if not self._waits_for_batches:
            raise KeyboardInterrupt


def stopped_error(kept: str, reason: str) -> StoppedError:
    """What to raise on all ranks when all have stopped.

    Parameters
    ----------
    kept
        What is done, in words.
    reason
        Why, as far as this rank knows (`StopWish.reason`).
    """
    error = StoppedError(
        f"{reason or 'another rank was told to stop'}: {kept}; the same command with --resume goes on from there"
    )
    error.agreed = True
    return error


def parse_duration(text: str) -> float:
    """Seconds of a time limit: ``5400``, ``90s``, ``30m``, ``2h``, ``1h30m``, ``90:00``, ``1:30:00`` or ``1-12:00:00``.

    Raises
    ------
    UsageError
        When it is none of these, or too short for a run that stops a minute before it.
    """
    seconds = _seconds_of(text.strip().lower())
    if seconds is None:
        raise UsageError(f"--time-limit {text}: expected a time such as 30m, 2h, 1:30:00 or seconds")
    if seconds <= STOP_BEFORE_END_S:
        raise UsageError(
            f"--time-limit {text}: a run stops {STOP_BEFORE_END_S:.0f} s before its limit, so this leaves no time"
        )
    return seconds


def _seconds_of(text: str) -> float | None:
    if re.fullmatch(r"(\d+-)?\d+(:\d{1,2}){1,2}|\d+-\d+", text):
        days, _, clock = text.rpartition("-")
        # SLURM's forms: minutes:seconds, hours:minutes:seconds, days-hours[:minutes[:seconds]]
        parts = [float(part) for part in clock.split(":")]
        parts = [*parts, 0.0, 0.0][:3] if days else [0.0] * (3 - len(parts)) + parts
        return float(days or 0) * 86400 + parts[0] * 3600 + parts[1] * 60 + parts[2]
    if re.fullmatch(r"\d+(\.\d+)?", text):
        return float(text)
    if re.fullmatch(r"(\d+(\.\d+)?[dhms])+", text):
        return sum(float(number) * _UNITS[unit] for number, unit in re.findall(r"([\d.]+)([dhms])", text))
    return None


def was_interrupted(error: BaseException) -> bool:
    """Whether an error is what a library has made of KeyboardInterrupt, as extensions do while they are imported."""
    cause: BaseException | None = error
    while cause is not None and not isinstance(cause, KeyboardInterrupt):
        cause = cause.__cause__
    return cause is not None
