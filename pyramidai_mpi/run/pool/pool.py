"""One pool of work for all slides of a run: scheduling, messages, journals and owners put together.

What is done to the tiles, how slides are opened and how results are written are the caller's; see `PoolJob`.
"""

from __future__ import annotations

import time
from contextlib import suppress
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import numpy as np

from pyramidai_mpi.base.errors import PyramidError
from pyramidai_mpi.base.types import tiles_only
from pyramidai_mpi.pyramid.dealing import deal_by_root, deal_in_blocks, evenly_spread
from pyramidai_mpi.ranks.collectives import agree, allgather, on_all, on_rank0, share_bytes
from pyramidai_mpi.ranks.disks import RanksByDisk
from pyramidai_mpi.run.pool.audit import AuditBook
from pyramidai_mpi.run.pool.audits_end import AuditsEnd, raise_failure, set_aside
from pyramidai_mpi.run.pool.desk import OwnerDesk
from pyramidai_mpi.run.pool.mailbox import Mailbox
from pyramidai_mpi.run.pool.messages import Kind, SlideDescription, SlideEnd
from pyramidai_mpi.run.pool.owner import Owner
from pyramidai_mpi.run.pool.recomputing import Recomputer
from pyramidai_mpi.run.pool.tally import WorkTally
from pyramidai_mpi.run.pool.workload import PoolWorkload, opening_tasks, tasks_of
from pyramidai_mpi.sched import Policy, deal_round_robin
from pyramidai_mpi.sched import run as schedule
from pyramidai_mpi.sched.policy import RULES
from pyramidai_mpi.sched.waiting import wait_until
from pyramidai_mpi.store.files.feature_spool import FeatureSpool
from pyramidai_mpi.store.journal.writer import JournalWriter

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    import numpy.typing as npt
    from mpi4py import MPI

    from pyramidai_mpi.analyses.base import Analysis, OpenSlide
    from pyramidai_mpi.base.settings import Schedule
    from pyramidai_mpi.base.types import TileArray
    from pyramidai_mpi.process.stop import StopWish
    from pyramidai_mpi.pyramid.rule import TileRule
    from pyramidai_mpi.run.own_disks import JournalDisks
    from pyramidai_mpi.run.pool.owner import Beginning, Collected
    from pyramidai_mpi.run.pool.witness import Audit
    from pyramidai_mpi.run.pool.workload import SlideOpener
    from pyramidai_mpi.run.resume import Journals
    from pyramidai_mpi.sched import Progress, Stats
    from pyramidai_mpi.sched.transport import Transport


@dataclass(frozen=True)
class PoolJob:
    """What a pool is to do.

    Attributes
    ----------
    analysis
        What is done to the tiles.
    opener
        How slides are opened.
    begin
        Called by a slide's owner with its number and description: its place on the disk, and where to go on from.
    write
        Called by a slide's owner when all its tiles are there: writes the result and says how the slide has ended.
    """

    analysis: Analysis
    opener: SlideOpener
    begin: Callable[[int, SlideDescription], Beginning]
    write: Callable[[int, Collected], SlideEnd]


@dataclass(frozen=True)
class OpenedByAll:
    """The only slide of a run, which all ranks open at once, since nobody would have anything else to do.

    Attributes
    ----------
    number
        Of the slide.
    slide, rule
        As this rank has opened it.
    description
        As rank 0 has described it.
    """

    number: int
    slide: OpenSlide
    rule: TileRule
    description: SlideDescription


def open_by_all(comm: MPI.Intracomm, opener: SlideOpener, number: int) -> OpenedByAll:
    """Open a slide on all ranks; rank 0 is the first, finds its tissue and describes it. Collective.

    Raises
    ------
    PyramidError
        On all ranks, when one cannot open it, or sees another file.
    """
    own = on_rank0(comm, lambda: opener.describe(number))
    shared = share_bytes(comm, None if own is None else own[2].to_bytes())
    error = None
    if own is None:
        description = SlideDescription.from_bytes(shared)
        try:
            own = (*opener.follow(number, description), description)
        except PyramidError as caught:
            error = caught
    try:
        agree(comm, error)
    except PyramidError:
        if own is not None:
            own[0].pyramid.reader.close()
        raise
    assert own is not None
    return OpenedByAll(number, *own)


@dataclass
class PoolOutcome:
    """End of a pool on one rank.

    Attributes
    ----------
    stats
        The scheduler's account of this rank.
    stopped
        Whether the run was asked to stop and left tiles undone; equal on all ranks.
    held
        On its owner, the slide that was opened by all: complete, and not written yet.
    n_done
        Tiles of slides of this rank's that are done and kept, of slides that were not finished.
    spool, tiles_kept
        Features that stayed on this rank, and their tiles in the order of the spool's rows, of the slide held.
    """

    stats: Stats
    stopped: bool
    held: Collected | None = None
    n_done: int = 0
    spool: FeatureSpool | None = None
    tiles_kept: Sequence[TileArray] = field(default_factory=tuple)


def run_pool(
    comm: MPI.Intracomm,
    job: PoolJob,
    slides: npt.NDArray[np.int64],
    journals: Journals,
    plan: Schedule,
    stop: StopWish,
    *,
    opened: OpenedByAll | None = None,
    report_progress: Callable[[Progress], None] | None = None,
    report_end: Callable[[int, SlideEnd], None] = lambda _slide, _end: None,
    audit: Audit | None = None,
) -> PoolOutcome:
    """Do all tiles of all slides, as one pool of work. Collective.

    Every slide is opened by whichever rank comes to it, its tiles are done wherever there is room, and its owner (slide
    number modulo ranks that see rank 0's disk) collects what was done and has its result written as soon as the tree is
    complete. A slide that fails does not end the others. A slide that was opened by all is not written but handed back,
    for all to write.

    Parameters
    ----------
    comm
        The ranks.
    slides
        Numbers of the slides to do, the same on all ranks.
    journals
        Where they are journalled.
    plan
        Policy, seed, batch size.
    stop
        Says whether to stop early.
    opened
        The only slide, if all ranks have opened it already.
    report_progress
        Called on rank 0 from time to time.
    report_end
        Called on rank 0 for each slide as it ends.
    audit
        Which tiles are computed again by another rank; None for none. Slides that have ended by then apart, a run in
        which two ranks differ ends without results, and what the suspects have journalled is set aside.

    Raises
    ------
    PyramidError
        On all ranks, what concerns all slides: `StorageError` when an audit has found something wrong.
    """
    from pyramidai_mpi.sched.transport import MpiTransport  # MPI starts with its import

    pool = _Pool(comm, MpiTransport.open(comm), job, journals, report_end, opened, audit)
    return pool.run(slides, plan, stop, report_progress)


class _Pool:
    """One rank's part of a pool."""

    def __init__(
        self,
        comm: MPI.Intracomm,
        transport: Transport,
        job: PoolJob,
        journals: Journals,
        report_end: Callable[[int, SlideEnd], None],
        opened: OpenedByAll | None,
        audit: Audit | None,
    ) -> None:
        self._comm, self._transport, self._job = comm, transport, job
        self._opened = opened
        self._report_end = report_end
        self._held: Collected | None = None
        is_shared = journals.home == journals.shared
        self._journals, self._audit = journals, audit
        self._disks = journals.disks
        self._ranks = RanksByDisk.together(comm.rank, comm.size) if self._disks is None else self._disks.ranks
        self._journal = JournalWriter(journals.of_rank(comm.rank), journals.record_format, is_shared=is_shared)
        self._desk = OwnerDesk(job.write, job.opener.name)
        self._mailbox = Mailbox(transport, self._receive, self._ranks.owner_of, self._desk.has_room, job.analysis.task)
        keeps_features = opened is not None and any(job.analysis.widths)
        self._spool = FeatureSpool() if keeps_features else None
        self._tally = WorkTally(len(job.analysis.widths))
        self._owner: Owner
        self._book: AuditBook | None = None
        self._recomputer: Recomputer | None = None

    def run(
        self,
        slides: npt.NDArray[np.int64],
        plan: Schedule,
        stop: StopWish,
        report_progress: Callable[[Progress], None] | None,
    ) -> PoolOutcome:
        """See `run_pool`."""
        comm = self._comm
        if self._audit is not None:
            self._begin_audit(self._audit, plan.batch_size)
        owned = [int(slide) for slide in slides if self._ranks.owner_of(int(slide)) == comm.rank]
        self._owner = self._desk.owner = Owner(
            owned,
            comm.size,
            self._job.analysis,
            self._job.begin,
            self._desk.finish if self._opened is None else self._hold,
            self._mailbox.send,
            time.perf_counter,
            self._spool_of,
            self._job.opener.name,
            self._has_begun,
            self._book,
            self._ranks.leaders[1:] if self._opened is None else (),
        )
        workload = PoolWorkload(
            self._job.analysis,
            self._job.opener,
            self._mailbox,
            self._journal,
            plan.batch_size,
            self._tally,
            kept_here=self._spool,
            report=report_progress,
            poll=self._poll,
            bugs_end_all=self._opened is not None,
            audit=self._audit,
            between=None if self._recomputer is None else self._recomputer.serve,
        )
        try:
            policy = Policy(plan.policy)
            tasks = self._first_tasks(slides, workload, policy)
            workload.start_clock()
            with stop.letting_batches_finish():
                outcome = schedule(
                    comm,
                    workload,
                    tasks,
                    policy=policy,
                    seed=plan.seed,
                    stop=lambda: stop.is_asked() or self._is_refuted,
                )
                stopped = outcome.stopped
                if self._book is not None and self._recomputer is not None:
                    if stopped:
                        self._book.give_up()
                    with AuditsEnd(self._book, self._recomputer, workload.analysis_of, stop.is_asked) as rest:
                        self._drain(stopped=stopped, rest=rest)
                    stopped = self._is_left_undone(stopped=stopped)
                if stopped:
                    stop.leave()
            workload.close()
            if self._book is None:
                self._drain(stopped=stopped)
            n_done = self._close()
            return PoolOutcome(
                outcome.stats,
                stopped,
                self._held,
                n_done,
                self._spool,
                workload.tiles_kept,
            )
        except BaseException as failure:
            self._let_go(failure)
            workload.close()
            raise

    def _first_tasks(
        self, slides: npt.NDArray[np.int64], workload: PoolWorkload, policy: Policy
    ) -> npt.NDArray[np.void]:
        """Share of this rank of the tasks to begin with. Collective."""
        comm, opened = self._comm, self._opened
        if opened is None:
            to_open = deal_round_robin(opening_tasks(slides, self._job.analysis.task), comm.rank, comm.size)
            self._tally.waits(len(to_open))
            return to_open
        begun = on_rank0(comm, lambda: self._owner.begin(opened.number, opened.description))
        tag = share_bytes(comm, None if begun is None else begun.tag.to_bytes(8, "little"))
        first = share_bytes(comm, None if begun is None else begun.first.tobytes())
        if (disks := self._disks) is not None and not self._ranks.are_together:
            manifest = share_bytes(comm, None if begun is None else begun.output.manifest)
            on_all(comm, lambda: disks.begin(opened.number, manifest))
        if self._spool is not None and begun is not None:
            # what earlier starts have done comes first in the spool of the slide's owner
            collected = self._held or self._owner.collected(opened.number)
            workload.tiles_kept.append(tiles_only(collected.records.rows))
        tiles = np.frombuffer(first, self._job.analysis.task)
        workload.begin(opened.number, opened.slide, opened.rule, int.from_bytes(tag, "little"))
        grid = opened.rule.grid
        if RULES[policy].takes_half:
            own = deal_in_blocks(tiles, grid, comm.rank, comm.size)
        else:  # what mends nothing, or little at a time, begins best with roots in turn
            own = evenly_spread(deal_by_root(tiles, grid, comm.rank, comm.size), grid)
        return tasks_of(opened.number, own)

    def _has_begun(self, collected: Collected) -> None:
        rule = collected.beginning.rule
        exist = rule.count_under(self._job.analysis.first(rule))
        self._tally.begun(exist, collected.beginning.first, collected.records.rows)

    def _spool_of(self, _slide: int) -> FeatureSpool:
        return self._spool or FeatureSpool()

    def _hold(self, slide: int, collected: Collected) -> None:
        self._held = collected
        self._owner.hand_over(slide)

    def _receive(self, source: int, kind: Kind, slide: int, payload: bytes) -> None:
        disks = self._disks
        if kind is Kind.DONE:
            end = SlideEnd.from_bytes(payload)
            if self._comm.rank == 0:
                self._report_end(slide, end)
            if disks is not None and self._ranks.leads_elsewhere:
                self._desk.do(lambda: disks.end(slide, has_file=end.has_file))
        elif kind is Kind.MANIFEST and disks is not None:
            self._desk.do(self._keep_manifest, disks, source, slide, payload)
        elif kind is Kind.AUDIT and self._recomputer is not None:
            self._recomputer.receive(slide, payload)
        else:
            self._desk.receive(source, kind, slide, payload)

    def _keep_manifest(self, disks: JournalDisks, owner: int, slide: int, manifest: bytes) -> None:
        end = disks.begin_or_refuse(slide, manifest)
        if end is not None:
            self._mailbox.send(owner, Kind.REFUSED, slide, end.to_bytes())

    def _poll(self) -> None:
        self._mailbox.exchange()
        self._desk.is_idle()  # raises what went wrong there

    def _begin_audit(self, audit: Audit, batch_size: int) -> None:
        job, is_alone = self._job, self._opened is not None
        name, send = job.opener.name, self._mailbox.send
        self._book = AuditBook(audit, job.analysis, send, batch_size, name, of_several=not is_alone)
        self._recomputer = Recomputer(audit, job.analysis, job.opener, self._mailbox, bugs_end_all=is_alone)

    @property
    def _is_refuted(self) -> bool:
        """Whether the audit of this rank's slides has found something wrong."""
        return self._book is not None and self._book.failure is not None

    def _is_left_undone(self, *, stopped: bool) -> bool:
        """Whether any rank's slides are left for another start. Collective."""
        own = stopped or not self._owner.is_done
        return bool(allgather(self._comm, np.array([own])).any())

    def _drain(self, *, stopped: bool, rest: AuditsEnd | None = None) -> None:
        """No tile is being done any more: carry the last messages, and see the last files written.

        Of a run that is audited, what is left to compute again comes first, unless the run has stopped.
        """
        transport = self._transport

        def exchange() -> None:
            self._mailbox.exchange(flush=True)
            if rest is not None and not stopped:
                rest.go_on()

        def is_through() -> bool:
            is_idle = self._desk.is_idle()  # first: what is in work there may leave messages, or end slides
            ends = self._owner.is_done or stopped or (rest is not None and rest.is_given_up)
            is_at_rest = rest is None or stopped or rest.is_idle
            return is_idle and ends and is_at_rest and self._mailbox.is_empty()

        exchange()
        wait_until(is_through, exchange)
        transport.enter_barrier()
        wait_until(transport.barrier_passed, exchange)
        wait_until(self._desk.is_idle)  # nothing comes after the barrier, but something may have come just before

    def _close(self) -> int:
        """Flush what was done, and let go of slides that are not finished; how many of their tiles are kept."""
        self._desk.close()
        n_done = self._owner.n_done
        error = None
        for close in (self._journal.close, self._owner.close):
            try:
                close()
            except PyramidError as caught:
                error = error or caught
        if self._book is not None:
            not_set_aside = set_aside(self._comm, self._book.suspects, self._journals)
            error = error or not_set_aside
        agree(self._comm, error)
        if self._book is not None:
            raise_failure(self._comm, self._book.failure)
        self._transport.close()
        return n_done

    def _let_go(self, failure: BaseException) -> None:
        """Leave after a failure: what is journalled stays, locks are released, only own threads are waited for."""
        self._mailbox.give_up()
        if self._transport.is_loss(failure):
            self._transport.abandon()
        elif isinstance(failure, PyramidError) and failure.agreed:
            self._transport.close()
        self._desk.close()
        held = [] if self._held is None else [self._held.close]
        for close in (self._journal.close, self._owner.close, *held):
            with suppress(PyramidError):
                close()
