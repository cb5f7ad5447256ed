"""Where a slide, or a thumbnail of it, shows tissue, by a method of choice."""

from __future__ import annotations

import logging
import math
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from scipy import ndimage

from pyramidai_mpi.slides.optical_density import DEFAULT_LIMIT, find_stained
from pyramidai_mpi.slides.pyramid import read_thumbnail

if TYPE_CHECKING:
    import numpy.typing as npt

    from pyramidai_mpi.base.types import RgbArray
    from pyramidai_mpi.slides.readers.base import SlideReader

log = logging.getLogger(__name__)

_DARK = 80
"""Mean of the channels of half of an image's pixels below which its ground is dark."""
BEST_UM_PX = 8.0
"""µm per pixel at which tissue is found best: nuclei and fibres show, and a thumbnail has few pixels."""


@dataclass(frozen=True)
class Segmentation:
    """A way to find tissue.

    Attributes
    ----------
    method
        ``od``: by optical density (`optical_density`); ``hsv-otsu``: by saturation and hue (`hsv_otsu`).
    limit
        Of ``od``: least optical density of tissue; None takes `optical_density.DEFAULT_LIMIT`.
    """

    method: str = "od"
    limit: float | None = None

    def segment(
        self,
        rgb: RgbArray,
        readable: npt.NDArray[np.bool_],
        left_out: npt.NDArray[np.bool_] | None = None,
        *,
        um_px: float = BEST_UM_PX,
        holes: bool = True,
    ) -> npt.NDArray[np.bool_]:
        """Tissue of a thumbnail.

        Parameters
        ----------
        rgb
            Thumbnail, uint8 (H, W, 3).
        readable
            bool (H, W). What could not be read counts as tissue: a damaged region must show up as unreadable tiles, not
            vanish as background.
        left_out
            bool (H, W), where the scanner left out areas: background, but for what lies within tissue. That was hardly
            left out on purpose, and counts as what could not be read. None for nowhere.
        um_px
            µm per pixel of the thumbnail.
        holes
            Whether what was left out within tissue counts so. Of a file of patches it does not: what it does not keep,
            nobody wanted.

        Returns
        -------
        numpy.ndarray
            bool (H, W).
        """
        if not readable.any():
            return np.ones(readable.shape, bool)
        if left_out is None:
            left_out = np.zeros(readable.shape, bool)
        scanned = readable & ~left_out
        if not scanned.any():
            return ~readable
        if self.method == "od":
            limit = DEFAULT_LIMIT if self.limit is None else self.limit
            stained = find_stained(rgb, scanned, um_px=um_px, limit=limit)
        else:
            # loads scikit-image, which takes a while
            from pyramidai_mpi.slides.hsv_otsu import find_stained_by_hsv

            stained = find_stained_by_hsv(rgb, scanned)
        within = _enclosed(stained) & left_out if holes and left_out.any() else np.zeros_like(left_out)
        return np.asarray(stained | within | ~readable)


def tissue_of_slide(reader: SlideReader, way: Segmentation, downsample: float, mpp: float) -> npt.NDArray[np.bool_]:
    """Tissue mask of a slide.

    Parameters
    ----------
    reader
        The slide.
    way
        How tissue is found.
    downsample
        Level-0 pixels per pixel of the mask.
    mpp
        µm per level-0 pixel.

    Returns
    -------
    numpy.ndarray
        bool (H, W), the slide's size over `downsample`, rounded up.
    """
    # texture is lost in coarser pixels, so a coarse mask is made of several of the best size
    parts = max(1, round(downsample * mpp / BEST_UM_PX)) if way.method == "od" else 1
    rgb, readable, left_out = read_thumbnail(reader, downsample / parts)
    seen = readable & ~left_out
    if seen.any() and np.median(rgb[seen].mean(axis=1)) < _DARK:
        log.warning(
            "%s: most of it is dark, as of an image in fluorescence or an inverted one; this is made for bright ground",
            reader.info.path.name,
        )
    mask = way.segment(rgb, readable, left_out, um_px=downsample / parts * mpp, holes=not reader.info.patches_digest)
    if parts == 1:
        return mask
    height, width = (math.ceil(extent / downsample) for extent in reversed(reader.info.l0_size))
    tissue, damaged = (_parts_of(one, parts, (height, width)) for one in (mask, ~readable))
    return np.asarray((2 * tissue.sum(axis=(1, 3)) >= parts**2) | damaged.any(axis=(1, 3)))


def _parts_of(mask: npt.NDArray[np.bool_], parts: int, shape: tuple[int, int]) -> npt.NDArray[np.bool_]:
    """Squares of `parts` pixels a side, (H, parts, W, parts); False past the end of the mask."""
    padded = np.zeros((shape[0] * parts, shape[1] * parts), bool)
    height, width = (min(pair) for pair in zip(mask.shape, padded.shape, strict=True))
    padded[:height, :width] = mask[:height, :width]
    return padded.reshape(shape[0], parts, shape[1], parts)


def _enclosed(mask: npt.NDArray[np.bool_]) -> npt.NDArray[np.bool_]:
    """What is not in a mask and cannot be reached from the edge of the picture without crossing it."""
    return np.asarray(ndimage.binary_fill_holes(mask) & ~mask)
