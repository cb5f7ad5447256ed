"""One slide's runs beside its truth: what the pyramid analysed, kept and took, and what it points at."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from pyramidai_mpi.base.types import index_keys
from pyramidai_mpi.evaluation.detections import RADIUS_UM, find_detections
from pyramidai_mpi.evaluation.froc import judge
from pyramidai_mpi.evaluation.lesions import lesions_of
from pyramidai_mpi.evaluation.seconds import NO_RUN_TO_TIME, seconds_of
from pyramidai_mpi.truth.labelled_tree import RunCost

if TYPE_CHECKING:
    from collections.abc import Sequence

    import numpy.typing as npt

    from pyramidai_mpi.evaluation.froc import Findings
    from pyramidai_mpi.evaluation.pairing import SlideRuns
    from pyramidai_mpi.evaluation.seconds import RunSeconds
    from pyramidai_mpi.truth.labelled_tree import LabelledLevel
    from pyramidai_mpi.truth.labels import LabelledResult

    Bools = npt.NDArray[np.bool_]


@dataclass(frozen=True)
class DetectionRule:
    """How places are picked from tiles (see `detections`).

    Attributes
    ----------
    threshold
        Lowest score of a place; None: the run's level-0 threshold.
    radius_um
        Of the neighbourhood in which the highest score wins.
    """

    threshold: float | None = None
    radius_um: float = RADIUS_UM


@dataclass(frozen=True)
class ScoredTiles:
    """Tiles of one level: score float32 (N,), NaN where unreadable, and whether it is tumour, bool (N,)."""

    score: npt.NDArray[np.float32]
    positive: Bools


@dataclass(frozen=True)
class Pointing:
    """Places that a run points at, judged.

    Attributes
    ----------
    findings
        Hits and false positives.
    n_detections
        Number of places pointed at.
    """

    findings: Findings
    n_detections: int


@dataclass(frozen=True)
class SlideEvaluation:
    """What is known of one slide.

    Attributes
    ----------
    slide
        Its file name.
    sources
        Which runs the figures come from, in words.
    thresholds
        Of the pyramidal run, or of the result when there is none; level 0 first.
    cost
        The pyramidal run in tiles; None without one. Without a reference its `true_positives` and `kept` are 0.
    retention_unknown
        Why there is no retention, "" when there is.
    seconds
        Working seconds of the pyramidal and the reference run.
    n_tumor_tiles
        Level-0 tiles that are tumour, among those analysed by the widest run.
    n_lesions, n_isolated
        Lesions to find, and those of isolated tumour cells.
    scored
        Tiles of the widest run, for tile ROC; level 0 first.
    all_tiles
        Whether these are all tiles, or only those that a pyramidal run came to.
    pyramid, reference
        What the runs point at; None where there is no such run.
    notes
        What was odd about the truth.
    """

    slide: str
    sources: str
    thresholds: tuple[float, ...]
    cost: RunCost | None
    retention_unknown: str
    seconds: RunSeconds
    n_tumor_tiles: int
    n_lesions: int
    n_isolated: int
    scored: tuple[ScoredTiles, ...]
    all_tiles: bool
    pyramid: Pointing | None
    reference: Pointing | None
    notes: tuple[str, ...]


def evaluate_slide(runs: SlideRuns, rule: DetectionRule, thresholds: Sequence[float] | None = None) -> SlideEvaluation:
    """Evaluate the runs of one slide.

    Parameters
    ----------
    runs
        Its results.
    rule
        How places are picked.
    thresholds
        Of the pyramidal run to derive from an exhaustive result, level 0 first; None: the result's own.
    """
    widest = runs.widest
    lesions = lesions_of(widest.truth, widest.l0_size, widest.mpp)
    pyramid = runs.pyramidal_levels(thresholds)
    full = runs.full_level0
    decided_at = tuple(thresholds or runs.decided_by.thresholds)
    l0_threshold = decided_at[0]

    def points(level: LabelledLevel | None) -> Pointing | None:
        if level is None:
            return None
        detections = find_detections(
            level.index,
            level.score,
            threshold=l0_threshold if rule.threshold is None else rule.threshold,
            l0_tile_side=widest.rule.grid.l0_side(0),
            mpp=widest.mpp,
            radius_um=rule.radius_um,
        )
        return Pointing(judge(detections, lesions), len(detections))

    cost = None if pyramid is None else _cost(widest, pyramid, full, l0_threshold)
    return SlideEvaluation(
        slide=widest.slide,
        sources=runs.sources(thresholds),
        thresholds=decided_at,
        cost=cost,
        retention_unknown=_why_no_retention(cost, full),
        seconds=NO_RUN_TO_TIME if cost is None else seconds_of(runs, cost),
        n_tumor_tiles=int(widest.levels[0].positive.sum()),
        n_lesions=lesions.n_to_find,
        n_isolated=lesions.n_isolated,
        scored=tuple(ScoredTiles(level.score, level.positive) for level in widest.levels),
        all_tiles=full is not None,
        pyramid=points(None if pyramid is None else pyramid[0]),
        reference=points(full),
        notes=widest.notes,
    )


def _cost(
    widest: LabelledResult,
    pyramid: Sequence[LabelledLevel],
    full: LabelledLevel | None,
    l0_threshold: float,
) -> RunCost:
    true_positives = kept = 0
    if full is not None:
        wanted = full.index[full.positive & full.passes(l0_threshold)]
        true_positives = len(wanted)
        kept = int(np.isin(index_keys(wanted), index_keys(pyramid[0].index)).sum())
    return RunCost(
        analysed=tuple(len(level) for level in pyramid),
        n_reference_tiles=len(widest.reference_index),
        true_positives=true_positives,
        kept=kept,
    )


def _why_no_retention(cost: RunCost | None, full: LabelledLevel | None) -> str:
    if cost is None:
        return "no pyramidal or exhaustive result"
    if full is None:
        return "no reference or exhaustive result"
    if cost.true_positives:
        return ""
    return "tumour, but no tile of it is found even without pyramid" if full.positive.any() else "no tumour tile"
