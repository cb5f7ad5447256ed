"""How far a run is: a bar where there is a terminal, a line every few seconds where there is none."""

from __future__ import annotations

import logging
import re
import sys
import threading
import time
from typing import TYPE_CHECKING, NoReturn, Protocol

from tqdm import tqdm

from pyramidai_mpi.base.counts import counted
from pyramidai_mpi.cli.launcher import advice_on_cores, terminal_width
from pyramidai_mpi.run.progress import Forecast, RunProgress

if TYPE_CHECKING:
    from collections.abc import Callable

log = logging.getLogger(__name__)

_SECONDS_BETWEEN_LINES = 5.0
_SECONDS_OF_A_SHORT_PHASE = 10.0
"""A phase that takes no longer gets no line."""
_SECONDS_IN = {"s": 1, "min": 60, "h": 3600}
_LINE = re.compile(
    r"((?P<share>\d+) %, )?(?P<done>\d+) (of (?P<about>about )?(?P<total>\d+) )?tiles?, (?P<rate>[\d.]+) tiles/s, "
    r"(about (?P<left>[\d.]+) (?P<unit>s|min|h) left, )?(?P<idle>\d+) % of (?P<ranks>\d+) ranks? idle"
)
"""What `ProgressLines` writes."""
_ROWS = 2
"""Of the terminal, at least: there is one bar."""
_WORTH_MORE_RANKS_S = 30.0
"""A run that goes on for no longer is not worth a word about ranks."""


class ProgressView(Protocol):
    """Something that shows progress."""

    def show(self, progress: RunProgress) -> None:
        """Take in how far the run is."""
        ...

    def say(self, line: str, level: int = logging.INFO) -> None:
        """Log a line, and leave what is shown as it was."""
        ...

    def close(self) -> None:
        """Leave the terminal as it was."""
        ...


class ProgressBar:
    """One bar: the share of the work that is done, tiles, tiles/s, time left, idle ranks; or what is at work else.

    The share is one of time: levels have networks of their own, and tiles cost different times.
    """

    def __init__(self, columns: int) -> None:
        self._columns = columns
        self._bar: tqdm[NoReturn] | None = None

    def show(self, progress: RunProgress) -> None:
        """See `ProgressView.show`."""
        if self._bar is None:
            # told the size, tqdm does not ask a terminal that may not tell it
            self._bar = tqdm(
                total=1.0, file=sys.stderr, ncols=self._columns, nrows=_ROWS, leave=False, bar_format="{desc}"
            )
        share = progress.tiles.share
        if progress.phase:
            self._bar.bar_format = "{desc}"
            self._bar.set_description_str(f"{progress.phase} ...", refresh=False)
        elif share is None:
            self._bar.bar_format = "{desc}"
            self._bar.set_description_str(tiles_in_words(progress), refresh=False)
        else:
            self._bar.bar_format = "{percentage:3.0f}%|{bar}| {desc}"
            self._bar.n = share
            words = [tiles_in_words(progress), *_speed_in_words(progress)]
            self._bar.set_description_str(f"{', '.join(words)}, idle {_idle_percent(progress)}%", refresh=False)
        self._bar.refresh()

    def say(self, line: str, level: int = logging.INFO) -> None:
        """See `ProgressView.say`."""
        if self._bar is not None:
            self._bar.clear()
        log.log(level, "%s", line)
        if self._bar is not None:
            self._bar.refresh()

    def close(self) -> None:
        """See `ProgressView.close`."""
        if self._bar is not None:
            self._bar.close()


class ProgressLines:
    """A log line every few seconds, and one for whatever else takes more than a moment."""

    def __init__(self) -> None:
        self._last: float | None = None
        self._phase: threading.Timer | None = None

    def show(self, progress: RunProgress) -> None:
        """See `ProgressView.show`."""
        if progress.phase:
            self._begin(progress.phase)
            return
        self._end_phase()
        now = time.monotonic()
        if self._last is None:
            self._last = now
        if not progress.rate or now - self._last < _SECONDS_BETWEEN_LINES:
            return
        self._last = now
        share = progress.tiles.share
        words = [tiles_in_words(progress), *_speed_in_words(progress)]
        if share is not None:
            words.insert(0, f"{100 * share:.0f} %")
        log.info("%s, %s %% of %s idle", ", ".join(words), _idle_percent(progress), counted(progress.ranks, "rank"))

    def say(self, line: str, level: int = logging.INFO) -> None:
        """See `ProgressView.say`."""
        log.log(level, "%s", line)

    def close(self) -> None:
        """See `ProgressView.close`."""
        self._end_phase()

    def _begin(self, phase: str) -> None:
        """Say so when it goes on for more than a moment, during which this thread is at work on it."""
        if self._phase is not None and self._phase.name == phase:
            return
        self._end_phase()
        self._phase = threading.Timer(_SECONDS_OF_A_SHORT_PHASE, log.info, ["%s ...", phase])
        self._phase.name, self._phase.daemon = phase, True
        self._phase.start()

    def _end_phase(self) -> None:
        if self._phase is not None:
            self._phase.cancel()
            self._phase = None


class WithAdvice:
    """Another view, with one line on how to go faster once the run turns out to take a while.

    Parameters
    ----------
    advice
        Finds the line; empty for none.
    """

    def __init__(self, view: ProgressView, advice: Callable[[], str]) -> None:
        self._view = view
        self._advice: Callable[[], str] | None = advice

    def show(self, progress: RunProgress) -> None:
        """See `ProgressView.show`."""
        self._view.show(progress)
        is_sure = progress.spent_s >= _SECONDS_BETWEEN_LINES
        if self._advice is not None and is_sure and (progress.left_s or 0.0) > _WORTH_MORE_RANKS_S:
            line, self._advice = self._advice(), None
            if line:
                self.say(line)

    def say(self, line: str, level: int = logging.INFO) -> None:
        """See `ProgressView.say`."""
        self._view.say(line, level)

    def close(self) -> None:
        """See `ProgressView.close`."""
        self._view.close()


def choose_view(*, bar_wanted: bool, advice_wanted: bool = False) -> ProgressView:
    """A bar on a terminal, lines elsewhere; with advice on idle cores where that is wanted."""
    columns = terminal_width() if bar_wanted else None
    view: ProgressView = ProgressLines() if columns is None else ProgressBar(columns)
    return WithAdvice(view, advice_on_cores) if advice_wanted else view


def tiles_in_words(progress: RunProgress) -> str:
    """How many tiles are done of how many, and whether that is an estimate."""
    tiles = progress.tiles
    if tiles.total is None:
        return counted(tiles.done, progress.unit)
    return f"{tiles.done} of {'' if tiles.is_exact else 'about '}{counted(tiles.total, progress.unit)}"


def time_in_words(seconds: float) -> str:
    """A time that is left: seconds, minutes or hours, as exact as it is good for."""
    unit = "s" if seconds < 100 else "min" if seconds < 100 * 60 else "h"
    return f"{seconds / _SECONDS_IN[unit]:.{int(unit == 'h')}f} {unit}"


def progress_of(line: str) -> RunProgress | None:
    """What a line of `ProgressLines` says, as far as it does; None for another one."""
    said = _LINE.search(line)
    if said is None:
        return None
    share, left, ranks = said["share"], said["left"], int(said["ranks"])
    tiles = Forecast(
        int(said["done"]),
        None if said["total"] is None else int(said["total"]),
        said["about"] is None,
        None if share is None else int(share) / 100,
    )
    left_s = None if left is None else float(left) * _SECONDS_IN[said["unit"]]
    idle_ranks = round(int(said["idle"]) / 100 * ranks)
    return RunProgress("", tiles, rate=float(said["rate"]), left_s=left_s, idle_ranks=idle_ranks, ranks=ranks)


def _speed_in_words(progress: RunProgress) -> list[str]:
    words = [f"{progress.rate:.{0 if progress.rate >= 10 else 1}f} {progress.unit}s/s"]
    if progress.left_s is not None:
        words.append(f"about {time_in_words(progress.left_s)} left")
    return words


def _idle_percent(progress: RunProgress) -> str:
    return f"{100 * progress.idle_ranks / progress.ranks:.0f}"
