"""A folder of files of patches as one page: a row a slide, and sums by label, patient and fold."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from pyramidai_mpi.base.errors import printable
from pyramidai_mpi.base.names import name_of
from pyramidai_mpi.export.page import page_of
from pyramidai_mpi.patches.label_colours import css_colours
from pyramidai_mpi.patches.lookup import patch_files
from pyramidai_mpi.patches.report import label_rows
from pyramidai_mpi.patches.shares import Spreads, histograms
from pyramidai_mpi.patches.tally import labels_of, tally
from pyramidai_mpi.store.files.placing import placed
from pyramidai_mpi.store.patches.record import ORIGINS

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from pathlib import Path

    from pyramidai_mpi.patches.folds import Folds
    from pyramidai_mpi.patches.tally import Tally


@dataclass(frozen=True)
class FileRow:
    """One file: its name, slide, origin and fold in words, patches of each label, and what is odd about it."""

    file: str
    slide: str
    patch: str
    origin: list[str]
    fold: str
    n_patches: int
    n_failed: int
    n_of: list[int]
    note: str


@dataclass(frozen=True)
class SumRow:
    """Some files together: what they have in common, how many they are, and patches, all and of each label."""

    name: str
    n_files: int
    n_patches: int
    n_of: list[int]


def write_folder_report(folder: Path, target: Path, folds: Folds | None = None, *, overwrite: bool = False) -> None:
    """Write an HTML page of all files of patches of a folder.

    Parameters
    ----------
    folder
        The folder.
    target
        HTML file to write; it refers to nothing outside itself.
    folds
        Which fold each file is in.
    overwrite
        Replace an existing page.

    Raises
    ------
    InputError
        When the folder has no such file, one of them is not sound, or the folds do not name it.
    OutputExistsError, StorageError
        When the target is in the way or cannot be written.
    """
    files = patch_files(folder)
    with placed(target, overwrite=overwrite, inputs=files if folds is None else [*files, folds.path]) as temporary:
        temporary.write_text(_page(folder, files, folds), encoding="utf-8")


def _page(folder: Path, files: Sequence[Path], folds: Folds | None) -> str:
    spreads = Spreads()
    tallies = [tally(path, spreads) for path in files]
    labels = labels_of(tallies)
    n_of = [sum(each.n_of.get(label, 0) for each in tallies) for label in labels]
    fold_of = {each.path: folds.fold_of(each.path) for each in tallies} if folds is not None else {}
    sums = {"patient": _sums(tallies, labels, lambda each: each.patient or "not known")}
    if folds is not None:
        sums["fold"] = _sums(tallies, labels, lambda each: str(fold_of[each.path]))
    return page_of(
        "patch_folder.html",
        name=printable(name_of(folder.resolve())),
        rows=_rows(tallies, labels, fold_of),
        labels=labels,
        origins=ORIGINS,
        n_slides=len({each.header.slide.quickhash or each.path.name for each in tallies}),
        has_folds=folds is not None,
        n_patches=sum(n_of),
        n_failed=sum(each.header.n_failed for each in tallies),
        n_patients=len({each.patient for each in tallies} - {None}),
        n_unknown=sum(each.patient is None for each in tallies),
        kinds=sorted({_patch_of(each) for each in tallies}),
        label_rows=label_rows(spreads, labels, n_of),
        histograms=histograms(spreads, labels, css_colours(labels)),
        sums=sums,
    )


def _patch_of(each: Tally) -> str:
    settings = each.header.settings
    return f"{settings.size} px, stride {settings.stride}, {settings.spacing:.4g} µm/px, {settings.sample}"


def _rows(tallies: Sequence[Tally], labels: Sequence[str], fold_of: dict[Path, int]) -> list[FileRow]:
    first_of: dict[str, Path] = {}
    rows = []
    for each in tallies:
        slide = each.header.slide
        first = first_of.setdefault(slide.quickhash, each.path) if slide.quickhash else each.path
        rows.append(
            FileRow(
                printable(each.path.name),
                printable(slide.name),
                _patch_of(each),
                [printable(slide.origin.get(name, "not known")) for name in ORIGINS],
                str(fold_of.get(each.path, "")),
                each.header.n_patches,
                each.header.n_failed,
                [each.n_of.get(label, 0) for label in labels],
                "" if first == each.path else f"the same slide as {printable(first.name)}",
            )
        )
    return rows


def _sums(tallies: Sequence[Tally], labels: Sequence[str], key: Callable[[Tally], str]) -> list[SumRow]:
    """Sums of what files have in common, numbers in their order."""
    groups: dict[str, list[Tally]] = {}
    for each in tallies:
        groups.setdefault(key(each), []).append(each)
    return [
        SumRow(
            printable(name),
            len(members),
            sum(each.header.n_patches for each in members),
            [sum(each.n_of.get(label, 0) for each in members) for label in labels],
        )
        for name, members in sorted(groups.items(), key=lambda item: (not item[0].isdecimal(), len(item[0]), item[0]))
    ]
