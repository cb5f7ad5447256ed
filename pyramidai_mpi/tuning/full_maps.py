"""Results of sliding windows at one stride, and their truth, as full maps to play bands on."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from scipy import ndimage

from pyramidai_mpi.base.errors import InputError
from pyramidai_mpi.base.types import Mode
from pyramidai_mpi.store.results.dense import levels_of, read_dense_map
from pyramidai_mpi.store.results.reader import open_result, read_rule
from pyramidai_mpi.store.results.tables import read_header, read_mode
from pyramidai_mpi.truth.truth import read_truth
from pyramidai_mpi.tuning.band_play import FullMap
from pyramidai_mpi.tuning.labelled_slides import SlideId

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    import numpy.typing as npt

    from pyramidai_mpi.pyramid.dense_map import DenseMap
    from pyramidai_mpi.truth.truth import Truth, TruthOptions


@dataclass(frozen=True)
class FullMaps:
    """Full maps of one model, of one finest stride and one threshold.

    Attributes
    ----------
    slides
        The maps.
    ids
        Which slides they are of, in the same order.
    model_name, level_sha256
        The model that gave the scores.
    has_truth
        Whether lesions are known.
    notes
        What was odd about the truth, one line each.
    """

    slides: tuple[FullMap, ...]
    ids: tuple[SlideId, ...]
    model_name: str
    level_sha256: tuple[str, ...]
    has_truth: bool
    notes: tuple[str, ...]

    @property
    def stride(self) -> int:
        """Finest stride, in pixels of the model's level 0."""
        return self.slides[0].map.cell

    @property
    def window(self) -> int:
        """Side of a window in the same pixels."""
        return self.slides[0].map.window

    @property
    def n_lesions(self) -> int:
        """Of all slides."""
        return sum(int(one.lesion.max(initial=0)) for one in self.slides if one.lesion is not None)


def read_full_maps(
    results: Sequence[Path],
    truth: Path | None,
    *,
    options: TruthOptions | None = None,
    like: FullMaps | None = None,
) -> FullMaps:
    """Read results of runs with one stride that looked at every window.

    Parameters
    ----------
    results
        Result files, at least one.
    truth
        See `truth.truth.read_truth`; None where the full maps alone are to say what is right.
    options
        How the truth is read.
    like
        Other slides, of the same model and stride; none of these may be among them.

    Raises
    ------
    InputError
        When a result or truth cannot be used; a result has not all windows of one stride, or is of another model,
        stride or threshold than the first; or a slide is there twice.
    """
    seen: dict[str, Path | str] = {one.quickhash: "the training slides" for one in (like.ids if like else ())}
    slides, ids, notes, name = [], [], [], ""
    first: tuple[int, int, float] | None = None
    sha256: tuple[str, ...] | None = None
    if like is not None:
        first, sha256 = _kind(like.slides[0].map), like.level_sha256
    for path in results:
        with open_result(path) as file:
            header, mode, dense = read_header(file), read_mode(file), read_dense_map(file)
            tissue, levels = read_rule(file).tissue, levels_of(header)
        slide = header.slide
        _check_full(path, mode, dense)
        first, sha256 = first or _kind(dense), sha256 or header.model.level_sha256
        if header.model.level_sha256 != sha256:
            raise InputError(f"{path}: was made with other networks than {results[0]}; tune the results of one model")
        if _kind(dense) != first:
            raise InputError(
                f"{path}: has stride {dense.cell}, windows of {dense.window} px and threshold {dense.threshold:g}, but "
                f"{first[0]}, {first[1]} and {first[2]:g} were found before; run all slides alike"
            )
        if slide.quickhash in seen:
            raise InputError(f"{path}: slide {slide.name} is there twice, in {seen[slide.quickhash]} too")
        seen[slide.quickhash] = path
        rows, cols = dense.score.shape
        times = levels.base // dense.cell
        background = ~tissue.squares.repeat(times, axis=0).repeat(times, axis=1)[:rows, :cols]
        lesion = None
        if truth is not None:
            found = read_truth(truth, slide.name, slide.l0_size, options, slide.l0_bounds)
            lesion = lesions_on(found, dense)
            notes += [f"{slide.name}: {note}" for note in found.notes]
        slides.append(FullMap(slide.name, dense, background, tissue.mask, header.mask_downsample, lesion))
        ids.append(SlideId(slide.name, slide.quickhash))
        name = header.model.name
    assert sha256 is not None
    return FullMaps(tuple(slides), tuple(ids), name, sha256, truth is not None, tuple(notes))


def lesions_on(truth: Truth, dense: DenseMap) -> npt.NDArray[np.int32] | None:
    """Which lesion touches each cell of a map, int32 (rows, cols) from 1, 0 for none; None without tumour.

    Cells that touch tumour and one another, corners included, are one lesion.
    """
    rows, cols = dense.score.shape
    label, n_lesions = ndimage.label(truth.coverage((rows, cols), dense.l0_cell_side()) > 0, np.ones((3, 3), bool))
    return label.astype(np.int32) if n_lesions else None


def _kind(dense: DenseMap) -> tuple[int, int, float]:
    return dense.cell, dense.window, dense.threshold


def _check_full(path: Path, mode: Mode, dense: DenseMap) -> None:
    strides = set(np.unique(dense.stride[dense.stride > 0]).tolist())
    what = ""
    if not strides:
        what = "has no window"
    elif dense.cell >= dense.window:
        what = "has windows side by side"
    elif mode is Mode.PYRAMID:
        what = "has windows only where the pyramid led"
    elif strides != {dense.cell}:
        what = "has windows at several strides"
    if what:
        raise InputError(
            f"{path}: {what}, so it does not tell what other windows say; run the slide with --mode reference, a "
            "--stride below the window, and --stride-mode window"
        )
