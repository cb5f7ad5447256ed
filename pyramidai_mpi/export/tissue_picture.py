"""What a slide's tissue looks like, before any run: its outline over a thumbnail, and the mask alone."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from PIL import Image

from pyramidai_mpi.export.contour import draw_contour
from pyramidai_mpi.slides.pyramid import read_thumbnail
from pyramidai_mpi.slides.segmentation import BEST_UM_PX
from pyramidai_mpi.store.files.placing import placed

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    import numpy.typing as npt

    from pyramidai_mpi.slides.readers.base import SlideReader

_LONG_SIDE = 2000


@dataclass(frozen=True)
class SlideTissue:
    """A slide's tissue.

    Attributes
    ----------
    mask
        bool (H, W).
    downsample
        Level-0 pixels per pixel of the mask.
    mpp
        µm per level-0 pixel.
    """

    mask: npt.NDArray[np.bool_]
    downsample: float
    mpp: float

    @classmethod
    def at_best(cls, mpp: float, find: Callable[[float], npt.NDArray[np.bool_]]) -> SlideTissue:
        """Found at `slides.segmentation.BEST_UM_PX` per pixel, or in the slide's own pixels, if they are larger.

        Parameters
        ----------
        mpp
            µm per level-0 pixel.
        find
            Gives the mask for so many level-0 pixels to one of it.
        """
        downsample = max(1.0, BEST_UM_PX / mpp)
        return cls(find(downsample), downsample, mpp)

    @property
    def area_mm2(self) -> float:
        """Area in mm²."""
        return float(self.mask.sum() * (self.downsample * self.mpp / 1000) ** 2)

    def write_picture(self, reader: SlideReader, target: Path, *, overwrite: bool = False) -> None:
        """Write a PNG of the slide with the tissue's outline, at most 2000 pixels long.

        Raises
        ------
        OutputExistsError, StorageError
            When the target is in the way or cannot be written.
        """
        downsample = max(self.downsample, max(reader.info.l0_size) / _LONG_SIDE)
        pixels = read_thumbnail(reader, downsample)[0]
        y, x = (
            np.minimum(((np.arange(n) + 0.5) * downsample / self.downsample).astype(int), extent - 1)
            for n, extent in zip(pixels.shape[:2], self.mask.shape, strict=True)
        )
        drawn = draw_contour(pixels, self.mask[np.ix_(y, x)])
        with placed(target, overwrite=overwrite, inputs=[reader.info.path]) as temporary:
            Image.fromarray(drawn).save(temporary, format="PNG")

    def write_mask(self, target: Path, slide: Path, *, overwrite: bool = False) -> None:
        """Write the mask as a PNG that ``run --tissue-mask`` takes: 255 where there is tissue, else 0.

        Raises
        ------
        OutputExistsError, StorageError
            When the target is in the way or cannot be written.
        """
        with placed(target, overwrite=overwrite, inputs=[slide]) as temporary:
            Image.fromarray(self.mask.astype(np.uint8) * 255).save(temporary, format="PNG")
