"""Opening slides: laying a model's levels over a slide, finding its tissue, telling the other ranks of it."""

from __future__ import annotations

import logging
from dataclasses import replace
from typing import TYPE_CHECKING

from pyramidai_mpi.analyses.base import OpenSlide
from pyramidai_mpi.base.errors import InputError, input_errors
from pyramidai_mpi.process.host import host_name
from pyramidai_mpi.pyramid.rule import TileRule
from pyramidai_mpi.pyramid.tissue import TissueMap, TissueSource, mask_downsample, mask_pixels_per_tile
from pyramidai_mpi.ranks.collectives import other_files
from pyramidai_mpi.run.pool.messages import SlideDescription
from pyramidai_mpi.run.stain import estimate_stain
from pyramidai_mpi.run.tissue_network import method_of, tissue_by_network
from pyramidai_mpi.slides.identity import slide_quickhash
from pyramidai_mpi.slides.pyramid import SlidePyramid
from pyramidai_mpi.slides.readers.base import ClosedReader
from pyramidai_mpi.slides.readers.choice import open_slide
from pyramidai_mpi.slides.readers.trial import try_opening

if TYPE_CHECKING:
    from collections.abc import Callable

    import numpy as np
    import numpy.typing as npt

    from pyramidai_mpi.base.settings import SlideInput
    from pyramidai_mpi.models.package import ModelPackage
    from pyramidai_mpi.pyramid.run_levels import RunLevels
    from pyramidai_mpi.slides.readers.base import SlideInfo, SlideReader

log = logging.getLogger(__name__)


def open_under(
    source: SlideInput, package: ModelPackage, known: SlideInfo | None = None, levels: RunLevels | None = None
) -> OpenSlide:
    """Open a slide under a model's levels.

    Parameters
    ----------
    source, package
        The slide and the model.
    known
        Description of the slide by another rank.
    levels
        Of the run; None for those of the model.

    Raises
    ------
    InputError
        When the slide cannot be opened, does not tell its pixel size, or is too coarse for the model.
    """
    reader = open_slide(source.path, source.reader, known=known, odd_levels=source.odd_levels)
    mpp = package.base_mpp if source.levels == "scale" else source.mpp or reader.info.mpp
    if mpp is None:
        raise InputError(
            f"{source.path}: {reader.info.mpp_flaw or 'does not say how large its pixels are'}; give µm per pixel with "
            "--mpp, or take them as the model's level 0 with --levels scale"
        )
    with input_errors(source.path):
        slide_hash = slide_quickhash(source.path)
    return lay_under(reader, source, package, mpp, slide_hash, levels)


def lay_under(
    reader: SlideReader,
    source: SlideInput,
    package: ModelPackage,
    mpp: float,
    slide_hash: str,
    levels: RunLevels | None = None,
) -> OpenSlide:
    """Lay the levels of a run, or of a model, over a slide that is open, or known from elsewhere.

    Raises
    ------
    InputError
        When the slide is too coarse for the model.
    """
    pyramid = SlidePyramid.build(
        reader,
        mpp,
        tile_size=package.tile_size,
        base_mpp=package.base_mpp,
        scale_factor=package.scale_factor,
        n_levels=package.n_levels,
        allow_upsampling=source.allow_upsampling,
        levels=levels,
    )
    tile_stain = package.stain_target if package.stain_per == "tile" else None
    return OpenSlide(source, pyramid, mpp, slide_hash, tile_stain=tile_stain)


def describe(
    source: SlideInput, package: ModelPackage, levels: RunLevels | None = None
) -> tuple[OpenSlide, TileRule, SlideDescription]:
    """Open a slide that no rank has opened before, after a child process has survived that, and find its tissue.

    Raises
    ------
    InputError
        When it cannot be used as it is.
    """
    with try_opening(source.path, source.reader, source.odd_levels) as trial:
        trial.check()
    slide = open_under(source, package, levels=levels)
    mask, mask_source = tissue_of(slide)
    rule = rule_of(slide, mask, mask_source)
    slide = estimate_stain(slide, rule.whole(), package)
    info = slide.pyramid.reader.info
    return slide, rule, SlideDescription(info, slide.quickhash, slide.mpp, host_name(), mask, slide.stain, mask_source)


def follow(
    source: SlideInput, package: ModelPackage, description: SlideDescription, levels: RunLevels | None = None
) -> tuple[OpenSlide, TileRule]:
    """Open a slide that another rank has described.

    Raises
    ------
    InputError
        When this host cannot open it, or sees another file.
    """
    slide = open_as_described(source, description, lambda info: open_under(source, package, info, levels))
    return replace(slide, stain=description.stain), rule_of(slide, description.mask, description.source)


def open_as_described(
    source: SlideInput, description: SlideDescription, open_known: Callable[[SlideInfo], OpenSlide]
) -> OpenSlide:
    """Open what another rank has described, and see that it is the same slide.

    Raises
    ------
    InputError
        When this host cannot open it, or sees another file.
    """
    try:
        slide = open_known(description.info)
    except InputError as error:
        raise InputError(f"{error} on host {host_name()}, though host {description.host} could open it") from error
    if (slide.quickhash, slide.mpp) != (description.quickhash, description.mpp):
        slide.pyramid.reader.close()
        raise other_files(f"{source.path}: the slide", description.host)
    return slide


def known_from(
    source: SlideInput, package: ModelPackage, description: SlideDescription, levels: RunLevels | None = None
) -> tuple[OpenSlide, TileRule]:
    """A slide as another rank has described it, for a rank that reads no pixels of it."""
    reader = ClosedReader(replace(description.info, path=source.path))
    slide = lay_under(reader, source, package, description.mpp, description.quickhash, levels)
    return replace(slide, stain=description.stain), rule_of(slide, description.mask, description.source)


def tissue_of(slide: OpenSlide) -> tuple[npt.NDArray[np.bool_], TissueSource]:
    """Tissue mask of a slide, bool (H, W), within what the run's regions allow, and how it came about.

    Raises
    ------
    InputError
        When a file of regions cannot be used.
    """
    source = slide.source
    if not source.regions.given:
        return segment_slide(slide), TissueSource(method_of(source))
    # loads shapely, which ranks that open no slide then need not
    from pyramidai_mpi.run.regions import RegionFiles

    files = RegionFiles.find(source)
    mask = files.mask(slide.pyramid.reader.info, mask_downsample(slide.pyramid.grid), lambda: segment_slide(slide))
    if mask.any() and not len(rule_of(slide, mask).whole().roots()):
        log.warning(
            "%s: holds tissue within the regions given, but less than %g of any tile of the lowest resolution; "
            "--min-tissue 0 looks at it",
            source.path,
            source.min_tissue,
        )
    return mask, files.source()


def segment_slide(slide: OpenSlide) -> npt.NDArray[np.bool_]:
    """Tissue mask of a slide, bool (H, W)."""
    return find_tissue(slide.pyramid.reader, slide.source, slide.mpp, mask_downsample(slide.pyramid.grid))


def find_tissue(reader: SlideReader, source: SlideInput, mpp: float, downsample: float) -> npt.NDArray[np.bool_]:
    """Tissue of an open slide by the method or network that is asked for, bool (H, W).

    Parameters
    ----------
    mpp
        µm per level-0 pixel.
    downsample
        Level-0 pixels per pixel of the mask.

    Raises
    ------
    InputError
        The network cannot be used.
    """
    if source.tissue_network is not None:
        return tissue_by_network(reader, source, mpp, downsample)
    # loads SciPy's filters, which ranks that segment nothing then need not
    from pyramidai_mpi.slides.segmentation import Segmentation, tissue_of_slide

    return tissue_of_slide(reader, Segmentation(source.tissue, source.tissue_limit), downsample, mpp)


def rule_of(slide: OpenSlide, mask: npt.NDArray[np.bool_], source: TissueSource | None = None) -> TileRule:
    """Which tiles of a slide, or of the part of it that is asked for, exist, from its tissue mask."""
    grid = slide.pyramid.grid
    tissue = TissueMap(grid, mask, mask_pixels_per_tile(grid), source or TissueSource())
    return TileRule(tissue, slide.source.min_tissue, part=slide.source.part)
