"""Bands played on full maps of slides: what each leaves of the map, and how many windows it takes.

A band says which cells of a stride are looked at more closely (`pyramid.refining`). Where all windows of the finest
stride were looked at once, what any band does is known without another look (`pyramid.refined_map`).
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import numpy as np

from pyramidai_mpi.base.errors import UsageError
from pyramidai_mpi.pyramid.decision import passes
from pyramidai_mpi.pyramid.refined_map import refine
from pyramidai_mpi.pyramid.run_levels import nest, stepped_levels
from pyramidai_mpi.pyramid.tissue import squares_with

if TYPE_CHECKING:
    from collections.abc import Sequence

    import numpy.typing as npt

    from pyramidai_mpi.pyramid.dense_map import DenseMap
    from pyramidai_mpi.pyramid.refining import Band
    from pyramidai_mpi.pyramid.run_levels import RunLevels


@dataclass(frozen=True)
class FullMap:
    """One slide whose windows of the finest stride were all looked at.

    Attributes
    ----------
    name
        Its file name.
    map
        The scores.
    background
        bool (rows, cols): cells that the run passed over, since the square around them holds no tissue.
    mask, mask_downsample
        bool (H, W), tissue of the slide, and level-0 pixels of the file per pixel of it.
    lesion
        int32 (rows, cols) by cell of the map: the lesion that it touches, from 1; 0 for none. None where there is no
        truth, or no tumour.
    """

    name: str
    map: DenseMap
    background: npt.NDArray[np.bool_]
    mask: npt.NDArray[np.bool_]
    mask_downsample: float
    lesion: npt.NDArray[np.int32] | None = None

    @property
    def positive(self) -> npt.NDArray[np.bool_]:
        """Which cells are positive, bool (rows, cols)."""
        return passes(self.map.score, self.map.threshold) & (self.map.stride > 0)

    def squares(self, side: int) -> npt.NDArray[np.bool_]:
        """Which squares of so many cells along the side have tissue within half a window, bool (rows, cols)."""
        pixels = self.map.downsample / self.mask_downsample
        rows, cols = (-(-extent // side) for extent in self.map.score.shape)
        return squares_with(self.mask, side * self.map.cell * pixels, self.map.window / 2 * pixels, (rows, cols))

    def lesions_found(self, positive: npt.NDArray[np.bool_]) -> npt.NDArray[np.bool_]:
        """Which lesions a positive cell touches, bool (lesions,)."""
        if self.lesion is None:
            return np.zeros(0, bool)
        found = np.zeros(int(self.lesion.max(initial=0)) + 1, bool)
        found[self.lesion[positive]] = True
        return found[1:]


@dataclass(frozen=True)
class Played:
    """One band on one slide, beside the full map, over the cells that both know.

    Attributes
    ----------
    n_windows, n_full
        Windows looked at, and those of the full map.
    n_positive, n_both, n_either
        Positive cells of the full map, of both maps, of at least one.
    n_alike, n_cells
        Cells that both call positive or both negative, and all.
    n_found, n_kept
        Lesions that the full map finds, and those of them that the other finds too.
    """

    n_windows: int
    n_full: int
    n_positive: int
    n_both: int
    n_either: int
    n_alike: int
    n_cells: int
    n_found: int
    n_kept: int

    @property
    def share(self) -> float:
        """Windows looked at over those of the full map."""
        return self.n_windows / self.n_full

    @property
    def iou(self) -> float:
        """Intersection over union of what is positive; NaN where nothing is."""
        return self.n_both / self.n_either if self.n_either else float("nan")

    @property
    def lost(self) -> float:
        """Share of the full map's positive cells that are not positive any more; 0 where there is none."""
        return 1 - self.n_both / self.n_positive if self.n_positive else 0.0


@dataclass(frozen=True)
class Trial:
    """One band with one family of strides on several slides.

    Attributes
    ----------
    strides
        In pixels, the finest first.
    band
        What leaves doubt.
    slides
        One by one.
    """

    strides: tuple[int, ...]
    band: Band
    slides: tuple[Played, ...]

    @property
    def n_windows(self) -> int:
        """Of all slides."""
        return sum(one.n_windows for one in self.slides)

    @property
    def share(self) -> float:
        """Mean over slides of the windows looked at over those of the full map."""
        return float(np.mean([one.share for one in self.slides]))

    @property
    def worst_share(self) -> float:
        """The largest of them."""
        return max(one.share for one in self.slides)

    @property
    def iou(self) -> float:
        """Mean over the slides on which anything is positive; NaN where none is."""
        known = [one.iou for one in self.slides if one.n_either]
        return float(np.mean(known)) if known else float("nan")

    @property
    def worst_iou(self) -> float:
        """The lowest of them."""
        return min((one.iou for one in self.slides if one.n_either), default=float("nan"))

    @property
    def n_lesions_lost(self) -> int:
        """Lesions of all slides that the full map finds and this one does not."""
        return sum(one.n_found - one.n_kept for one in self.slides)


def levels_of_strides(strides: Sequence[int], window: int) -> RunLevels:
    """The levels of a run over these strides that begins with the coarsest.

    Raises
    ------
    UsageError
        When they do not nest, or the coarsest leaves something out between windows.
    """
    if len(strides) < 2 or not nest(strides) or strides[-1] > window:
        raise UsageError(
            f"strides {', '.join(map(str, strides))}: expected two or more, the finest first, each a whole multiple of "
            f"the one before and none above the window of {window} px"
        )
    return stepped_levels(1, window, 2, strides, under_pyramid=False)


def play(slide: FullMap, strides: tuple[int, ...], band: Band) -> Played:
    """Play one band on one slide.

    Parameters
    ----------
    slide
        Its full map.
    strides
        In pixels of the model's level 0, the finest first, which is the map's.
    band
        What leaves doubt.

    Raises
    ------
    UsageError
        When the strides are not those of a run, or the map is of another finest stride.
    """
    full = slide.map
    levels = levels_of_strides(strides, full.window)
    if full.cell != strides[0]:
        raise UsageError(f"{slide.name}: is a map of stride {full.cell}, but strides begin with {strides[0]}")
    # the squares of another run are others, and a coarse window may stand for a cell that this run passed over as
    # background: it is taken as that, and so is what lies off the slide
    score = np.where(slide.background, np.float32(0), full.score)
    squares = slide.squares(levels.base // full.cell)
    refined = refine(replace(full, score=score), squares, levels, band, beyond=0.0)
    # what the steps' squares leave out is no band's doing, and does not count
    there = (full.stride > 0) & (refined.map.stride > 0)
    before, after = slide.positive & there, passes(refined.map.score, full.threshold) & there
    found, kept = slide.lesions_found(before), slide.lesions_found(after)
    return Played(
        n_windows=refined.n_windows,
        n_full=int((full.stride > 0).sum()),
        n_positive=int(before.sum()),
        n_both=int((before & after).sum()),
        n_either=int((before | after).sum()),
        n_alike=int((before == after)[there].sum()),
        n_cells=int(there.sum()),
        n_found=int(found.sum()),
        n_kept=int((found & kept).sum()),
    )


def try_band(slides: Sequence[FullMap], strides: tuple[int, ...], band: Band) -> Trial:
    """Play one band on several slides."""
    return Trial(strides, band, tuple(play(slide, strides, band) for slide in slides))
