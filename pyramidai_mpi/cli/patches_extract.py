"""``pyramidai patches extract``: patches cut out of slides, on any number of ranks."""

from __future__ import annotations

import logging
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

import click
from click.core import ParameterSource

from pyramidai_mpi.base.errors import ExitCode, UsageError
from pyramidai_mpi.base.part import parse_part
from pyramidai_mpi.base.patch_order import (
    DEFAULT_GROUP,
    DEFAULT_WHITE_LEVEL,
    LABELS,
    PIXELS,
    PatchLabels,
    PatchLimits,
    PatchOrder,
    PatchPlaces,
    parse_bytes,
    parse_pixels,
    parse_sample,
    patches_in,
)
from pyramidai_mpi.base.settings import (
    DEFAULT_MIN_TISSUE,
    TISSUE_METHODS,
    ModelChoice,
    Output,
    Regions,
    RunSettings,
    Schedule,
    SlideInput,
)
from pyramidai_mpi.cli.command_line import recorded_command
from pyramidai_mpi.cli.found_slides import find_slides
from pyramidai_mpi.cli.host_options import host_options
from pyramidai_mpi.cli.launcher import become_ranks
from pyramidai_mpi.cli.mistyped import agree_on_words, mistyped_choice
from pyramidai_mpi.cli.part_option import leave_without_slides
from pyramidai_mpi.cli.pool_options import odd_levels_option
from pyramidai_mpi.cli.tissue_option import parse_tissue
from pyramidai_mpi.process.stop import StopWish, parse_duration

if TYPE_CHECKING:
    from collections.abc import Sequence

    from mpi4py import MPI

    from pyramidai_mpi.base.hosts import Hosts
    from pyramidai_mpi.base.part import Part
    from pyramidai_mpi.run.selection import Selection
    from pyramidai_mpi.run.sent_files import SentFiles

log = logging.getLogger(__name__)

_PATH = click.Path(path_type=Path, readable=False)


@click.command("extract", short_help="Cut patches out of slides.")
@click.argument("slides", nargs=-1, required=True, type=_PATH, metavar="SLIDE...")
@click.option("--size", type=int, required=True, metavar="PX", help="Side of a patch in pixels.")
@click.option(
    "--stride",
    type=int,
    metavar="PX",
    help="Distance of neighbouring patches: the side of the cell in a patch's middle.  [default: --size]",
)
@click.option("--mpp", type=float, metavar="X", help="µm per pixel of the patches.")
@click.option("--level", type=int, metavar="N", help="Instead: the slide's stored level N as it is, 0 the finest.")
@click.option(
    "--slide-mpp", type=float, metavar="X", help="µm per level-0 pixel, where slides do not say or are wrong."
)
@click.option(
    "--sample",
    default="dense",
    show_default=True,
    metavar="dense|random:N",
    help="All cells with tissue, or N of each slide, drawn without replacement; with --truth, N of each label.",
)
@click.option("--seed", type=click.IntRange(0, 2**63 - 1), default=0, show_default=True, help="Of that draw.")
@click.option(
    "--tissue", default=TISSUE_METHODS[0], show_default=True, metavar="od|hsv-otsu|DIR|FILE", help="As with run."
)
@click.option("--tissue-mask", type=_PATH, metavar="FILE|DIR", help="Tissue as found elsewhere, as with run.")
@click.option("--no-tissue", is_flag=True, help="Look for no tissue: take all cells.")
@click.option(
    "--min-tissue",
    type=float,
    default=DEFAULT_MIN_TISSUE,
    show_default=True,
    metavar="SHARE",
    help="Least tissue share of a cell.",
)
@click.option(
    "--pixels",
    default=PIXELS[0],
    show_default=True,
    metavar="stored|raw|jpeg:Q|none",
    help="Keep the slide's own encoded tiles, without loss; decoded patches, as they are or as JPEG of quality Q; or "
    "coordinates alone.",
)
@click.option("--truth", type=_PATH, metavar="DIR|FILE", help="Annotations, one file a slide: label the patches.")
@click.option(
    "--tumor-share",
    type=float,
    default=PatchLabels.tumor_share,
    show_default=True,
    metavar="SHARE",
    help="Of a cell's tissue, from which its patch is tumor.",
)
@click.option(
    "--normal-share",
    type=float,
    default=PatchLabels.normal_share,
    show_default=True,
    metavar="SHARE",
    help="Up to which it is normal; between the two its label is unknown.",
)
@click.option("--only-label", type=click.Choice(LABELS), help="Take only patches with this label.")
@click.option(
    "--places",
    type=_PATH,
    metavar="FILE|DIR",
    help="Take only cells that hold a place of this CSV (l0_x, l0_y; or minx, miny, width, height), or with --above of "
    "this result; of several slides DIR/STEM.csv or DIR/STEM.h5.",
)
@click.option("--above", type=float, metavar="SCORE", help="Places are a result's tiles with a score above this.")
@click.option("--max-white", type=float, metavar="SHARE", help="No patches with more white pixels than this.")
@click.option(
    "--white-level",
    type=int,
    default=DEFAULT_WHITE_LEVEL,
    show_default=True,
    metavar="N",
    help="A pixel is white whose channels are all above this.",
)
@click.option("--max-black", type=float, metavar="SHARE", help="No patches with more black pixels than this.")
@click.option("--measure", is_flag=True, help="Measure the shares of white and black pixels without a limit, too.")
@click.option(
    "--origin",
    "origins",
    type=_PATH,
    metavar="TABLE",
    help="CSV that says patient, node and centre of each slide, instead of names as CAMELYON17 has them.",
)
@odd_levels_option
@click.option("--group", type=int, metavar="N", help=f"Patches in a group.  [default: {DEFAULT_GROUP}]")
@click.option("--ram", metavar="SIZE", help="Instead: memory that a group of decoded patches may take, as 230MiB.")
@click.option("-o", "--output", type=_PATH, required=True, metavar="DIR", help="Folder for a file a slide.")
@host_options
@click.option("--overwrite", is_flag=True, help="Replace existing files, and begin anew.")
@click.option("--resume", is_flag=True, help="Go on from the journals of an extraction that was stopped or killed.")
@click.option("--time-limit", metavar="TIME", help="Stop a minute before this time is up, for --resume to go on.")
@click.option("--ranks", metavar="N|auto", help="Start this many ranks on this machine, as with run.")
@click.option(
    "--part",
    metavar="I/N",
    help="Do part I of N, for array jobs: of one slide its share of the cells, into STEM.patches.part-I-of-N.h5, for "
    "pyramidai merge to join; of several (a folder, pattern) every N-th slide.",
)
@click.option("-q", "--quiet", is_flag=True, help="Say nothing but warnings and errors.")
def extract(
    slides: tuple[Path, ...],
    size: int,
    stride: int | None,
    mpp: float | None,
    level: int | None,
    slide_mpp: float | None,
    sample: str,
    seed: int,
    tissue: str,
    tissue_mask: Path | None,
    no_tissue: bool,
    min_tissue: float,
    pixels: str,
    truth: Path | None,
    tumor_share: float,
    normal_share: float,
    only_label: str | None,
    places: Path | None,
    above: float | None,
    max_white: float | None,
    white_level: int,
    max_black: float | None,
    measure: bool,
    origins: Path | None,
    odd_levels: str,
    hosts: Hosts,
    group: int | None,
    ram: str | None,
    output: Path,
    overwrite: bool,
    resume: bool,
    time_limit: str | None,
    ranks: str | None,
    part: str | None,
    quiet: bool,
) -> int:
    """Cut patches out of each SLIDE and write DIR/STEM.patches.h5. A SLIDE may be a folder or a pattern in quotes.

    A patch is a square of --size pixels around a cell of --stride pixels; cells with tissue that lie on the slide have
    one. The result is the same for any number of ranks.
    """
    from pyramidai_mpi.cli.session import mpi_session

    # values are checked here, before MPI; whatever depends on files is looked at by all ranks together
    if slide_mpp is not None and not slide_mpp > 0:
        raise UsageError(f"--slide-mpp {slide_mpp:g}: expected a number of µm per pixel above 0")
    wrong_word = mistyped_choice("--tissue", tissue, TISSUE_METHODS)
    way = parse_tissue(tissue, tissue_mask)
    context = click.get_current_context()
    kept, quality = parse_pixels(pixels)
    order = PatchOrder(
        size,
        size if stride is None else stride,
        mpp,
        level,
        parse_sample(sample),
        seed,
        pixels=kept,
        group=_group(group, ram, size),
        jpeg_quality=quality,
        limits=PatchLimits(max_white, max_black, white_level, measure),
        labels=PatchLabels(truth, tumor_share, normal_share, only_label),
        places=PatchPlaces(places, above),
        origins=origins,
    )
    for name in ("tumor_share", "normal_share"):
        if truth is None and context.get_parameter_source(name) is ParameterSource.COMMANDLINE:
            raise UsageError(f"--{name.replace('_', '-')} needs --truth, which says what is tumour")
    asked = RunSettings(
        SlideInput(
            Path(),
            slide_mpp,
            "mpp",
            min_tissue,
            Regions(None, None, way.mask, no_tissue),
            False,
            "auto",
            tissue=way.method,
            tissue_network=way.network,
            odd_levels=odd_levels,
        ),
        ModelChoice(Path()),
        Output(Path(), overwrite, resume, command_line=recorded_command(context)),
        Schedule(batch_size=order.batch_size),
        hosts=hosts,
    )
    own = None if part is None else parse_part(part)
    stop = StopWish.of_job(None if time_limit is None else parse_duration(time_limit))
    if ranks is not None:
        become_ranks(ranks)
    stop.listen()
    arguments = context.find_root().obj
    farewell = "stopped; what was done is kept, and the same command with --resume goes on from there"
    with mpi_session(farewell, arguments) as comm:
        from pyramidai_mpi.base.hosts import IF_APART
        from pyramidai_mpi.cli.running import run_through_losses, set_up_logging
        from pyramidai_mpi.ranks.alike import agree_on_folder
        from pyramidai_mpi.ranks.collectives import on_all
        from pyramidai_mpi.run.sent_files import SentFiles

        set_up_logging(comm.rank, "warning" if quiet else "info")
        agree_on_words(comm, wrong_word, only_rank0=hosts.send_slide)
        selection = find_slides(comm, slides, None, hosts)
        if not hosts.are_apart:
            agree_on_folder(comm, output, IF_APART)
        each = on_all(comm, lambda: _settings(selection, output, asked, order, own))
        if own is not None and leave_without_slides(comm, each, own):
            return ExitCode.OK
        with SentFiles(hosts) as sent:
            run = partial(_extract, order=order, stop=stop, sent=sent)
            return run_through_losses(comm, each, run, sent.close)


def _group(group: int | None, ram: str | None, size: int) -> int:
    """Patches in a group, as it is asked for in either way."""
    if ram is None:
        return DEFAULT_GROUP if group is None else group
    if group is not None:
        raise UsageError("--group and --ram both say how many patches are in a group; give one")
    return patches_in(parse_bytes("--ram", ram), max(1, size))  # a size of 0 has its own message


def _settings(
    selection: Selection, folder: Path, asked: RunSettings, order: PatchOrder, part: Part | None
) -> list[RunSettings]:
    """Settings of every slide, of several slides of every one that is the part's."""
    from pyramidai_mpi.run.selection import plan_outputs
    from pyramidai_mpi.store.files.placing import check_folder
    from pyramidai_mpi.store.patches.record import patch_file

    found = [entry.slide for entry in selection.entries]
    if not asked.hosts.are_apart:
        check_folder(folder)
    asked.slide.regions.check_for_several(len(found))
    order.places.check_for_several(len(found))
    outputs = plan_outputs(found, None, folder, [patch_file(slide) for slide in found])
    asked = asked.with_output(leave_finished=selection.is_cohort)
    if part is not None and selection.is_cohort:
        found, outputs = [*part.share(found)], [*part.share(outputs)]
        asked = asked.with_output(share=part)
    elif part is not None:
        outputs = [part.name_of(path) for path in outputs]
        asked = replace(asked, slide=replace(asked.slide, part=part))
    return [
        replace(asked.with_output(path=path), slide=replace(asked.slide, path=slide))
        for slide, path in zip(found, outputs, strict=True)
    ]


def _extract(
    comm: MPI.Intracomm, each: Sequence[RunSettings], *, order: PatchOrder, stop: StopWish, sent: SentFiles
) -> int:
    """Extract, say what came of it; the exit code, the same on all ranks. Collective."""
    from pyramidai_mpi.cli.running import make_files
    from pyramidai_mpi.run.extraction import extract_patches

    return make_files(comm, each, lambda say_slide, _show: extract_patches(comm, each, order, say_slide, stop, sent))
