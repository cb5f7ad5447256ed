"""Small pieces of masks, and small holes in them: as scikit-image takes them away, which takes long to load."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
from scipy import ndimage

if TYPE_CHECKING:
    import numpy.typing as npt


def without_small_pieces(mask: npt.NDArray[np.bool_], max_size: int) -> npt.NDArray[np.bool_]:
    """A mask, bool (H, W), without its pieces of up to `max_size` pixels, of pixels that share edges."""
    labels, _ = ndimage.label(mask)
    stays = np.bincount(labels.ravel()) > max_size
    stays[:1] = False  # what is not of the mask
    return np.asarray(stays[labels])


def without_small_holes(mask: npt.NDArray[np.bool_], max_size: int) -> npt.NDArray[np.bool_]:
    """A mask, bool (H, W), with its holes of up to `max_size` pixels filled."""
    return ~without_small_pieces(~mask, max_size)
