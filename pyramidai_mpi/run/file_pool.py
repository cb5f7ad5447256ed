"""Slides as one pool of work, of whose tiles one file is made for each slide: what such commands have in common."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol

import numpy as np

from pyramidai_mpi.base.errors import ExitCode
from pyramidai_mpi.process.stop import StopWish, stopped_error
from pyramidai_mpi.ranks.collectives import allgather
from pyramidai_mpi.ranks.disks import RanksByDisk
from pyramidai_mpi.run.assemble import hosts_of_ranks
from pyramidai_mpi.run.left_to_do import slides_left
from pyramidai_mpi.run.output import check_names, finished_output, lock_output
from pyramidai_mpi.run.own_disks import JournalDisks
from pyramidai_mpi.run.pool.messages import SlideEnd
from pyramidai_mpi.run.pool.pool import PoolJob, run_pool
from pyramidai_mpi.run.progress import ProgressReport
from pyramidai_mpi.run.resume import read_journals
from pyramidai_mpi.store.files.lock import LockWatch, OutputLock
from pyramidai_mpi.store.journal.folder import JournalFolder

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    import numpy.typing as npt
    from mpi4py import MPI

    from pyramidai_mpi.analyses.base import Analysis
    from pyramidai_mpi.base.settings import RunSettings
    from pyramidai_mpi.run.facts import Difference, Facts
    from pyramidai_mpi.run.pool.messages import SlideDescription
    from pyramidai_mpi.run.pool.owner import Beginning, Collected
    from pyramidai_mpi.run.pool.workload import SlideOpener
    from pyramidai_mpi.run.progress import RunProgress
    from pyramidai_mpi.run.resume import Journals


@dataclass(frozen=True)
class FileOutcome:
    """How one slide ended; fields as in `messages.SlideEnd`."""

    settings: RunSettings
    exit_code: ExitCode
    line: str
    was_finished: bool = False

    @property
    def is_complete(self) -> bool:
        """Whether it has its file, if without some of its tiles."""
        return self.exit_code in {ExitCode.OK, ExitCode.TILES_FAILED}


class Finisher(Protocol):
    """Begins and finishes the slides that a rank owns, as `finishing.Finisher` those of a run that classifies."""

    def begin(self, number: int, description: SlideDescription) -> Beginning:
        """Take a slide's place on the disk, and find where to go on from; raises as `finishing.Finisher.begin`."""
        ...

    def write(self, number: int, collected: Collected) -> SlideEnd:
        """Write the file of a complete slide, by this rank alone; raises whatever keeps it from being written."""
        ...


class Made(Protocol):
    """What is made of slides.

    Attributes
    ----------
    analysis
        What is done to their tiles.
    opener
        How they are opened.
    units
        What is counted, in words.
    """

    @property
    def analysis(self) -> Analysis: ...  # noqa: D102
    @property
    def opener(self) -> SlideOpener: ...  # noqa: D102
    @property
    def units(self) -> str: ...  # noqa: D102

    def compare(self, settings: RunSettings) -> tuple[list[Difference], ExitCode, Facts]:
        """See that the file there is what would be made: as the `compare` of `output.finished_output`.

        Raises
        ------
        InputError
            When it is not.
        """
        ...

    def check_target(self, settings: RunSettings) -> None:
        """See before the work that files beside the slide's own can be placed.

        Raises
        ------
        OutputExistsError, StorageError, UsageError
            When one cannot.
        """
        ...

    def finisher(self, journals: Journals, locks: dict[int, OutputLock], ranks: npt.NDArray[np.void]) -> Finisher:
        """Who begins and finishes slides.

        Parameters
        ----------
        journals
            Where they are journalled.
        locks
            Of slides whose output is locked already, by number; are taken out.
        ranks
            As of `assemble.hosts_of_ranks`.
        """
        ...


class FilePool:
    """One rank's part.

    Parameters
    ----------
    comm
        The ranks.
    each
        One run's settings a slide, the same on all ranks.
    made
        What is made of them.
    report_slide
        Called on rank 0 for each slide as it ends.
    stop
        Says whether to stop early.
    show
        Told on rank 0 how far they are, from time to time; None for nobody.
    ranks
        Which of them see the same folder; None where all do.
    bring
        Called with the slides that are left to do, before they are: sees that all ranks have them. Collective.
    """

    def __init__(
        self,
        comm: MPI.Intracomm,
        each: Sequence[RunSettings],
        made: Made,
        report_slide: Callable[[FileOutcome], None],
        stop: StopWish,
        show: Callable[[RunProgress], None] | None = None,
        ranks: RanksByDisk | None = None,
        bring: Callable[[Sequence[int]], None] = lambda _slides: None,
    ) -> None:
        self._comm, self._each, self._made, self._stop = comm, each, made, stop
        self._report_slide = report_slide
        self._progress = ProgressReport(show if comm.rank == 0 else None, made.units.removesuffix("s"))
        self._outcomes: dict[int, FileOutcome] = {}
        self._locks: dict[int, OutputLock] = {}
        self._watch = LockWatch()
        ranks = ranks or RanksByDisk.together(comm.rank, comm.size)
        self._bring = bring
        self._disks = JournalDisks(comm, ranks, each, self._watch)

    def to_the_end(self) -> tuple[FileOutcome, ...] | None:
        """Slides that are left to do, the pool, and how all have ended, on rank 0. Collective.

        Raises
        ------
        StoppedError
            On all ranks, when any of them was asked to stop. Finished slides have their files, the others journals.
        PyramidError
            The same on all ranks, for what concerns all slides.
        """
        comm = self._comm
        ranks = hosts_of_ranks(comm)
        try:
            slides = slides_left(comm, self._each, self._disks, self._watch, self._end_before, self._ended)
            if len(slides):
                self._bring(slides.tolist())
                self._do(slides, ranks)
            elif self._disks.ranks.leads and self._each[0].output.resume:
                # a start that was killed after its last slide's end may have left them
                self._shared.remove_files(self._watch)
        finally:
            for lock in self._locks.values():
                lock.release()
            self._disks.close()
        return tuple(self._outcomes[slide] for slide in range(len(self._each))) if comm.rank == 0 else None

    @property
    def _shared(self) -> JournalFolder:
        return JournalFolder.shared_beside(self._each[0].output.path)

    def _end_before(self, slide: int) -> SlideEnd | None:
        """How a slide ends before anything is done, None where there is something to do."""
        settings = self._each[slide]
        try:
            code = finished_output(
                settings, lambda: self._made.compare(settings), lambda facts: self._disks.compare(slide, facts)
            )
            if code is not None:
                line = f"{settings.slide.path.name}: is there already, complete: {settings.output.path}"
                return SlideEnd(code, line, was_finished=True)
            self._made.check_target(settings)
            is_left = OutputLock.is_there(settings.output.path) or self._disks.has_left(slide)
            if len(self._each) == 1 or is_left:
                # to wait for one that a killed run may have left, now rather than while others wait for answers
                self._locks[slide] = lock_output(settings, patient=True, watch=self._watch)
            else:
                check_names(settings)
            self._disks.adopt(slide)
        except Exception as error:
            return SlideEnd.by(error, str(settings.slide.path))
        return None

    def _ended(self, slide: int, end: SlideEnd) -> None:
        """Rank 0 has heard of the end of a slide."""
        outcome = FileOutcome(self._each[slide], ExitCode(end.exit_code), end.line, end.was_finished)
        self._outcomes[slide] = outcome
        self._report_slide(outcome)

    def _do(self, slides: npt.NDArray[np.int64], ranks: npt.NDArray[np.void]) -> None:
        """Do the slides that are left. Collective."""
        each, made = self._each, self._made
        left = [each[slide] for slide in slides]
        journals = read_journals(self._comm, left, made.analysis, watch=self._watch, disks=self._disks)
        try:
            finisher = made.finisher(journals, self._locks, ranks)
            self._progress.tiles_begin(all_follow=True)
            outcome = run_pool(
                self._comm,
                PoolJob(made.analysis, made.opener, finisher.begin, finisher.write),
                slides,
                journals,
                each[0].schedule,
                self._stop,
                report_progress=self._progress.take if self._progress.is_wanted else None,
                report_end=self._ended,
            )
            if outcome.stopped:
                n_done = int(allgather(self._comm, np.array([outcome.n_done])).sum())
                n_ended = sum(bool(outcome.line) for outcome in self._outcomes.values())  # others go on in another pool
                said = f"{n_ended} of {len(each)} slides have ended, {n_done} {made.units} of others are kept"
                raise stopped_error(said, self._stop.reason)
            if self._disks.ranks.leads:
                journals.remove_shared()
        finally:
            journals.close()
