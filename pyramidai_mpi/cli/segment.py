"""``pyramidai segment``: masks of whole slides by a network without global layers, on any number of ranks."""

from __future__ import annotations

from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

import click

from pyramidai_mpi.base.errors import ExitCode, UsageError
from pyramidai_mpi.base.patch_order import slide_stem
from pyramidai_mpi.base.segment_order import DEFAULT_BLOCK, MASK_ENDING, SegmentOrder
from pyramidai_mpi.base.settings import ModelChoice, Output, RunSettings, Schedule, SlideInput
from pyramidai_mpi.cli.command_line import recorded_command
from pyramidai_mpi.cli.launcher import become_ranks
from pyramidai_mpi.cli.pool_options import pool_options
from pyramidai_mpi.process.stop import StopWish, parse_duration

if TYPE_CHECKING:
    from collections.abc import Sequence

    from mpi4py import MPI

_PATH = click.Path(path_type=Path, readable=False)


@click.command("segment")
@click.argument("slides", nargs=-1, required=True, type=_PATH, metavar="SLIDE...")
@click.option(
    "--model", type=_PATH, required=True, metavar="DIR", help="Package of a network, as `train-whole` makes it."
)
@click.option("-o", "--output", type=_PATH, metavar="MASK.tif", help="The mask.  [default: SLIDE-stem_mask.tif here]")
@click.option("--results-dir", type=_PATH, metavar="DIR", help="Folder for the masks; it is made where there is none.")
@click.option("--probability", is_flag=True, help="Write probabilities as well, 0 to 255: STEM_probability.tif.")
@click.option("--polygons", type=_PATH, metavar="FILE.geojson", help="Write outlines of the mask as well.")
@click.option(
    "--downsample",
    type=int,
    default=1,
    show_default=True,
    metavar="N",
    help="Pixels of the network's along the side of one of the mask: of these, at least half.",
)
@click.option(
    "--block",
    type=int,
    default=DEFAULT_BLOCK,
    show_default=True,
    metavar="PX",
    help="Side of what is computed at a time: larger ones take more memory and less time.",
)
@click.option("--mpp", type=float, metavar="X", help="µm per level-0 pixel, where slides do not say or are wrong.")
@click.option("--allow-upsampling", is_flag=True, help="Take slides that are coarser than the network.")
@pool_options("a segmentation")
def command(
    slides: tuple[Path, ...],
    model: Path,
    output: Path | None,
    results_dir: Path | None,
    probability: bool,
    polygons: Path | None,
    downsample: int,
    block: int,
    mpp: float | None,
    allow_upsampling: bool,
    reader: str,
    odd_levels: str,
    policy: str,
    overwrite: bool,
    resume: bool,
    time_limit: str | None,
    ranks: str | None,
    quiet: bool,
) -> int:
    """Segment each SLIDE with a network and write a mask. A SLIDE may be a folder of slides or a pattern in quotes.

    The mask is a tiled, pyramidal TIFF: 1 where the network's probability reaches its threshold, 0 elsewhere, and 255
    where that cannot be known, as pixels could not be read. It is the same for any number of ranks, and serves `run
    --tissue-mask`.
    """
    from pyramidai_mpi.cli.session import mpi_session

    if output is not None and not output.name:
        raise UsageError(f"-o {output}: names no file; expected the mask to write")
    if polygons is not None and (len(slides) > 1 or results_dir is not None):
        raise UsageError("--polygons names the outlines of a single slide; leave it out, or segment one at a time")
    order = SegmentOrder(downsample, block, probability)
    asked = RunSettings(
        SlideInput(Path(), mpp, allow_upsampling=allow_upsampling, reader=reader, odd_levels=odd_levels),
        ModelChoice(model),
        Output(output or Path(), overwrite, resume, command_line=recorded_command(click.get_current_context())),
        Schedule(policy, batch_size=1),
    )
    stop = StopWish.of_job(None if time_limit is None else parse_duration(time_limit))
    if ranks is not None:
        become_ranks(ranks)
    stop.listen()
    farewell = "stopped; what was done is kept, and the same command with --resume goes on from there"
    with mpi_session(farewell, click.get_current_context().find_root().obj) as comm:
        from pyramidai_mpi.cli.running import run_through_losses, set_up_logging
        from pyramidai_mpi.ranks.alike import agree_on_folder
        from pyramidai_mpi.ranks.collectives import on_all, on_rank0
        from pyramidai_mpi.store.files.placing import check_target, make_folder

        set_up_logging(comm.rank, "warning" if quiet else "info")
        each = on_all(comm, lambda: _settings(slides, output, results_dir, asked))
        if polygons is not None:
            if each[0].output.leave_finished:
                raise _of_one(polygons)
            inputs = [each[0].slide.path, each[0].output.path]
            on_rank0(comm, lambda: check_target(polygons, overwrite=overwrite or resume, inputs=inputs))
        if results_dir is not None:
            on_rank0(comm, lambda: make_folder(results_dir, "--results-dir"))
        agree_on_folder(comm, each[0].output.path.parent)
        return run_through_losses(
            comm, each, partial(_segment, order=order, stop=stop, polygons=polygons, bar_wanted=not quiet)
        )


def _of_one(polygons: Path) -> UsageError:
    error = UsageError(f"--polygons {polygons}: names the outlines of a single slide; leave it out for several")
    error.agreed = True  # all ranks have found the same slides
    return error


def _settings(
    words: Sequence[Path], output: Path | None, results_dir: Path | None, asked: RunSettings
) -> list[RunSettings]:
    """Settings of every slide."""
    from pyramidai_mpi.run.selection import plan_outputs, select_slides

    selection = select_slides(words, None)
    found = [entry.slide for entry in selection.entries]
    if output is not None and selection.is_cohort:
        raise UsageError("-o names the mask of a single slide; use --results-dir for those of several")
    names = [f"{slide_stem(slide)}{MASK_ENDING}" for slide in found]
    outputs = plan_outputs(found, output, results_dir, names)
    asked = asked.with_output(leave_finished=selection.is_cohort)
    return [
        replace(asked.with_output(path=path), slide=replace(asked.slide, path=slide))
        for slide, path in zip(found, outputs, strict=True)
    ]


def _segment(
    comm: MPI.Intracomm,
    each: Sequence[RunSettings],
    *,
    order: SegmentOrder,
    stop: StopWish,
    polygons: Path | None,
    bar_wanted: bool,
) -> int:
    """Segment, say what came of it, outline it; the exit code, the same on all ranks. Collective."""
    from pyramidai_mpi.cli.running import make_files
    from pyramidai_mpi.ranks.collectives import on_rank0
    from pyramidai_mpi.run.segmentation import segment_slides

    code = make_files(
        comm,
        each,
        lambda say_slide, show: segment_slides(comm, each, order, say_slide, stop, show),
        bar_wanted=bar_wanted,
    )
    if polygons is not None and code in {ExitCode.OK, ExitCode.TILES_FAILED}:
        from pyramidai_mpi.export.mask_outlines import write_mask_outlines

        output = each[0].output
        on_rank0(
            comm,
            lambda: write_mask_outlines(output.path, polygons, overwrite=output.overwrite or output.resume),
        )
    return code
