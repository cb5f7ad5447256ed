"""A run of many slides, from their paths to their result files."""

from __future__ import annotations

import time
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from pyramidai_mpi.base.errors import ExitCode, StorageError
from pyramidai_mpi.process.stop import StopWish, stopped_error
from pyramidai_mpi.pyramid.metrics import busiest_over_ideal
from pyramidai_mpi.ranks.collectives import agree, allgather, gather_records
from pyramidai_mpi.run.assemble import hosts_of_ranks
from pyramidai_mpi.run.networks import agree_on_package, begin_trial, build_engines, settle_backend
from pyramidai_mpi.run.pool.messages import Kind, Verdict
from pyramidai_mpi.run.pool.owner import Owner
from pyramidai_mpi.run.pool.post import Post
from pyramidai_mpi.run.pool.workload import CohortWorkload, opening_tasks
from pyramidai_mpi.run.stain import share_stain_engine
from pyramidai_mpi.sched import Policy, deal_round_robin
from pyramidai_mpi.sched import run as schedule

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    import numpy.typing as npt
    from mpi4py import MPI

    from pyramidai_mpi.base.settings import RunSettings
    from pyramidai_mpi.models.package import ModelPackage
    from pyramidai_mpi.sched import Progress
    from pyramidai_mpi.store.results.summary import SlideAccount

_NAP_S = 1e-3


@dataclass(frozen=True)
class SlideOutcome:
    """How one slide ended; fields as in `messages.Verdict`."""

    settings: RunSettings
    exit_code: ExitCode
    line: str
    account: SlideAccount | None = None
    was_finished: bool = False

    @property
    def is_complete(self) -> bool:
        """Whether it has its result, if with unreadable tiles."""
        return self.exit_code in {ExitCode.OK, ExitCode.TILES_FAILED}


@dataclass(frozen=True)
class CohortReport:
    """What rank 0 can say of all slides.

    Attributes
    ----------
    outcomes
        One a slide, in the order given.
    wall_s
        Seconds from start to the last file in its place.
    balance
        Busiest rank's working time over the mean, all slides together.
    """

    outcomes: tuple[SlideOutcome, ...]
    wall_s: float
    balance: float = 1.0

    @property
    def exit_code(self) -> ExitCode:
        """4 when slides failed, 3 when tiles did, else 0."""
        if not all(outcome.is_complete for outcome in self.outcomes):
            return ExitCode.SLIDES_FAILED
        return max(outcome.exit_code for outcome in self.outcomes)


def run_cohort(
    comm: MPI.Intracomm,
    each: Sequence[RunSettings],
    report_progress: Callable[[Progress], None] | None = None,
    report_slide: Callable[[SlideOutcome], None] | None = None,
    stop: StopWish | None = None,
    report_begin: Callable[[ModelPackage, npt.NDArray[np.void]], None] | None = None,
) -> CohortReport | None:
    """Analyse many slides as one pool of work. Collective.

    Every slide is opened by whichever rank comes to it, its tiles are analysed wherever there is room, and its owner
    (slide number modulo ranks) writes its file as soon as its own tree is complete. A slide that fails does not end the
    others.

    Parameters
    ----------
    comm
        The ranks.
    each
        One run's settings a slide, the same on all ranks; model, policy, seed and batch size are those of the first.
    report_progress
        Called on rank 0 from time to time.
    report_slide
        Called on rank 0 for each slide as it ends.
    stop
        Says whether to stop early; None for never.
    report_begin
        Called on rank 0 once the model is loaded, with it and the `RANK_DTYPE` records of all ranks.

    Returns
    -------
    CohortReport or None
        The report on rank 0, None on the others.

    Raises
    ------
    StoppedError
        On all ranks, when any of them was asked to stop. Finished slides have their files, the others their journals.
    PyramidError
        The same on all ranks, when the model cannot be used.
    """
    from pyramidai_mpi.sched.transport import MpiTransport  # MPI starts with its import

    started = time.perf_counter()
    common = each[0]
    with begin_trial(comm, common) as trial:
        package = agree_on_package(comm, common)
        common = settle_backend(comm, common, package, trial)
        engines = build_engines(comm, package, common, trial)
    each = [settings.with_model(backend=common.model.backend) for settings in each]
    stain_engine = share_stain_engine(comm, package)
    n_features = [engine.n_features if common.model.features else 0 for engine in engines]
    transport = MpiTransport.open(comm)
    verdicts: dict[int, SlideOutcome] = {}

    def receive(source: int, kind: Kind, slide: int, payload: bytes) -> None:
        if kind is not Kind.DONE:
            owner.receive(source, kind, slide, payload)
            return
        verdict = Verdict.from_bytes(payload)
        verdicts[slide] = SlideOutcome(
            each[slide], ExitCode(verdict.exit_code), verdict.line, verdict.account, verdict.was_finished
        )
        if report_slide is not None:
            report_slide(verdicts[slide])

    def carry() -> None:
        post.carry()
        owner.report_written()

    ranks = hosts_of_ranks(comm)
    if report_begin is not None and comm.rank == 0:
        report_begin(package, ranks)
    post = Post(transport, receive, owner_of=lambda slide: slide % comm.size)
    owned = range(comm.rank, len(each), comm.size)
    owner = Owner(each, package, owned, ranks, n_features, engines, comm.rank, post.drop)
    workload = CohortWorkload(
        each, package, engines, stain_engine, post, common.schedule.batch_size, report_progress, carry
    )
    to_open = opening_tasks(_without(comm, len(each), owner.settle_at_start()))
    roots = deal_round_robin(to_open, comm.rank, comm.size)
    stop = stop or StopWish()
    policy = Policy(common.schedule.policy)
    with stop.letting_batches_finish():
        outcome = schedule(comm, workload, roots, policy=policy, seed=common.schedule.seed, stop=stop.is_asked)
        if outcome.stopped:
            stop.leave()
    workload.close()
    # No tile is being analysed; what is left is to carry the last predictions and to write the last files.
    while owner.is_writing or not (post.all_carried() and (owner.finished or outcome.stopped)):
        carry()
        time.sleep(_NAP_S)
    transport.enter_barrier()
    while not transport.barrier_passed():
        carry()
        time.sleep(_NAP_S)
    owner.close()
    transport.close()
    if outcome.stopped:
        _let_go(comm, owner)
        raise stopped_error(f"{len(verdicts)} of {len(each)} slides have ended", stop.reason)
    busy = gather_records(comm, np.array([(outcome.stats.busy_s,)], [("busy_s", "<f8")]))
    if busy is None:
        return None
    outcomes = tuple(verdicts[slide] for slide in range(len(each)))
    return CohortReport(outcomes, time.perf_counter() - started, busiest_over_ideal(busy["busy_s"].tolist()))


def _let_go(comm: MPI.Intracomm, owner: Owner) -> None:
    """Close the journals of all slides that are not finished. Collective."""
    error = None
    try:
        owner.stop()
    except StorageError as caught:
        error = caught
    agree(comm, error)


def _without(comm: MPI.Intracomm, n_slides: int, refused: Sequence[int]) -> npt.NDArray[np.int64]:
    """Slides that no rank has refused, in order. Collective."""
    flags = np.zeros(n_slides, np.int64)
    flags[list(refused)] = 1
    return np.flatnonzero(allgather(comm, flags).sum(axis=0) == 0)
