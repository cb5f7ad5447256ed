"""Free-response ROC: lesions found against false positives a slide, by the rules of CAMELYON16.

A lesion's score is the highest one of the detections that hit it. A detection outside every lesion is a false
positive; one on isolated tumour cells is neither. The FROC score is the mean sensitivity at 1/4, 1/2, 1, 2, 4 and 8
false positives a slide, read off the curve by linear interpolation.

One thing differs from the challenge's script: that drops the lowest of all scores, which is the 0 of the lesions never
hit; where every lesion was hit it would drop a real detection. Here only the 0 is dropped.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from pyramidai_mpi.evaluation.bootstrap import estimate

if TYPE_CHECKING:
    from collections.abc import Sequence

    import numpy.typing as npt

    from pyramidai_mpi.evaluation.bootstrap import Estimate
    from pyramidai_mpi.evaluation.detections import Detections
    from pyramidai_mpi.evaluation.lesions import Lesions

    Floats = npt.NDArray[np.float64]
    Ints = npt.NDArray[np.int64]

FALSE_POSITIVES_A_SLIDE = (0.25, 0.5, 1.0, 2.0, 4.0, 8.0)


@dataclass(frozen=True)
class Findings:
    """Detections of one slide, judged.

    Attributes
    ----------
    lesion_score
        float64 (L,), highest score on each lesion that was to be found, 0 where none hit it.
    false_score
        float64 (K,), scores of the detections outside every lesion.
    """

    lesion_score: Floats
    false_score: Floats


def judge(detections: Detections, lesions: Lesions) -> Findings:
    """Sort the detections of a slide into hits and false positives."""
    hit = lesions.label_at(detections.l0_xy)
    score = detections.score.astype(np.float64)
    best = np.zeros(len(lesions.isolated))
    np.maximum.at(best, hit, score)
    return Findings(best[1:][~lesions.isolated[1:]], score[hit == 0])


@dataclass(frozen=True)
class FrocCurve:
    """Operating points by falling threshold.

    Attributes
    ----------
    false_positives
        float64 (K,), false positives a slide, rising from 0.
    sensitivity
        float64 (K,), share of all lesions found; NaN where there is no lesion to find.
    at_rates
        float64 (6,), sensitivity at `FALSE_POSITIVES_A_SLIDE`.
    score
        Their mean.
    """

    false_positives: Floats
    sensitivity: Floats
    at_rates: Floats
    score: float


@dataclass(frozen=True)
class _Events:
    """All scores above 0 by falling score, of all slides."""

    slide: Ints
    is_lesion: npt.NDArray[np.bool_]
    last_of_equal: Ints
    n_lesions: Ints

    def curve(self, counts: Ints) -> FrocCurve:
        weight = counts[self.slide]
        true, false = (
            np.concatenate([[0], np.cumsum(np.where(mine, weight, 0))[self.last_of_equal]])
            for mine in (self.is_lesion, ~self.is_lesion)
        )
        with np.errstate(invalid="ignore", divide="ignore"):
            false_positives = false / np.float64(counts.sum())
            sensitivity = true / np.float64(counts @ self.n_lesions)
        at_rates = np.interp(FALSE_POSITIVES_A_SLIDE, false_positives, sensitivity)
        return FrocCurve(false_positives, sensitivity, at_rates, float(at_rates.mean()))


def _events(findings: Sequence[Findings]) -> _Events:
    scores, slides, lesions = [np.empty(0)], [np.empty(0, np.int64)], [np.empty(0, bool)]
    for slide, one in enumerate(findings):
        for values, is_lesion in ((one.lesion_score, True), (one.false_score, False)):
            found = values[values > 0]
            scores.append(found)
            slides.append(np.full(len(found), slide))
            lesions.append(np.full(len(found), is_lesion))
    score = np.concatenate(scores)
    order = np.argsort(-score, kind="stable")
    falling = score[order]
    last = np.flatnonzero(np.append(np.diff(falling) != 0, True)) if len(falling) else np.empty(0, np.int64)
    return _Events(
        np.concatenate(slides)[order],
        np.concatenate(lesions)[order],
        last,
        np.array([len(one.lesion_score) for one in findings], np.int64),
    )


def froc_curve(findings: Sequence[Findings]) -> FrocCurve:
    """Curve over all slides, one entry a slide, those without tumour included."""
    return _events(findings).curve(np.ones(len(findings), np.int64))


def froc_score(findings: Sequence[Findings], counts: Ints) -> Estimate:
    """FROC score with its interval over drawn cohorts, int64 (B, S)."""
    events = _events(findings)
    whole = events.curve(np.ones(len(findings), np.int64))
    return estimate(whole.score, np.array([events.curve(drawn).score for drawn in counts]), len(findings))
