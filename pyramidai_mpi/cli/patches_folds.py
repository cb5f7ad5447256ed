"""``pyramidai patches folds``: which files of patches are in which fold, by patient."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import click

from pyramidai_mpi.base.errors import UsageError, printable

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from pyramidai_mpi.patches.tally import Tally

_PATH = click.Path(path_type=Path, readable=False)


@click.command("folds", short_help="Deal files to folds, by patient.")
@click.argument("folder", type=_PATH, metavar="DIR")
@click.option("--folds", "n_folds", type=int, default=5, show_default=True, metavar="K", help="How many.")
@click.option(
    "--seed", type=click.IntRange(0, 2**63 - 1), default=0, show_default=True, help="Of the order of dealing."
)
@click.option(
    "--by",
    type=click.Choice(["patient", "slide"]),
    default="patient",
    show_default=True,
    help="With slide, a slide of an unknown patient counts as a patient of its own; known patients stay together.",
)
@click.option("--stratify", is_flag=True, help="Balance the patches of each label; else all patches alike.")
@click.option("-o", "--output", type=_PATH, metavar="FOLDS.csv", help="Write the table there; else print it.")
@click.option("--overwrite", is_flag=True, help="Replace an existing table.")
def folds(folder: Path, n_folds: int, seed: int, by: str, stratify: bool, output: Path | None, overwrite: bool) -> int:
    """Deal the files of patches of DIR out to folds, so that no patient is in two.

    Folds have about equally many patches. The same seed and files give the same folds.
    """
    from pyramidai_mpi.patches.folds import fold_lines, fold_tallies
    from pyramidai_mpi.patches.lookup import patch_files
    from pyramidai_mpi.patches.tally import tally
    from pyramidai_mpi.store.files.placing import check_target, placed

    if n_folds < 2:
        raise UsageError(f"--folds {n_folds}: expected at least 2")
    files = patch_files(folder)
    if output is not None:
        check_target(output, overwrite=overwrite, inputs=files)
    tallies = [tally(path) for path in files]
    found = fold_tallies(tallies, n_folds, seed, unknown_alone=by == "slide", stratify=stratify)
    table = "".join(fold_lines(tallies, found))
    if output is None:
        click.echo(table, nl=False)
        return 0
    with placed(output, overwrite=overwrite, inputs=files) as temporary:
        temporary.write_text(table, encoding="utf-8")
    for line in _sums(tallies, found, n_folds, is_by_slide=by == "slide"):
        click.echo(printable(line))
    return 0


def _sums(tallies: Sequence[Tally], found: Sequence[int], n_folds: int, *, is_by_slide: bool) -> Iterator[str]:
    """What each fold has, a line each."""
    from pyramidai_mpi.base.counts import counted
    from pyramidai_mpi.patches.folds import patients_of
    from pyramidai_mpi.patches.tally import labels_of

    groups = patients_of(tallies, unknown_alone=is_by_slide)
    for fold in range(n_folds):
        members = [n for n, its in enumerate(found) if its == fold]
        known = {groups[n] for n in members if groups[n].startswith("patient ")}
        alone = {groups[n] for n in members} - known
        whose = [counted(len(known), "patient")] if known or not alone else []
        whose += [f"{counted(len(alone), 'slide')} of unknown patients"] if alone else []
        n_of = [f"{sum(tallies[n].n_of.get(label, 0) for n in members)} {label}" for label in labels_of(tallies)]
        patches = sum(tallies[n].header.n_patches for n in members)
        what = f"{patches} {'patch' if patches == 1 else 'patches'}" + (f" ({', '.join(n_of)})" if patches else "")
        yield f"fold {fold}: {counted(len(members), 'file')} of {' and '.join(whose)}, {what}"
