"""Labelled tiles of annotated slides."""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import numpy as np

from pyramidai_mpi.analyses.classify import normaliser_of
from pyramidai_mpi.base.odd_levels import INTERPOLATED
from pyramidai_mpi.base.settings import SlideInput
from pyramidai_mpi.base.types import tiles_at
from pyramidai_mpi.models.stain.entry import StainEntry, parse_stain, stain_entry
from pyramidai_mpi.models.stain.map import MacenkoTarget
from pyramidai_mpi.run.opening import open_under, rule_of, segment_slide
from pyramidai_mpi.run.sampling import read_tiles
from pyramidai_mpi.run.stain import estimate_stain, own_stain_engine, stain_of_slide
from pyramidai_mpi.training.exact.random_choices import generator_of
from pyramidai_mpi.training.splits import Case
from pyramidai_mpi.training.tile_store import DrawnTiles, Source
from pyramidai_mpi.truth.labels import label_levels
from pyramidai_mpi.truth.truth import find_annotation, read_truth

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    import numpy.typing as npt

    from pyramidai_mpi.models.package import ModelPackage
    from pyramidai_mpi.ranks.unit_pool import UnitPool
    from pyramidai_mpi.store.patches.origins import Origins


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
    def kind(self) -> str:
        """What tiles are drawn of, in words."""
        return "slides"

    @property
    def in_words(self) -> str:
        """What is positive, for the package's card."""
        return (
            f"A tile is positive when at least {self.min_share:.0%} of its tissue is tumour. "
            f"Stain normalisation: {self.model.stain}{', of each tile' if self.model.stain_per == 'tile' else ''}."
        )

    def sources(self, slides: Sequence[Path]) -> list[Source]:
        """What tiles are drawn of. Looks at the slides' files and their annotations'."""
        return [Source(slide, self._mark(slide)) for slide in slides]

    def draw_one(self, source: Source) -> list[DrawnTiles]:
        """Tiles of a slide, per level: see `per_level.Material`.

        Raises
        ------
        InputError
            When the slide or its truth cannot be used.
        """
        return _draw(source.path, self)

    def _mark(self, slide: Path) -> str:
        """Short hash of what decides which tiles are drawn of a slide, and how they are labelled."""
        model = self.model
        said = find_annotation(self.truth, slide.name) if self.truth.is_dir() else self.truth
        facts = [
            [[str(path.resolve()), path.stat().st_size, path.stat().st_mtime_ns] for path in (slide, said)],
            [self.min_share, self.per_class, self.seed, self.mpp],
            [model.tile_size, model.base_mpp, model.scale_factor, model.n_levels],
        ]
        return hashlib.sha256(json.dumps(facts).encode()).hexdigest()[:12] + self.stain_mark

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
        opened = open_under(SlideInput(slide, self.mpp, odd_levels=INTERPOLATED), self.model)
        try:
            found = stain_of_slide(opened, rule_of(opened, segment_slide(opened)), method)
        finally:
            opened.pyramid.reader.close()
        # as a package's reader will see it
        return self._brought_to(parse_stain(slide, stain_entry(found, per)))

    def _brought_to(self, stain: StainEntry) -> TilePlan:
        model = replace(self.model, stain=stain.method, stain_target=stain.target, stain_per=stain.per)
        return replace(self, model=model)


def holds_tumor(slide: Path, plan: TilePlan) -> bool:
    """Whether the truth of a slide names any tumour.

    Raises
    ------
    InputError
        When slide or truth cannot be used.
    """
    opened = open_under(SlideInput(slide, plan.mpp, odd_levels=INTERPOLATED), plan.model)
    try:
        info = opened.pyramid.reader.info
        truth = read_truth(plan.truth, slide.name, info.l0_size, l0_bounds=info.l0_bounds)
        return bool(truth.coverage((64, 64), max(opened.pyramid.reader.info.l0_size) / 64).any())
    finally:
        opened.pyramid.reader.close()


def cases_of(pool: UnitPool, slides: Sequence[Path], plan: TilePlan, origins: Origins) -> list[Case]:
    """Whose each slide is, where from, and whether it holds tumour. Collective: ranks look at a slide each.

    Raises
    ------
    InputError
        When a slide or its truth cannot be used.
    """

    def look(number: int) -> npt.NDArray[np.bool_]:
        return np.array([holds_tumor(slides[number], plan)])

    has_tumor = pool.rows([1] * len(slides), look, np.bool_).tolist()
    found = [origins.of(slide.name) for slide in slides]
    return [
        Case(slide, f"patient {known['patient']}" if "patient" in known else f"slide {slide}", known.get("centre"), has)
        for slide, known, has in zip(slides, found, has_tumor, strict=True)
    ]


def _draw(slide: Path, plan: TilePlan) -> list[DrawnTiles]:
    """Drawn tiles of one slide, per level."""
    opened = open_under(SlideInput(slide, plan.mpp, odd_levels=INTERPOLATED), plan.model)
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
            rng = generator_of(plan.seed, f"tiles of {slide.name}", level)
            chosen = np.sort(
                np.concatenate([rng.permutation(np.flatnonzero(positive == kind))[: plan.per_class] for kind in (0, 1)])
            )
            pixels, readable = read_tiles(opened.pyramid, tiles_at(level, index[level][chosen]), normalise)
            kept = chosen[readable]
            position = rule.grid.positions(level, rule.grid.corners(level, index[level][kept]))
            drawn.append(DrawnTiles(pixels, positive[kept].astype(bool), position))
        return drawn
    finally:
        opened.pyramid.reader.close()
