"""A run, from a slide to its result file. Reads as the sentence that the design gives for the way of the data."""

from __future__ import annotations

import time
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from pyramidai_mpi.base.errors import ExitCode, PyramidError
from pyramidai_mpi.process.stop import StopWish, stopped_error
from pyramidai_mpi.pyramid.dealing import deal_by_root
from pyramidai_mpi.pyramid.metrics import busiest_over_ideal, speedup_in_tiles
from pyramidai_mpi.run.assemble import gather_result
from pyramidai_mpi.run.networks import begin_trial, build_engines, settle_backend
from pyramidai_mpi.run.opening import analyser_of, find_tissue, prepare_job
from pyramidai_mpi.run.output import locked_output
from pyramidai_mpi.run.pool.tile_workload import TileWorkload
from pyramidai_mpi.run.resume import close_journal, kept_in_words, open_journal, remove_journal, take_over
from pyramidai_mpi.run.stain import agree_on_stain, share_stain_engine
from pyramidai_mpi.run.write import choose_parallel, locate_features, write_result
from pyramidai_mpi.sched import Policy
from pyramidai_mpi.sched import run as schedule
from pyramidai_mpi.store.files.feature_spool import FeatureSpool

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from mpi4py import MPI

    from pyramidai_mpi.base.settings import RunSettings
    from pyramidai_mpi.process.sandbox import Trial
    from pyramidai_mpi.sched import Progress
    from pyramidai_mpi.store.results.result import Result


@dataclass(frozen=True)
class RunReport:
    """What rank 0 can say of a finished run.

    Attributes
    ----------
    result
        The result, as it was written.
    wall_s
        Seconds from start to the file in its place.
    """

    result: Result
    wall_s: float

    @property
    def exit_code(self) -> ExitCode:
        """0, or 3 when tiles were unreadable."""
        return ExitCode.TILES_FAILED if self.result.tree.n_failed else ExitCode.OK

    @property
    def speedup(self) -> float:
        """Tiles of the reference run over tiles of this run."""
        return speedup_in_tiles(self.result.n_reference_tiles, self.result.tree.n_tiles)

    @property
    def balance(self) -> float:
        """Busiest rank's working time over the mean."""
        return busiest_over_ideal(self.result.execution.ranks["busy_s"].tolist())


def run_slide(
    comm: MPI.Intracomm,
    settings: RunSettings,
    report_progress: Callable[[Progress], None] | None = None,
    stop: StopWish | None = None,
) -> RunReport | None:
    """Analyse one slide on all ranks and write its result file. Collective.

    Parameters
    ----------
    comm
        The ranks.
    settings
        The same on all of them.
    report_progress
        Called on rank 0 from time to time.
    stop
        Says whether to stop early; None for never.

    Returns
    -------
    RunReport or None
        The report on rank 0, None on the others.

    Raises
    ------
    StoppedError
        On all ranks, when any of them was asked to stop. The journal stays, for ``resume``.
    PyramidError
        The same on all ranks. There is no file under the output's name; once tiles were analysed, the journal stays.
    """
    clock = _PhaseClock()
    with _private(comm) as own, locked_output(own, settings), begin_trial(own, settings) as trial:
        result = _analyse(own, settings, trial, report_progress, stop or StopWish(), clock)
    return None if result is None else RunReport(result, clock.total())


def _analyse(
    comm: MPI.Intracomm,
    settings: RunSettings,
    trial: Trial | None,
    report_progress: Callable[[Progress], None] | None,
    stop: StopWish,
    clock: _PhaseClock,
) -> Result | None:
    job = prepare_job(comm, settings)
    try:
        rule = find_tissue(comm, job)
        job = agree_on_stain(comm, job, rule)
        clock.ends("tissue")
        job = replace(job, settings=settle_backend(comm, job.settings, job.package, trial))
        engines = build_engines(comm, job.package, job.settings, trial)
        spool = FeatureSpool() if settings.model.features else None
        parallel = choose_parallel(comm, settings.output.writer)
        analyser = analyser_of(job, engines, share_stain_engine(comm, job.package))
        workload = TileWorkload(analyser, rule, settings.mode, settings.schedule.batch_size, report_progress, spool)
        journal = open_journal(comm, job, rule, engines, workload.n_features)
        take_over(comm, journal, workload)
        clock.ends("load")
        roots = deal_by_root(journal.frontier, rule.grid, comm.rank, comm.size)
        policy = Policy(settings.schedule.policy)
        workload.start_clock()
        with stop.letting_batches_finish():
            outcome = schedule(comm, workload, roots, policy=policy, seed=settings.schedule.seed, stop=stop.is_asked)
            close_journal(comm, journal)
            if outcome.stopped:
                stop.leave()
                raise stopped_error(kept_in_words(comm, job, workload), stop.reason)
        clock.ends("analyse")
        facts = {"writer": "mpio" if parallel else "serial", "tiles_from_journal": journal.n_restored, **clock.seconds}
        result = gather_result(comm, job, workload, outcome.stats, facts)
        features = locate_features(comm, workload)
        write_result(
            comm, result, settings.output.path, overwrite=journal.overwrite, parallel=parallel, features=features
        )
        if comm.rank == 0:
            remove_journal(job)
    finally:
        job.pyramid.reader.close()
    return result


@contextmanager
def _private(comm: MPI.Intracomm) -> Iterator[MPI.Intracomm]:
    """A communicator on which no message of the caller's can be met; freed by all ranks together or not at all."""
    from pyramidai_mpi.sched.transport import is_loss  # MPI starts with its import

    own = comm.Dup()
    try:
        yield own
    except PyramidError as error:
        if error.agreed:
            own.Free()
        raise
    except Exception as failure:
        if is_loss(failure):
            own.Revoke()  # whoever waits in it for a rank that has left learns of it
        raise
    own.Free()


class _PhaseClock:
    """Wall seconds per phase."""

    def __init__(self) -> None:
        self._started = self._last = time.perf_counter()
        self.seconds: dict[str, str | int | float] = {}

    def ends(self, phase: str) -> None:
        """Book the time since the last phase on this one."""
        now = time.perf_counter()
        self.seconds[f"{phase}_s"] = now - self._last
        self._last = now

    def total(self) -> float:
        """Seconds since the start."""
        return time.perf_counter() - self._started
