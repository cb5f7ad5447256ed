"""``pyramidai merge``: parts that array jobs have made, joined; and which are missing."""

from __future__ import annotations

import logging
from collections import Counter
from pathlib import Path
from typing import TYPE_CHECKING

import click

from pyramidai_mpi.base.counts import counted
from pyramidai_mpi.base.errors import ExitCode, InputError, PyramidError, UsageError
from pyramidai_mpi.base.part import parts_in_words

if TYPE_CHECKING:
    from collections.abc import Sequence

    from pyramidai_mpi.run.part_files import PartGroup

log = logging.getLogger(__name__)

_PATH = click.Path(path_type=Path, readable=False)
_TABLES = (".csv", ".tsv", ".txt")


@click.command("merge")
@click.argument("parts", nargs=-1, required=True, type=_PATH, metavar="PART|DIR...")
@click.option(
    "-o", "--output", type=_PATH, metavar="OUT.h5", help="The whole file.  [default: as the parts' names say]"
)
@click.option("--overwrite", is_flag=True, help="Replace an existing file.")
@click.option("--accept-mixed", is_flag=True, help="Join parts that other versions have made; the result says so.")
@click.option(
    "--slides",
    type=_PATH,
    multiple=True,
    metavar="SLIDE|LIST.csv",
    help="See what is there of these, given as to the command with --part: a slide, or several (a folder, pattern, "
    "table; repeatable), whose results DIR is to hold.",
)
@click.option("--parts", "of", type=int, metavar="N", help="Into how many parts that was dealt; with --slides.")
@click.option("--patches", is_flag=True, help="With --slides: look for files of patches.")
@click.option(
    "--missing",
    is_flag=True,
    help="Join nothing: print the numbers of the parts that are missing, failed or damaged, one a line, for the "
    "scheduler to do again.",
)
@click.option(
    "--model",
    type=_PATH,
    metavar="DIR",
    help="Of parts of a model that predicts slides: its folder, for the prediction of the whole slide.",
)
@click.option("-q", "--quiet", is_flag=True, help="Say nothing but warnings and errors.")
def command(
    parts: tuple[Path, ...],
    output: Path | None,
    overwrite: bool,
    accept_mixed: bool,
    slides: tuple[Path, ...],
    of: int | None,
    patches: bool,
    missing: bool,
    model: Path | None,
    quiet: bool,
) -> int:
    """Join the parts that run --part I/N and patches extract --part I/N made of a slide: PARTs, or all in a DIR.

    The result is that of a run in one piece. What is missing is named (exit code 65). Of several slides every part has
    written whole results: then, with --slides and --parts, it is seen whether all are there.
    """
    from pyramidai_mpi.cli.running import set_up_logging
    from pyramidai_mpi.run.part_files import groups_in

    set_up_logging(0, "warning" if quiet else "info")
    if (of is None) != (not slides):
        raise UsageError("--slides and --parts go together: what was dealt, and into how many parts; give both")
    if not slides:
        if patches:
            raise UsageError("--patches: only with --slides; parts say themselves what they are of")
        groups = groups_in(parts, output)
        if missing:
            return _say_missing(groups)
        return _join(groups, overwrite=overwrite, accept_mixed=accept_mixed, model=model)
    assert of is not None
    if len(parts) != 1 or not parts[0].is_dir():
        raise UsageError("--slides: give one folder, in which the parts or results lie")
    outputs, is_cohort = _outputs(slides, parts[0], output, patches=patches)
    if is_cohort:
        return _check_slides(outputs, of, missing=missing)
    from pyramidai_mpi.run.part_files import group_of

    group = group_of(outputs[0], of)
    if missing:
        return _say_missing([group])
    return _join([group], overwrite=overwrite, accept_mixed=accept_mixed, model=model)


def _outputs(words: Sequence[Path], folder: Path, output: Path | None, *, patches: bool) -> tuple[list[Path], bool]:
    """The files that slides were to have, and whether they are several slides', by the rule of the run."""
    from pyramidai_mpi.run.selection import plan_outputs, select_slides

    tables = [word for word in words if word.suffix.lower() in _TABLES]
    if len(tables) > 1:
        raise UsageError(f"--slides {tables[1]}: is the second table; give one")
    selection = select_slides([word for word in words if word not in tables], tables[0] if tables else None)
    slides = [entry.slide for entry in selection.entries]
    if output is not None:
        return plan_outputs(slides, output, None), selection.is_cohort
    names = [entry.name for entry in selection.entries]
    if patches:
        from pyramidai_mpi.store.patches.record import patch_file

        names = [patch_file(slide) for slide in slides]
    return plan_outputs(slides, None, folder, names), selection.is_cohort


def _join(groups: Sequence[PartGroup], *, overwrite: bool, accept_mixed: bool, model: Path | None) -> int:
    """Join each file's parts; one that fails does not keep the others from it."""
    from pyramidai_mpi.cli.main import say_error

    codes: list[ExitCode] = []
    sets = Counter(group.output for group in groups)
    for group in groups:
        try:
            if sets[group.output] > 1:  # one would replace the other, and nobody has said which is meant
                raise InputError(
                    f"{group.files[0]}: there are parts of {group.output.name} of {sets[group.output]} divisions into "
                    "parts; name those of one, or remove the others"
                )
            joined = group.join(overwrite=overwrite, accept_mixed=accept_mixed, model=model)
        except PyramidError as error:
            if len(groups) == 1:
                raise
            say_error(str(error))
            codes.append(ExitCode.SLIDES_FAILED)
            continue
        level = logging.INFO if joined.exit_code is ExitCode.OK else logging.WARNING
        log.log(level, "%s", "\n  ".join(joined.lines))
        codes.append(joined.exit_code if len(groups) == 1 else min(joined.exit_code, ExitCode.SLIDES_FAILED))
    return max(codes)


def _say_missing(groups: Sequence[PartGroup]) -> int:
    """Print the numbers of the parts to do again."""
    left = [group.left() for group in groups]
    if len({of for _, of, _ in left}) > 1:
        raise UsageError("--missing: these are files of different numbers of parts; name those of one")
    for group, (numbers, of, lines) in zip(groups, left, strict=True):
        for line in lines:
            log.warning("%s", line)
        if numbers:
            log.info("%s of %s missing", parts_in_words(numbers, of), group.output)
    for number in sorted({number for numbers, _, _ in left for number in numbers}):
        click.echo(number)
    return ExitCode.OK


def _check_slides(outputs: Sequence[Path], of: int, *, missing: bool) -> int:
    """See whether all slides have their results; print, or name, the parts that have not."""
    from pyramidai_mpi.run.part_files import slides_left

    left = slides_left(outputs, of)
    numbers = sorted({number for number, _, _ in left})
    for number, path, why in left:
        log.warning("part %d: %s %s", number, path.name, why)
    if missing:
        for number in numbers:
            click.echo(number)
    elif left:
        raise InputError(
            f"{parts_in_words(numbers, of)} to be done again: {len(left)} of {counted(len(outputs), 'slide')} have no "
            f"sound result, such as {left[0][1]}"
        )
    else:
        log.info("all %s have their results; nothing is to be joined", counted(len(outputs), "slide"))
    return ExitCode.OK
