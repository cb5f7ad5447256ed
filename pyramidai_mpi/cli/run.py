"""``pyramidai run``: analyse slides on all ranks."""

from __future__ import annotations

import logging
import os
import shlex
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import click

from pyramidai_mpi.base.errors import ExitCode, PyramidError, StorageError, UsageError, printable
from pyramidai_mpi.base.settings import (
    BACKENDS,
    DEFAULT_BATCH_SIZE,
    DEFAULT_MIN_TISSUE,
    DEFAULT_POLICY,
    LEVELS,
    POLICIES,
    PRECISIONS,
    READ_AHEAD,
    READERS,
    WRITERS,
    ModelChoice,
    Output,
    Regions,
    RunSettings,
    Schedule,
    SlideInput,
    parse_thresholds,
)
from pyramidai_mpi.base.types import Mode
from pyramidai_mpi.process.stop import StopWish, parse_duration
from pyramidai_mpi.run.selection import plan_outputs, select_slides

if TYPE_CHECKING:
    from collections.abc import Sequence

    from mpi4py import MPI

    from pyramidai_mpi.export.formats import Format
    from pyramidai_mpi.run.single import RunReport

log = logging.getLogger(__name__)

_PATH = click.Path(path_type=Path)


@click.command("run")
@click.argument("slides", nargs=-1, type=_PATH, metavar="SLIDE...")
@click.option(
    "--slides",
    "table",
    type=_PATH,
    metavar="LIST.csv",
    help="Table of slides: columns wsi and, if wanted, mpp and output (the result's file name). Relative paths are "
    "relative to it.",
)
@click.option("--model", type=_PATH, help="Folder of the model package.  [default: the shipped demonstration model]")
@click.option("-o", "--output", type=_PATH, metavar="OUT.h5", help="Result file.  [default: SLIDE-stem.h5 here]")
@click.option("--results-dir", type=_PATH, metavar="DIR", help="Folder for the result files of several slides.")
@click.option(
    "--threshold", multiple=True, metavar="LEVEL=VALUE", help="Replace the model's threshold of a level. Repeatable."
)
@click.option(
    "--mode",
    type=click.Choice([mode.value for mode in Mode]),
    default=Mode.PYRAMID.value,
    show_default=True,
    help="Zoom where the model says so; or all tiles of level 0; or all tiles of all levels.",
)
@click.option("--mpp", type=float, metavar="X", help="µm per pixel of the slide, where it does not say or is wrong.")
@click.option(
    "--levels",
    type=click.Choice(LEVELS),
    default="mpp",
    show_default=True,
    help="Find the model's levels by µm per pixel; or by scale factor alone: the slide's pixels are the model's "
    "level 0 whatever their size.",
)
@click.option(
    "--roi",
    type=_PATH,
    metavar="FILE|DIR",
    help="Analyse only what these outlines (GeoJSON, ASAP XML) touch. Of several slides a folder with one file each, "
    "named like the slide; likewise for the next two.",
)
@click.option("--exclude", type=_PATH, metavar="FILE|DIR", help="Leave out what these outlines touch, pen marks say.")
@click.option(
    "--tissue-mask",
    type=_PATH,
    metavar="FILE|DIR",
    help="Tissue as found elsewhere: a PNG or TIFF of the slide's shape and any size, above 0 where there is tissue.",
)
@click.option("--no-tissue", is_flag=True, help="Look for no tissue: analyse all of the image.")
@click.option(
    "--min-tissue",
    type=float,
    default=DEFAULT_MIN_TISSUE,
    show_default=True,
    metavar="SHARE",
    help="Least tissue share of a lowest-resolution tile.",
)
@click.option("--allow-upsampling", is_flag=True, help="Enlarge slides that are coarser than the model's level 0.")
@click.option(
    "--batch-size",
    type=int,
    default=DEFAULT_BATCH_SIZE,
    show_default=True,
    metavar="N",
    help="Most tiles that a rank takes at a time. Does not change the result.",
)
@click.option(
    "--policy",
    type=click.Choice(POLICIES),
    default=DEFAULT_POLICY,
    show_default=True,
    help="How work finds idle ranks. Does not change the result.",
)
@click.option(
    "--seed",
    type=click.IntRange(0, 2**63 - 1),
    default=0,
    show_default=True,
    help="Of the choice of victims. Same result for all.",
)
@click.option("--positive-class", metavar="NAME", help="Class whose probability decides.  [default: the model's]")
@click.option("--features", is_flag=True, help="Keep the networks' feature vectors.")
@click.option(
    "--writer",
    type=click.Choice(WRITERS),
    default="auto",
    show_default=True,
    help="Rank 0 writes the file of a single slide, or all ranks do where h5py has MPI. Same content.",
)
@click.option(
    "--backend",
    type=click.Choice(BACKENDS),
    default="onnxruntime",
    show_default=True,
    help="What runs the networks; auto: the faster one that agrees with onnxruntime within 0.001, by a measurement.",
)
@click.option(
    "--precision",
    type=click.Choice(PRECISIONS),
    default="float32",
    show_default=True,
    help="Of floating-point operations; bfloat16 needs OpenVINO and a processor that has it, and changes results.",
)
@click.option(
    "--reader",
    type=click.Choice(READERS),
    default="auto",
    show_default=True,
    help="What decodes the slide's pixels. Same pixels, so the same result.",
)
@click.option(
    "--read-ahead",
    type=click.Choice(READ_AHEAD),
    default="auto",
    show_default=True,
    help="Read tiles while others are computed; auto: while reading is mostly waiting. Same result.",
)
@click.option(
    "--export",
    default="",
    metavar="FORMAT,...",
    help="Then make these beside the result: geojson, csv, heatmap, overlay, deepzoom, clam, report.",
)
@click.option("--slide-sha256", is_flag=True, help="Keep the SHA-256 of the whole slide file in the result.")
@click.option("--overwrite", is_flag=True, help="Replace existing files, and begin anew.")
@click.option(
    "--resume", is_flag=True, help="Go on from the journal of a run that was stopped or killed, where there is one."
)
@click.option(
    "--time-limit",
    metavar="TIME",
    help="Stop a minute before this time is up, for --resume to go on: 30m, 2h, 1:30:00 or seconds. Under SLURM the "
    "job's own limit is known.",
)
@click.option("--no-progress", is_flag=True, help="No bar, even on a terminal.")
@click.option("-v", "--verbose", is_flag=True, help="Say more.")
@click.option("-q", "--quiet", is_flag=True, help="Say nothing but warnings and errors.")
def command(
    slides: tuple[Path, ...],
    table: Path | None,
    model: Path | None,
    output: Path | None,
    results_dir: Path | None,
    threshold: tuple[str, ...],
    mode: str,
    mpp: float | None,
    levels: str,
    roi: Path | None,
    exclude: Path | None,
    tissue_mask: Path | None,
    no_tissue: bool,
    min_tissue: float,
    allow_upsampling: bool,
    batch_size: int,
    policy: str,
    seed: int,
    positive_class: str | None,
    features: bool,
    writer: str,
    backend: str,
    precision: str,
    reader: str,
    export: str,
    read_ahead: str,
    slide_sha256: bool,
    overwrite: bool,
    resume: bool,
    time_limit: str | None,
    no_progress: bool,
    verbose: bool,
    quiet: bool,
) -> int:
    """Analyse each SLIDE and write one result file for it. A SLIDE may be a folder of slides or a pattern in quotes.

    Starts at the model's lowest resolution and zooms in where the model says so. Run it under mpirun or srun to share
    the work among ranks; the result is the same for any number of them.
    """
    from pyramidai_mpi.cli.session import mpi_session
    from pyramidai_mpi.export.formats import check_orders, orders_beside, parse_formats
    from pyramidai_mpi.models.shipped import default_model

    if verbose and quiet:
        raise click.UsageError("-v and -q exclude each other")
    selection = select_slides(slides, table)
    entries = selection.entries
    if writer == "mpio" and selection.is_cohort:
        raise click.UsageError("--writer mpio is for a single slide: of several, each is written by its owner")
    if output is not None and selection.is_cohort:
        raise UsageError("-o names the result of a single slide; use --results-dir for those of several")
    outputs = plan_outputs([entry.slide for entry in entries], output, results_dir, [entry.name for entry in entries])
    regions = Regions(roi, exclude, tissue_mask, no_tissue)
    regions.check_for_several(len(entries))
    if results_dir is not None and not results_dir.is_dir():
        raise StorageError(f"{results_dir}: no such folder; make it first or name another with --results-dir")
    command_line = shlex.join(sys.argv)
    each = [
        RunSettings(
            SlideInput(
                entry.slide,
                entry.mpp or mpp,
                levels,
                min_tissue,
                regions,
                allow_upsampling,
                reader,
                sha256=slide_sha256,
            ),
            ModelChoice(
                model or default_model(), parse_thresholds(threshold), positive_class, features, backend, precision
            ),
            Output(path, overwrite, resume, writer, command_line),
            Schedule(policy, seed, batch_size, read_ahead),
            Mode(mode),
        )
        for entry, path in zip(entries, outputs, strict=True)
    ]
    formats = parse_formats(export)
    if selection.is_cohort:
        _check_records(outputs, formats, table, overwrite=overwrite)
    if not resume:
        for entry, path in zip(entries, outputs, strict=True):
            # of a slide that is finished already, they are left alone like its result
            if not (selection.is_cohort and path.exists() and not overwrite):
                check_orders(orders_beside(path, formats), entry.slide.name, overwrite=overwrite)
    stop = StopWish.of_job(None if time_limit is None else parse_duration(time_limit))
    stop.listen()
    with mpi_session("stopped; what was done is kept, and the same command with --resume goes on from there") as comm:
        _set_up_logging(comm.rank, verbose=verbose, quiet=quiet)
        bar_wanted = not (no_progress or quiet)
        if not selection.is_cohort:
            return _run_one_through_losses(comm, each[0], formats, stop, bar_wanted=bar_wanted)
        return _run_several(comm, each, formats, stop, bar_wanted=bar_wanted)


def _check_records(outputs: Sequence[Path], formats: Sequence[Format], table: Path | None, *, overwrite: bool) -> None:
    """See before the work that the table of the slides can be written, and is not one of the exports."""
    from pyramidai_mpi.export.formats import orders_beside
    from pyramidai_mpi.run.summary_table import SUMMARY_NAME, check_summary

    summary = outputs[0].parent / SUMMARY_NAME
    for path in outputs:
        if any(order.target == summary for order in orders_beside(path, formats)):
            raise UsageError(f"{summary}: is the table of all slides, so {path.name} cannot be exported to it")
    check_summary(summary, overwrite=overwrite, inputs=[] if table is None else [table])


def _set_up_logging(rank: int, *, verbose: bool, quiet: bool) -> None:
    level = logging.WARNING if quiet or rank else logging.INFO
    handler = logging.StreamHandler(sys.stderr)
    prefix = f"rank {rank}: " if rank or verbose else ""
    handler.setFormatter(_PrintableFormatter(f"%(asctime)s {prefix}%(message)s", "%H:%M:%S"))
    logging.basicConfig(level=logging.DEBUG if verbose else level, handlers=[handler])


class _PrintableFormatter(logging.Formatter):
    """Shows every character; of line breaks only those of our own lists, whose lines are indented."""

    def format(self, record: logging.LogRecord) -> str:
        return "\n  ".join(printable(line) for line in super().format(record).split("\n  "))


def _run_one_through_losses(
    comm: MPI.Intracomm, settings: RunSettings, formats: Sequence[Format], stop: StopWish, *, bar_wanted: bool
) -> int:
    """Like `_run_one`; where the MPI lets ranks outlive each other, those that are left go on."""
    from pyramidai_mpi.cli.session import leave_after_losses
    from pyramidai_mpi.ranks.survival import through_losses
    from pyramidai_mpi.store.journal.folder import JournalFolder

    def attempt(left: MPI.Intracomm, again: bool) -> int:
        resumed = settings
        if again:
            # what --overwrite is to replace is written down in the journal, once there is one
            fresh = settings.output.overwrite and not JournalFolder.of(settings.output.path).exists
            resumed = settings.with_output(resume=True, overwrite=fresh)
        return _run_one(left, resumed, formats, stop, bar_wanted=bar_wanted)

    code, left = through_losses(comm, attempt, lambda line: log.error("%s", line))
    if left.size < comm.size:
        leave_after_losses(code)
    return code


def _run_one(
    comm: MPI.Intracomm, settings: RunSettings, formats: Sequence[Format], stop: StopWish, *, bar_wanted: bool
) -> int:
    from pyramidai_mpi.cli.progress import choose_view
    from pyramidai_mpi.ranks.collectives import on_rank0, share_bytes
    from pyramidai_mpi.run.output import finished_before
    from pyramidai_mpi.run.single import run_slide

    finished = on_rank0(comm, lambda: finished_before(settings))
    done = b"" if finished is None else bytes([_export(finished, [settings], formats)])
    if code := share_bytes(comm, None if comm.rank else done):
        log.info("%s: is there already, complete", settings.output.path)
        return code[0]
    view = choose_view(bar_wanted=bar_wanted) if comm.rank == 0 else None
    try:
        report = run_slide(comm, settings, view.show if view else None, stop)
    finally:
        if view:
            view.close()
    code = b""
    if report is not None:
        _say_report(settings, report)
        code = bytes([_export(report.exit_code, [settings], formats)])
    return share_bytes(comm, None if comm.rank else code)[0]


def _run_several(
    comm: MPI.Intracomm, each: list[RunSettings], formats: Sequence[Format], stop: StopWish, *, bar_wanted: bool
) -> int:
    from pyramidai_mpi.cli.main import say_error
    from pyramidai_mpi.cli.progress import choose_view
    from pyramidai_mpi.ranks.collectives import agree_on, share_bytes
    from pyramidai_mpi.run.records import CohortRecords
    from pyramidai_mpi.run.run import SlideOutcome, run_cohort

    listed = [
        (os.fsencode(settings.slide.path), os.fsencode(settings.output.path), settings.slide.mpp) for settings in each
    ]
    agree_on(comm, repr(listed).encode(), "the list of slides")
    records = CohortRecords(each[0].output.path.parent, each)
    view = choose_view(bar_wanted=bar_wanted) if comm.rank == 0 else None
    ended = 0

    def say_slide(outcome: SlideOutcome) -> None:
        nonlocal ended
        ended += 1
        level = logging.INFO if outcome.exit_code is ExitCode.OK else logging.WARNING
        log.log(level, "[%d/%d] %s", ended, len(each), outcome.line)
        records.slide_ended(outcome)

    try:
        report = run_cohort(comm, each, view.show if view else None, say_slide, stop, records.begin)
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
            log.error("%d of %d slides failed:%s", len(failed), len(each), reasons)
        skipped = sum(outcome.was_finished for outcome in report.outcomes)
        log.info(
            "%d slides%s, %.1f s on %d ranks, busiest/ideal %.2f",
            len(each),
            f" ({skipped} finished before)" if skipped else "",
            report.wall_s,
            comm.size,
            report.balance,
        )
        # what an earlier start has made of a finished slide is left alone
        complete = [
            outcome.settings.with_output(resume=outcome.settings.output.resume or outcome.was_finished)
            for outcome in report.outcomes
            if outcome.is_complete
        ]
        exit_code = _export(report.exit_code, complete, formats)
        records.end(exit_code, report)
        if records.error is not None:
            say_error(f"{records.error} (the results are complete, the records of the run are not)")
            exit_code = records.error.exit_code
        code = bytes([exit_code])
    return share_bytes(comm, None if comm.rank else code)[0]


def _export(code: ExitCode, complete: Sequence[RunSettings], formats: Sequence[Format]) -> int:
    """Make the wanted files of each complete result; the exit code is the first failure's, else the run's."""
    from pyramidai_mpi.cli.main import say_error
    from pyramidai_mpi.export.formats import carry_out, orders_beside

    failures = []
    for settings in complete:
        for order in orders_beside(settings.output.path, formats):
            if settings.output.resume and order.target.exists():
                continue  # made by an earlier start
            try:
                carry_out(order, settings.output.path, settings.slide.path, overwrite=settings.output.overwrite)
                log.info("%s: %s", order.format, order.target)
            except PyramidError as error:
                say_error(f"{error} (the result {settings.output.path} is complete)")
                failures.append(error.exit_code)
    return failures[0] if failures else code


def _say_report(settings: RunSettings, report: RunReport) -> None:
    from pyramidai_mpi.cli.summary import summary_lines
    from pyramidai_mpi.run.assemble import failed_lines

    for line in failed_lines(report.result):
        log.warning("%s", line)
    for line in summary_lines(settings, report):
        log.info("%s", line)
