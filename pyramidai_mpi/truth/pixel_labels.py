"""What is drawn of a slide, pixel by pixel: masks scaled up, outlines filled."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from pyramidai_mpi.base.errors import InputError, input_errors
from pyramidai_mpi.base.patch_order import slide_stem
from pyramidai_mpi.truth.coverage import UNIT, cover_rings
from pyramidai_mpi.truth.label_mask import LabelMask
from pyramidai_mpi.truth.png_mask import open_png_mask
from pyramidai_mpi.truth.truth import TruthOptions, read_truth

if TYPE_CHECKING:
    from pathlib import Path

    import numpy.typing as npt

    from pyramidai_mpi.truth.geometry import TumorArea

_PNGS = ("_mask.png", ".reference.png", ".png")


class PixelLabels:
    """Which pixels of a picture of a slide are marked, a band of rows at a time.

    A pixel of a mask is as many of the picture as it covers, by their centres; one that outlines cover by half or more
    is marked.

    Parameters
    ----------
    folder
        Files named after the slides: PNGs (``NAME_mask.png``, ``NAME.reference.png``, ``NAME.png``), or what
        `truth.read_truth` finds.
    slide
        The slide's file name.
    l0_size, l0_bounds
        Its width and height in level-0 pixels, and the corner of what is not empty.
    size, step
        Width and height of the picture, and level-0 pixels per pixel of it.
    options
        Which classes of outlines count.

    Raises
    ------
    InputError
        There is no file for the slide, or it cannot be used.
    """

    def __init__(
        self,
        folder: Path,
        slide: str,
        l0_size: tuple[int, int],
        l0_bounds: tuple[int, int],
        size: tuple[int, int],
        step: float,
        options: TruthOptions | None = None,
    ) -> None:
        self._size, self._step = size, step
        self._mask: npt.NDArray[np.bool_] | None = None
        self._area: TumorArea | None = None
        png = _png_of(folder, slide)
        if png is not None:
            self.source = png
            mask = open_png_mask(png, l0_size)
            self._mask, pixel = mask.marked, (mask.downsample, mask.downsample)
        else:
            truth = read_truth(folder, slide, l0_size, options, l0_bounds)
            self.source = truth.source
            if isinstance(truth.tumor, LabelMask):
                self._mask, pixel = truth.tumor.marked(step)
            else:
                self._area = truth.tumor
        if self._mask is not None:
            self._places = [
                np.minimum((np.arange(extent) + 0.5) * step / side, marks - 1).astype(np.int64)
                for extent, marks, side in zip(reversed(size), self._mask.shape, pixel, strict=True)
            ]

    def rows(self, first: int, last: int) -> npt.NDArray[np.bool_]:
        """Rows [first, last) of the picture, bool (last - first, width)."""
        if self._mask is not None:
            down, across = self._places
            return np.asarray(self._mask[down[first:last]][:, across])
        assert self._area is not None
        covered = cover_rings(self._area.rings(), self._step, (last - first, self._size[0]), first)
        return np.asarray(2 * covered >= UNIT)


def _png_of(folder: Path, slide: str) -> Path | None:
    """The PNG that is named after a slide, and is not the slide itself.

    Raises
    ------
    InputError
        The folder cannot be read.
    """
    if not folder.is_dir():
        raise InputError(f"{folder}: no such folder; give a folder of masks or outlines, one file a slide")
    with input_errors(folder):
        present = {path.name.casefold(): path for path in sorted(folder.iterdir()) if path.is_file()}
    names = [f"{slide_stem(slide)}{ending}".casefold() for ending in _PNGS]
    return next((present[name] for name in names if name in present and name != slide.casefold()), None)
