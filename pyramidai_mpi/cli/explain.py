"""``pyramidai explain``: where in its tiles a network sees a class, on any number of ranks."""

from __future__ import annotations

import json
import os
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

import click

from pyramidai_mpi.base.errors import ExitCode, UsageError
from pyramidai_mpi.base.explain_order import ExplainOrder, parse_tiles
from pyramidai_mpi.base.patch_order import slide_stem
from pyramidai_mpi.base.settings import ModelChoice, Output, RunSettings, Schedule, SlideInput
from pyramidai_mpi.cli.command_line import recorded_command
from pyramidai_mpi.cli.launcher import become_ranks
from pyramidai_mpi.cli.model_option import MODEL
from pyramidai_mpi.cli.pool_options import pool_options
from pyramidai_mpi.explain.methods import METHODS, Fill, method_named
from pyramidai_mpi.explain.told import check_told
from pyramidai_mpi.process.stop import StopWish, parse_duration

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from mpi4py import MPI

    from pyramidai_mpi.base.explain_order import TilesWanted
    from pyramidai_mpi.run.file_pool import FileOutcome
    from pyramidai_mpi.run.progress import RunProgress

_BESIDE = ("csv", "sheet")
"""What is made of every file of explanations, by its name with another ending."""
_PATH = click.Path(path_type=Path, readable=False)


@click.command("explain")
@click.argument("words", nargs=-1, required=True, type=_PATH, metavar="RESULT|SLIDE...")
@click.option(
    "--model",
    type=MODEL,
    metavar="DIR|NAME",
    help="Model that made the result: its folder, or name of a shipped one.  [default: small, for demonstration]",
)
@click.option(
    "--tiles",
    multiple=True,
    required=True,
    metavar="WHICH",
    help="top:N, the highest scores of the level in RESULT; positive, those that reached the threshold; l0:X,Y, the "
    "tile of a level-0 pixel (repeatable); or a CSV with level,col,row or l0_x,l0_y, as `export --csv` writes it (of "
    "several slides a folder with one each, named like the slide).",
)
@click.option(
    "--method",
    default="",
    metavar="NAME",
    shell_complete=lambda _context, _option, typed: [name for name in METHODS if name.startswith(typed)],
    help=f"{', '.join(METHODS)}.  [default: gradcam; occlusion where the network has no gradients]",
)
@click.option(
    "--layer", default="", metavar="NAME", help="Whose maps Grad-CAM takes.  [default: the last before the head]"
)
@click.option(
    "--class", "class_name", default="", metavar="NAME", help="Class to explain.  [default: the positive one]"
)
@click.option("--level", type=int, default=0, show_default=True, metavar="N", help="Level of the model to explain.")
@click.option("--masks", type=int, metavar="N", help="Most masks a tile, of rise and lime.  [default: 4000, 1024]")
@click.option(
    "--until",
    type=float,
    metavar="R",
    help="Stop a tile's masks once its map would correlate so well with one of as many others, such as 0.95.",
)
@click.option("--set", "numbers", multiple=True, metavar="NAME=X", help="Another number of the method. Repeatable.")
@click.option(
    "--fill",
    type=click.Choice([fill.value for fill in Fill]),
    default=Fill.BLUR.value,
    show_default=True,
    help="What stands where pixels are taken away: the tile blurred, its mean colour, or empty glass.",
)
@click.option(
    "--faithfulness/--no-faithfulness",
    default=True,
    show_default=True,
    help="Compute deletion and insertion curves of every map, and of a random one.",
)
@click.option("--seed", type=int, default=0, show_default=True, metavar="N", help="Of masks and random maps.")
@click.option("-o", "--output", type=_PATH, metavar="DIR", help="Folder for STEM.explained.h5.  [default: here]")
@click.option(
    "--slide", type=_PATH, metavar="SLIDE|DIR", help="Slide of RESULT, or folder of slides.  [default: beside it]"
)
@click.option("--mpp", type=float, metavar="X", help="µm per level-0 pixel, where slides do not say or are wrong.")
@click.option("--allow-upsampling", is_flag=True, help="Take slides that are coarser than the model.")
@pool_options("an explanation")
def command(
    words: tuple[Path, ...],
    model: Path | None,
    tiles: tuple[str, ...],
    method: str,
    layer: str,
    class_name: str,
    level: int,
    masks: int | None,
    until: float | None,
    numbers: tuple[str, ...],
    fill: str,
    faithfulness: bool,
    seed: int,
    output: Path | None,
    slide: Path | None,
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
    """Explain tiles of each RESULT, or of each SLIDE: where in them the network sees the class.

    The file of a slide, STEM.explained.h5, is the same for any number of ranks; its tiles are shared by all of them,
    mask by mask where the method has masks. A table and a sheet of the tiles with their maps lie beside it. A word may
    be a folder or a pattern in quotes.
    """
    from pyramidai_mpi.cli.session import mpi_session
    from pyramidai_mpi.models.shipped import find_model

    wanted = parse_tiles(tiles)
    order = ExplainOrder(
        method, layer, class_name, level, until, masks, parse_numbers(numbers), fill, faithfulness, seed
    )
    if method:
        check_told(method_named(method), order)
    asked = RunSettings(
        SlideInput(Path(), mpp, allow_upsampling=allow_upsampling, reader=reader, odd_levels=odd_levels),
        ModelChoice(find_model(model)),
        Output(Path(), overwrite, resume, command_line=recorded_command(click.get_current_context())),
        Schedule(policy),
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
        from pyramidai_mpi.store.files.placing import make_folder

        set_up_logging(comm.rank, "warning" if quiet else "info")
        pairs, is_cohort = _sources(comm, words, slide, wanted)
        folder = output or Path()
        each = on_all(comm, lambda: _settings([path for path, _ in pairs], folder, asked, is_cohort=is_cohort))
        if output is not None:
            on_rank0(comm, lambda: make_folder(folder, "-o"))
        agree_on_folder(comm, folder)
        run = partial(
            _explain,
            order=order,
            wanted=wanted,
            results=[result for _, result in pairs],
            stop=stop,
            bar_wanted=not quiet,
        )
        return run_through_losses(comm, each, run)


def parse_numbers(words: Sequence[str]) -> dict[str, float]:
    """Numbers by name from words such as ``grid=7``.

    Raises
    ------
    UsageError
        When a word is malformed, or a name is there twice.
    """
    numbers: dict[str, float] = {}
    for word in words:
        name, equals, text = word.partition("=")
        try:
            value = float(text)
        except ValueError:
            equals = ""
        if not equals or not name:
            raise UsageError(f"--set {word}: expected NAME=NUMBER such as grid=7")
        if name in numbers:
            raise UsageError(f"--set {word}: {name} is given twice")
        numbers[name] = value
    return numbers


def _sources(
    comm: MPI.Intracomm, words: tuple[Path, ...], slide: Path | None, wanted: TilesWanted
) -> tuple[list[tuple[Path, Path | None]], bool]:
    """Slides with their results, as rank 0 finds them. Collective."""
    from pyramidai_mpi.ranks.collectives import on_rank0, share_bytes
    from pyramidai_mpi.run.explaining_sources import find_sources

    found = on_rank0(comm, lambda: find_sources(words, slide, results_wanted=wanted.needs_result))
    said = b""
    if found is not None:
        names = [[os.fsdecode(path), "" if result is None else os.fsdecode(result)] for path, result in found[0]]
        said = json.dumps([names, found[1]]).encode()
    names, is_cohort = json.loads(share_bytes(comm, said if comm.rank == 0 else None))
    return [(Path(path), Path(result) if result else None) for path, result in names], bool(is_cohort)


def _settings(slides: Sequence[Path], folder: Path, asked: RunSettings, *, is_cohort: bool) -> list[RunSettings]:
    """Settings of every slide."""
    from pyramidai_mpi.run.selection import plan_outputs
    from pyramidai_mpi.store.explanations.contents import explained_file

    names = [explained_file(Path(), slide_stem(slide)).name for slide in slides]
    outputs = plan_outputs(slides, None, folder, names)
    asked = asked.with_output(leave_finished=is_cohort)
    return [
        replace(asked.with_output(path=path), slide=replace(asked.slide, path=slide))
        for slide, path in zip(slides, outputs, strict=True)
    ]


def _explain(
    comm: MPI.Intracomm,
    each: Sequence[RunSettings],
    *,
    order: ExplainOrder,
    wanted: TilesWanted,
    results: Sequence[Path | None],
    stop: StopWish,
    bar_wanted: bool,
) -> int:
    """Explain, and say what came of it; the exit code, the same on all ranks. Collective."""
    from pyramidai_mpi.cli.running import export_beside, make_files
    from pyramidai_mpi.export.formats import EXPLAINED
    from pyramidai_mpi.ranks.collectives import share_bytes
    from pyramidai_mpi.run.explaining import explain_slides

    complete: list[RunSettings] = []

    def explain(
        say_slide: Callable[[FileOutcome], None], show: Callable[[RunProgress], None] | None
    ) -> Sequence[FileOutcome] | None:
        outcomes = explain_slides(comm, each, order, wanted, results, say_slide, stop, show)
        for outcome in outcomes or ():
            if outcome.is_complete:
                # what an earlier start has made of the very file is left alone
                resume = outcome.settings.output.resume or outcome.was_finished
                complete.append(outcome.settings.with_output(resume=resume))
        return outcomes

    code = make_files(comm, each, explain, bar_wanted=bar_wanted)
    if comm.rank == 0:
        code = export_beside(ExitCode(code), complete, [one for one in EXPLAINED if one.name in _BESIDE])
    return share_bytes(comm, bytes([code]) if comm.rank == 0 else None)[0]
