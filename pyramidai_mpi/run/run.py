"""A run, from slides to result files. Reads as the sentence that the design gives for the way of the data."""

from __future__ import annotations

from contextlib import nullcontext
from dataclasses import replace
from typing import TYPE_CHECKING, TypeVar

import numpy as np

from pyramidai_mpi.analyses.classify import Classify
from pyramidai_mpi.analyses.dense import Dense
from pyramidai_mpi.base.counts import counted
from pyramidai_mpi.base.errors import ERROR_OF_EXIT_CODE, ExitCode, InternalError, PyramidError, StoppedError, is_bug
from pyramidai_mpi.base.hosts import IF_APART
from pyramidai_mpi.base.types import Mode
from pyramidai_mpi.process.host import host_name
from pyramidai_mpi.process.stop import StopWish, stopped_error
from pyramidai_mpi.pyramid.metrics import busiest_over_ideal
from pyramidai_mpi.ranks.collectives import allgather, gather_records, on_rank0
from pyramidai_mpi.run.aggregation import gathered_features, keeps_features, most_tiles_of
from pyramidai_mpi.run.assemble import hosts_of_ranks, rank_record
from pyramidai_mpi.run.auditing import audit_of
from pyramidai_mpi.run.encoding import check_precision
from pyramidai_mpi.run.finishing import Finisher, unreadable_line
from pyramidai_mpi.run.left_to_do import slides_left
from pyramidai_mpi.run.networks import (
    agree_on_package,
    are_ready_on_all,
    begin_trial,
    build_engines,
    load_encoder,
    settle_backend,
    warn_of_use,
)
from pyramidai_mpi.run.opening import describe, follow
from pyramidai_mpi.run.output import check_names, finished_before, lock_output
from pyramidai_mpi.run.own_disks import JournalDisks
from pyramidai_mpi.run.pool.messages import SlideEnd
from pyramidai_mpi.run.pool.pool import PoolJob, open_by_all, run_pool
from pyramidai_mpi.run.pool.workload import SlideOpener
from pyramidai_mpi.run.progress import PhaseClock, ProgressReport
from pyramidai_mpi.run.report import RunReport, SlideOutcome
from pyramidai_mpi.run.resume import read_journals
from pyramidai_mpi.run.sent_files import SentFiles
from pyramidai_mpi.run.shared_passes import load_passes
from pyramidai_mpi.run.stain import share_stain_engine
from pyramidai_mpi.run.start import check_start, compare_whole_slides, private
from pyramidai_mpi.run.strides import in_small_batches, plan_levels_of_run
from pyramidai_mpi.run.write import choose_parallel, locate_features, write_result
from pyramidai_mpi.store.files.lock import LockWatch, OutputLock
from pyramidai_mpi.store.journal.folder import JournalFolder
from pyramidai_mpi.store.results.summary import read_account

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    import numpy.typing as npt
    from mpi4py import MPI

    from pyramidai_mpi.base.settings import RunSettings
    from pyramidai_mpi.models.engines.on_demand import EngineOnDemand
    from pyramidai_mpi.models.package import ModelPackage
    from pyramidai_mpi.process.sandbox import Trial
    from pyramidai_mpi.ranks.disks import RanksByDisk
    from pyramidai_mpi.run.pool.pool import PoolOutcome
    from pyramidai_mpi.run.progress import RunProgress
    from pyramidai_mpi.run.resume import Journals
    from pyramidai_mpi.run.strides import LevelPlan
    from pyramidai_mpi.store.results.result import Result


T = TypeVar("T")


def run_slide(
    comm: MPI.Intracomm,
    settings: RunSettings,
    report_progress: Callable[[RunProgress], None] | None = None,
    stop: StopWish | None = None,
    sent: SentFiles | None = None,
) -> RunReport | None:
    """Analyse one slide on all ranks and write its result file, as `run_slides`. Collective.

    Raises
    ------
    PyramidError
        The same on all ranks, also when the slide has failed.
    """
    report = run_slides(comm, [settings], report_progress, stop=stop, sent=sent)

    def raise_if_failed() -> None:
        assert report is not None
        (outcome,) = report.outcomes
        if not outcome.is_complete:
            raise ERROR_OF_EXIT_CODE[outcome.exit_code](outcome.line)

    on_rank0(comm, raise_if_failed)
    return report


def run_slides(
    comm: MPI.Intracomm,
    each: Sequence[RunSettings],
    report_progress: Callable[[RunProgress], None] | None = None,
    report_slide: Callable[[SlideOutcome], None] = lambda _outcome: None,
    stop: StopWish | None = None,
    report_begin: Callable[[ModelPackage, npt.NDArray[np.void]], None] = lambda _package, _ranks: None,
    sent: SentFiles | None = None,
) -> RunReport | None:
    """Analyse slides as one pool of work and write a result file for each. Collective.

    Parameters
    ----------
    comm
        The ranks.
    each
        One run's settings a slide, the same on all ranks; model and schedule are those of the first.
    report_progress
        Called on rank 0 from time to time.
    report_slide
        Called on rank 0 for each slide as it ends.
    stop
        Says whether to stop early; None for never.
    report_begin
        Called on rank 0 once the model is known, with it and the `RANK_DTYPE` records of all ranks.
    sent
        What was sent to this host, of a run that is attempted again and again; None begins with nothing.

    Returns
    -------
    RunReport or None
        The report on rank 0, None on the others.

    Raises
    ------
    StoppedError
        On all ranks, when any of them was asked to stop. Finished slides have their files, the others their journals.
    PyramidError
        The same on all ranks, for what concerns all slides, such as a model that cannot be used.
    """
    with private(comm) as own, nullcontext(sent) if sent is not None else SentFiles(each[0].hosts) as files:
        ranks = check_start(own, each, IF_APART)
        each = files.with_models(own, each)
        with begin_trial(own, each[0]) as trial:
            report = ProgressReport(report_progress if own.rank == 0 else None)
            return _Run(own, ranks, each, files, report_slide, stop or StopWish()).to_the_end(
                trial, report, report_begin
            )


class _Run:
    """One rank's part of a run."""

    def __init__(
        self,
        comm: MPI.Intracomm,
        ranks: RanksByDisk,
        each: Sequence[RunSettings],
        sent: SentFiles,
        report_slide: Callable[[SlideOutcome], None],
        stop: StopWish,
    ) -> None:
        self._sent = sent
        # finished slides are looked at before others are sent, by a rank that may have only copies of them
        self._comm, self._named, self._each, self._stop = comm, each, sent.with_copies(each), stop
        self._report_slide = report_slide
        self._clock = PhaseClock()
        self._outcomes: dict[int, SlideOutcome] = {}
        self._locks: dict[int, OutputLock] = {}
        self._watch = LockWatch()
        self._disks = JournalDisks(comm, ranks, each, self._watch)
        self._journals: Journals | None = None

    def to_the_end(
        self,
        trial: Trial | None,
        progress: ProgressReport,
        report_begin: Callable[[ModelPackage, npt.NDArray[np.void]], None],
    ) -> RunReport | None:
        """Model, slides that are left to do, the pool, and what rank 0 can say at the end."""
        comm = self._comm
        busy_s, result = 0.0, None
        progress.phase("reading the model")
        try:
            package = agree_on_package(comm, self._each[0])
            ranks = hosts_of_ranks(comm)
            if comm.rank == 0:
                report_begin(package, ranks)
            slides = slides_left(
                comm, self._each, self._disks, self._watch, lambda slide: self._end_before(slide, package), self._ended
            )
            if len(slides):
                self._each = self._sent.with_slides(comm, self._named, slides.tolist())
                compare_whole_slides(comm, self._disks.ranks, self._each, slides.tolist())
                busy_s, result = self._do(package, ranks, slides, trial, progress)
            elif self._disks.ranks.leads and not self._is_alone and self._each[0].output.resume:
                # a start that was killed after its last slide's end may have left them
                self._shared.remove_files(self._watch)
        finally:
            for lock in self._locks.values():
                lock.release()
            self._disks.close()
            if self._journals is not None:
                self._journals.close()
        busy = gather_records(comm, np.array([(busy_s,)], [("busy_s", "<f8")]))
        if busy is None:
            return None
        outcomes = tuple(self._outcomes[slide] for slide in range(len(self._each)))
        return RunReport(outcomes, self._clock.total(), busiest_over_ideal(busy["busy_s"].tolist()), result)

    def _end_before(self, slide: int, package: ModelPackage) -> SlideEnd | None:
        """How a slide ends before anything is done, None where there is something to do."""
        settings = self._each[slide]
        try:
            code = finished_before(settings, package, lambda facts: self._disks.compare(slide, facts))
            if code is not None:
                output, is_part = settings.output.path, settings.slide.part is not None
                account = read_account(output, may_be_part=is_part)
                if is_part:
                    account = replace(account, warning="")
                said = f"; {account.warning}" if account.warning else ""
                if account.is_unreadable and not is_part:
                    return SlideEnd(ExitCode.BAD_INPUT, unreadable_line(settings, account), account, was_finished=True)
                line = f"{settings.slide.path.name}: is there already, complete: {output}{said}"
                return SlideEnd(code, line, account, was_finished=True)
            is_left = OutputLock.is_there(settings.output.path) or self._disks.has_left(slide)
            if self._is_alone or is_left:
                # to wait for one that a killed run may have left, now rather than while others wait for answers
                self._locks[slide] = lock_output(settings, patient=True, watch=self._watch)
            else:
                check_names(settings)
            self._disks.adopt(slide)
        except Exception as error:
            if self._is_alone and is_bug(error):
                raise
            return SlideEnd.by(error, str(settings.slide.path))
        return None

    @property
    def _shared(self) -> JournalFolder:
        """Where the ranks' files lie in a run of several slides."""
        return JournalFolder.shared_beside(self._each[0].output.path)

    @property
    def _is_alone(self) -> bool:
        """Whether there is one slide: all ranks open it together, and write its result together."""
        return len(self._each) == 1

    def _ended(self, slide: int, end: SlideEnd) -> None:
        """Rank 0 has heard of the end of a slide."""
        outcome = SlideOutcome(self._each[slide], ExitCode(end.exit_code), end.line, end.account, end.was_finished)
        self._outcomes[slide] = outcome
        self._report_slide(outcome)

    def _do(
        self,
        package: ModelPackage,
        ranks: npt.NDArray[np.void],
        slides: npt.NDArray[np.int64],
        trial: Trial | None,
        progress: ProgressReport,
    ) -> tuple[float, Result | None]:
        """Do the slides that are left; this rank's working time, and the result of the only slide. Collective."""
        comm, each = self._comm, self._each
        plan = plan_levels_of_run(each[0], package)
        opener = SlideOpener(
            lambda slide: _on_this_host(lambda: describe(each[slide].slide, package, plan.levels), ranks),
            lambda slide, description: follow(each[slide].slide, package, description, plan.levels),
            lambda slide: str(each[slide].slide.path),
        )
        try:
            are_ready = are_ready_on_all(comm, each[0], package, trial)
            if are_ready:  # the others load theirs while one finds the tissue
                common, engines = self._networks(package, plan, trial, progress)
            opened = None
            if self._is_alone:
                progress.phase("finding tissue")
                opened = open_by_all(comm, opener, 0)
            self._clock.ends("tissue")
            if not are_ready:  # a child tries them while tissue is found
                common, engines = self._networks(package, plan, trial, progress)
            warn_of_use(comm, package)
            thresholds = package.thresholds(common.model.thresholds)
            classify = Classify(
                [engines[n] for n in plan.levels.networks],
                [thresholds[n] for n in plan.levels.networks],
                len(package.classes),
                package.positive_class,
                common.mode,
                keeps_features(common, package),
                common.model.feature_type,
                load_encoder(comm, package, common),
                common.schedule.read_ahead,
                share_stain_engine(comm, package),
            )
            analysis: Classify | Dense = classify
            if plan.rule is not None:
                analysis = Dense(classify, plan.rule, load_passes(comm, common, package, plan))
            left = [each[slide] for slide in slides]
            journals = read_journals(
                comm, left, analysis, in_own_folder=self._is_alone, watch=self._watch, disks=self._disks
            )
            self._journals = journals
            together = self._is_alone and self._disks.ranks.are_together
            parallel = together and choose_parallel(comm, common.output.writer)
            self._clock.ends("load")
            most_tiles = most_tiles_of(comm, package, trial)
            finisher = Finisher(each, package, analysis, plan, journals, self._locks, ranks, most_tiles)
            progress.tiles_begin(all_follow=common.mode is not Mode.PYRAMID and plan.band is None)
            outcome = run_pool(
                comm,
                PoolJob(analysis, opener, finisher.begin, finisher.write),
                slides,
                journals,
                common.schedule if plan.rule is None else in_small_batches(common.schedule),
                self._stop,
                opened=opened,
                report_progress=progress.take if progress.is_wanted else None,
                report_end=self._ended,
                audit=audit_of(common, package, plan, analysis, ranks),
            )
            self._clock.ends("analyse")
        except PyramidError as error:
            if not (self._is_alone and error.agreed) or isinstance(error, InternalError | StoppedError):
                raise
            if comm.rank == 0:  # the end of the only slide
                self._ended(0, SlideEnd(error.exit_code, str(error)))
            return 0.0, None
        if outcome.stopped:
            raise stopped_error(self._kept_in_words(outcome), self._stop.reason)
        if self._is_alone:
            progress.phase("writing the result")
        result = self._write_together(outcome, finisher, parallel=parallel) if self._is_alone else None
        if self._disks.ranks.leads:
            journals.remove_shared()
        return outcome.stats.busy_s, result

    def _networks(
        self, package: ModelPackage, plan: LevelPlan, trial: Trial | None, progress: ProgressReport
    ) -> tuple[RunSettings, list[EngineOnDemand]]:
        """Settings with a backend, and all networks, of which that of the first tiles is being loaded. Collective."""
        progress.phase("loading the networks")
        common = settle_backend(self._comm, self._each[0], package, trial)
        engines = build_engines(self._comm, package, common, trial)
        on_rank0(self._comm, lambda: check_precision(package, common))
        engines[plan.levels.networks[0 if common.mode is Mode.REFERENCE else -1]].begin_loading()
        self._clock.ends("load")
        return common, engines

    def _kept_in_words(self, outcome: PoolOutcome) -> str:
        """What a run that stops has kept. Collective."""
        n_done = int(allgather(self._comm, np.array([outcome.n_done])).sum())
        if self._is_alone:
            return f"{counted(n_done, 'tile')} done and kept in {JournalFolder.of(self._each[0].output.path).path}"
        return f"{len(self._outcomes)} of {len(self._each)} slides ended, {counted(n_done, 'tile')} of others kept"

    def _write_together(self, outcome: PoolOutcome, finisher: Finisher, *, parallel: bool) -> Result | None:
        """Write the result of the only slide, if it did not fail; it is on rank 0. Collective."""
        comm, held = self._comm, outcome.held
        if not allgather(comm, np.array([held is not None])).any():
            return None
        try:
            ranks = gather_records(comm, rank_record(comm, outcome.stats))
            facts = {"writer": "mpio" if parallel else "serial", **self._clock.seconds}

            def assemble() -> Result:
                assert held is not None
                assert ranks is not None
                return finisher.assemble(0, held, facts, ranks)

            result = on_rank0(comm, assemble)
            features = locate_features(comm, outcome.spool, outcome.tiles_kept, finisher.widths)
            if features is not None and finisher.predicts(0):
                of_tiles = gathered_features(comm, features)
                result = on_rank0(comm, lambda: finisher.with_prediction(0, result, lambda: of_tiles))
                del of_tiles  # rank 0 writes next, and needs its memory
            write_result(
                comm,
                result,
                self._each[0].output.path,
                overwrite=held is not None and held.beginning.output.replaces,
                parallel=parallel,
                check=(lambda: None) if held is None else held.beginning.output.check_lock,
                features=features,
            )
            self._disks.end(0, has_file=True)
            if held is not None and result is not None:
                held.beginning.output.remove_journal()
                self._ended(0, finisher.end_of(0, result, self._clock.total()))
        finally:
            if held is not None:
                held.close()
        return result


def _on_this_host(action: Callable[[], T], ranks: npt.NDArray[np.void]) -> T:
    """Do something; where the ranks are on several hosts, an error says on which it was met."""
    try:
        return action()
    except PyramidError as error:
        if len(np.unique(ranks["host"])) == 1 or isinstance(error, InternalError):
            raise
        raise type(error)(f"{error} (on host {host_name()})") from error
