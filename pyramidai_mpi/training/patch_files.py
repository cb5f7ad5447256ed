"""Labelled tiles out of files of patches: split by patient, balanced between classes, kept on disk."""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from pyramidai_mpi.base.csv_reading import read_csv
from pyramidai_mpi.base.errors import InputError, UsageError
from pyramidai_mpi.base.patch_order import slide_stem
from pyramidai_mpi.patches.folds import read_folds
from pyramidai_mpi.patches.open_files import OpenFiles
from pyramidai_mpi.patches.selection import files_named, owners_of, read_chosen, with_labels
from pyramidai_mpi.training.labelled_patches import LabelledTiles, Split, balanced, keep_tiles, kept_tiles, split_slides

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Sequence
    from pathlib import Path

    import numpy.typing as npt

    from pyramidai_mpi.base.csv_reading import Row
    from pyramidai_mpi.base.types import RgbArray
    from pyramidai_mpi.models.package import ModelPackage
    from pyramidai_mpi.patches.selection import ChosenPatches

_BLOCK = 256
"""Patches that are read at a time: those of a block that lie beside each other share decoded tiles."""
_WHO = ("file", "slide", "patient")
"""By what a table of splits may name files; the first that it has."""
_ADVICE = "give more, or say whose they are (patches extract --origin, patches import --table)"


@dataclass(frozen=True)
class LabelledFiles:
    """Files of patches to train on.

    Attributes
    ----------
    size, spacing
        Side of a patch in pixels; its µm per pixel.
    classes
        Names of the negative and the positive class.
    positive
        Number of the positive label; all others are negative.
    files
        Labelled patches of each file.
    n_unknown
        Patches that are left out, as nobody knows their label.
    """

    size: int
    spacing: float
    classes: tuple[str, str]
    positive: int
    files: tuple[ChosenPatches, ...]
    n_unknown: int

    @classmethod
    def read(cls, words: Iterable[Path], positive: str | None) -> LabelledFiles:
        """Read the labels of files, or folders of them.

        Parameters
        ----------
        positive
            Name of the positive label; None for ``tumor``, or the second of two.

        Raises
        ------
        InputError
            When a file cannot be read, keeps no pixels or does not fit the others; or they have no two labels, or do
            not say their µm/px.
        UsageError
            When a file is named twice, or which label is positive is not clear.
        """
        kind, chosen = read_chosen(files_named(words))
        names = kind.label_names
        if len(names) < 2:
            raise InputError(
                f"{chosen[0].path}: {'has no labels' if not names else f'has one label, {names[0]}'}; training needs "
                "two: extract with --truth"
            )
        if not np.isfinite(kind.spacing):
            raise InputError(
                f"{chosen[0].path}: does not say how large its pixels are, which a model has to know; make it again "
                "with patches import --mpp"
            )
        if positive is None:
            if "tumor" not in names and len(names) > 2:
                raise UsageError(f"which of the labels {', '.join(names)} is positive? give --positive-label")
            positive = "tumor" if "tumor" in names else names[1]
        if positive not in names:
            raise UsageError(f"--positive-label {positive}: the files have labels {', '.join(names)}")
        others = [name for name in names if name != positive]
        labelled = with_labels(kind, chosen, names, unknown=False)
        n_unknown = sum(len(one.rows) for one in chosen) - sum(len(one.rows) for one in labelled)
        classes = (others[0] if len(others) == 1 else f"not {positive}", positive)
        return cls(kind.size, kind.spacing, classes, names.index(positive), tuple(labelled), n_unknown)

    def counts(self) -> tuple[int, int]:
        """How many patches are negative, and how many positive."""
        positive = sum(int((one.labels == self.positive).sum()) for one in self.files)
        return sum(len(one.rows) for one in self.files) - positive, positive

    def split(self, seed: int, table: Path | None = None, fold: int | None = None) -> dict[Split, list[Path]]:
        """Which files train, validate and test; no patient, or slide whose patient is not known, is in two of these.

        Parameters
        ----------
        seed
            Of the choice, where no table says it.
        table
            CSV with columns ``split`` (train, validation, test) and ``file``, ``slide`` or ``patient``; or a table of
            `patches folds`.
        fold
            Of such a table: the fold that tests. The one after it, or fold 0 after the last, validates.

        Raises
        ------
        InputError
            When the table cannot be used, leaves out a file, or has a patient in two splits.
        UsageError
            When there are too few patients.
        """
        if table is not None:
            return _split_by_table(self.files, table, fold)
        if fold is not None:
            raise UsageError(f"--fold {fold} is of a table of folds; give it with --split")
        owners: dict[str, list[ChosenPatches]] = {}
        for owner, one in zip(owners_of(self.files), self.files, strict=True):
            owners.setdefault(owner, []).append(one)
        has_positive = [any((one.labels == self.positive).any() for one in files) for files in owners.values()]
        what = f"patients or slides with {self.classes[1]}"
        dealt = split_slides(list(owners.values()), has_positive, seed, what=what, advice=_ADVICE)
        return {kind: [one.path for files in parts for one in files] for kind, parts in dealt.items()}


@dataclass(frozen=True)
class PatchPlan:
    """Which patches are drawn of files. See `per_level.Material`.

    Attributes
    ----------
    model
        Tile size, spacing, classes of one level; its network is not used.
    labelled
        The files.
    per_class
        Most patches of each class and file.
    seed
        Seed of the choice of patches.
    """

    model: ModelPackage
    labelled: LabelledFiles
    per_class: int
    seed: int

    @property
    def stain_mark(self) -> str:
        """Stain is not normalised."""
        return ""

    @property
    def in_words(self) -> str:
        """What is positive, for the package's card."""
        return (
            f"A tile is one of the patches that the files hold, positive when it is labelled {self.model.classes[1]}; "
            f"{self.labelled.n_unknown} without a known label were left out."
        )

    def draw(
        self, slides: Sequence[Path], split: Split, folder: Path, progress: Callable[[Path], None] | None = None
    ) -> list[LabelledTiles]:
        """Patches of a split, equally many of both classes; read once, then kept in `folder`.

        Raises
        ------
        InputError
            When a patch cannot be read, or a class has none.
        """
        files = [one for one in self.labelled.files if one.path in set(slides)]
        path = folder / f"{split}-patches-{self._tag(files)}"
        if not path.with_suffix(".npz").exists():
            rows = [self._drawn(one) for one in files]
            positive = np.concatenate(
                [one.labels[drawn] == self.labelled.positive for one, drawn in zip(files, rows, strict=True)]
            )
            kept = balanced(positive, np.random.default_rng([self.seed, 0]))
            if not len(kept):
                raise InputError(
                    f"no patch is {self.model.classes[0]}, or none {self.model.classes[1]}, of the {split} files; give "
                    "more, or another --split or --seed"
                )
            ends = np.cumsum([len(drawn) for drawn in rows])
            parts = np.split(kept, np.searchsorted(kept, ends[:-1]))
            numbers = [
                one.rows[drawn[part - (end - len(drawn))]]
                for one, drawn, part, end in zip(files, rows, parts, ends, strict=True)
            ]
            keep_tiles(path, _blocks(files, numbers, progress), positive[kept])
        return [kept_tiles(path, self._tag(files))]

    def _drawn(self, one: ChosenPatches) -> npt.NDArray[np.int64]:
        """Places of the drawn ones among a file's labelled patches, ascending."""
        digits = int(one.digest[:15], 16)
        rng = np.random.default_rng([self.seed, digits])  # whatever files are beside it
        is_positive = one.labels == self.labelled.positive
        chosen = [rng.permutation(np.flatnonzero(is_positive == kind))[: self.per_class] for kind in (False, True)]
        return np.sort(np.concatenate(chosen))

    def _tag(self, files: Sequence[ChosenPatches]) -> str:
        """Short hash of what decides which patches are drawn."""
        facts = [[one.digest for one in files], self.labelled.positive, self.per_class, self.seed]
        return hashlib.sha256(json.dumps(facts).encode()).hexdigest()[:12]


def _blocks(
    files: Sequence[ChosenPatches],
    numbers: Sequence[npt.NDArray[np.integer]],
    progress: Callable[[Path], None] | None,
) -> Iterator[RgbArray]:
    """Pixels of patches of each file, some at a time."""
    opened = OpenFiles([one.path for one in files], [one.digest for one in files])
    for file, wanted in enumerate(numbers):
        for first in range(0, len(wanted), _BLOCK):
            yield opened[file].take(wanted[first : first + _BLOCK])
        if progress is not None:
            progress(files[file].path)


def _split_by_table(files: Sequence[ChosenPatches], path: Path, fold: int | None) -> dict[Split, list[Path]]:
    kinds = _splits_by_row(files, path) if fold is None else _splits_by_fold(files, path, fold)
    of_owner: dict[str, tuple[Split, str]] = {}
    split: dict[Split, list[Path]] = {kind: [] for kind in Split}
    for one, owner, kind in zip(files, owners_of(files), kinds, strict=True):
        first = of_owner.setdefault(owner, (kind, one.slide))
        if first[0] is not kind:
            raise InputError(
                f"{path}: {first[1]} is in {first[0]} and {one.slide} in {kind}, though both are of one "
                f"{owner.partition(' ')[0]}; put them into one split"
            )
        split[kind].append(one.path)
    if empty := [kind for kind, paths in split.items() if not paths]:
        raise InputError(f"{path}: puts none of the files into {', '.join(empty)}; each split needs one")
    return split


def _splits_by_fold(files: Sequence[ChosenPatches], path: Path, fold: int) -> list[Split]:
    folds = read_folds(path)
    if folds.n_folds < 3 or not 0 <= fold < folds.n_folds:
        raise UsageError(
            f"--fold {fold}: {path} has folds 0 to {folds.n_folds - 1}; expected one of three or more, of which one "
            "tests, one validates and the others train"
        )
    validates = (fold + 1) % folds.n_folds
    kinds = {fold: Split.TEST, validates: Split.VALIDATION}
    return [kinds.get(folds.fold_of(one.path), Split.TRAIN) for one in files]


def _splits_by_row(files: Sequence[ChosenPatches], path: Path) -> list[Split]:
    who, said = _read_splits(path)
    kinds: list[Split] = []
    for one in files:
        names = {
            "file": [one.path.name],
            "slide": [one.slide, slide_stem(one.slide)],
            "patient": [one.origin["patient"]] if "patient" in one.origin else [],
        }[who]
        found = {said[name] for name in names if name in said}
        if len(found) != 1:
            what = "names two splits of" if found else "names no split of"
            raise InputError(f"{path}: {what} {one.slide} ({one.path}); name one, by its {who}")
        kinds += found
    return kinds


def _read_splits(path: Path) -> tuple[str, dict[str, Split]]:
    """By what the table names files, and the splits by that."""
    rows = read_csv(path, _has_columns).rows
    columns = [name.strip().casefold() for name in rows[0].cells] if rows else []
    if "fold" in columns and "split" not in columns:
        raise InputError(f"{path}: is a table of folds; say with --fold N which of them tests")
    if not _has_columns(rows):
        raise InputError(f"{path}: expected a line of names, split and file, slide or patient, then a line each")
    who = next(name for name in _WHO if name in columns)
    said: dict[str, Split] = {}
    for line, cells in rows[1:]:
        row = dict(zip(columns, (cell.strip() for cell in cells), strict=False))
        if row.get("split") not in list(Split) or not row.get(who):
            raise InputError(f"{path}: line {line}: expected a {who}, and train, validation or test as its split")
        name, kind = row[who], Split(row["split"])
        if said.setdefault(name, kind) is not kind:
            raise InputError(f"{path}: line {line}: {who} {name} is in {said[name]} already")
    return who, said


def _has_columns(rows: Sequence[Row]) -> bool:
    names = [name.strip().casefold() for name in rows[0].cells] if rows else []
    return "split" in names and any(name in names for name in _WHO)
