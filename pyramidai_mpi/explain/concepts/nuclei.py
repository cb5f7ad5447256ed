"""Nuclei found by haematoxylin, threshold and watershed: a starting point where nobody has outlined them.

Colour deconvolution after Ruifrok and Johnston (Anal Quant Cytol Histol, 2001). How well it does on generated slides,
whose nuclei are known, stands in bench/README.md; on slides of yours look before you believe it.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    import numpy.typing as npt

    from pyramidai_mpi.base.types import RgbArray

    Labels = npt.NDArray[np.int32]

_SMOOTH_UM = 0.5
_LEAST_AREA_UM2 = 10.0
_MIDDLES_APART_UM = 1.5
_LEAST_CONTRAST = 0.02
"""Of haematoxylin: below it nuclei do not stand out from what is around them, and there are none."""


def find_nuclei(pixels: RgbArray, spacing: float) -> Labels:
    """Nuclei of a patch.

    Parameters
    ----------
    pixels
        uint8 (S, S, 3).
    spacing
        µm per pixel.

    Returns
    -------
    numpy.ndarray
        int32 (S, S): 0 for none, else the number of a nucleus.
    """
    from scipy import ndimage
    from skimage.color import rgb2hed
    from skimage.feature import peak_local_max
    from skimage.filters import threshold_otsu
    from skimage.morphology import disk, opening
    from skimage.segmentation import watershed

    hematoxylin = ndimage.gaussian_filter(rgb2hed(pixels)[..., 0], _SMOOTH_UM / spacing)
    threshold = threshold_otsu(hematoxylin)  # type: ignore[no-untyped-call]
    above, below = hematoxylin[hematoxylin > threshold], hematoxylin[hematoxylin <= threshold]
    if not len(above) or above.mean() - below.mean() < _LEAST_CONTRAST:
        return np.zeros(pixels.shape[:2], np.int32)
    mask = ndimage.binary_fill_holes(hematoxylin > threshold)
    footprint = disk(max(round(0.75 / spacing), 1))  # type: ignore[no-untyped-call]
    mask = opening(mask, footprint)
    depth = ndimage.gaussian_filter(ndimage.distance_transform_edt(mask), _SMOOTH_UM / spacing)
    apart = max(round(_MIDDLES_APART_UM / spacing), 1)
    peaks = peak_local_max(  # type: ignore[no-untyped-call]
        depth, min_distance=apart, labels=mask.astype(np.int32), exclude_border=False
    )
    markers = np.zeros(mask.shape, np.int32)
    markers[tuple(peaks.T)] = np.arange(1, len(peaks) + 1)
    labels = np.asarray(watershed(-depth, markers, mask=mask), np.int32)  # type: ignore[no-untyped-call]
    sizes = np.bincount(labels.ravel())
    labels[sizes[labels] < _LEAST_AREA_UM2 / spacing**2] = 0
    return labels


@dataclass(frozen=True)
class Agreement:
    """How found nuclei agree with known ones.

    Attributes
    ----------
    n_found, n_known, n_matched
        Nuclei; matched are pairs whose intersection is more than half of their union, of which each has one at most.
    overlap, found_area, known_area
        Pixels: in both, in any found, in any known.
    """

    n_found: int
    n_known: int
    n_matched: int
    overlap: int
    found_area: int
    known_area: int

    def __add__(self, other: Agreement) -> Agreement:
        return Agreement(*(getattr(self, name) + getattr(other, name) for name in self.__dataclass_fields__))

    @property
    def f1(self) -> float:
        """Of detection: twice the matched over found and known."""
        return 2 * self.n_matched / max(self.n_found + self.n_known, 1)

    @property
    def dice(self) -> float:
        """Of pixels."""
        return 2 * self.overlap / max(self.found_area + self.known_area, 1)


def agreement(found: Labels, known: Labels) -> Agreement:
    """Compare two labellings of one patch."""
    # 0 goes in front, to be the background even where every pixel is a nucleus
    one, other = (np.unique(np.append(0, labels), return_inverse=True)[1].ravel()[1:] for labels in (found, known))
    pairs = np.zeros((one.max() + 1, other.max() + 1), np.int64)
    np.add.at(pairs, (one, other), 1)
    union = pairs.sum(axis=1)[:, None] + pairs.sum(axis=0)[None, :] - pairs
    matched = int((2 * pairs > union)[1:, 1:].sum())
    return Agreement(
        pairs.shape[0] - 1,
        pairs.shape[1] - 1,
        matched,
        int(pairs[1:, 1:].sum()),
        int(pairs[1:].sum()),
        int(pairs[:, 1:].sum()),
    )
