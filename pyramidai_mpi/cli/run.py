"""``pyramidai run``: analyse slides on all ranks."""

from __future__ import annotations

from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

import click

from pyramidai_mpi.base.errors import ExitCode, UsageError
from pyramidai_mpi.base.mode import Mode
from pyramidai_mpi.base.part import parse_part
from pyramidai_mpi.base.settings import (
    DEFAULT_BATCH_SIZE,
    DEFAULT_MIN_TISSUE,
    DEFAULT_POLICY,
    LEVELS,
    POLICIES,
    READ_AHEAD,
    READERS,
    TISSUE_METHODS,
    WRITERS,
    ModelChoice,
    Output,
    Regions,
    RunSettings,
    Schedule,
    SlideInput,
    parse_thresholds,
)
from pyramidai_mpi.cli.audit_option import AUDIT_HELP
from pyramidai_mpi.cli.command_line import recorded_command
from pyramidai_mpi.cli.found_slides import FoundSlides, find_model_of_run, find_slides
from pyramidai_mpi.cli.host_options import host_options
from pyramidai_mpi.cli.launcher import become_ranks, launched_size
from pyramidai_mpi.cli.mistyped import agree_on_words, mistyped, mistyped_choice
from pyramidai_mpi.cli.model_option import MODEL
from pyramidai_mpi.cli.network_options import network_options
from pyramidai_mpi.cli.part_option import PART_HELP, check_exports, leave_without_slides
from pyramidai_mpi.cli.pool_options import odd_levels_option
from pyramidai_mpi.cli.tissue_option import parse_tissue
from pyramidai_mpi.cli.window_options import window_options
from pyramidai_mpi.export.formats import FORMATS, check_orders, orders_beside, parse_formats
from pyramidai_mpi.process.stop import StopWish, parse_duration

if TYPE_CHECKING:
    from collections.abc import Sequence

    from pyramidai_mpi.base.hosts import Hosts
    from pyramidai_mpi.base.part import Part
    from pyramidai_mpi.base.settings import Windows
    from pyramidai_mpi.cli.network_options import Networks
    from pyramidai_mpi.export.formats import Format

LOG_LEVELS = ("debug", "info", "warning", "error")
_PATH = click.Path(path_type=Path, readable=False)


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
@click.option(
    "--model",
    type=MODEL,
    metavar="DIR|NAME",
    help="Folder of the model package, or name of a shipped one.  [default: small, for demonstration]",
)
@click.option("-o", "--output", type=_PATH, metavar="OUT.h5", help="Result file.  [default: SLIDE-stem.h5 here]")
@click.option(
    "--results-dir", type=_PATH, metavar="DIR", help="Folder for the result files; it is made where there is none."
)
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
@window_options
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
    help="Tissue as found elsewhere: a PNG or TIFF of the slide's shape and any size, above 0 where there is tissue; "
    "or a file of patches, whose cells are tissue.",
)
@click.option(
    "--tissue",
    default=TISSUE_METHODS[0],
    show_default=True,
    metavar="METHOD|FILE|DIR",
    help="How tissue is found: od, by optical density against the slide's own glass; hsv-otsu, by saturation and hue, "
    "as the program did at first; the folder of a network that segments whole images (see `segment`), by that. Any "
    "other file or folder is taken as with --tissue-mask.",
)
@click.option("--tissue-limit", type=float, metavar="X", help="Least optical density of tissue (od).  [default: 0.03]")
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
    help="Of the choice of victims, and of tiles to audit. Same result for all.",
)
@click.option(
    "--writer",
    type=click.Choice(WRITERS),
    default="auto",
    show_default=True,
    help="Rank 0 writes the file of a single slide, or all ranks do where h5py has MPI. Same content.",
)
@network_options
@click.option(
    "--reader",
    type=click.Choice(READERS),
    default="auto",
    show_default=True,
    help="What decodes the slide's pixels: the same ones, so the same result. image: PNG, JPEG, TIFF without tiles.",
)
@odd_levels_option
@click.option(
    "--read-ahead",
    type=click.Choice(READ_AHEAD),
    default="auto",
    show_default=True,
    help="Read tiles while others are computed; auto: while reading is mostly waiting. Same result.",
)
@click.option("--audit", type=float, default=0.0, metavar="P", help=AUDIT_HELP)
@click.option(
    "--export",
    default="",
    metavar="FORMAT,...",
    help=f"Then make these beside the result: {', '.join(map(str, FORMATS))}.",
)
@host_options
@click.option("--slide-sha256", is_flag=True, help="Keep the SHA-256 of the whole slide file in the result.")
@click.option("--overwrite", is_flag=True, help="Replace existing files, and begin anew.")
@click.option(
    "--resume", is_flag=True, help="Go on from the journal of a run that was stopped or killed, where there is one."
)
@click.option("--accept-mixed", is_flag=True, help="Go on though other versions have begun; the result says so.")
@click.option(
    "--time-limit",
    metavar="TIME",
    help="Stop a minute before this time is up, for --resume to go on: 30m, 2h, 1:30:00 or seconds. Under SLURM the "
    "job's own limit is known.",
)
@click.option(
    "--ranks",
    metavar="N|auto",
    help="Start this many ranks on this machine, auto: one a core, where no launcher such as mpirun has. Same result.",
)
@click.option("--part", metavar="I/N", help=PART_HELP)
@click.option("--no-progress", is_flag=True, help="No bar, even on a terminal.")
@click.option("-v", "--verbose", is_flag=True, help="Say more: --log-level debug.")
@click.option(
    "-q", "--quiet", is_flag=True, help="Say nothing but warnings and errors: --log-level warning, and no bar."
)
@click.option(
    "--log-level",
    type=click.Choice(LOG_LEVELS),
    default="info",
    show_default=True,
    help="What is said. With debug, every rank also prints its last 100 events of the scheduler at its end.",
)
def command(
    slides: tuple[Path, ...],
    table: Path | None,
    model: Path | None,
    output: Path | None,
    results_dir: Path | None,
    threshold: tuple[str, ...],
    mode: str,
    windows: Windows,
    mpp: float | None,
    levels: str,
    roi: Path | None,
    exclude: Path | None,
    tissue_mask: Path | None,
    tissue: str,
    tissue_limit: float | None,
    no_tissue: bool,
    min_tissue: float,
    allow_upsampling: bool,
    batch_size: int,
    policy: str,
    seed: int,
    networks: Networks,
    hosts: Hosts,
    writer: str,
    reader: str,
    odd_levels: str,
    audit: float,
    export: str,
    read_ahead: str,
    slide_sha256: bool,
    overwrite: bool,
    resume: bool,
    accept_mixed: bool,
    time_limit: str | None,
    ranks: str | None,
    part: str | None,
    no_progress: bool,
    verbose: bool,
    quiet: bool,
    log_level: str,
) -> int:
    """Analyse each SLIDE and write one result file for it. A SLIDE may be a folder of slides or a pattern in quotes.

    Starts at the model's lowest resolution and zooms in where the model says so. Ranks share the work: --ranks starts
    them on this machine, mpirun or srun also on others. The result is the same for any number of them.
    """
    from pyramidai_mpi.cli.session import mpi_session

    if verbose and quiet:
        raise click.UsageError("-v and -q exclude each other")
    if not slides and table is None:
        raise click.UsageError("Missing argument 'SLIDE...', or --slides LIST.csv")
    if output is not None and (len(slides) > 1 or table is not None):
        raise UsageError("-o names the result of a single slide; use --results-dir for those of several")
    if output is not None and not output.name:  # the current folder, or the root
        raise UsageError(f"-o {output}: names no file; expected the result file to write")
    if output is not None and results_dir is not None:
        raise UsageError("-o and --results-dir exclude each other; give one")
    root = click.get_current_context().find_root()
    commands = root.command.list_commands(root) if isinstance(root.command, click.Group) else []
    wrong_word = mistyped(slides, commands) or mistyped_choice("--tissue", tissue, TISSUE_METHODS)
    way = parse_tissue(tissue, tissue_mask)
    # values are checked here, before MPI; whatever depends on files is looked at by all ranks together
    asked = RunSettings(
        SlideInput(
            Path(),
            mpp,
            levels,
            min_tissue,
            Regions(roi, exclude, way.mask, no_tissue),
            allow_upsampling,
            reader,
            sha256=slide_sha256,
            tissue=way.method,
            tissue_limit=tissue_limit,
            tissue_network=way.network,
            odd_levels=odd_levels,
        ),
        ModelChoice(model or Path(), parse_thresholds(threshold), **networks._asdict()),
        Output(
            output or Path(),
            overwrite,
            resume,
            writer=writer,
            command_line=recorded_command(click.get_current_context()),
            accept_mixed=accept_mixed,
        ),
        Schedule(policy, seed, batch_size, read_ahead, audit),
        Mode(mode),
        windows,
        hosts,
    )
    formats, own = parse_formats(export), None if part is None else parse_part(part)
    if wrong_word is not None and launched_size() == 1:
        raise wrong_word  # nobody else waits
    stop = StopWish.of_job(None if time_limit is None else parse_duration(time_limit))
    if ranks is not None:
        become_ranks(ranks)
    stop.listen()
    farewell = "stopped; what was done is kept, and the same command with --resume goes on from there"
    with mpi_session(farewell, root.obj) as comm:
        from pyramidai_mpi.base.hosts import IF_APART
        from pyramidai_mpi.cli.running import run_one, run_several, run_through_losses, set_up_logging
        from pyramidai_mpi.ranks.alike import agree_on_folder
        from pyramidai_mpi.ranks.collectives import on_all, on_rank0
        from pyramidai_mpi.run.sent_files import SentFiles
        from pyramidai_mpi.store.files.placing import make_folder

        set_up_logging(comm.rank, "debug" if verbose else "warning" if quiet else log_level)
        agree_on_words(comm, wrong_word, only_rank0=hosts.send_slide)
        selection = find_slides(comm, slides, table, hosts)
        where = find_model_of_run(comm, model, hosts)
        found = on_all(comm, lambda: FoundSlides.by(selection, where, output, results_dir, own))
        each = on_all(comm, lambda: found.settings(asked))
        if own is not None:
            check_exports(comm, formats, is_cohort=found.is_cohort)
            if leave_without_slides(comm, each, own):
                return ExitCode.OK
        if results_dir is not None:
            # by rank 0, before any other looks: a host would remember for a while that there was none
            on_rank0(comm, lambda: make_folder(results_dir, "--results-dir"))
        if not hosts.are_apart:
            # before rank 0 looks for all at what lies there
            agree_on_folder(comm, each[0].output.path.parent, IF_APART)
        on_rank0(comm, lambda: _check_targets(each, formats, table))
        with SentFiles(hosts) as sent:
            run = partial(
                run_several if found.is_cohort else run_one,
                sent=sent,
                formats=formats,
                stop=stop,
                bar_wanted=not (no_progress or quiet),
                advice_wanted=ranks is None and not quiet and comm.size == 1,
            )
            return run_through_losses(comm, each, run, sent.close)


def _check_targets(each: Sequence[RunSettings], formats: Sequence[Format], table: Path | None) -> None:
    """See before the work that what is made beside the results can be written: by rank 0, which will."""
    of_scores = [one.name for one in formats if one.needs_scores]
    if of_scores:
        from pyramidai_mpi.models.read import read_package

        if read_package(model := each[0].model.path, check_files=False).is_encoder:
            raise UsageError(
                f"--export {','.join(of_scores)}: shows scores, and {model} is an encoder, which gives features alone; "
                "--export clam takes these"
            )
    outputs, overwrite = [settings.output.path for settings in each], each[0].output.overwrite
    is_cohort = each[0].output.leave_finished
    if is_cohort:
        _check_records(outputs, formats, table, each[0].output.share, overwrite=overwrite)
    if each[0].output.resume:
        return
    for settings, path in zip(each, outputs, strict=True):
        # of a slide that is finished already, they are left alone like its result
        if not (is_cohort and path.exists() and not overwrite):
            check_orders(orders_beside(path, formats), settings.slide.path.name, overwrite=overwrite)


def _check_records(
    outputs: Sequence[Path], formats: Sequence[Format], table: Path | None, share: Part | None, *, overwrite: bool
) -> None:
    """See before the work that the table of the slides can be written, and is not one of the exports."""
    from pyramidai_mpi.run.summary_table import check_summary, summary_name

    summary = outputs[0].parent / summary_name(share)
    for path in outputs:
        if any(order.target == summary for order in orders_beside(path, formats)):
            raise UsageError(f"{summary}: is the table of all slides, so {path.name} cannot be exported to it")
    check_summary(summary, overwrite=overwrite, inputs=[] if table is None else [table])
