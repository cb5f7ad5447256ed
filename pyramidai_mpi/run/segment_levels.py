"""Opening slides for a network that segments them: its spacing laid over a slide, and the blocks there are."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import numpy as np

from pyramidai_mpi.analyses.base import OpenSlide
from pyramidai_mpi.analyses.segment import lay_network
from pyramidai_mpi.base.errors import InputError, input_errors
from pyramidai_mpi.process.host import cpu_description, host_name
from pyramidai_mpi.pyramid.rule import TileRule
from pyramidai_mpi.pyramid.tissue import TissueMap, TissueSource
from pyramidai_mpi.run.deciding import odd_levels_fact, versions_of
from pyramidai_mpi.run.facts import Fact, Kind
from pyramidai_mpi.run.opening import open_as_described
from pyramidai_mpi.run.pool.messages import SlideDescription
from pyramidai_mpi.slides.identity import slide_quickhash
from pyramidai_mpi.slides.readers.base import ClosedReader
from pyramidai_mpi.slides.readers.choice import open_slide
from pyramidai_mpi.slides.readers.trial import try_opening

if TYPE_CHECKING:
    import numpy.typing as npt

    from pyramidai_mpi.base.segment_order import SegmentOrder
    from pyramidai_mpi.base.settings import SlideInput
    from pyramidai_mpi.models.segmentation_package import SegmentationPackage
    from pyramidai_mpi.run.facts import Facts
    from pyramidai_mpi.slides.readers.base import SlideInfo, SlideReader


@dataclass(frozen=True)
class BlockOpener:
    """How slides are opened for a network.

    Attributes
    ----------
    package
        The network's.
    order
        What is asked for.
    """

    package: SegmentationPackage
    order: SegmentOrder

    def open(self, source: SlideInput, known: SlideInfo | None = None) -> OpenSlide:
        """Open a slide, described by another rank or not.

        Raises
        ------
        InputError
            When it cannot be opened, does not tell its pixel size though the network has one, or is too coarse.
        """
        reader = open_slide(source.path, source.reader, known=known, odd_levels=source.odd_levels)
        try:
            mpp = source.mpp or reader.info.mpp or 0.0
            if not mpp and self.package.text.mpp is not None:
                flaw = reader.info.mpp_flaw or "does not say how large its pixels are"
                raise InputError(
                    f"{source.path}: {flaw}, and the network was trained at {self.package.text.mpp:g} µm/px; give µm "
                    "per level-0 pixel with --mpp"
                )
            with input_errors(source.path):
                slide_hash = slide_quickhash(source.path)
            return self._laid(reader, source, mpp, slide_hash)
        except BaseException:
            reader.close()
            raise

    def _laid(self, reader: SlideReader, source: SlideInput, mpp: float, slide_hash: str) -> OpenSlide:
        text = self.package.text
        pyramid = lay_network(reader, text, mpp, self.order.side(text.total_stride), source)
        return OpenSlide(source, pyramid, mpp, slide_hash)

    def describe(self, source: SlideInput) -> tuple[OpenSlide, TileRule, SlideDescription]:
        """Open a slide that no rank has opened before, after a child process has survived that; raises as `open`."""
        with try_opening(source.path, source.reader, source.odd_levels) as trial:
            trial.check()
        slide = self.open(source)
        rule = every_block(slide)
        info = slide.pyramid.reader.info
        return slide, rule, SlideDescription(info, slide.quickhash, slide.mpp, host_name(), rule.tissue.mask)

    def follow(self, source: SlideInput, description: SlideDescription) -> tuple[OpenSlide, TileRule]:
        """Open a slide that another rank has described.

        Raises
        ------
        InputError
            When this host cannot open it, or sees another file.
        """
        slide = open_as_described(source, description, lambda info: self.open(source, info))
        return slide, every_block(slide)

    def known(self, source: SlideInput, description: SlideDescription) -> tuple[OpenSlide, TileRule]:
        """A slide as another rank has described it, for a rank that reads no pixels of it."""
        reader = ClosedReader(replace(description.info, path=source.path))
        slide = self._laid(reader, source, description.mpp, description.quickhash)
        return slide, every_block(slide)


@dataclass(frozen=True)
class _EveryTile(TileRule):
    """All tiles of a slide, whatever is on them."""

    def roots_of_slide(self) -> npt.NDArray[np.bool_]:
        cols, rows = self.grid.shape(self.grid.n_levels - 1)
        return np.ones((rows, cols), bool)


def every_block(slide: OpenSlide) -> TileRule:
    """The rule by which every block of a slide is looked at: one pixel of tissue in each."""
    grid = slide.pyramid.grid
    cols, rows = grid.shape(0)
    return _EveryTile(TissueMap(grid, np.ones((rows, cols), bool), 1, TissueSource("none")), 0.0)


def facts_of_blocks(slide: OpenSlide, package: SegmentationPackage, order: SegmentOrder) -> Facts:
    """What decides the mask of a slide."""
    text, (plan,) = package.text, slide.pyramid.plans
    patches = slide.pyramid.reader.info.patches_digest
    return (
        Fact("quickhash", "slide", slide.quickhash, Kind.SLIDE),
        Fact("mpp", "µm/px", float(slide.mpp), Kind.SLIDE),
        Fact("patches_digest", "file of patches in the slide's place", patches, Kind.SLIDE),
        *odd_levels_fact(slide.pyramid.reader.info),
        Fact("network_sha256", "network", package.sha256, Kind.MODEL),
        Fact("threshold", "threshold", float(text.threshold), Kind.MODEL),
        Fact("total_stride", "total stride", text.total_stride, Kind.MODEL),
        Fact("halo", "halo", text.halo, Kind.MODEL),
        Fact("spacing", "µm/px of the network", float(plan.spacing), Kind.SETTING),
        Fact("downsample", "--downsample", order.downsample, Kind.SETTING),
        # blocks of another shape have other last bits
        Fact("block", "--block", order.side(text.total_stride), Kind.SETTING),
        Fact("probability", "--probability", order.probability, Kind.SETTING),
        *versions_of(slide, TissueSource("none"), ["onnxruntime"]),
        Fact("cpu", "processor", cpu_description(), Kind.PROCESSOR),
    )
