"""What a rank does for the slides it owns: begin them, collect what was done of them, see when each is complete.

`Owner` is the protocol: messages in, messages out, with no thread, no file and no MPI in it; beginning a slide and
finishing it are the caller's. `desk` drives it in real time, tests drive it in any order of messages.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from functools import partial
from typing import TYPE_CHECKING, Protocol

import numpy as np

from pyramidai_mpi.analyses.base import FAILED_DTYPE
from pyramidai_mpi.base.errors import InternalError, PyramidError
from pyramidai_mpi.base.types import MOST_LEVELS
from pyramidai_mpi.pyramid.ledger import TileLedger
from pyramidai_mpi.run.pool.messages import Batch, Kind, SlideDescription, SlideEnd, decode_batches, tagged
from pyramidai_mpi.run.pool.record_table import RecordTable
from pyramidai_mpi.store.files.byte_spool import ByteSpool
from pyramidai_mpi.store.files.feature_spool import FeatureSpool
from pyramidai_mpi.store.results.result import BATCH_DTYPE

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping, Sequence
    from pathlib import Path

    import numpy.typing as npt

    from pyramidai_mpi.analyses.base import Analysis, OpenSlide
    from pyramidai_mpi.base.types import TileArray
    from pyramidai_mpi.pyramid.rule import TileRule
    from pyramidai_mpi.run.pool.audit import AuditBook

WORK_DTYPE = np.dtype(
    [
        ("tasks", "<i8"),
        ("batches", "<i8"),
        ("busy_s", "<f8"),
        ("read_s", "<f8"),
        ("stain_s", "<f8"),
        ("infer_s", "<f8"),
        ("journal_s", "<f8"),
        ("level_s", "<f8", (MOST_LEVELS,)),
    ]
)
"""What one rank did of one slide: tiles and batches, seconds in all and for what, and by level, level 0 first."""


class Output(Protocol):
    """A slide's place on the disk while the run is at work on it."""

    @property
    def path(self) -> Path:
        """The result to be."""
        ...

    @property
    def replaces(self) -> bool:
        """Whether the result is to replace a file that is there."""
        ...

    @property
    def attributes(self) -> Mapping[str, str | int | float]:
        """What the result is to say of what decides it."""
        ...

    @property
    def manifest(self) -> bytes:
        """Its journal's manifest."""
        ...

    def check_lock(self) -> None:
        """See that it is still this run's.

        Raises
        ------
        OutputExistsError
            Another run has taken its place.
        """
        ...

    def remove_journal(self) -> None:
        """The result is in its place: remove what led there."""
        ...

    def close(self) -> None:
        """Let go of it; what leads to the result stays, for another start to go on with.

        Raises
        ------
        StorageError
            When something does not reach the disk.
        """
        ...


@dataclass(frozen=True)
class Beginning:
    """A slide at the start of the run's work on it.

    Attributes
    ----------
    slide, rule
        The slide as it was described, and which of its tiles exist.
    tag
        Of its manifest: marks its records in the journals.
    first
        Tiles to begin with, or to go on with.
    restored
        What earlier starts of the run have done.
    output
        Its place on the disk.
    """

    slide: OpenSlide
    rule: TileRule
    tag: int
    first: TileArray
    restored: Iterable[Batch]
    output: Output


@dataclass
class Collected:
    """What has been done of one slide so far.

    Attributes
    ----------
    beginning
        How it began.
    started
        When, in seconds of `time.perf_counter`.
    spool
        Features of the tiles, rows of a level in the order of `records`.
    records, failed
        Of all batches, in the order in which they came.
    work
        `WORK_DTYPE` by rank, of this start of the run.
    batches
        `BATCH_DTYPE` records, likewise.
    n_restored
        Tiles that earlier starts have done.
    kept
        What else is kept of the tiles, in the order of `records`; None as long as nothing is.
    n_audited
        Tiles that another rank has found alike.
    """

    beginning: Beginning
    ledger: TileLedger
    started: float
    spool: FeatureSpool
    records: RecordTable
    failed: RecordTable = field(default_factory=lambda: RecordTable(FAILED_DTYPE))
    work: dict[int, npt.NDArray[np.void]] = field(default_factory=dict)
    batches: RecordTable = field(default_factory=lambda: RecordTable(BATCH_DTYPE))
    n_restored: int = 0
    kept: ByteSpool | None = None
    n_audited: int = 0

    def add(self, batch: Batch) -> None:
        """Take in tiles of one level."""
        if batch.features is not None:
            self.spool.append(int(batch.records["level"][0]), batch.features)
        if batch.kept:
            if self.kept is None:
                # beside the result, which will be as large, and where there has to be room for it
                self.kept = ByteSpool(self.beginning.output.path.parent)
            self.kept.append(batch.kept)
        self.records.append(batch.records)
        self.failed.append(batch.failed)
        self.ledger.record(batch.records)

    def credit(self, rank: int, batch: Batch) -> None:
        """Book a batch on the rank that did it."""
        level, n_tiles = int(batch.records["level"][0]), len(batch.records)
        work = self.work.setdefault(rank, np.zeros((), WORK_DTYPE))
        seconds = batch.seconds
        work["tasks"] += n_tiles
        work["batches"] += 1
        work["busy_s"] += batch.end_s - batch.start_s
        work["read_s"] += seconds.read
        work["stain_s"] += seconds.stain
        work["infer_s"] += seconds.compute
        work["journal_s"] += batch.journal_s
        work["level_s"][level] += sum(seconds)
        self.batches.append(np.array([(rank, level, n_tiles, batch.start_s, batch.end_s)], BATCH_DTYPE))

    def all_batches(self) -> npt.NDArray[np.void]:
        """Records of all batches, by rank and in order."""
        return np.sort(self.batches.rows, order=["rank", "start_s"], kind="stable")

    def close(self) -> None:
        """Give everything back; raises what `Output.close` does."""
        self.spool.close()
        if self.kept is not None:
            self.kept.close()
        self.beginning.output.close()


class Owner:
    """The slides of one rank, from the first message to the last.

    Parameters
    ----------
    owned
        Numbers of the slides that this rank owns.
    size
        Number of ranks.
    analysis
        What is done to them.
    begin
        Called with (slide, description) when a slide was opened; what it raises ends the slide.
    finish
        Called with (slide, collected) when all tiles of a slide are there; the caller then answers with `has_finished`.
    send
        Called with (destination, kind, slide, payload).
    clock
        Seconds, for how long a slide took.
    spool_of
        Where a slide's features are kept.
    name
        Of a slide, for messages.
    has_begun
        Called with a slide that has begun, and what earlier starts have done of it.
    audit
        Sees to it that a share of the tiles is computed again; None for no such thing.
    elsewhere
        Ranks that keep journals on other disks: they are told what slides begin, and how they end.
    """

    def __init__(
        self,
        owned: Iterable[int],
        size: int,
        analysis: Analysis,
        begin: Callable[[int, SlideDescription], Beginning],
        finish: Callable[[int, Collected], None],
        send: Callable[[int, Kind, int, bytes], None],
        clock: Callable[[], float],
        spool_of: Callable[[int], FeatureSpool] = lambda _slide: FeatureSpool(),
        name: Callable[[int], str] = "slide {}".format,
        has_begun: Callable[[Collected], None] = lambda _collected: None,
        audit: AuditBook | None = None,
        elsewhere: Sequence[int] = (),
    ) -> None:
        self._waiting = set(owned)
        self._collected: dict[int, Collected] = {}
        self._finishing: set[int] = set()
        self._descriptions: dict[int, bytes] = {}
        self._size = size
        self._analysis = analysis
        self._begin = begin
        self._finish = finish
        self._send = send
        self._clock = clock
        self._spool_of = spool_of
        self._name = name
        self._has_begun = has_begun
        self._audit = audit
        self._elsewhere = elsewhere
        self.n_stale = 0
        """Batches that came for slides which had ended badly."""

    @property
    def is_done(self) -> bool:
        """Whether every slide of this rank has ended."""
        return not (self._waiting or self._collected or self._finishing)

    @property
    def open_slides(self) -> Sequence[int]:
        """Slides that have begun and are not complete."""
        return sorted(self._collected)

    @property
    def n_done(self) -> int:
        """Tiles that are done of slides that have begun and are not complete."""
        return sum(len(collected.records) for collected in self._collected.values())

    def collected(self, slide: int) -> Collected:
        """What has been done of a slide that has begun and is not complete."""
        return self._collected[slide]

    def hand_over(self, slide: int) -> None:
        """Somebody else sees to the end of a complete slide."""
        self._finishing.discard(slide)

    def handle(self, source: int, kind: Kind, slide: int, payload: bytes) -> None:
        """Take a message about an owned slide.

        Raises
        ------
        InternalError
            When it cannot be one: that concerns all slides.
        """
        match kind:
            case Kind.OPENED:
                self._take_description(source, slide, payload)
            case Kind.ASK:
                self._send(source, Kind.DESCRIPTION, slide, self._descriptions[slide])
            case Kind.REFUSED:
                self.end(slide, SlideEnd.from_bytes(payload))
            case Kind.RECORDS:
                self._take_records(source, slide, payload)
            case Kind.WITNESS if self._audit is not None:
                self._audit.witnessed(slide, source, payload)
            case Kind.AUDITED if self._audit is not None:
                self._audit.answered(slide, source, payload)
                self._finish_if_complete(slide)
            case _:
                raise InternalError(f"a message of kind {kind} is none for a slide's owner")

    def begin(self, slide: int, description: SlideDescription) -> Beginning:
        """Begin a slide, or go on with it.

        Raises
        ------
        Exception
            Whatever the caller's `begin` raises; the slide has not begun then.
        """
        beginning = self._begin(slide, description)
        try:
            analysis, rule = self._analysis, beginning.rule
            ledger = TileLedger(rule.grid, analysis.first(rule), partial(analysis.closer, rule))
            collected = Collected(beginning, ledger, self._clock(), self._spool_of(slide), RecordTable(analysis.record))
            self._descriptions[slide] = tagged(beginning.tag, description.to_bytes())
        except BaseException:
            beginning.output.close()
            raise
        self._waiting.discard(slide)
        self._collected[slide] = collected
        for rank in self._elsewhere:
            self._send(rank, Kind.MANIFEST, slide, beginning.output.manifest)
        for batch in beginning.restored:
            if len(batch.records):
                collected.add(batch)
                collected.n_restored += len(batch.records)
        self._has_begun(collected)
        if self._audit is not None:
            self._audit.begin(slide, beginning.slide.quickhash, collected.records)
            if collected.n_restored and self._audit.takes_restored(beginning.output.attributes):
                self._audit.restored(slide, self._tasks_of(collected))
        self._finish_if_complete(slide)
        return beginning

    def end(self, slide: int, end: SlideEnd) -> None:
        """End a slide that is not complete, badly or because there is nothing to do; tell rank 0, and all who work."""
        if slide in self._waiting:
            self._waiting.discard(slide)
        elif slide in self._collected:
            for rank in range(self._size):
                self._send(rank, Kind.ENDED, slide, b"")
            if self._audit is not None:
                self._audit.end(slide)
            try:
                self._collected.pop(slide).close()
            except PyramidError as error:
                end = SlideEnd(end.exit_code, f"{end.line}; besides, {error}")
        else:
            return  # several ranks may have something against a slide: the first one counts
        self._say_end(slide, end)

    def has_finished(self, slide: int, end: SlideEnd) -> None:
        """The result of a complete slide is in its place, or cannot be placed."""
        self._say_end(slide, end)
        self._finishing.discard(slide)

    def _say_end(self, slide: int, end: SlideEnd) -> None:
        for rank in (0, *self._elsewhere):
            self._send(rank, Kind.DONE, slide, end.to_bytes())

    def close(self) -> None:
        """Let go of all slides that are not complete; their journals stay.

        Raises
        ------
        PyramidError
            When something does not reach the disk; the other slides are let go of all the same.
        """
        failure = None
        for slide in self.open_slides:
            try:
                self._collected.pop(slide).close()
            except PyramidError as error:
                failure = failure or error
        if failure is not None:
            raise failure

    def _take_description(self, source: int, slide: int, payload: bytes) -> None:
        description = SlideDescription.from_bytes(payload)
        if slide not in self._waiting:
            raise InternalError(f"slide {slide} was opened twice, or by a rank that does not know its owner")
        try:
            beginning = self.begin(slide, description)
        except Exception as error:  # a journal of other settings, a full disk, a bug: ends this slide, not the others
            self.end(slide, SlideEnd.by(error, self._name(slide)))
            self._send(source, Kind.BEGIN, slide, tagged(0, b""))
        else:
            self._send(source, Kind.BEGIN, slide, tagged(beginning.tag, beginning.first.tobytes()))

    def _take_records(self, source: int, slide: int, payload: bytes) -> None:
        batches = list(decode_batches(payload, self._analysis.record, FAILED_DTYPE, self._analysis.widths))
        collected = self._collected.get(slide)
        if collected is None:
            self.n_stale += len(batches)
            return
        try:
            for batch in batches:
                first = len(collected.records)
                collected.add(batch)
                collected.credit(source, batch)
                if self._audit is not None:
                    self._audit.recorded(slide, source, first)
            self._finish_if_complete(slide)
        except Exception as error:  # a full disk under its features, a bug
            self.end(slide, SlideEnd.by(error, self._name(slide)))

    def _finish_if_complete(self, slide: int) -> None:
        collected = self._collected.get(slide)
        if collected is not None and collected.ledger.complete:
            if self._audit is not None:
                self._audit.completed(slide)
                if not self._audit.is_settled(slide):
                    return
                collected.n_audited = self._audit.end(slide)
            self._finishing.add(slide)
            del self._descriptions[slide]  # all tiles are done, so nobody will ask
            self._finish(slide, self._collected.pop(slide))

    def _tasks_of(self, collected: Collected) -> TileArray:
        """What was said of every tile that may have been done, and of the tiles that follow."""
        rule, records = collected.beginning.rule, collected.records.rows
        of_levels = [records[records["level"] == level] for level in np.unique(records["level"])]
        followers = [self._analysis.closer(rule, found) for found in of_levels]
        return np.concatenate([self._analysis.first(rule), *followers])
