"""Slides and their tiles as work for the scheduler: opening a slide is a task, and its children are its first tiles."""

from __future__ import annotations

import logging
import time
from collections import OrderedDict
from dataclasses import dataclass
from typing import TYPE_CHECKING, cast

import numpy as np

from pyramidai_mpi.base.errors import LostRankError, is_bug
from pyramidai_mpi.base.types import TILE_DTYPE, tiles_only
from pyramidai_mpi.pyramid.dealing import evenly_spread
from pyramidai_mpi.run.pool.messages import Batch, Kind, SlideEnd, encode_batch
from pyramidai_mpi.run.pool.witness import Witness

if TYPE_CHECKING:
    from collections.abc import Callable, Hashable

    import numpy.typing as npt

    from pyramidai_mpi.analyses.base import Analysis, CheckedAnalysis, Look, OpenSlide, SlideAnalysis
    from pyramidai_mpi.base.types import TileArray
    from pyramidai_mpi.pyramid.audited import AuditChoice
    from pyramidai_mpi.pyramid.rule import TileRule
    from pyramidai_mpi.run.pool.mailbox import Mailbox
    from pyramidai_mpi.run.pool.messages import SlideDescription
    from pyramidai_mpi.run.pool.tally import WorkTally
    from pyramidai_mpi.run.pool.witness import Audit
    from pyramidai_mpi.sched import Progress
    from pyramidai_mpi.slides.source import Found
    from pyramidai_mpi.store.files.feature_spool import FeatureSpool
    from pyramidai_mpi.store.journal.writer import JournalWriter

log = logging.getLogger(__name__)

_LEVELS = 16
_OPENING = _LEVELS - 1
_MOST_OPEN_SLIDES = 3
"""Slides that a rank keeps open: a handle holds a cache of decoded tiles of up to 32 MB."""


def pool_dtype(task: np.dtype[np.void]) -> np.dtype[np.void]:
    """A tile of one of many slides, from what an analysis says of a tile.

    Field ``group`` in the place of ``level`` is 16 * slide + level, with level 15 for the opening of the slide.
    """
    return np.dtype([("group", "<u4"), *task.descr[1:]])


def opening_tasks(slides: npt.NDArray[np.int64], task: np.dtype[np.void] = TILE_DTYPE) -> npt.NDArray[np.void]:
    """One task for each of these slides: open it."""
    tasks = np.zeros(len(slides), pool_dtype(task))
    tasks["group"] = slides * _LEVELS + _OPENING
    return tasks


def tiles_of(tasks: npt.NDArray[np.void], level: int) -> TileArray:
    """The tiles of tasks that share one slide and level, as their analysis has them."""
    tiles = np.empty(len(tasks), np.dtype([TILE_DTYPE.descr[0], *tasks.dtype.descr[1:]]))
    tiles["level"] = level
    for name in tasks.dtype.names[1:]:  # type: ignore[index]
        tiles[name] = tasks[name]
    return tiles


def tasks_of(slide: int, tiles: TileArray) -> npt.NDArray[np.void]:
    """Tasks of tiles of one slide."""
    tasks = np.empty(len(tiles), pool_dtype(tiles.dtype))
    tasks["group"] = np.uint32(slide * _LEVELS) + tiles["level"]
    for name in tiles.dtype.names[1:]:  # type: ignore[index]
        tasks[name] = tiles[name]
    return tasks


@dataclass(frozen=True)
class SlideOpener:
    """How slides are opened; what `describe` and `follow` raise ends the slide.

    Attributes
    ----------
    describe
        Opens the slide of a number for the first time, finds its tissue, and describes it to the others.
    follow
        Opens a slide that another rank has described: the slide, and which of its tiles exist.
    name
        Of a slide, for messages.
    """

    describe: Callable[[int], tuple[OpenSlide, TileRule, SlideDescription]]
    follow: Callable[[int, SlideDescription], tuple[OpenSlide, TileRule]]
    name: Callable[[int], str] = "slide {}".format


@dataclass(frozen=True)
class _Open:
    """A slide that this rank has open, the tag of its run, and which of its tiles are audited."""

    analysis: SlideAnalysis
    tag: int
    choice: AuditChoice | None


class PoolWorkload:
    """One rank's share of all slides.

    Parameters
    ----------
    analysis
        What is done to the tiles.
    opener
        Opens slides.
    mailbox
        Takes what was done to the slides' owners.
    journal
        Takes each batch before anybody hears of what follows from it.
    batch_size
        Most tiles in one call.
    counts
        Takes what was done, for the whole job's progress.
    kept_here
        Takes the features, rows of a level in the order of `tiles_kept`, if they stay on this rank; None sends them to
        the slides' owners.
    report
        Called on rank 0 with the progress of the whole job.
    poll
        Called on the main thread again and again.
    bugs_end_all
        Whether an exception that nobody foresaw is passed on, as of a run's only slide, instead of ending its slide.
    audit
        Which tiles are audited; None for none.
    between
        Called between batches with `analysis_of`, see `Recomputer.serve`; None for nothing.
    """

    def __init__(
        self,
        analysis: Analysis,
        opener: SlideOpener,
        mailbox: Mailbox,
        journal: JournalWriter,
        batch_size: int,
        counts: WorkTally,
        *,
        kept_here: FeatureSpool | None = None,
        report: Callable[[Progress], None] | None = None,
        poll: Callable[[], object] = lambda: None,
        bugs_end_all: bool = False,
        audit: Audit | None = None,
        between: Callable[[Callable[[int], SlideAnalysis]], None] | None = None,
    ) -> None:
        self.dtype = pool_dtype(analysis.task)
        self.batch_by = "group"
        self.batch_size = batch_size
        self.batch_grain = getattr(analysis, "batch_grain", 1)
        self.tiles_kept: list[TileArray] = []
        self._analysis = analysis
        self._opener = opener
        self._mailbox = mailbox
        self._journal = journal
        self._counts = counts
        self._kept_here = kept_here
        self._report = report
        self._poll = poll
        self._bugs_end_all = bugs_end_all
        self._audit, self._between = audit, between
        self._open: OrderedDict[int, _Open] = OrderedDict()
        self._refused: set[int] = set()
        self._started = 0.0

    def start_clock(self) -> None:
        """Count the time of batches from now on; all ranks call it at about the same time."""
        self._started = time.perf_counter()

    def begin(self, slide: int, opened: OpenSlide, rule: TileRule, tag: int) -> None:
        """Take over a slide that this rank has opened."""
        choice = None if self._audit is None else self._audit.choice(opened.quickhash)
        self._open[slide] = _Open(self._analysis.on(opened, rule), tag, choice)
        while len(self._open) > _MOST_OPEN_SLIDES:
            _, oldest = self._open.popitem(last=False)
            oldest.analysis.close()

    def prepare(self, tasks: npt.NDArray[np.void]) -> list[Found | None]:
        """Begin to read tiles of one level of one slide, if it is open here."""
        slide, level = divmod(int(tasks["group"][0]), _LEVELS)
        opened = self._open.get(slide) if level != _OPENING else None
        if opened is not None:
            try:
                return opened.analysis.prepare(tiles_of(tasks, level))
            except Exception as error:  # `look` will meet it too, and say so where it ends what it must end
                log.debug("slide %d: cannot be read ahead: %r", slide, error)
        return [None] * len(tasks)

    def expand(self, tasks: npt.NDArray[np.void], prepared: list[Found | None] | None = None) -> npt.NDArray[np.void]:
        """Open a slide, or do tiles of one level of one slide; return what is to be looked at next."""
        slide, level = divmod(int(tasks["group"][0]), _LEVELS)
        if slide in self._refused or self._mailbox.has_ended(slide):
            self._leave_out(tasks, level)
            return np.empty(0, self.dtype)
        tiles = tiles_of(tasks, level)
        begun = time.perf_counter()
        try:
            if level == _OPENING:
                first = self._open_slide(slide)
                self._counts.opened(time.perf_counter() - begun)
                return first
            opened, started = self._slide(slide), time.perf_counter()
            look = self._look(slide, opened, tiles, prepared)
        except LostRankError:
            raise
        except Exception as error:  # ends this slide, not the others
            if self._bugs_end_all and is_bug(error):
                raise
            self._refused.add(slide)
            end = SlideEnd.by(error, self._opener.name(slide))
            self._mailbox.send_to_owner(Kind.REFUSED, slide, end.to_bytes())
            self._leave_out(tasks, level)
            return np.empty(0, self.dtype)
        # not caught: the disk of the journals concerns all slides
        closer = self._keep(slide, opened.tag, tiles, look, started)
        self._counts.did(level, len(tiles), len(closer), time.perf_counter() - begun)
        if self._between is not None:
            self._between(self.analysis_of)
        return tasks_of(slide, closer)

    def comes_last(self, value: Hashable) -> bool:
        """Whether tasks open slides: the next one is begun when a rank has no tiles left."""
        return isinstance(value, int) and value % _LEVELS == _OPENING

    def analysis_of(self, slide: int) -> SlideAnalysis:
        """The analysis on a slide, which is opened if need be. From the thread of `expand`, or once that has ended."""
        return self._slide(slide).analysis

    def tally(self) -> tuple[int, ...]:
        """What this rank has done by level; see `tally.WorkTally`."""
        return self._counts.numbers()

    def on_progress(self, progress: Progress) -> None:
        """Pass the job's progress on."""
        if self._report is not None:
            self._report(progress)

    def on_poll(self) -> bool:
        """Carry messages about slides; whether any are under way."""
        self._poll()
        return self._mailbox.is_waiting()

    def on_start(self, wake: Callable[[], None]) -> None:
        """Let the mailbox call for the main thread."""
        self._mailbox.wake = wake

    def on_loss(self) -> None:
        """Ranks were lost: wait for no answer of theirs."""
        self._mailbox.give_up()

    def close(self) -> None:
        """Close all slides."""
        for opened in self._open.values():
            opened.analysis.close()
        self._open.clear()

    def _look(self, slide: int, opened: _Open, tiles: TileArray, prepared: list[Found | None] | None) -> Look:
        """Do tiles, and say at once what was found of those that are audited."""
        if opened.choice is None:
            return opened.analysis.look(tiles, prepared)
        checked = opened.choice.chosen(tiles)
        look = cast("CheckedAnalysis", opened.analysis).look(tiles, prepared, checked)
        if checked.any():
            self._mailbox.send_to_owner(Kind.WITNESS, slide, Witness.of(tiles, look, checked).to_bytes())
        return look

    def _leave_out(self, tasks: npt.NDArray[np.void], level: int) -> None:
        """Count tasks that nobody will do, as their slide has failed."""
        if level == _OPENING:
            self._counts.opened(0.0)
        else:
            self._counts.dropped(level, len(tasks))

    def _open_slide(self, slide: int) -> npt.NDArray[np.void]:
        opened, rule, description = self._opener.describe(slide)
        self._mailbox.send_to_owner(Kind.OPENED, slide, description.to_bytes())
        try:
            tag, first = self._mailbox.beginning(slide)
        except LostRankError:
            opened.pyramid.reader.close()
            raise
        if not len(first):
            opened.pyramid.reader.close()
            return np.empty(0, self.dtype)
        self.begin(slide, opened, rule, tag)
        return tasks_of(slide, evenly_spread(first, rule.grid))

    def _slide(self, slide: int) -> _Open:
        if slide in self._open:
            self._open.move_to_end(slide)
        else:
            tag, description = self._mailbox.description(slide)
            opened, rule = self._opener.follow(slide, description)
            self.begin(slide, opened, rule, tag)
        return self._open[slide]

    def _keep(self, slide: int, tag: int, tiles: TileArray, look: Look, started: float) -> TileArray:
        """Journal what was done and leave it for the slide's owner; the tiles to look at next."""
        journal_s = self._journal.seconds
        self._journal.append(tag, look.records, look.failed, look.features, look.kept)
        features = look.features
        if self._kept_here is not None and features is not None:
            self._kept_here.append(int(tiles["level"][0]), features)
            features = None
        if self._kept_here is not None:
            self.tiles_kept.append(tiles_only(tiles))
        ended = time.perf_counter()
        batch = Batch(
            look.records,
            look.failed,
            features,
            started - self._started,
            ended - self._started,
            self._journal.seconds - journal_s,
            look.seconds,
            look.kept,
        )
        self._mailbox.send_in_chunks(slide, encode_batch(batch))
        return look.closer
