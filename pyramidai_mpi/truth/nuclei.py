"""Nuclei that somebody else has found, as windows of labels: from outlines, or masks whose pixels hold numbers."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol

import numpy as np
import shapely

from pyramidai_mpi.base.damage import DAMAGE
from pyramidai_mpi.base.errors import InputError, failed_read, input_errors
from pyramidai_mpi.base.patch_order import slide_stem
from pyramidai_mpi.truth.geojson import nuclei_of_geojson, read_json
from pyramidai_mpi.truth.label_mask import LabelMask, open_mask
from pyramidai_mpi.truth.outlines import listed

if TYPE_CHECKING:
    from pathlib import Path

    import numpy.typing as npt

    LabelArray = npt.NDArray[np.int32]

OUTLINES = (".nuclei.geojson", ".nuclei.geojson.gz", ".geojson", ".geojson.gz", ".json", ".json.gz")
MASKS = (".nuclei.tif", ".nuclei.tiff", ".tif", ".tiff")
STACK = ".nuclei.npy"

_MOST_PIECES = 1 / 8
"""Of a window's pixels."""


class Nuclei(Protocol):
    """The nuclei of a slide."""

    @property
    def path(self) -> Path:
        """The file that they are from."""

    def window(self, l0_corner: tuple[float, float], downsample: float, size: int, number: int) -> LabelArray:
        """Which nucleus each pixel of a window belongs to.

        Parameters
        ----------
        l0_corner
            x and y of its top-left corner in level-0 pixels.
        downsample
            Level-0 pixels a pixel.
        size
            Side in pixels.
        number
            The patch's number in its file; only masks of single patches ask for it.

        Returns
        -------
        numpy.ndarray
            int32 (size, size), 0 for none.
        """


@dataclass(frozen=True)
class OutlinedNuclei:
    """Outlines.

    Attributes
    ----------
    path
        Their file.
    polygons
        One shapely Polygon a nucleus, level-0 pixels, pixel 0 from 0 to 1. Label n is ``polygons[n - 1]``.
    kinds
        The class of each, "" where the file says none.
    boxes
        float64 (N, 4): their least x and y, most x and y.
    """

    path: Path
    polygons: tuple[shapely.Polygon, ...]
    kinds: tuple[str, ...]
    boxes: npt.NDArray[np.float64]

    def window(self, l0_corner: tuple[float, float], downsample: float, size: int, number: int = 0) -> LabelArray:
        """See `Nuclei.window`. A pixel belongs to the outline that holds its middle, of several to the last one."""
        x, y = l0_corner
        low_x, low_y, high_x, high_y = self.boxes.T
        far = size * downsample
        near = np.flatnonzero((high_x > x) & (low_x < x + far) & (high_y > y) & (low_y < y + far))
        labels = np.zeros((size, size), np.int32)
        for one in near.tolist():
            left, top, right, bottom = ((self.boxes[one] - (x, y, x, y)) / downsample - 0.5).tolist()
            cols = np.arange(max(int(np.ceil(left)), 0), min(int(right) + 1, size) if right >= 0 else 0)
            rows = np.arange(max(int(np.ceil(top)), 0), min(int(bottom) + 1, size) if bottom >= 0 else 0)
            if not (len(cols) and len(rows)):
                continue
            at_x, at_y = np.meshgrid(x + (cols + 0.5) * downsample, y + (rows + 0.5) * downsample)
            inside = shapely.contains_xy(self.polygons[one], at_x, at_y)
            labels[rows[0] : rows[-1] + 1, cols[0] : cols[-1] + 1][inside] = one + 1
        return labels


@dataclass(frozen=True)
class LabelledNuclei:
    """A mask of the slide; what touches and holds the same number is one nucleus, so that masks of 0 and 1 will do."""

    mask: LabelMask

    @property
    def path(self) -> Path:
        """The file."""
        return self.mask.path

    def window(self, l0_corner: tuple[float, float], downsample: float, size: int, number: int = 0) -> LabelArray:
        """See `Nuclei.window`."""
        return _pieces(self.mask.window(l0_corner, downsample, size), self.path)


def _pieces(values: npt.NDArray[np.integer], path: Path) -> LabelArray:
    from skimage.measure import label

    labels = np.asarray(label(values, background=0, connectivity=1), np.int32)  # type: ignore[no-untyped-call]
    # a picture in a mask's place would be measured for hours
    if int(labels.max(initial=0)) > values.size * _MOST_PIECES:
        raise InputError(
            f"{path}: has {int(labels.max())} pieces within {values.shape[1]} x {values.shape[0]} px, as pictures have "
            "and no nuclei; expected a mask, whose pixels hold 0 or the number of a nucleus"
        )
    return labels


@dataclass(frozen=True)
class PatchMasks:
    """A mask of each patch of a file of patches: an array of whole numbers (patches, size, size), saved by NumPy."""

    path: Path
    masks: npt.NDArray[np.integer]

    def window(self, l0_corner: tuple[float, float], downsample: float, size: int, number: int) -> LabelArray:
        """See `Nuclei.window`."""
        if number >= len(self.masks) or self.masks.shape[1:] != (size, size):
            raise InputError(
                f"{self.path}: is an array of {self.masks.shape}, and has no mask of {size} x {size} px for patch "
                f"{number}; save one a patch, in their order"
            )
        return _pieces(np.asarray(self.masks[number]), self.path)


def read_outlined_nuclei(path: Path) -> OutlinedNuclei:
    """Read nuclei from GeoJSON: detections, nuclei of cells or annotations, as QuPath and `pyramidai synth` write them.

    Raises
    ------
    InputError
        When it cannot be read, or holds things but no outlines.
    """
    found = nuclei_of_geojson(path, read_json(path))
    if found.left_out and not found.outlines:
        kinds = listed([one.kind for one in found.left_out])
        raise InputError(f"{path}: holds {kinds} and no outline of a nucleus; export the nuclei as polygons")
    polygons: list[shapely.Polygon] = []
    names: list[str] = []
    for one in found.outlines:
        if len(np.unique(one.shell, axis=0)) < 3:
            continue
        polygon = shapely.Polygon(one.shell, [hole for hole in one.holes if len(np.unique(hole, axis=0)) >= 3])
        shape = polygon if polygon.is_valid else shapely.buffer(polygon, 0)
        if not shape.is_empty:
            shapely.prepare(shape)
            polygons.append(shape)
            names.append(one.name)
    boxes = shapely.bounds(polygons).reshape(-1, 4) if polygons else np.zeros((0, 4))
    return OutlinedNuclei(path, tuple(polygons), tuple(names), boxes)


def open_nuclei(folder: Path, slide: str, l0_size: tuple[int, int], patches: Path) -> Nuclei:
    """The nuclei of a slide, or of a file of patches, from a folder.

    Looked for, by the name without ending and without regard to case: outlines (``NAME.nuclei.geojson``, then
    ``NAME.geojson`` or ``.json``, gzipped or not), a TIFF of the slide's shape whose pixels hold the nuclei's numbers
    (``NAME.nuclei.tif``, then ``NAME.tif``), and for the file of patches an array of masks (``PATCHES.nuclei.npy``).

    Parameters
    ----------
    slide
        The slide's file name.
    l0_size
        Its width and height.
    patches
        The file of patches.

    Raises
    ------
    InputError
        When there is none, or it cannot be read.
    """
    with input_errors(folder):
        present = {path.name.casefold(): path for path in sorted(folder.iterdir()) if path.is_file()}
    stem = slide_stem(slide)
    for ending in (*OUTLINES, *MASKS):
        path = present.get(f"{stem}{ending}".casefold())
        if path is not None:
            return read_outlined_nuclei(path) if ending in OUTLINES else LabelledNuclei(open_mask(path, l0_size))
    for name in (patches.name, slide_stem(patches.name)):
        path = present.get(f"{name}{STACK}".casefold())
        if path is not None:
            return PatchMasks(path, _read_stack(path))
    raise InputError(
        f"{folder}: holds no nuclei of {slide}: looked for {stem} + {', '.join((*OUTLINES, *MASKS))} and "
        f"{patches.name}{STACK}; or find them by --nuclei auto"
    )


def _read_stack(path: Path) -> npt.NDArray[np.integer]:
    try:
        masks: npt.NDArray[np.integer] = np.load(path, mmap_mode="r", allow_pickle=False)
    except DAMAGE as error:
        raise failed_read(path, error) or InputError(
            f"{path}: not a readable NumPy array ({error!s:.200}); check the masks"
        ) from error
    if masks.ndim != 3 or not np.issubdtype(masks.dtype, np.integer):
        raise InputError(f"{path}: is {masks.dtype} {masks.shape}, expected whole numbers (patches, size, size)")
    return masks
