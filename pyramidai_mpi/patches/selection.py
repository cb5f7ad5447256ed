"""Which patches of which files are in a data set."""

from __future__ import annotations

import math
import os
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from pyramidai_mpi.base.errors import InputError, UsageError
from pyramidai_mpi.patches.database import OpenPatches
from pyramidai_mpi.patches.folds import deal_folds, owners_by_slide
from pyramidai_mpi.patches.lookup import files_at
from pyramidai_mpi.store.patches.record import ORIGINS, UNKNOWN

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    import numpy.typing as npt

SPACING_TOLERANCE = 0.02
"""By how much spacings of the files of a data set may differ: as in `slides.spacing`."""


@dataclass(frozen=True)
class ChosenPatches:
    """Some patches of a file.

    Attributes
    ----------
    path, digest
        The file.
    slide, quickhash, origin
        Name and hash of its slide, and what is known of where that comes from.
    group
        Patches in a group.
    rows
        uint32 (n,): numbers of the chosen patches in the file, ascending.
    labels
        int16 (n,): their labels, -1 where unknown.
    """

    path: Path
    digest: str
    slide: str
    quickhash: str
    origin: Mapping[str, str]
    group: int
    rows: npt.NDArray[np.uint32]
    labels: npt.NDArray[np.int16]

    def only(self, is_chosen: npt.NDArray[np.bool_]) -> ChosenPatches:
        """Fewer of them: bool (n,)."""
        return replace(self, rows=self.rows[is_chosen], labels=self.labels[is_chosen])


@dataclass(frozen=True)
class Kind:
    """What all files of a data set have in common: side of a patch, µm per pixel, names of labels."""

    size: int
    spacing: float
    label_names: tuple[str, ...]

    def difference(self, other: Kind, name: object) -> str:
        """In what it differs from that of another file, of this name, in words; empty for nothing."""
        if self.size != other.size:
            return f"has patches of {self.size} px, {name} of {other.size} px"
        both_unknown = math.isnan(self.spacing) and math.isnan(other.spacing)
        if not both_unknown and not abs(self.spacing / other.spacing - 1) <= SPACING_TOLERANCE:
            return f"has {self.spacing:.4g} µm/px, {name} {other.spacing:.4g} µm/px"
        if self.label_names != other.label_names:
            ours, theirs = (", ".join(kind.label_names) or "none" for kind in (self, other))
            return f"has labels {ours}; {name} has {theirs}"
        return ""


def files_named(files: str | os.PathLike[str] | Iterable[str | os.PathLike[str]]) -> list[Path]:
    """The files of patches that are meant by a file, a folder, or several of these.

    Raises
    ------
    InputError
        When a folder holds none.
    UsageError
        When nothing is named, or a file twice.
    """
    words = [files] if isinstance(files, str | os.PathLike) else list(files)
    found: list[Path] = []
    for word in map(Path, words):
        found += files_at(word)
    if not found:
        raise UsageError("no file of patches is named; give one, a folder of them, or several")
    seen: set[Path] = set()
    for path in found:
        if path.resolve() in seen:
            raise UsageError(f"{path}: is named twice; name it once")
        seen.add(path.resolve())
    return found


def read_chosen(paths: Sequence[Path], group: int | None = None) -> tuple[Kind, list[ChosenPatches]]:
    """All patches of some files, and what these have in common.

    Raises
    ------
    InputError
        When a file cannot be read, keeps no pixels, or differs from the first in size, spacing or labels.
    """
    chosen: list[ChosenPatches] = []
    kinds: list[Kind] = []
    for path in paths:
        with OpenPatches(path, group) as patches:
            slide, settings = patches.header.slide, patches.header.settings
            if settings.pixels == "none":
                raise InputError(f"{path}: keeps coordinates alone (--pixels none); extract its patches with pixels")
            kinds.append(Kind(settings.size, settings.spacing, patches.label_names))
            if different := kinds[-1].difference(kinds[0], paths[0]):
                raise InputError(f"{path}: {different}; put them into data sets of their own")
            rows, labels = np.arange(len(patches), dtype=np.uint32), patches.table["label"].copy()
            size = patches.group_size
            chosen.append(
                ChosenPatches(path, patches.digest, slide.name, slide.quickhash, patches.origin, size, rows, labels)
            )
    return kinds[0], chosen


def with_labels(
    kind: Kind, chosen: Sequence[ChosenPatches], labels: str | Iterable[str] | None, unknown: bool | None
) -> list[ChosenPatches]:
    """Only patches with one of these labels.

    Parameters
    ----------
    labels
        Names; None for all.
    unknown
        Whether patches whose label is unknown are among them; None where `labels` is None.

    Raises
    ------
    UsageError
        When there is no label of such a name.
    """
    names = None if labels is None else [labels] if isinstance(labels, str) else list(labels)
    for name in names or ():
        if name not in kind.label_names:
            there = ", ".join(kind.label_names)
            raise UsageError(f"label {name!r}: the files have {f'labels {there}' if there else 'no labels'}")
    numbers = range(len(kind.label_names)) if names is None else [kind.label_names.index(name) for name in names]
    wanted = [*numbers, UNKNOWN] if (names is None if unknown is None else unknown) else [*numbers]
    return [one.only(np.isin(one.labels, wanted)) for one in chosen]


def with_origin(chosen: Sequence[ChosenPatches], wanted: Mapping[str, object]) -> list[ChosenPatches]:
    """Only files of these patients, nodes or centres.

    Parameters
    ----------
    wanted
        By ``patient``, ``node`` or ``centre``: a number or text, or several.

    Raises
    ------
    InputError
        When a file does not say: it might be of any.
    UsageError
        When there is nothing of that name.
    """
    found = list(chosen)
    for name, value in wanted.items():
        if name not in ORIGINS:
            raise UsageError(f"{name}: expected {', '.join(ORIGINS)}")
        values = {str(one) for one in (value if isinstance(value, list | tuple | set | frozenset | range) else [value])}
        for one in found:
            if name not in one.origin:
                raise InputError(f"{one.path}: does not say its {name}, and might be of any; choose files instead")
        if absent := values - {one.origin[name] for one in found}:
            raise UsageError(f"{name} {', '.join(sorted(absent))}: no file is of that {name}")
        found = [one for one in found if one.origin[name] in values]
    return found


def owners_of(chosen: Sequence[ChosenPatches]) -> list[str]:
    """Whose the patches of each file are, see `folds.owners_by_slide`."""
    return owners_by_slide([(one.path, one.quickhash, one.origin.get("patient")) for one in chosen])


def dealt(chosen: Sequence[ChosenPatches], n: int, seed: int) -> list[int]:
    """The fold of each file, see `folds.deal_folds`; a slide whose patient is not known counts as one.

    Raises
    ------
    UsageError, InputError
        As `folds.deal_folds` and `owners_of`.
    """
    owners = owners_of(chosen)
    n_of: dict[str, list[int]] = {}
    for owner, one in zip(owners, chosen, strict=True):
        n_of[owner] = [n_of.get(owner, [0])[0] + len(one.rows)]
    fold_of = deal_folds(n_of, n, seed)
    return [fold_of[owner] for owner in owners]
