"""Tissue found by a network that segments whole images, when a slide is opened; and how tissue is found, in a word.

The network sees the slide at its own spacing, in blocks, on one rank. A pixel of the mask is tissue where at least half
of it is, and where anything in it could not be read: as with a mask that `segment` has written, and is given.
"""

from __future__ import annotations

import logging
import math
import time
from typing import TYPE_CHECKING

import numpy as np

from pyramidai_mpi.base.errors import InputError
from pyramidai_mpi.base.segment_order import SegmentOrder
from pyramidai_mpi.pyramid.mask_labels import UNKNOWN, YES
from pyramidai_mpi.pyramid.tissue import NETWORK, found_by

if TYPE_CHECKING:
    from pathlib import Path

    import numpy.typing as npt

    from pyramidai_mpi.base.settings import SlideInput
    from pyramidai_mpi.models.segmentation_package import SegmentationPackage
    from pyramidai_mpi.slides.readers.base import SlideReader

log = logging.getLogger(__name__)


def method_of(source: SlideInput) -> str:
    """How the tissue of a slide is found, for its result: see `pyramid.tissue.found_by`; a network with its hash.

    Raises
    ------
    InputError
        The network's package cannot be read.
    """
    if source.tissue_network is None:
        return found_by(source.tissue, source.tissue_limit)
    package = _package(source.tissue_network, check_file=False)
    text = package.text
    return (
        f"{NETWORK} {text.name} (sha256 {package.sha256}) at {text.mpp:g} µm/px, threshold {text.threshold:g}, halo "
        f"{text.halo}, stride {text.total_stride}"
    )


def tissue_by_network(reader: SlideReader, source: SlideInput, mpp: float, downsample: float) -> npt.NDArray[np.bool_]:
    """Tissue mask of an open slide.

    Parameters
    ----------
    reader
        The slide.
    source
        Names the network.
    mpp
        µm per level-0 pixel.
    downsample
        Level-0 pixels per pixel of the mask.

    Returns
    -------
    numpy.ndarray
        bool (H, W), the slide's size over `downsample`, rounded up.

    Raises
    ------
    InputError
        The network cannot be used, or the slide is too coarse for it.
    """
    # load onnxruntime, which ranks that open no slide then need not
    from pyramidai_mpi.analyses.segment import BlockSegmenter, blocks_of, lay_network
    from pyramidai_mpi.models.engines.segmentation_network import SegmentationNetwork
    from pyramidai_mpi.models.engines.segmentation_trial import try_segmentation_network
    from pyramidai_mpi.truth.coverage import UNIT, at_least_half, cover_blocks

    assert source.tissue_network is not None
    begun = time.perf_counter()
    package = _package(source.tissue_network)
    try_segmentation_network(source.tissue_network)
    side = SegmentOrder().side(package.text.total_stride)
    try:
        pyramid = lay_network(reader, package.text, mpp, side, source)
    except InputError as error:
        raise InputError(f"{error} (of the network that finds tissue, {source.tissue_network})") from error
    blocks = blocks_of(pyramid, package.text, side)
    segmenter = BlockSegmenter(pyramid, SegmentationNetwork(package), blocks)
    l0_size = reader.info.l0_size
    height, width = (math.ceil(extent / downsample) for extent in reversed(l0_size))
    tissue, unknown = np.zeros((height, width)), np.zeros((height, width))
    pixel = pyramid.plans[0].downsample / downsample
    columns, rows = blocks.shape
    for row in range(rows):
        for col in range(columns):
            labels = segmenter.segment(col, row).labels
            corner = (row * side, col * side)
            cover_blocks((labels == YES) | (labels == UNKNOWN), corner, (pixel, pixel), tissue)
            cover_blocks(labels == UNKNOWN, corner, (pixel, pixel), unknown)
    covered = np.clip(np.rint(tissue * UNIT), 0, UNIT).astype(np.int32)
    found = at_least_half(covered, l0_size, downsample) | (unknown > 0)
    log.info("%s: tissue found by %s in %.1f s", source.path.name, package.text.name, time.perf_counter() - begun)
    return np.asarray(found)


def _package(folder: Path, *, check_file: bool = True) -> SegmentationPackage:
    from pyramidai_mpi.models.segmentation_package import load_segmentation_package

    package = load_segmentation_package(folder, check_file=check_file)
    if package.text.mpp is None:
        raise InputError(
            f"{folder}: does not say at how many µm/px it was trained (mpp: null), so it cannot find a slide's tissue; "
            "say it in its model.yaml"
        )
    return package
