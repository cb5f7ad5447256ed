"""Preparing a run: every rank opens slide and model for itself, and all agree that they hold the same."""

from __future__ import annotations

import hashlib
import json
import logging
from contextlib import nullcontext
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from pyramidai_mpi.analyses.classify import Analyser
from pyramidai_mpi.base.errors import InputError, PyramidError, input_errors
from pyramidai_mpi.process.host import host_name
from pyramidai_mpi.pyramid.rule import TileRule
from pyramidai_mpi.pyramid.tissue import (
    TissueMap,
    TissueSource,
    mask_downsample,
    mask_pixels_per_tile,
    pack_mask,
    unpack_mask,
)
from pyramidai_mpi.ranks.collectives import agree, agree_on, on_rank0, other_files, share_bytes
from pyramidai_mpi.run.networks import agree_on_package
from pyramidai_mpi.slides.identity import FullHash, quickhash
from pyramidai_mpi.slides.pyramid import SlidePyramid, read_thumbnail
from pyramidai_mpi.slides.readers.choice import open_slide
from pyramidai_mpi.slides.readers.trial import try_opening
from pyramidai_mpi.store.files.placing import check_target

if TYPE_CHECKING:
    from collections.abc import Sequence

    import numpy as np
    import numpy.typing as npt
    from mpi4py import MPI

    from pyramidai_mpi.base.settings import RunSettings
    from pyramidai_mpi.models.engines.base import Engine
    from pyramidai_mpi.models.package import ModelPackage
    from pyramidai_mpi.models.stain.engine import Normaliser, StainEngine
    from pyramidai_mpi.models.stain.map import StainMap
    from pyramidai_mpi.slides.readers.base import SlideReader

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Job:
    """What a rank holds before the first tile.

    Attributes
    ----------
    settings
        As given.
    package
        The model.
    thresholds
        In force, level 0 first.
    pyramid
        The slide under the model.
    mpp
        µm per level-0 pixel.
    quickhash
        Of the slide.
    stain
        How its stain is normalised; None does nothing.
    full_hash
        Of the slide, where it was begun; None elsewhere.
    """

    settings: RunSettings
    package: ModelPackage
    thresholds: tuple[float, ...]
    pyramid: SlidePyramid
    mpp: float
    quickhash: str
    stain: StainMap | None = None
    full_hash: FullHash | None = None

    def fingerprint(self) -> bytes:
        """Hash of all that decides the result beside the model, for comparison between ranks."""
        facts = [self.quickhash, self.mpp, self.settings.mode, self.settings.slide.min_tissue]
        return hashlib.sha256(json.dumps(facts).encode()).digest()


def prepare_job(comm: MPI.Intracomm, settings: RunSettings) -> Job:
    """Read the model's description and open the slide, on all ranks. Collective.

    Raises
    ------
    PyramidError
        The same on all ranks: bad slide or model, or a rank that sees other files.
    """
    job, error = None, None
    # the other ranks load no file that rank 0 has not seen a child survive
    with try_opening(settings.slide.path, settings.slide.reader) if comm.rank == 0 else nullcontext() as trial:
        package = agree_on_package(comm, settings)
        try:
            if trial is not None:
                trial.check()
        except PyramidError as caught:
            error = caught
    agree(comm, error)
    try:
        job = open_job(settings, package)
    except PyramidError as caught:
        error = caught
    agree(comm, error)
    assert job is not None
    agree_on(comm, job.fingerprint(), f"{settings.slide.path}: the slide")
    return replace(job, full_hash=FullHash(settings.slide.path)) if settings.slide.sha256 and comm.rank == 0 else job


def check_settings_target(settings: RunSettings, *, overwrite: bool) -> None:
    """Find out before the work whether the result could be placed after it, and would not replace its own input."""
    inputs = [settings.slide.path, settings.model.path, *settings.slide.regions.paths().values()]
    check_target(settings.output.path, overwrite=overwrite, inputs=inputs)


def open_job(settings: RunSettings, package: ModelPackage) -> Job:
    """Open the slide of a run under a model. Not collective.

    Raises
    ------
    InputError
        When the slide cannot be opened, does not tell its pixel size, or is too coarse for the model.
    """
    reader = open_slide(settings.slide.path, settings.slide.reader)
    mpp = package.base_mpp if settings.slide.levels == "scale" else settings.slide.mpp or reader.info.mpp
    if mpp is None:
        raise InputError(
            f"{settings.slide.path}: does not say how large its pixels are; give µm per pixel with --mpp, or take them "
            "as the model's level 0 with --levels scale"
        )
    with input_errors(settings.slide.path):
        slide_hash = quickhash(settings.slide.path)
    return job_on(reader, settings, package, mpp, slide_hash)


def job_on(reader: SlideReader, settings: RunSettings, package: ModelPackage, mpp: float, slide_hash: str) -> Job:
    """Lay a model over a slide that is open, or known from elsewhere.

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
        allow_upsampling=settings.slide.allow_upsampling,
    )
    return Job(settings, package, package.thresholds(settings.model.thresholds), pyramid, mpp, slide_hash)


def open_job_as_known(settings: RunSettings, package: ModelPackage, known_quickhash: str, known_on: str) -> Job:
    """Open a slide that another rank has opened before, on host `known_on`.

    Raises
    ------
    InputError
        When this host cannot open it, or sees another file.
    """
    try:
        job = open_job(settings, package)
    except InputError as error:
        raise InputError(f"{error} on host {host_name()}, though host {known_on} could open it") from error
    if job.quickhash != known_quickhash:
        raise other_files(f"{settings.slide.path}: the slide", known_on)
    return job


def analyser_of(job: Job, engines: Sequence[Engine], stain_engine: StainEngine | None = None) -> Analyser:
    """Put a slide and the engines together.

    Parameters
    ----------
    job, engines
        The slide, and a network a level.
    stain_engine
        Needed where the slide's stain is normalised.
    """
    package = job.package
    return Analyser(
        job.pyramid,
        engines,
        job.thresholds,
        len(package.classes),
        package.score_column,
        read_ahead=job.settings.schedule.read_ahead,
        normalise=normaliser_of(job, stain_engine),
    )


def normaliser_of(job: Job, stain_engine: StainEngine | None) -> Normaliser | None:
    """What normalises the slide's stain, None where that is not asked for."""
    if job.stain is None:
        return None
    assert stain_engine is not None
    return stain_engine.normaliser(job.stain)


def find_tissue(comm: MPI.Intracomm, job: Job) -> TileRule:
    """Find the slide's tissue on rank 0 and share the mask. Collective.

    Raises
    ------
    InputError
        On all ranks: a file of regions that cannot be used.
    """
    found = on_rank0(comm, lambda: tissue_of(job))
    mask = unpack_mask(share_bytes(comm, None if found is None else pack_mask(found[0])))
    source = share_bytes(comm, None if found is None else found[1].to_json().encode())
    return rule_of(job, mask, TissueSource.from_json(source.decode()))


def tissue_of(job: Job) -> tuple[npt.NDArray[np.bool_], TissueSource]:
    """Tissue mask of a slide, bool (H, W), within what the run's regions allow, and how it came about.

    Raises
    ------
    InputError
        When a file of regions cannot be used.
    """
    if not job.settings.slide.regions.given:
        return segment_slide(job), TissueSource()
    # loads shapely, which ranks that open no slide then need not
    from pyramidai_mpi.run.regions import RegionFiles

    files = RegionFiles.find(job.settings)
    mask = files.mask(job.pyramid.reader.info, mask_downsample(job.pyramid.grid), lambda: segment_slide(job))
    if mask.any() and not len(rule_of(job, mask).roots()):
        log.warning(
            "%s: holds tissue within the regions given, but less than %g of any tile of the lowest resolution; "
            "--min-tissue 0 looks at it",
            job.settings.slide.path,
            job.settings.slide.min_tissue,
        )
    return mask, files.source()


def segment_slide(job: Job) -> npt.NDArray[np.bool_]:
    """Tissue mask of a slide, bool (H, W)."""
    # loads scikit-image, which ranks that segment nothing then need not
    from pyramidai_mpi.slides.segmentation import segment_tissue

    return segment_tissue(*read_thumbnail(job.pyramid.reader, mask_downsample(job.pyramid.grid)))


def rule_of(job: Job, mask: npt.NDArray[np.bool_], source: TissueSource | None = None) -> TileRule:
    """Which tiles of a slide exist, from its tissue mask."""
    grid = job.pyramid.grid
    tissue = TissueMap(grid, mask, mask_pixels_per_tile(grid), source or TissueSource())
    return TileRule(tissue, job.settings.slide.min_tissue)
