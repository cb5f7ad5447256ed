"""Labelled tiles out of files of patches, split by patient."""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from pyramidai_mpi.base.csv_reading import read_csv
from pyramidai_mpi.base.errors import InputError, UsageError
from pyramidai_mpi.base.patch_order import slide_stem
from pyramidai_mpi.patches.database import OpenPatches
from pyramidai_mpi.patches.folds import read_folds
from pyramidai_mpi.patches.selection import files_named, owners_of, read_chosen, with_labels
from pyramidai_mpi.store.patches.record import PLACES
from pyramidai_mpi.training.splits import Case, Split, split_by_owner
from pyramidai_mpi.training.tile_store import DrawnTiles, Source

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence
    from pathlib import Path

    import numpy.typing as npt

    from pyramidai_mpi.base.csv_reading import Row
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
        what = f"patients or slides with {self.classes[1]}"
        return split_by_owner(self.cases(), seed, what=what, advice=_ADVICE)

    def cases(self) -> list[Case]:
        """The files, with whose they are and where from."""
        return [
            Case(one.path, owner, one.origin.get("centre"), bool((one.labels == self.positive).any()))
            for owner, one in zip(owners_of(self.files), self.files, strict=True)
        ]


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
    def kind(self) -> str:
        """What tiles are drawn of, in words."""
        return "files"

    @property
    def in_words(self) -> str:
        """What is positive, for the package's card."""
        return (
            f"A tile is one of the patches that the files hold, positive when it is labelled {self.model.classes[1]}; "
            f"{self.labelled.n_unknown} without a known label were left out."
        )

    def sources(self, files: Sequence[Path]) -> list[Source]:
        """What patches are drawn of."""
        return [Source(path, self._mark(self._file(path))) for path in files]

    def draw_one(self, source: Source) -> list[DrawnTiles]:
        """Patches of a file: see `per_level.Material`.

        Raises
        ------
        InputError
            When a patch cannot be read, or the file is not what it was.
        """
        one = self._file(source.path)
        drawn = self._drawn(one)
        numbers = one.rows[drawn]
        with OpenPatches(one.path) as patches:
            if patches.digest != one.digest:
                raise InputError(f"{one.path}: holds other patches than when training began; start it anew")
            blocks = [patches.take(numbers[first : first + _BLOCK]) for first in range(0, len(numbers), _BLOCK)]
            position = _positions(patches, numbers)
        size = self.labelled.size
        pixels = np.concatenate([np.empty((0, size, size, 3), np.uint8), *blocks])
        return [DrawnTiles(pixels, one.labels[drawn] == self.labelled.positive, position)]

    def _file(self, path: Path) -> ChosenPatches:
        return next(one for one in self.labelled.files if one.path == path)

    def _drawn(self, one: ChosenPatches) -> npt.NDArray[np.int64]:
        """Places of the drawn ones among a file's labelled patches, ascending."""
        digits = int(one.digest[:15], 16)
        rng = np.random.default_rng([self.seed, digits])  # whatever files are beside it
        is_positive = one.labels == self.labelled.positive
        chosen = [rng.permutation(np.flatnonzero(is_positive == kind))[: self.per_class] for kind in (False, True)]
        return np.sort(np.concatenate(chosen))

    def _mark(self, one: ChosenPatches) -> str:
        """Short hash of what decides which patches are drawn."""
        facts = [one.digest, self.labelled.positive, self.per_class, self.seed]
        return hashlib.sha256(json.dumps(facts).encode()).hexdigest()[:12]


def _positions(patches: OpenPatches, numbers: npt.NDArray[np.integer]) -> npt.NDArray[np.float32]:
    """Centres of patches over their slide's size, float32 (n, 2); NaN where nobody knows where they were."""
    header = patches.header
    table = patches.table[numbers]
    corners = np.stack([table["l0_x"], table["l0_y"]], axis=1).astype(np.float64)
    centres = corners + header.settings.size * header.settings.downsample / 2
    if header.settings.places == PLACES[2]:
        centres[:] = np.nan
    size = np.array(header.slide.l0_size, np.float64)
    return np.clip(centres / np.where(size > 0, size, np.nan), 0, 1).astype(np.float32)  # see `Grid.positions`


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
