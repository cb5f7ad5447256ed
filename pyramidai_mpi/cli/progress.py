"""How far a run is: a bar where there is a terminal, a line every few seconds where there is none."""

from __future__ import annotations

import logging
import sys
import time
from typing import TYPE_CHECKING, NoReturn, Protocol

from tqdm import tqdm

from pyramidai_mpi.cli.launcher import terminal_width

if TYPE_CHECKING:
    from pyramidai_mpi.sched import Progress

log = logging.getLogger(__name__)

_SECONDS_BETWEEN_LINES = 5.0


class ProgressView(Protocol):
    """Something that shows progress."""

    def show(self, progress: Progress) -> None:
        """Take in new counts."""
        ...

    def close(self) -> None:
        """Leave the terminal as it was."""
        ...


class ProgressBar:
    """One bar: tiles done of tiles known, tiles/s, time left, share of idle ranks.

    The number of known tiles grows while the pyramid is descended, so the time left is that of the work known so far.
    """

    def __init__(self, columns: int) -> None:
        self._columns = columns
        self._bar: tqdm[NoReturn] | None = None

    def show(self, progress: Progress) -> None:
        """See `ProgressView.show`."""
        if self._bar is None:  # its clock starts with the first counts, after slide and models were opened
            self._bar = tqdm(unit="tile", file=sys.stderr, ncols=self._columns, smoothing=0.1, leave=False)
        self._bar.total = progress.known
        self._bar.set_postfix_str(f"idle {progress.idle_ranks / progress.ranks:.0%}", refresh=False)
        self._bar.update(progress.done - self._bar.n)

    def close(self) -> None:
        """See `ProgressView.close`."""
        if self._bar is not None:
            self._bar.close()


class ProgressLines:
    """A log line every few seconds."""

    def __init__(self) -> None:
        # the clock of the rate starts with the first counts, after slide and models were opened
        self._started: float | None = None
        self._last = 0.0

    def show(self, progress: Progress) -> None:
        """See `ProgressView.show`."""
        now = time.monotonic()
        if self._started is None:
            self._started = self._last = now
        if not progress.done or now - self._last < _SECONDS_BETWEEN_LINES:
            return
        self._last = now
        rate = progress.done / (now - self._started)
        left = (progress.known - progress.done) / rate
        log.info(
            "%d of %d known tiles, %.0f tiles/s, about %.0f s left for these, %.0f %% of %d ranks idle",
            progress.done,
            progress.known,
            rate,
            left,
            100 * progress.idle_ranks / progress.ranks,
            progress.ranks,
        )

    def close(self) -> None:
        """See `ProgressView.close`."""


def choose_view(*, bar_wanted: bool) -> ProgressView:
    """A bar on a terminal, lines elsewhere."""
    columns = terminal_width() if bar_wanted else None
    return ProgressLines() if columns is None else ProgressBar(columns)
