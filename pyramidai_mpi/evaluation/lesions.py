"""What counts as one lesion: the evaluation mask of CAMELYON16.

The rules are those of the challenge's own script (Ehteshami Bejnordi et al., JAMA 2017; ``Evaluation_FROC.py``), on a
mask of the annotations at 1/32 of level 0:

- what lies closer to an annotation than ``75 / (2 * µm per mask pixel)`` mask pixels (37.5 µm from either side) joins
  it, so annotations less than 75 µm apart are one lesion;
- holes are filled;
- lesions are the parts that hang together, corners included;
- a lesion whose major axis (of the ellipse of equal second moments) is below 275 µm, which is 200 µm of cells and the
  75 µm added, holds *isolated tumour cells*: it need not be found and a hit on it is no false positive.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from scipy import ndimage
from skimage import measure

from pyramidai_mpi.truth.coverage import UNIT

if TYPE_CHECKING:
    import numpy.typing as npt

    from pyramidai_mpi.truth.truth import Truth

MASK_DOWNSAMPLE = 32
"""Level-0 pixels per pixel of the evaluation mask: level 5 of the challenge's slides."""

_JOIN_UM = 75.0
_ISOLATED_UM = 275.0


@dataclass(frozen=True)
class Lesions:
    """The lesions of one slide.

    Attributes
    ----------
    label
        int32 (h, w), the part of the evaluation mask that holds all lesions; 0 is none, lesions count from 1.
    corner
        Row and column of that part in the mask.
    isolated
        bool (L + 1,), which labels are isolated tumour cells; the first is False.
    downsample
        Level-0 pixels per mask pixel.
    """

    label: npt.NDArray[np.int32]
    corner: tuple[int, int]
    isolated: npt.NDArray[np.bool_]
    downsample: float = MASK_DOWNSAMPLE

    @property
    def n_to_find(self) -> int:
        """Lesions that are not isolated tumour cells."""
        return len(self.isolated) - 1 - int(self.isolated.sum())

    @property
    def n_isolated(self) -> int:
        """Lesions that are."""
        return int(self.isolated.sum())

    def label_at(self, l0_xy: npt.NDArray[np.floating] | npt.NDArray[np.integer]) -> npt.NDArray[np.int32]:
        """Label under points (N, 2) of level-0 pixels x, y, int32 (N,)."""
        column, row = (l0_xy / self.downsample).astype(np.int64).T
        row, column = row - self.corner[0], column - self.corner[1]
        height, width = self.label.shape
        inside = (row >= 0) & (row < height) & (column >= 0) & (column < width)
        found = np.zeros(len(row), np.int32)
        found[inside] = self.label[row[inside], column[inside]]
        return found


NO_LESIONS = Lesions(np.zeros((0, 0), np.int32), (0, 0), np.zeros(1, bool))
"""Of a slide without tumour."""


def lesions_of(truth: Truth, l0_size: tuple[int, int], mpp: float) -> Lesions:
    """Lesions of a slide of this width and height in level-0 pixels: mask pixels at least half of which are tumour."""
    width, height = l0_size
    shape = math.ceil(height / MASK_DOWNSAMPLE), math.ceil(width / MASK_DOWNSAMPLE)
    return find_lesions(truth.coverage(shape, MASK_DOWNSAMPLE) * 2 >= UNIT, mpp)


def find_lesions(tumor: npt.NDArray[np.bool_], mpp: float, downsample: float = MASK_DOWNSAMPLE) -> Lesions:
    """Join annotations to lesions and tell isolated tumour cells.

    Parameters
    ----------
    tumor
        bool (H, W), mask of the annotations.
    mpp
        µm per level-0 pixel.
    downsample
        Level-0 pixels per mask pixel.
    """
    pixel_um = mpp * downsample
    reach = _JOIN_UM / (2 * pixel_um)
    rows, columns = (np.flatnonzero(tumor.any(axis=axis)) for axis in (1, 0))
    if not len(rows):
        return NO_LESIONS
    # The transform is needed near the annotations only. The margin keeps a ring of background around what is joined, so
    # that a bay at the crop's edge is not taken for a hole.
    margin = math.ceil(reach) + 2
    top, left = max(0, int(rows[0]) - margin), max(0, int(columns[0]) - margin)
    part = tumor[top : rows[-1] + margin + 1, left : columns[-1] + margin + 1]
    joined = ndimage.binary_fill_holes(ndimage.distance_transform_edt(~part) < reach)
    label = measure.label(joined, connectivity=2).astype(np.int32)  # type: ignore[no-untyped-call]
    isolated = np.zeros(int(label.max()) + 1, bool)
    for region in measure.regionprops(label):  # type: ignore[no-untyped-call]
        isolated[region.label] = region.axis_major_length < _ISOLATED_UM / pixel_um
    return Lesions(label, (top, left), isolated, downsample)
