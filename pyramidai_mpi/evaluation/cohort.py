"""All slides together: the figures with their intervals."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from pyramidai_mpi.evaluation.bootstrap import draw_slides
from pyramidai_mpi.evaluation.froc import froc_curve, froc_score
from pyramidai_mpi.evaluation.ratios import both_means
from pyramidai_mpi.evaluation.roc import auc_table

if TYPE_CHECKING:
    from collections.abc import Sequence

    import numpy.typing as npt

    from pyramidai_mpi.evaluation.bootstrap import Estimate
    from pyramidai_mpi.evaluation.froc import FrocCurve
    from pyramidai_mpi.evaluation.ratios import BothMeans
    from pyramidai_mpi.evaluation.slide import DetectionRule, Pointing, SlideEvaluation

    Floats = npt.NDArray[np.float64]
    Ints = npt.NDArray[np.int64]

N_RESAMPLES = 2000


@dataclass(frozen=True)
class LevelRoc:
    """Tile ROC of one level.

    Attributes
    ----------
    level
        Analysis level.
    n_positive, n_negative
        Readable tiles of either kind, over all slides.
    pooled
        Area over all tiles together.
    per_slide
        float64 (S,), area within each slide; NaN where it has one kind of tile only.
    """

    level: int
    n_positive: int
    n_negative: int
    pooled: Estimate
    per_slide: Floats


@dataclass(frozen=True)
class Froc:
    """Lesion-level FROC of one kind of run.

    Attributes
    ----------
    curve
        Over all slides that have such a run.
    score
        Its FROC score with the interval.
    n_slides, n_lesions
        Slides, and lesions to find on them.
    """

    curve: FrocCurve
    score: Estimate
    n_slides: int
    n_lesions: int


@dataclass(frozen=True)
class CohortEvaluation:
    """Figures over all slides.

    Attributes
    ----------
    slides
        One by one.
    retention
        Of true positive level-0 tiles; slides without any are left out.
    tile_speedup, time_speedup
        Reference over pyramid, in tiles and in working seconds.
    time_estimated
        How many of the slides' times are partly or wholly estimated.
    roc
        ROC of each level, level 0 first.
    pyramid_froc, reference_froc
        None where no slide has such a run.
    rule
        How places are picked for FROC.
    n_resamples, seed
        Number of resamples and seed of the intervals.
    """

    slides: tuple[SlideEvaluation, ...]
    retention: BothMeans
    tile_speedup: BothMeans
    time_speedup: BothMeans
    time_estimated: int
    roc: tuple[LevelRoc, ...]
    pyramid_froc: Froc | None
    reference_froc: Froc | None
    rule: DetectionRule
    n_resamples: int
    seed: int


def evaluate_cohort(
    slides: Sequence[SlideEvaluation], rule: DetectionRule, *, n_resamples: int = N_RESAMPLES, seed: int = 0
) -> CohortEvaluation:
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
    counts = draw_slides(len(slides), n_resamples, seed)
    costs = np.array(
        [
            (np.nan,) * 4
            if one.cost is None
            else (one.cost.kept, one.cost.true_positives, one.cost.n_reference_tiles, one.cost.n_analysed)
            for one in slides
        ]
    )
    seconds = np.array([(one.seconds.reference, one.seconds.pyramid) for one in slides])

    return CohortEvaluation(
        slides=tuple(slides),
        retention=both_means(costs[:, 0], costs[:, 1], counts),
        tile_speedup=both_means(costs[:, 2], costs[:, 3], counts),
        time_speedup=both_means(seconds[:, 0], seconds[:, 1], counts),
        time_estimated=sum("estimated" in one.seconds.how for one in slides),
        roc=tuple(_level_roc(slides, level, counts) for level in range(max(len(one.scored) for one in slides))),
        pyramid_froc=froc_of([one.pyramid for one in slides], n_resamples, seed),
        reference_froc=froc_of([one.reference for one in slides], n_resamples, seed),
        rule=rule,
        n_resamples=n_resamples,
        seed=seed,
    )


def _level_roc(slides: Sequence[SlideEvaluation], level: int, counts: Ints) -> LevelRoc:
    tiles = [one.scored[level] for one in slides]
    table = auc_table([one.score for one in tiles], [one.positive for one in tiles])
    return LevelRoc(
        level, int(table.n_positive.sum()), int(table.n_negative.sum()), table.pooled(counts), table.per_slide()
    )


def froc_of(pointings: Sequence[Pointing | None], n_resamples: int, seed: int) -> Froc | None:
    """FROC of what the runs of several slides point at; None where there is none."""
    findings = [one.findings for one in pointings if one is not None]
    if not findings:
        return None
    return Froc(
        froc_curve(findings),
        froc_score(findings, draw_slides(len(findings), n_resamples, seed)),
        len(findings),
        sum(len(one.lesion_score) for one in findings),
    )
