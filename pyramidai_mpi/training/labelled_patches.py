"""Labelled tiles of annotated slides: split by slide, balanced between classes, kept on disk."""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass, replace
from enum import StrEnum
from typing import TYPE_CHECKING, TypeVar

import numpy as np

from pyramidai_mpi.analyses.classify import normaliser_of
from pyramidai_mpi.base.errors import InputError, StorageError, UsageError
from pyramidai_mpi.base.settings import SlideInput
from pyramidai_mpi.base.types import tiles_at
from pyramidai_mpi.models.stain.entry import StainEntry, parse_stain, stain_entry
from pyramidai_mpi.models.stain.map import MacenkoTarget
from pyramidai_mpi.run.opening import open_under, rule_of, segment_slide
from pyramidai_mpi.run.sampling import read_tiles
from pyramidai_mpi.run.stain import estimate_stain, own_stain_engine, stain_of_slide
from pyramidai_mpi.truth.labels import label_levels
from pyramidai_mpi.truth.truth import read_truth

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence
    from pathlib import Path

    import numpy.typing as npt

    from pyramidai_mpi.base.types import RgbArray
    from pyramidai_mpi.models.package import ModelPackage


class Split(StrEnum):
    """What a slide is used for."""

    TRAIN = "train"
    VALIDATION = "validation"
    TEST = "test"


@dataclass(frozen=True)
class LabelledTiles:
    """Tiles of one level and split.

    Attributes
    ----------
    pixels
        uint8 (N, T, T, 3), mapped from disk.
    positive
        bool (N,), whether the tile is tumour.
    mark
        Short hash of the slides, truth and plan that they were drawn by.
    """

    pixels: RgbArray
    positive: npt.NDArray[np.bool_]
    mark: str = ""

    def __len__(self) -> int:
        return len(self.positive)


@dataclass(frozen=True)
class TilePlan:
    """Which tiles are drawn.

    Attributes
    ----------
    model
        Tile size, spacings, levels and stain normalisation; its networks are not used.
    truth
        Folder or file of annotations.
    min_share
        Share of a tile's tissue that must be tumour for it to be positive.
    per_class
        Most tiles of each class, level and slide.
    seed
        Seed of the choice of tiles.
    mpp
        µm per level-0 pixel, for slides that do not say.
    """

    model: ModelPackage
    truth: Path
    min_share: float
    per_class: int
    seed: int
    mpp: float | None = None

    @property
    def in_words(self) -> str:
        """What is positive, for the package's card."""
        return (
            f"A tile is positive when at least {self.min_share:.0%} of its tissue is tumour. "
            f"Stain normalisation: {self.model.stain}{', of each tile' if self.model.stain_per == 'tile' else ''}."
        )

    def draw(
        self, slides: Sequence[Path], split: Split, folder: Path, progress: Callable[[Path], None] | None = None
    ) -> list[LabelledTiles]:
        """See `draw_split`."""
        return draw_split(slides, self, split, folder, progress)

    @property
    def stain_mark(self) -> str:
        """For names of files that depend on how stain is normalised; empty where it is not."""
        target = self.model.stain_target
        digest = hashlib.sha256(json.dumps(stain_entry(target, self.model.stain_per)).encode()).hexdigest()
        return "" if target is None else f"-{self.model.stain}-{digest[:8]}"

    def with_stain(self, method: str, target: Path | None, first: Path, per: str = "slide") -> TilePlan:
        """The plan with tiles of normalised stain.

        Parameters
        ----------
        method
            ``macenko`` or ``reinhard``.
        target
            The slide whose colours all are brought to. None takes `first` for Reinhard's method, and the colours of
            Macenko's own implementation for his.
        first
            A training slide.
        per
            Whose stain is normalised: ``slide``, or ``tile``, each tile's own.

        Raises
        ------
        InputError
            When that slide's colours cannot be told.
        """
        if target is None and method == "macenko":
            return self._brought_to(StainEntry(method, MacenkoTarget(), per))
        slide = target or first
        opened = open_under(SlideInput(slide, self.mpp), self.model)
        try:
            found = stain_of_slide(opened, rule_of(opened, segment_slide(opened)), method)
        finally:
            opened.pyramid.reader.close()
        # as a package's reader will see it
        return self._brought_to(parse_stain(slide, stain_entry(found, per)))

    def _brought_to(self, stain: StainEntry) -> TilePlan:
        model = replace(self.model, stain=stain.method, stain_target=stain.target, stain_per=stain.per)
        return replace(self, model=model)


Slide = TypeVar("Slide")


def split_slides(
    slides: Sequence[Slide],
    has_tumor: Sequence[bool],
    seed: int,
    shares: tuple[float, float] = (0.6, 0.2),
    *,
    what: str = "slides with tumour",
    advice: str = "give more",
) -> dict[Split, list[Slide]]:
    """Deal slides, or whatever goes into one split, to training, validation and test, with and without tumour apart.

    Parameters
    ----------
    slides, has_tumor
        The slides, and whether each holds tumour.
    seed
        Seed of the shuffling.
    shares
        Shares of the slides that train and that validate; the rest tests.
    what
        What those with tumour are called in the error.
    advice
        What to do about too few, for the error.

    Raises
    ------
    UsageError
        With fewer than three slides with tumour: each split needs one.
    """
    if sum(has_tumor) < 3:
        raise UsageError(f"{sum(has_tumor)} {what}: training, validation and test need one each; {advice}")
    split: dict[Split, list[Slide]] = {kind: [] for kind in Split}
    rng = np.random.default_rng(seed)
    for wanted in (True, False):
        group = [slide for slide, tumor in zip(slides, has_tumor, strict=True) if tumor == wanted]
        group = [group[i] for i in rng.permutation(len(group))]
        validation = max(round(shares[1] * len(group)), min(1, len(group) // 3))
        test = max(round((1 - sum(shares)) * len(group)), min(1, len(group) // 3))
        split[Split.VALIDATION] += group[:validation]
        split[Split.TEST] += group[validation : validation + test]
        split[Split.TRAIN] += group[validation + test :]
    return split


def holds_tumor(slide: Path, plan: TilePlan) -> bool:
    """Whether the truth of a slide names any tumour.

    Raises
    ------
    InputError
        When slide or truth cannot be used.
    """
    opened = open_under(SlideInput(slide, plan.mpp), plan.model)
    try:
        info = opened.pyramid.reader.info
        truth = read_truth(plan.truth, slide.name, info.l0_size, l0_bounds=info.l0_bounds)
        return bool(truth.coverage((64, 64), max(opened.pyramid.reader.info.l0_size) / 64).any())
    finally:
        opened.pyramid.reader.close()


def draw_split(
    slides: Sequence[Path], plan: TilePlan, split: Split, folder: Path, progress: Callable[[Path], None] | None = None
) -> list[LabelledTiles]:
    """Tiles of a split for every level, level 0 first, equally many of both classes; read once, then kept in `folder`.

    Raises
    ------
    InputError
        When a slide cannot be read, or a class has no tiles at some level.
    """
    tag = _tag(slides, plan)
    paths = [folder / f"{split}-level{level}-{tag}" for level in range(plan.model.n_levels)]
    if not all(path.with_suffix(".npz").exists() for path in paths):
        parts: list[list[tuple[RgbArray, npt.NDArray[np.bool_]]]] = [[] for _ in paths]
        for number, slide in enumerate(slides):
            for level, drawn in enumerate(_draw(slide, number, plan)):
                parts[level].append(drawn)
            if progress is not None:
                progress(slide)
        for level, (path, found) in enumerate(zip(paths, parts, strict=True)):
            pixels = np.concatenate([part[0] for part in found])
            positive = np.concatenate([part[1] for part in found])
            kept = balanced(positive, np.random.default_rng([plan.seed, level]))
            if not len(kept):
                raise InputError(
                    f"no tile of one of the classes at level {level} on the {split} slides; give more annotated slides"
                )
            keep_tiles(path, [pixels[kept]], positive[kept])
    return [kept_tiles(path, tag) for path in paths]


def _draw(slide: Path, number: int, plan: TilePlan) -> list[tuple[RgbArray, npt.NDArray[np.bool_]]]:
    """Pixels and labels of the drawn tiles of one slide, per level."""
    opened = open_under(SlideInput(slide, plan.mpp), plan.model)
    try:
        rule = rule_of(opened, segment_slide(opened))
        normalise = normaliser_of(estimate_stain(opened, rule, plan.model), own_stain_engine(plan.model))
        mask, tissue = rule.tissue.mask, rule.tissue
        info = opened.pyramid.reader.info
        truth = read_truth(plan.truth, slide.name, info.l0_size, l0_bounds=info.l0_bounds)
        step = rule.grid.l0_side(0) / tissue.pixels_per_tile
        covered = truth.coverage((mask.shape[0], mask.shape[1]), step)
        tiles = [rule.roots()]
        for _ in range(plan.model.n_levels - 1):
            tiles.insert(0, rule.children(tiles[0]))
        index = [np.stack([level["col"], level["row"]], axis=1).astype(np.int64) for level in tiles]
        labels = label_levels(tissue, covered, index, plan.min_share)
        drawn = []
        for level, positive in enumerate(labels):
            rng = np.random.default_rng([plan.seed, number, level])
            chosen = np.sort(
                np.concatenate([rng.permutation(np.flatnonzero(positive == kind))[: plan.per_class] for kind in (0, 1)])
            )
            pixels, readable = read_tiles(opened.pyramid, tiles_at(level, index[level][chosen]), normalise)
            drawn.append((pixels, positive[chosen][readable]))
        return drawn
    finally:
        opened.pyramid.reader.close()


def balanced(positive: npt.NDArray[np.bool_], rng: np.random.Generator) -> npt.NDArray[np.int64]:
    """Rows with equally many of both classes, in order."""
    classes = [np.flatnonzero(positive), np.flatnonzero(~positive)]
    n = min(len(rows) for rows in classes)
    return np.sort(np.concatenate([rng.permutation(rows)[:n] for rows in classes]))


def kept_tiles(path: Path, mark: str) -> LabelledTiles:
    """Tiles that `keep_tiles` has written."""
    pixels = np.load(path.with_suffix(".npy"), mmap_mode="r")
    return LabelledTiles(pixels, np.load(path.with_suffix(".npz"))["positive"], mark)


def keep_tiles(path: Path, blocks: Iterable[RgbArray], positive: npt.NDArray[np.bool_]) -> None:
    """Write pixels, then labels: the labels' file says that both are whole.

    Parameters
    ----------
    path
        Of both, without ending.
    blocks
        Pixels, uint8 (n, T, T, 3) each, of all N tiles together.
    positive
        bool (N,).

    Raises
    ------
    StorageError
        When they cannot be written.
    """
    try:
        # not through a mapped file: of a full disk that would be a signal, and no error
        with path.with_suffix(".npy").open("wb") as file:
            for number, block in enumerate(blocks):
                if number == 0:
                    said = {"descr": "|u1", "fortran_order": False, "shape": (len(positive), *block.shape[1:])}
                    np.lib.format.write_array_header_1_0(file, said)
                file.write(np.ascontiguousarray(block).data)
        partial = path.with_name(f"partial-{path.name}.npz")
        np.savez(partial, positive=positive)
        partial.replace(path.with_suffix(".npz"))
    except OSError as error:
        raise StorageError(f"{path.parent}: cannot keep tiles: {error.strerror or error}; make room") from error


def _tag(slides: Sequence[Path], plan: TilePlan) -> str:
    """Short hash of what decides which tiles are drawn."""
    model = plan.model
    facts = [
        [[str(slide.resolve()), slide.stat().st_size, slide.stat().st_mtime_ns] for slide in slides],
        [str(plan.truth.resolve()), plan.min_share, plan.per_class, plan.seed, plan.mpp],
        [model.tile_size, model.base_mpp, model.scale_factor, model.n_levels],
    ]
    return hashlib.sha256(json.dumps(facts).encode()).hexdigest()[:12] + plan.stain_mark
