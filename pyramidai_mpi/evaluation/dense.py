"""Maps of windows against ground truth: lesion FROC at their own resolution, the slide's highest score, agreement.

A map of one stride holds those of all strides that it divides: their windows are among its own, so their scores are, to
the bit. One run at the finest stride tells what coarser ones would have found.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from pyramidai_mpi.base.errors import UsageError
from pyramidai_mpi.evaluation.bootstrap import draw_slides
from pyramidai_mpi.evaluation.cohort import N_RESAMPLES, froc_of
from pyramidai_mpi.evaluation.detections import find_on_map, window_scores
from pyramidai_mpi.evaluation.froc import judge
from pyramidai_mpi.evaluation.roc import auc_table
from pyramidai_mpi.evaluation.slide import Pointing
from pyramidai_mpi.pyramid.decision import passes

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from pyramidai_mpi.evaluation.bootstrap import Estimate
    from pyramidai_mpi.evaluation.cohort import Froc
    from pyramidai_mpi.evaluation.lesions import Lesions
    from pyramidai_mpi.evaluation.slide import DetectionRule
    from pyramidai_mpi.pyramid.dense_map import DenseMap


@dataclass(frozen=True)
class Agreement:
    """A map of a slide beside one that is held to be right, cell by cell of the latter.

    Attributes
    ----------
    n_cells
        Cells to which the right one gives a score. Where the other gives none, it calls them negative.
    n_same
        Of these, cells that both call positive or both negative.
    n_both, n_either
        Cells that both call positive, and that at least one does.
    """

    n_cells: int
    n_same: int
    n_both: int
    n_either: int

    @property
    def share(self) -> float:
        """Share of the cells that are called alike; NaN without cells."""
        return self.n_same / self.n_cells if self.n_cells else float("nan")

    @property
    def iou(self) -> float:
        """Intersection over union of what is positive; NaN where nothing is."""
        return self.n_both / self.n_either if self.n_either else float("nan")

    def __add__(self, other: Agreement) -> Agreement:
        """Counts of two slides together."""
        return Agreement(
            self.n_cells + other.n_cells,
            self.n_same + other.n_same,
            self.n_both + other.n_both,
            self.n_either + other.n_either,
        )


@dataclass(frozen=True)
class MapEvaluation:
    """What is known of one map of a slide.

    Attributes
    ----------
    name
        Which map, in words.
    strides
        Strides that it has, the finest first.
    n_windows
        Windows whose score it shows; of the map of a result those that its run looked at, at all levels.
    pointing
        The places that it points at, judged.
    highest
        Its highest score; 0 where it has none.
    agreement
        With the slide's reference map; None without one.
    """

    name: str
    strides: tuple[int, ...]
    n_windows: int
    pointing: Pointing
    highest: float
    agreement: Agreement | None


@dataclass(frozen=True)
class DenseSlide:
    """What is known of one slide.

    Attributes
    ----------
    slide
        Its file name.
    has_tumor
        Whether there is any tumour, isolated cells included.
    n_lesions, n_isolated
        Lesions to find, and those of isolated tumour cells.
    maps
        One by one.
    notes
        What was odd about the truth.
    """

    slide: str
    has_tumor: bool
    n_lesions: int
    n_isolated: int
    maps: tuple[MapEvaluation, ...]
    notes: tuple[str, ...] = ()


@dataclass(frozen=True)
class MapFigures:
    """One kind of map over all slides that have it.

    Attributes
    ----------
    name, strides
        As of the slides' maps.
    n_slides
        Slides that have it.
    n_windows
        Windows over all of them.
    froc
        Lesion FROC with its interval.
    slide_auc
        Area under the ROC curve of slides with tumour against those without, by the highest score.
    agreement
        With the slides' reference maps; None where none has one.
    """

    name: str
    strides: tuple[int, ...]
    n_slides: int
    n_windows: int
    froc: Froc
    slide_auc: Estimate
    agreement: Agreement | None


@dataclass(frozen=True)
class DenseCohort:
    """Figures over all slides, map by map in order of appearance.

    Attributes
    ----------
    slides
        One by one.
    maps
        All slides together.
    rule
        How places are picked for FROC.
    n_resamples, seed
        Number of resamples and seed of the intervals.
    """

    slides: tuple[DenseSlide, ...]
    maps: tuple[MapFigures, ...]
    rule: DetectionRule
    n_resamples: int
    seed: int


def strides_in(dense: DenseMap) -> tuple[int, ...]:
    """Strides that a map has, the finest first."""
    return tuple(int(stride) for stride in np.unique(dense.stride[dense.stride > 0]))


def coarser_maps(dense: DenseMap, strides: Sequence[int] = ()) -> dict[str, DenseMap]:
    """Maps of wider strides that a map of one stride holds, by name, itself first.

    Parameters
    ----------
    dense
        The map.
    strides
        Which; none: the stride doubled as long as windows overlap, and the window's side where the stride divides it.

    Raises
    ------
    UsageError
        When the map has several strides, or its stride does not divide one that is asked for.
    """
    if len(found := strides_in(dense)) > 1:
        raise UsageError(
            f"a map of strides {found[0]} to {found[-1]} holds none of one stride; take that of a run at one stride"
        )
    if bad := [stride for stride in strides if stride < 1 or stride % dense.cell]:
        raise UsageError(f"stride {bad[0]}: windows of every {bad[0]} px are not among those of every {dense.cell} px")
    if not strides:
        doubled = [dense.cell << k for k in range(16) if dense.cell << k < dense.window]
        strides = [*doubled, *([dense.window] if dense.window % dense.cell == 0 else [])]
    times = sorted({1, *(stride // dense.cell for stride in strides)})
    return {f"stride {n * dense.cell}": dense if n == 1 else dense.subsample(n) for n in times}


def compare_maps(dense: DenseMap, reference: DenseMap) -> Agreement:
    """Say where two maps of one slide call cells alike, each by its own threshold.

    Parameters
    ----------
    dense
        Of the cells of `reference`, or of cells that these are whole parts of.
    reference
        The map that is held to be right.

    Raises
    ------
    ValueError
        When the cells of `reference` do not nest in those of `dense`.
    """
    if dense.cell % reference.cell:
        raise ValueError(f"cells of {reference.cell} do not nest in cells of {dense.cell}")
    times = dense.cell // reference.cell
    rows, cols = reference.score.shape
    score = dense.score.repeat(times, axis=0)[:rows].repeat(times, axis=1)[:, :cols]
    known = ~np.isnan(reference.score)
    # NaN passes no threshold
    ours, theirs = passes(score, dense.threshold) & known, passes(reference.score, reference.threshold)
    return Agreement(
        int(known.sum()), int((ours == theirs)[known].sum()), int((ours & theirs).sum()), int((ours | theirs).sum())
    )


def evaluate_map(
    name: str, dense: DenseMap, lesions: Lesions, rule: DetectionRule, reference: DenseMap | None = None
) -> MapEvaluation:
    """Judge one map of a slide.

    Parameters
    ----------
    name
        Which map, in words.
    dense
        The map.
    lesions
        The slide's.
    rule
        How places are picked.
    reference
        The slide's map that its cells are compared with.
    """
    detections = find_on_map(dense, threshold=rule.threshold, radius_um=rule.radius_um)
    return MapEvaluation(
        name=name,
        strides=strides_in(dense),
        n_windows=int((window_scores(dense, -np.inf) > -np.inf).sum()),
        pointing=Pointing(judge(detections, lesions), len(detections)),
        highest=float(np.nanmax(dense.score, initial=0.0)),
        agreement=None if reference is None else compare_maps(dense, reference),
    )


def evaluate_maps(
    slide: str,
    has_tumor: bool,
    lesions: Lesions,
    maps: Mapping[str, DenseMap],
    rule: DetectionRule,
    reference: DenseMap | None = None,
    notes: tuple[str, ...] = (),
) -> DenseSlide:
    """Judge all maps of a slide, see `evaluate_map` and `DenseSlide`."""
    return DenseSlide(
        slide,
        has_tumor,
        lesions.n_to_find,
        lesions.n_isolated,
        tuple(evaluate_map(name, dense, lesions, rule, reference) for name, dense in maps.items()),
        notes,
    )


def evaluate_dense_cohort(
    slides: Sequence[DenseSlide], rule: DetectionRule, *, n_resamples: int = N_RESAMPLES, seed: int = 0
) -> DenseCohort:
    """Put the figures of several slides together.

    Parameters
    ----------
    slides
        At least one.
    rule
        How their places were picked.
    n_resamples, seed
        Number and seed of the draws of slides for the 95 % intervals.
    """
    names = dict.fromkeys(one.name for slide in slides for one in slide.maps)
    figures = []
    for name in names:
        found = [(slide, one) for slide in slides for one in slide.maps if one.name == name]
        froc = froc_of([one.pointing for _, one in found], n_resamples, seed)
        assert froc is not None
        table = auc_table(
            [np.array([one.highest]) for _, one in found], [np.array([slide.has_tumor]) for slide, _ in found]
        )
        agreements = [one.agreement for _, one in found if one.agreement is not None]
        figures.append(
            MapFigures(
                name=name,
                strides=tuple(sorted({stride for _, one in found for stride in one.strides})),
                n_slides=len(found),
                n_windows=sum(one.n_windows for _, one in found),
                froc=froc,
                slide_auc=table.pooled(draw_slides(len(found), n_resamples, seed)),
                agreement=sum(agreements[1:], agreements[0]) if agreements else None,
            )
        )
    return DenseCohort(tuple(slides), tuple(figures), rule, n_resamples, seed)
