"""How far a training is: one live line where there is a terminal, a line every few seconds where there is none."""

from __future__ import annotations

import sys
import time
from typing import TYPE_CHECKING

import click

from pyramidai_mpi.cli.launcher import terminal_width
from pyramidai_mpi.cli.progress import time_in_words

if TYPE_CHECKING:
    from types import TracebackType

    from pyramidai_mpi.training.exact.loop import TrainingProgress

_SECONDS_BETWEEN_LINES = 5.0
_SECONDS_BETWEEN_LOOKS = 0.1
_SURE_AFTER_S = 2.0
"""Before, the speed says little about the time that is left."""


class TrainingLine:
    """Shows how far a training is, on the rank that makes one: rank 0.

    ```
    with TrainingLine(quiet=order.quiet or rank != 0) as line:
        line.begin("level 0", epochs=10, steps=25)
        ... TrainingProgress after each step: line.show(progress)
    ```

    Parameters
    ----------
    quiet
        Show nothing but what is said by `say`.
    """

    def __init__(self, *, quiet: bool = False) -> None:
        self._columns = None if quiet else terminal_width()
        self._quiet = quiet
        self._what, self._epochs, self._steps = "", 0, 0
        self._began, self._first = time.monotonic(), 0
        self._last = -1e9
        self._is_shown = False

    def __enter__(self) -> TrainingLine:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def begin(self, what: str, epochs: int, steps: int, done: int = 0) -> None:
        """A training begins, or goes on.

        Parameters
        ----------
        what
            What is trained, such as ``level 0``; may be empty.
        epochs, steps
            How many epochs there will be at most, and steps in each.
        done
            Steps of all epochs that are done already.
        """
        self._what, self._epochs, self._steps = what, epochs, steps
        self._began, self._first = time.monotonic(), done

    def show(self, progress: TrainingProgress) -> None:
        """Take in how far it is."""
        now = time.monotonic()
        if self._quiet or now - self._last < self._pause():
            return
        self._last = now
        self._write(self.in_words(progress, now))

    def phase(self, what: str) -> None:
        """Something else is done that takes a while, such as reading tiles."""
        now = time.monotonic()
        if not self._quiet and now - self._last >= self._pause():
            self._last = now
            self._write(f"{what} ...")

    def in_words(self, progress: TrainingProgress, now: float) -> str:
        """The line."""
        done = progress.epoch * self._steps + progress.step
        words = [
            f"epoch {progress.epoch + 1}/{self._epochs}",
            f"step {progress.step}/{self._steps}",
            f"loss {progress.loss:.4f}",
            f"{progress.units_per_s:.{0 if progress.units_per_s >= 10 else 1}f} units/s",
            f"busiest/ideal {progress.busiest_over_ideal:.2f}",
        ]
        if now - self._began >= _SURE_AFTER_S and done > self._first:
            left = (now - self._began) / (done - self._first) * (self._epochs * self._steps - done)
            words.append(f"about {time_in_words(left)} left")
        return ", ".join([self._what, *words] if self._what else words)

    def say(self, line: str) -> None:
        """Print a line that stays."""
        self._clear()
        click.echo(line)

    def close(self) -> None:
        """Leave the terminal as it was."""
        self._clear()

    def _pause(self) -> float:
        return _SECONDS_BETWEEN_LINES if self._columns is None else _SECONDS_BETWEEN_LOOKS

    def _write(self, line: str) -> None:
        if self._columns is None:
            click.echo(line, err=True)
            return
        shown = line if len(line) < self._columns else line[: self._columns - 1]
        sys.stderr.write(f"\r\x1b[2K{shown}")
        sys.stderr.flush()
        self._is_shown = True

    def _clear(self) -> None:
        if self._is_shown:
            sys.stderr.write("\r\x1b[2K")
            sys.stderr.flush()
            self._is_shown = False
