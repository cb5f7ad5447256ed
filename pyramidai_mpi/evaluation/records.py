"""An evaluation as JSON and CSV."""

from __future__ import annotations

import json
import math
from typing import TYPE_CHECKING, Any

from pyramidai_mpi.base.csv_text import csv_row
from pyramidai_mpi.evaluation.froc import FALSE_POSITIVES_A_SLIDE

if TYPE_CHECKING:
    from pyramidai_mpi.evaluation.bootstrap import Estimate
    from pyramidai_mpi.evaluation.cohort import CohortEvaluation, Froc
    from pyramidai_mpi.evaluation.ratios import BothMeans
    from pyramidai_mpi.evaluation.slide import SlideEvaluation

FORMAT = "pyramidai-evaluation/1"


def evaluation_json(cohort: CohortEvaluation) -> str:
    """All figures as JSON; what is not defined is null."""
    record = {
        "format": FORMAT,
        "intervals": {"confidence": 0.95, "resamples": cohort.n_resamples, "seed": cohort.seed},
        "detections": {"threshold": cohort.rule.threshold, "radius_um": cohort.rule.radius_um},
        "retention": _means(cohort.retention),
        "speedup_tiles": _means(cohort.tile_speedup),
        "speedup_seconds": _means(cohort.time_speedup) | {"slides_estimated": cohort.time_estimated},
        "tile_roc": [
            {
                "level": one.level,
                "auc": estimate_record(one.pooled),
                "tumor_tiles": one.n_positive,
                "other_tiles": one.n_negative,
                "auc_per_slide": [number_record(value) for value in one.per_slide.tolist()],
            }
            for one in cohort.roc
        ],
        "froc": {"pyramid": froc_record(cohort.pyramid_froc), "reference": froc_record(cohort.reference_froc)},
        "slides": [_slide(one) for one in cohort.slides],
    }
    return json.dumps(record, indent=1, ensure_ascii=False, allow_nan=False) + "\n"


def evaluation_csv(cohort: CohortEvaluation) -> str:
    """One row a slide."""
    records = [_slide(one) for one in cohort.slides]
    rows = [
        [" | ".join(map(str, value)) if isinstance(value, list) else value for value in record.values()]
        for record in records
    ]
    return "".join(map(csv_row, [list(records[0]), *rows]))


def _slide(one: SlideEvaluation) -> dict[str, Any]:
    cost, pyramid, reference = one.cost, one.pyramid, one.reference
    known = cost is not None and not one.retention_unknown
    return {
        "slide": one.slide,
        "results": one.sources,
        "thresholds": list(one.thresholds),
        "tiles": cost and cost.n_analysed,
        "reference_tiles": cost and cost.n_reference_tiles,
        "speedup_tiles": cost and cost.speedup,
        "true_positives": cost.true_positives if cost and known else None,
        "kept": cost.kept if cost and known else None,
        "retention": cost.retention if cost and known else None,
        "retention_unknown": one.retention_unknown or None,
        "seconds": number_record(one.seconds.pyramid),
        "reference_seconds": number_record(one.seconds.reference),
        "speedup_seconds": number_record(one.seconds.speedup),
        "seconds_are": one.seconds.how or None,
        "seconds_unknown": one.seconds.unknown or None,
        "lesions": one.n_lesions,
        "isolated_tumor_cells": one.n_isolated,
        "lesions_hit": pyramid and int((pyramid.findings.lesion_score > 0).sum()),
        "false_positives": pyramid and len(pyramid.findings.false_score),
        "reference_lesions_hit": reference and int((reference.findings.lesion_score > 0).sum()),
        "reference_false_positives": reference and len(reference.findings.false_score),
        "notes": list(one.notes),
    }


def _means(means: BothMeans) -> dict[str, Any]:
    return {
        "mean_of_ratios": estimate_record(means.mean_of_ratios),
        "ratio_of_means": estimate_record(means.ratio_of_means),
    }


def estimate_record(one: Estimate) -> dict[str, Any]:
    """A figure with its interval."""
    return {
        "value": number_record(one.value),
        "low": number_record(one.low),
        "high": number_record(one.high),
        "slides": one.n_slides,
    }


def froc_record(froc: Froc | None) -> dict[str, Any] | None:
    """A FROC with its curve; None where there is none."""
    if froc is None:
        return None
    return {
        "score": estimate_record(froc.score),
        "lesions": froc.n_lesions,
        "sensitivity_at": {
            f"{rate:g}": number_record(value)
            for rate, value in zip(FALSE_POSITIVES_A_SLIDE, froc.curve.at_rates.tolist(), strict=True)
        },
        "curve": [
            {"false_positives": x, "sensitivity": number_record(y)}
            for x, y in zip(froc.curve.false_positives.tolist(), froc.curve.sensitivity.tolist(), strict=True)
        ],
    }


def number_record(value: float) -> float | None:
    """None for what is not finite, which JSON does not know."""
    return float(value) if math.isfinite(value) else None
