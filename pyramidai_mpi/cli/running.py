"""A run from the command line, once its options are understood: on the ranks that are left, with lines and exports."""

from __future__ import annotations

import logging
import os
import sys
from typing import TYPE_CHECKING

from pyramidai_mpi.base.counts import counted
from pyramidai_mpi.base.errors import ExitCode, PyramidError, exit_code_of, is_bug, printable, traceback_lines

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from mpi4py import MPI

    from pyramidai_mpi.base.settings import RunSettings
    from pyramidai_mpi.export.formats import Format
    from pyramidai_mpi.process.stop import StopWish
    from pyramidai_mpi.run.file_pool import FileOutcome
    from pyramidai_mpi.run.progress import RunProgress
    from pyramidai_mpi.run.report import RunReport, SlideOutcome
    from pyramidai_mpi.run.sent_files import SentFiles

log = logging.getLogger(__name__)


def set_up_logging(rank: int, level: str) -> None:
    """Log to stderr from this level on (``debug`` ... ``error``); beside rank 0, only warnings unless all is wanted."""
    handler = logging.StreamHandler(sys.stderr)
    prefix = f"rank {rank}: " if rank or level == "debug" else ""
    handler.setFormatter(PrintableFormatter(f"%(asctime)s {prefix}%(message)s", "%H:%M:%S"))
    lowest = logging.getLevelNamesMapping()[level.upper()]
    logging.basicConfig(level=max(lowest, logging.WARNING) if rank and level != "debug" else lowest, handlers=[handler])


class PrintableFormatter(logging.Formatter):
    """Shows every character; of line breaks only those of our own lists, whose lines are indented."""

    def format(self, record: logging.LogRecord) -> str:
        """See the class."""
        return "\n  ".join(printable(line) for line in super().format(record).split("\n  "))


def run_through_losses(
    comm: MPI.Intracomm,
    each: Sequence[RunSettings],
    run: Callable[[MPI.Intracomm, Sequence[RunSettings]], int],
    before_leaving: Callable[[], None] = lambda: None,
) -> int:
    """Run; where the MPI lets ranks outlive each other, those that are left go on.

    Parameters
    ----------
    before_leaving
        Called after losses, when nothing else that should happen at the end will.
    """
    import numpy as np

    from pyramidai_mpi.cli.session import leave_after_losses
    from pyramidai_mpi.ranks.collectives import agree, allgather
    from pyramidai_mpi.ranks.survival import through_losses
    from pyramidai_mpi.store.journal.folder import JournalFolder

    def attempt(left: MPI.Intracomm, again: bool) -> int:
        if not again:
            return run(left, each)
        here, error = np.zeros(len(each), bool), None
        try:
            here[:] = [JournalFolder.of(settings.output.path).exists for settings in each]
        except PyramidError as failure:
            error = failure
        agree(left, error)
        are_begun = np.flatnonzero(allgather(left, here).any(axis=0))  # on any host's disk
        gone_on_with = []
        for slide, settings in enumerate(each):
            # what --overwrite is to replace is written down in the journal, once there is one
            fresh = settings.output.overwrite and slide not in are_begun
            gone_on_with.append(settings.with_output(resume=not fresh, overwrite=fresh))
        return run(left, gone_on_with)

    code, left = through_losses(comm, attempt, lambda line: log.error("%s", line))
    if left.size < comm.size:
        before_leaving()
        leave_after_losses(code)
    return code


def run_one(
    comm: MPI.Intracomm,
    each: Sequence[RunSettings],
    *,
    sent: SentFiles,
    formats: Sequence[Format],
    stop: StopWish,
    bar_wanted: bool,
    advice_wanted: bool = False,
) -> int:
    """Run a single slide, say what came of it, export it; the exit code, the same on all ranks. Collective."""
    from pyramidai_mpi.cli.progress import choose_view
    from pyramidai_mpi.ranks.collectives import share_bytes
    from pyramidai_mpi.run.run import run_slide

    view = choose_view(bar_wanted=bar_wanted, advice_wanted=advice_wanted) if comm.rank == 0 else None
    try:
        report = run_slide(comm, each[0], view.show if view else None, stop, sent)
    finally:
        if view:
            view.close()
    code = b""
    if report is not None:
        (outcome,) = report.outcomes
        if outcome.was_finished:
            log.info("%s: is there already, complete", outcome.settings.output.path)
        if outcome.warning:
            where = " in the regions given" if outcome.settings.slide.regions.given else ""
            log.warning("%s: %s%s", outcome.settings.slide.path.name, outcome.warning, where)
        if not outcome.was_finished:
            _say_report(outcome.settings, report)
        code = bytes([export_beside(outcome.exit_code, [outcome.settings], formats)])
    return share_bytes(comm, None if comm.rank else code)[0]


def run_several(
    comm: MPI.Intracomm,
    each: Sequence[RunSettings],
    *,
    sent: SentFiles,
    formats: Sequence[Format],
    stop: StopWish,
    bar_wanted: bool,
    advice_wanted: bool = False,
) -> int:
    """Run several slides, with a line, a row of the table and exports for each; the exit code. Collective."""
    from pyramidai_mpi.cli.main import say_error
    from pyramidai_mpi.cli.progress import choose_view
    from pyramidai_mpi.ranks.collectives import share_bytes
    from pyramidai_mpi.run.records import CohortRecords
    from pyramidai_mpi.run.run import run_slides

    records = CohortRecords(each[0].output.path.parent, each)
    view = choose_view(bar_wanted=bar_wanted, advice_wanted=advice_wanted) if comm.rank == 0 else None
    ended = 0

    def say_slide(outcome: SlideOutcome) -> None:
        nonlocal ended
        ended += 1
        is_well = outcome.exit_code is ExitCode.OK and not outcome.warning
        level = logging.INFO if is_well else logging.WARNING
        line = f"[{ended}/{len(each)}] {outcome.line}"
        if view is None:
            log.log(level, "%s", line)
        else:
            view.say(line, level)
        records.slide_ended(outcome)

    try:
        report = run_slides(comm, each, view.show if view else None, say_slide, stop, records.begin, sent)
    except PyramidError as error:
        records.end(error.exit_code)
        raise
    finally:
        if view:
            view.close()
    code = b""
    if report is not None:
        failed = [outcome for outcome in report.outcomes if not outcome.is_complete]
        if failed:
            reasons = "".join(f"\n  {outcome.line}" for outcome in failed)
            log.error("%d of %s failed:%s", len(failed), counted(len(each), "slide"), reasons)
        skipped = sum(outcome.was_finished for outcome in report.outcomes)
        log.info(
            "%s%s, %.1f s on %s, busiest/ideal %.2f",
            counted(len(each), "slide"),
            f" ({skipped} finished before)" if skipped else "",
            report.wall_s,
            counted(comm.size, "rank"),
            report.balance,
        )
        # what an earlier start has made of the very result of a finished slide is left alone
        complete = [
            outcome.settings.with_output(resume=outcome.settings.output.resume or outcome.was_finished)
            for outcome in report.outcomes
            if outcome.is_complete
        ]
        exit_code = export_beside(report.exit_code, complete, formats)
        records.end(exit_code, report)
        if records.error is not None:
            say_error(f"{records.error} (the results are complete, the records of the run are not)")
            exit_code = records.error.exit_code
        code = bytes([exit_code])
    return share_bytes(comm, None if comm.rank else code)[0]


def make_files(
    comm: MPI.Intracomm,
    each: Sequence[RunSettings],
    make_each: Callable[
        [Callable[[FileOutcome], None], Callable[[RunProgress], None] | None], Sequence[FileOutcome] | None
    ],
    *,
    bar_wanted: bool = False,
) -> int:
    """Make a file of each slide, with a line for each; the exit code, the same on all ranks. Collective.

    Parameters
    ----------
    make_each
        Does it; how all slides have ended, on rank 0. It calls on rank 0 what it is given first for each slide as it
        ends, and what it is given then from time to time with how far it is.
    bar_wanted
        Whether that is shown as a bar, where there is a terminal.
    """
    from pyramidai_mpi.cli.progress import choose_view
    from pyramidai_mpi.ranks.collectives import share_bytes

    ended = 0
    view = choose_view(bar_wanted=bar_wanted) if comm.rank == 0 else None

    def say_slide(outcome: FileOutcome) -> None:
        nonlocal ended
        ended += 1
        if not (outcome.is_complete or each[0].output.leave_finished):
            return  # the only slide: what has happened to it is the command's error
        level = logging.INFO if outcome.exit_code is ExitCode.OK else logging.WARNING
        line = f"[{ended}/{len(each)}] {outcome.line}"
        if view is None:
            log.log(level, "%s", line)
        else:
            view.say(line, level)

    try:
        outcomes = make_each(say_slide, view.show if view else None)
    finally:
        if view:
            view.close()
    code = b"" if outcomes is None else bytes([_end_of_files(outcomes, is_cohort=each[0].output.leave_finished)])
    return share_bytes(comm, None if comm.rank else code)[0]


def _end_of_files(outcomes: Sequence[FileOutcome], *, is_cohort: bool) -> int:
    """Say which slides have failed; the exit code."""
    from pyramidai_mpi.cli.main import say_error

    failed = [outcome for outcome in outcomes if not outcome.is_complete]
    if failed and not is_cohort:
        say_error(failed[0].line)
        return failed[0].exit_code
    if failed:
        reasons = "".join(f"\n  {outcome.line}" for outcome in failed)
        log.error("%d of %d slides failed:%s", len(failed), len(outcomes), reasons)
        return ExitCode.SLIDES_FAILED
    return max(outcome.exit_code for outcome in outcomes)


def export_beside(code: ExitCode, complete: Sequence[RunSettings], formats: Sequence[Format]) -> int:
    """Make the wanted files of each complete result; the exit code is the first failure's, else the run's."""
    from pyramidai_mpi.cli.main import say_error
    from pyramidai_mpi.export.formats import make, orders_beside

    failures = []
    for settings in complete:
        for order in orders_beside(settings.output.path, formats):
            output = settings.output
            try:
                # of what an earlier start has made, that of this very result is left alone
                if make(order, output.path, settings.slide.path, overwrite=output.overwrite, resume=output.resume):
                    log.info("%s: %s", order.format, order.target)
            except Exception as error:
                if is_bug(error):
                    log.error("%s: is not made, by what is a bug:%s", order.target, traceback_lines(error))
                if os.path.lexists(output.path):
                    say_error(f"{error} (the result {output.path} is complete)")
                    failures.append(exit_code_of(error))
                else:  # its folder was moved, or its disk fails: it was complete
                    say_error(f"{output.path}: is not to be seen, so {order.target.name} is not made; see to the disk")
                    failures.append(ExitCode.IO)
    return failures[0] if failures else code


def _say_report(settings: RunSettings, report: RunReport) -> None:
    from pyramidai_mpi.cli.summary import summary_lines
    from pyramidai_mpi.run.assemble import failed_lines

    for line in failed_lines(report.result):
        log.warning("%s", line)
    for line in summary_lines(settings, report):
        log.info("%s", line)
