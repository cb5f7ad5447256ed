"""Opening slides for patches: laying a grid of cells over a slide, finding its tissue, drawing cells."""

from __future__ import annotations

import json
import logging
from dataclasses import replace
from math import isnan, nan
from typing import TYPE_CHECKING

import numpy as np

from pyramidai_mpi.analyses.base import OpenSlide
from pyramidai_mpi.analyses.extract import DECODED, pixels_of
from pyramidai_mpi.base.errors import InputError, UsageError, input_errors
from pyramidai_mpi.base.patch_order import LABELS
from pyramidai_mpi.process.host import host_name
from pyramidai_mpi.pyramid.cells import CellMarks, CellRule
from pyramidai_mpi.pyramid.grid import Grid, GridLevel
from pyramidai_mpi.pyramid.tissue import CELL_ROLES, REGION_ROLES, TissueMap, mask_pixels_per_tile
from pyramidai_mpi.run.cell_marks import files_of_cells, marks_of
from pyramidai_mpi.run.deciding import facts_of_slide, mask_hash, part_facts, versions_of
from pyramidai_mpi.run.facts import Fact, Kind
from pyramidai_mpi.run.opening import open_as_described, tissue_of
from pyramidai_mpi.run.pool.messages import SlideDescription
from pyramidai_mpi.slides.encoded_tiles import EncodedTiles, TilesNotKeptError
from pyramidai_mpi.slides.identity import slide_quickhash
from pyramidai_mpi.slides.pyramid import SlidePyramid
from pyramidai_mpi.slides.readers.base import ClosedReader
from pyramidai_mpi.slides.readers.choice import open_slide
from pyramidai_mpi.slides.readers.trial import try_opening
from pyramidai_mpi.slides.spacing import MOST_SOURCE_PIXELS, UPSAMPLING_TOLERANCE, LevelPlan, overruled, plan_levels
from pyramidai_mpi.store.patches.record import ORIGINS, PatchSettings

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    import numpy.typing as npt

    from pyramidai_mpi.base.patch_order import PatchOrder
    from pyramidai_mpi.base.settings import SlideInput
    from pyramidai_mpi.pyramid.tissue import RegionFile, TissueSource
    from pyramidai_mpi.run.facts import Facts
    from pyramidai_mpi.slides.readers.base import SlideInfo, SlideReader

log = logging.getLogger(__name__)


def open_cells(source: SlideInput, order: PatchOrder, known: SlideInfo | None = None) -> OpenSlide:
    """Open a slide under a grid of cells.

    Parameters
    ----------
    source, order
        The slide, and what is asked of it.
    known
        Description of the slide by another rank.

    Raises
    ------
    InputError
        When it cannot be opened, does not tell its pixel size, or has no such level.
    """
    reader = open_slide(source.path, source.reader, known=known, odd_levels=source.odd_levels)
    try:
        mpp = source.mpp or reader.info.mpp
        if mpp is None:
            raise InputError(
                f"{source.path}: {reader.info.mpp_flaw or 'does not say how large its pixels are'}; give µm per "
                "level-0 pixel with --slide-mpp"
            )
        with input_errors(source.path):
            slide_hash = slide_quickhash(source.path)
        return lay_cells(reader, source, order, mpp, slide_hash)
    except BaseException:
        reader.close()
        raise


def lay_cells(reader: SlideReader, source: SlideInput, order: PatchOrder, mpp: float, slide_hash: str) -> OpenSlide:
    """Lay a grid of cells over a slide that is open, or known from elsewhere.

    Raises
    ------
    InputError
        When it has no such level, or none that is fine enough.
    """
    plan = _plan(reader.info, order, mpp)
    if order.size * plan.ratio > MOST_SOURCE_PIXELS:
        raise InputError(
            f"{source.path}: a patch takes {order.size * plan.ratio:.0f} of its pixels a side, each {mpp:g} µm; ask "
            "for finer or smaller patches, or give the right µm/px with --slide-mpp"
        )
    grid = Grid(*reader.info.l0_size, order.size, (GridLevel(plan.downsample, order.stride),))
    return OpenSlide(source, SlidePyramid(reader, grid, (plan,)), mpp, slide_hash)


def _plan(info: SlideInfo, order: PatchOrder, mpp: float) -> LevelPlan:
    if order.level is not None:
        n = len(info.stored_downsamples)
        if order.level >= n:
            raise InputError(f"{info.path}: has no stored level {order.level}; --level 0 to {n - 1}, or --mpp")
        downsample = info.stored_downsamples[order.level]
        return LevelPlan(0, mpp * downsample, order.level, downsample, 1.0)
    assert order.mpp is not None
    if mpp / order.mpp > 1 + UPSAMPLING_TOLERANCE:
        raise InputError(
            f"{info.path}: its finest pixels are {mpp:g} µm, coarser than --mpp {order.mpp:g}; ask for that or "
            "more, or give the right µm/px with --slide-mpp"
        )
    (plan,) = plan_levels(
        info.stored_downsamples,
        mpp,
        base_mpp=order.mpp,
        scale_factor=2,
        n_levels=1,
        stored_exact=info.stored_exact,
        allow_upsampling=True,
        name=str(info.path),
    )
    return plan


def describe_cells(source: SlideInput, order: PatchOrder) -> tuple[OpenSlide, CellRule, SlideDescription]:
    """Open a slide that no rank has opened before, after a child process has survived that, and find its tissue.

    Raises
    ------
    InputError
        When it cannot be used as it is.
    """
    with try_opening(source.path, source.reader, source.odd_levels) as trial:
        trial.check()
    slide = open_cells(source, order)
    if said := overruled(slide.pyramid.reader.info.mpp, source.mpp):
        log.warning("%s: %s", source.path, said)
    try:
        mask, mask_source = tissue_of(slide)
        mask_source = with_files(mask_source, files_of_cells(source.path, order))
        marks = marks_of(slide, order, tissue_map_of(slide, mask, mask_source))
        rule = rule_of_cells(slide, order, mask, mask_source, marks)
        if order.pixels == "stored":
            index = np.argwhere(rule.candidates())[:, ::-1]  # also of other parts, which have to find the same
            slide = replace(slide, raw_because=obstacle_to_keeping(slide, order, index))
    except BaseException:
        slide.pyramid.reader.close()
        raise
    info = slide.pyramid.reader.info
    description = SlideDescription(
        info=info,
        quickhash=slide.quickhash,
        mpp=slide.mpp,
        host=host_name(),
        mask=mask,
        source=mask_source,
        marks=marks,
        raw_because=slide.raw_because,
    )
    return slide, rule, description


def obstacle_to_keeping(slide: OpenSlide, order: PatchOrder, index: npt.NDArray[np.integer]) -> str:
    """Why the stored tiles under the windows of cells (N, 2) cannot be kept as they are encoded; empty where they can.

    What is true of single tiles, such as that one is missing, is no such reason.
    """
    try:
        tiles = EncodedTiles(slide.pyramid)
        corners = slide.pyramid.grid.corners(0, index)
        tiles.check(tiles.stored.mosaic.tiles_in_any(*tiles.spans(corners, order.size)))
    except TilesNotKeptError as error:
        return error.why
    return ""


def follow_cells(source: SlideInput, order: PatchOrder, description: SlideDescription) -> tuple[OpenSlide, CellRule]:
    """Open a slide that another rank has described.

    Raises
    ------
    InputError
        When this host cannot open it, or sees another file.
    """
    slide = open_as_described(source, description, lambda info: open_cells(source, order, info))
    slide = replace(slide, raw_because=description.raw_because)
    return slide, rule_of_cells(slide, order, description.mask, description.source, description.marks)


def known_cells(source: SlideInput, order: PatchOrder, description: SlideDescription) -> tuple[OpenSlide, CellRule]:
    """A slide as another rank has described it, for a rank that reads no pixels of it."""
    reader = ClosedReader(replace(description.info, path=source.path))
    slide = lay_cells(reader, source, order, description.mpp, description.quickhash)
    slide = replace(slide, raw_because=description.raw_because)
    return slide, rule_of_cells(slide, order, description.mask, description.source, description.marks)


def rule_of_cells(
    slide: OpenSlide,
    order: PatchOrder,
    mask: npt.NDArray[np.bool_],
    source: TissueSource,
    marks: CellMarks | None = None,
) -> CellRule:
    """Which cells of a slide exist.

    Raises
    ------
    UsageError
        When a part of a slide is to say what only the whole slide can.
    """
    only, part = order.labels.only, slide.source.part
    if part is not None and order.n_random is not None and order.limits.given:
        raise UsageError(
            f"--part {part}: --sample {order.sample} with limits on pixels takes the first that pass of a whole slide; "
            "leave out the limits, or the part"
        )
    return CellRule(
        tissue_map_of(slide, mask, source),
        slide.source.min_tissue,
        order.n_random,
        order.seed,
        slide.quickhash,
        marks or CellMarks(),
        None if only is None else LABELS.index(only),
        order.limits.given,
        part=part,
    )


def tissue_map_of(slide: OpenSlide, mask: npt.NDArray[np.bool_], source: TissueSource) -> TissueMap:
    """Tissue of the cells of a slide, from its mask."""
    grid = slide.pyramid.grid
    return TissueMap(grid, mask, mask_pixels_per_tile(grid), source)


def with_files(source: TissueSource, files: Sequence[RegionFile]) -> TissueSource:
    """The same with more files that have a say."""
    return replace(source, files=(*source.files, *files))


def settings_of(slide: OpenSlide, order: PatchOrder, source: TissueSource) -> PatchSettings:
    """What decides which patches there are, for their file."""
    (plan,) = slide.pyramid.plans
    labels, limits = order.labels, order.limits
    is_labelled = labels.truth is not None
    return PatchSettings(
        size=order.size,
        stride=order.stride,
        asked_mpp=nan if order.mpp is None else float(order.mpp),
        asked_level=-1 if order.level is None else order.level,
        spacing=float(plan.spacing),
        downsample=float(plan.downsample),
        stored_level=plan.stored_level,
        stored_downsample=float(plan.stored_downsample),
        ratio=float(plan.ratio),
        n_random=order.n_random or 0,
        seed=order.seed if order.n_random else 0,
        min_tissue=float(slide.source.min_tissue),
        tissue_method=source.method,
        regions=json.dumps({file.role: file.sha256 for file in source.files}, sort_keys=True),
        pixels=pixels_of(slide, order),
        group=order.group,
        jpeg_quality=order.jpeg_quality,
        labels=json.dumps(LABELS if is_labelled else ()),
        tumor_share=float(labels.tumor_share) if is_labelled else nan,
        normal_share=float(labels.normal_share) if is_labelled else nan,
        max_white=nan if limits.max_white is None else float(limits.max_white),
        white_level=limits.white_level,
        max_black=nan if limits.max_black is None else float(limits.max_black),
        is_measured=int(order.measures or pixels_of(slide, order) in DECODED),
        only_label=labels.only or "",
        above=nan if order.places.above is None else float(order.places.above),
    )


def facts_of_cells(
    slide: OpenSlide,
    order: PatchOrder,
    source: TissueSource,
    mask: npt.NDArray[np.bool_] | None,
    origin: Mapping[str, str],
) -> Facts:
    """What decides the patches of a slide, and what is said of it; without a mask, as known before the work."""
    settings = settings_of(slide, order, source)
    values = values_of_cells(settings, origin)
    facts = [
        *facts_of_slide(slide, source),
        *(Fact(name, words, values[name], Kind.SETTING, has_own_place=True) for name, words in _ASKED.items()),
        *(Fact(_hash_name(role), f"--{role}", values[_hash_name(role)], Kind.SLIDE, True) for role in CELL_ROLES),
        *part_facts(slide.source),
        *versions_of(slide, source, ["imagecodecs"] if settings.pixels == "jpeg" else []),
    ]
    if mask is not None:
        facts.append(Fact("mask_sha256", "tissue that was found", mask_hash(mask), Kind.SLIDE, has_own_place=True))
    return tuple(facts)


_ASKED = {
    "size": "--size",
    "stride": "--stride",
    "spacing": "µm/px of the patches",
    "asked_level": "--level",
    "sample": "--sample",
    "min_tissue": "least tissue share",
    "pixels": "--pixels",
    "group": "--group",
    "limits": "limits on pixels",
    "shares": "shares of tumour for labels",
    "only_label": "--only-label",
    "above": "--above",
    "origin": "origin",
}


def values_of_cells(settings: PatchSettings, origin: Mapping[str, str]) -> dict[str, object]:
    """Values of the facts that settings and origin of a file of patches say."""
    names = ("size", "stride", "spacing", "asked_level", "min_tissue", "group", "only_label")
    hashes = json.loads(settings.regions)
    measured = f"white above {settings.white_level}" if settings.is_measured else ""
    limits = [
        f"{name} up to {limit:g}"
        for name, limit in (("white", settings.max_white), ("black", settings.max_black))
        if not isnan(limit)
    ]
    return {
        **{name: getattr(settings, name) for name in names},
        **{_hash_name(role): hashes.get(role, "") for role in (*REGION_ROLES, *CELL_ROLES)},
        "sample": f"{settings.sample}, seed {settings.seed}" if settings.n_random else settings.sample,
        "limits": ", ".join([measured, *limits] if measured else limits),
        "shares": f"{settings.tumor_share!r} and {settings.normal_share!r}" if settings.label_names else "",
        "above": "" if isnan(settings.above) else settings.above,
        "origin": ", ".join(f"{name} {origin[name]}" for name in ORIGINS if name in origin),
        "tissue_method": settings.tissue_method,
        "pixels": settings.kept_pixels,
    }


def _hash_name(role: str) -> str:
    return f"{role}_file_sha256"
