"""``pyramidai patches report``: what is in a file or a folder of patches, as one page."""

from __future__ import annotations

import os
from pathlib import Path

import click

from pyramidai_mpi.base.errors import UsageError, printable

_PATH = click.Path(path_type=Path, readable=False)
_PER_LABEL = 24


@click.command("report", short_help="Show patches on a page.")
@click.argument("what", type=_PATH, metavar="FILE|DIR")
@click.option("--slide", type=_PATH, metavar="SLIDE", help="The slide of FILE, to show below the places.")
@click.option("-o", "--output", type=_PATH, metavar="PAGE.html", help="The page.  [default: beside FILE, or in DIR]")
@click.option(
    "--per-label",
    type=click.IntRange(1, 480),
    metavar="N",
    help=f"Patches of each label on the contact sheet of FILE.  [default: {_PER_LABEL}]",
)
@click.option("--seed", type=click.IntRange(0, 2**63 - 1), metavar="S", help="Of their draw.  [default: 0]")
@click.option("--folds", type=_PATH, metavar="FOLDS.csv", help="Say which folds the files are in.")
@click.option("--overwrite", is_flag=True, help="Replace an existing page.")
def report(
    what: Path,
    slide: Path | None,
    output: Path | None,
    per_label: int | None,
    seed: int | None,
    folds: Path | None,
    overwrite: bool,
) -> int:
    """Show a FILE of patches as a page of its own: a contact sheet by label, places, shares, how they were taken.

    Of a DIR: a row a slide, and sums by label, patient and fold.
    """
    from pyramidai_mpi.patches.folder_report import write_folder_report
    from pyramidai_mpi.patches.folds import read_folds
    from pyramidai_mpi.patches.report import write_patch_report

    table = None if folds is None else read_folds(folds)
    # os.path says no where pathlib raises: a name that is too long
    if os.path.isdir(what):  # noqa: PTH112
        for option, value in (("--slide", slide), ("--per-label", per_label), ("--seed", seed)):
            if value is not None:
                raise UsageError(f"{option} goes with one file of patches; {what} is a folder")
        target = output or what / "patches.html"
        write_folder_report(what, target, table, overwrite=overwrite)
    else:
        target = output or what.with_name(f"{what.name.removesuffix('.h5')}.html")
        write_patch_report(
            what,
            target,
            slide,
            per_label=per_label or _PER_LABEL,
            seed=seed or 0,
            folds=table,
            overwrite=overwrite,
        )
    click.echo(printable(f"{target}: written"))
    return 0
