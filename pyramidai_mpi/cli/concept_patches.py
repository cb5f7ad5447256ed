"""The patches that concepts are found in: which, whose, what is measured of each, what the network makes of it."""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache
from typing import TYPE_CHECKING

import numpy as np

from pyramidai_mpi.base.errors import InputError, UsageError
from pyramidai_mpi.explain.concepts.measures import WITHOUT_NUCLEI, measure
from pyramidai_mpi.explain.concepts.nuclei import find_nuclei
from pyramidai_mpi.models.backward.engine import GradientEngine
from pyramidai_mpi.models.stain.engine import StainEngine
from pyramidai_mpi.models.stain.graph import stain_graph
from pyramidai_mpi.models.stain.map import ReinhardTarget, StainError, estimate
from pyramidai_mpi.patches.folds import deal_folds
from pyramidai_mpi.patches.open_files import OpenFiles
from pyramidai_mpi.patches.selection import SPACING_TOLERANCE, files_named, owners_of, read_chosen
from pyramidai_mpi.truth.nuclei import open_nuclei

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from pathlib import Path

    import numpy.typing as npt

    from pyramidai_mpi.base.types import RgbArray
    from pyramidai_mpi.models.backward.layers import Layer
    from pyramidai_mpi.models.package import ModelLevel, ModelPackage
    from pyramidai_mpi.patches.database import OpenPatches
    from pyramidai_mpi.patches.selection import ChosenPatches, Kind
    from pyramidai_mpi.truth.nuclei import Nuclei

    Ints = npt.NDArray[np.int64]

UNIT = 8
"""Patches that are looked at at a time: what ranks deal out."""

_STAIN_PATCHES, _STAIN_STEP = 64, 4
"""As of a run: so many tiles of a slide say its stain, by every fourth pixel of every fourth row."""


@dataclass(frozen=True)
class Sample:
    """The patches that are looked at.

    Attributes
    ----------
    kind
        Size, µm per pixel and labels.
    files
        The files.
    file, number
        int64 (N,): the file of each patch, and its number there; in this order.
    patients
        Names of patients.
    patient, fold
        int64 (N,): whose each patch is, and the patient's fold.
    """

    kind: Kind
    files: tuple[ChosenPatches, ...]
    file: Ints
    number: Ints
    patients: tuple[str, ...]
    patient: Ints
    fold: Ints

    def __len__(self) -> int:
        return len(self.file)


def read_files(words: Sequence[Path]) -> tuple[Kind, tuple[ChosenPatches, ...]]:
    """Files with patches, in an order that does not follow from that of the words, and what they have in common.

    Raises
    ------
    InputError
        When one cannot be read, keeps no pixels or differs from the others, or none holds a patch.
    UsageError
        When no file is named, or one twice.
    """
    kind, found = read_chosen(files_named(words))
    files = tuple(sorted((one for one in found if len(one.rows)), key=lambda one: (one.path.name, one.digest)))
    if not files:
        raise InputError(f"{words[0]}: holds no patch; extract some")
    return kind, files


def draw_sample(kind: Kind, files: tuple[ChosenPatches, ...], most: int, n_folds: int, seed: int) -> Sample:
    """Choose patches: all, or `most` of them, as equally many of each patient as there are, by chance.

    Raises
    ------
    InputError
        When one slide is said to be of two patients.
    UsageError
        When there are fewer patients than folds.
    """
    owners = owners_of(files)
    n_of: dict[str, list[int]] = {}
    for owner, one in zip(owners, files, strict=True):
        n_of[owner] = [n_of.get(owner, [0])[0] + len(one.rows)]
    fold_of = deal_folds(n_of, n_folds, seed)
    patients = tuple(sorted(n_of))
    file = np.repeat(np.arange(len(files)), [len(one.rows) for one in files])
    number = np.concatenate([one.rows for one in files]).astype(np.int64)
    patient = np.array([patients.index(owner) for owner in owners], np.int64)[file]
    kept = _drawn(patient, most, seed)
    patient = patient[kept]
    fold = np.array([fold_of[name] for name in patients], np.int64)[patient]
    return Sample(kind, files, file[kept], number[kept], patients, patient, fold)


def _drawn(patient: Ints, most: int, seed: int) -> Ints:
    """Numbers of the patches to take, ascending: the first of each patient in a random order, then the second ..."""
    if len(patient) <= most:
        return np.arange(len(patient))
    order = np.random.Generator(np.random.Philox(key=np.array([seed, 0], np.uint64))).permutation(len(patient))
    by_patient = order[np.argsort(patient[order], kind="stable")]
    counts = np.bincount(patient)
    turn = np.arange(len(patient)) - np.repeat(np.cumsum(counts) - counts, counts)
    return np.sort(by_patient[np.lexsort((patient[by_patient], turn))[:most]])


def level_for(package: ModelPackage, kind: Kind, asked: int | None) -> ModelLevel:
    """The level whose pixels are those of the patches, or the one that is asked for.

    Raises
    ------
    UsageError
        When the patches have another size than the model's tiles, no level has their spacing, or there is no such
        level.
    """
    if kind.size != package.tile_size:
        raise UsageError(
            f"the patches have {kind.size} px, and tiles of model {package.name} {package.tile_size} px; extract "
            f"patches with --size {package.tile_size}"
        )
    spacings = [package.base_mpp * package.scale_factor**level.level for level in package.levels]
    if asked is not None:
        if asked >= package.n_levels:
            raise UsageError(f"--level {asked}: model {package.name} has levels 0..{package.n_levels - 1}")
        return package.levels[asked]
    for level, spacing in zip(package.levels, spacings, strict=True):
        if abs(kind.spacing / spacing - 1) <= SPACING_TOLERANCE:
            return level
    listed = ", ".join(f"{spacing:g}" for spacing in spacings)
    raise UsageError(
        f"the patches have {kind.spacing:g} µm/px, and levels of model {package.name} {listed}; extract patches with "
        "--mpp of one of these, or choose the level with --level"
    )


class Looker:
    """Measures patches, and has the network look at them. One a rank.

    Parameters
    ----------
    sample
        The patches.
    package, level, layers
        The network, and the layers whose maps are kept.
    column
        The class.
    nuclei
        Folder of known nuclei; None finds them.
    names
        Measures that are asked for.
    """

    def __init__(
        self,
        sample: Sample,
        package: ModelPackage,
        level: ModelLevel,
        layers: Sequence[Layer],
        column: int,
        nuclei: Path | None,
        names: Sequence[str],
    ) -> None:
        self._sample, self._package, self.column = sample, package, column
        self._layers, self._names, self._nuclei = list(layers), list(names), nuclei
        self._engine = GradientEngine(level, package, [layer.name for layer in layers])
        self._files = OpenFiles([one.path for one in sample.files], [one.digest for one in sample.files])
        width = sum(layer.shape[0] for layer in layers)
        self.dtype = np.dtype(
            [
                ("values", "<f8", (len(names),)),
                ("probability", "<f4"),
                ("activations", "<f4", (width,)),
                ("gradients", "<f4", (width,)),
            ]
        )
        self._nuclei_of: Callable[[int], Nuclei] = lru_cache(maxsize=2)(self._open_nuclei)
        self._stain_of: Callable[[int], Callable[[RgbArray], RgbArray] | None] = lru_cache(maxsize=2)(self._open_stain)

    def nuclei_files(self) -> list[Path]:
        """The files of known nuclei, by name.

        Raises
        ------
        InputError
            When one is missing or cannot be read.
        """
        if self._nuclei is None or set(self._names) <= WITHOUT_NUCLEI:
            return []
        return sorted({self._nuclei_of(int(file)).path for file in np.unique(self._sample.file)})

    @property
    def counts(self) -> list[int]:
        """Patches of each unit."""
        whole, rest = divmod(len(self._sample), UNIT)
        return [UNIT] * whole + [rest] * (rest > 0)

    def look(self, unit: int) -> npt.NDArray[np.void]:
        """Records of a unit's patches.

        Of one whose own stain cannot be estimated, measures and probability are NaN, and activations say nothing.

        Raises
        ------
        InputError
            When pixels or nuclei cannot be read, or the network's answer is no number.
        """
        first = unit * UNIT
        rows = range(first, min(first + UNIT, len(self._sample)))
        return np.concatenate([self._look_at(row) for row in rows])

    def _look_at(self, row: int) -> npt.NDArray[np.void]:
        sample = self._sample
        file, number = int(sample.file[row]), int(sample.number[row])
        patches = self._files[file]
        pixels = patches.patch(number)
        record = np.zeros(1, self.dtype)
        record["values"] = record["probability"] = np.nan
        normalise = self._stain_of(file)
        try:
            seen = pixels if normalise is None else normalise(pixels)
        except StainError:
            return record
        record["values"] = self._measure(file, number, patches, pixels)
        looked = self._engine.look(seen[np.newaxis], self.column, self._position(patches, number))
        means = [looked.activations[one.name].mean(axis=(2, 3), dtype=np.float64) for one in self._layers]
        sums = [looked.gradients[one.name].sum(axis=(2, 3), dtype=np.float64) for one in self._layers]
        record["probability"] = looked.probabilities[0, self.column]
        record["activations"] = np.concatenate(means, axis=1)
        record["gradients"] = np.concatenate(sums, axis=1)
        for name in ("probability", "activations", "gradients"):
            if not np.isfinite(record[name]).all():
                raise InputError(f"{sample.files[file].path}: of patch {number} the network's {name} are no numbers")
        return record

    def _measure(self, file: int, number: int, patches: OpenPatches, pixels: RgbArray) -> list[float]:
        settings = patches.header.settings
        if set(self._names) <= WITHOUT_NUCLEI:
            labels = np.zeros(pixels.shape[:2], np.int32)
        elif self._nuclei is None:
            labels = find_nuclei(pixels, 1.0 if np.isnan(settings.spacing) else settings.spacing)
        else:
            place = patches.places(number, number + 1)[0]
            corner = (float(place["l0_x"]), float(place["l0_y"]))
            labels = self._nuclei_of(file).window(corner, settings.downsample, settings.size, number)
        found = measure(pixels, labels, settings.spacing)
        return [found[name] for name in self._names]

    def _position(self, patches: OpenPatches, number: int) -> npt.NDArray[np.float32] | None:
        """Middle of a patch over the slide's size, as `Grid.positions` has it."""
        if not self._package.sees_position:
            return None
        place, header = patches.places(number, number + 1)[0], patches.header
        if min(header.slide.l0_size) < 1 or min(place["l0_x"], place["l0_y"]) < 0:
            raise InputError(f"{header.slide.name}: model {self._package.name} is told where a tile lies, and the "
                             "file does not say where its patches do; extract them from the slide")  # fmt: skip
        half = header.settings.size * header.settings.downsample / 2
        middle = np.array([[float(place["l0_x"]) + half, float(place["l0_y"]) + half]])
        return np.asarray(middle / np.array(header.slide.l0_size), np.float32)

    def _open_nuclei(self, file: int) -> Nuclei:
        assert self._nuclei is not None
        slide, path = self._files[file].header.slide, self._sample.files[file].path
        return open_nuclei(self._nuclei, slide.name, slide.l0_size, path)

    def _open_stain(self, file: int) -> Callable[[RgbArray], RgbArray] | None:
        """What normalises the stain of a file's patches: each its own, or the slide's, which its patches say."""
        target = self._package.stain_target
        if target is None:
            return None
        engine = StainEngine(stain_graph(mixes_channels=isinstance(target, ReinhardTarget)))
        if self._package.stain_per == "tile":
            return engine.tile_normaliser(target)
        patches = self._files[file]
        spread = np.unique(np.linspace(0, len(patches) - 1, _STAIN_PATCHES).astype(np.int64))
        pixels = patches.take(spread)[:, ::_STAIN_STEP, ::_STAIN_STEP].reshape(-1, 3)
        try:
            return engine.normaliser(estimate(pixels, target))
        except InputError as error:
            raise InputError(f"{self._sample.files[file].path}: {error}; leave the file out") from error
