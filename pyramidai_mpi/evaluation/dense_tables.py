"""An evaluation of maps of windows in words, as JSON and as CSV."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

from pyramidai_mpi.base.csv_text import csv_row
from pyramidai_mpi.evaluation.records import estimate_record, froc_record, number_record
from pyramidai_mpi.evaluation.tables import FROC_HEAD, columns, froc_rows, places_line

if TYPE_CHECKING:
    from collections.abc import Iterator

    from pyramidai_mpi.evaluation.dense import Agreement, DenseCohort, DenseSlide, MapEvaluation, MapFigures

FORMAT = "pyramidai-dense-evaluation/1"


def dense_lines(cohort: DenseCohort) -> Iterator[str]:
    """Tables of an evaluation: the work, FROC and agreement of every kind of map."""
    with_tumor = sum(one.has_tumor for one in cohort.slides)
    lesions, isolated = (sum(getattr(one, name) for one in cohort.slides) for name in ("n_lesions", "n_isolated"))
    yield f"{len(cohort.slides)} slides, {with_tumor} with tumour: {lesions} lesions, {isolated} of isolated cells"
    yield from (f"{one.slide}: note: {note}" for one in cohort.slides for note in one.notes)
    yield ""
    yield from columns(
        [
            ("maps", "slides", "windows", "of the most", "places", "slide AUC", "cells alike", "IoU"),
            *(_work_row(one, cohort) for one in cohort.maps),
        ]
    )
    yield ""
    yield from columns([FROC_HEAD, *(row for one in cohort.maps for row in froc_rows(one.name, one.froc))])
    if lesions:
        yield places_line(cohort.rule, "the map's threshold", "windows")
    else:
        yield "no lesion to find on any slide: no FROC"
    yield ""
    yield f"[95 % intervals: {cohort.n_resamples} draws of slides, seed {cohort.seed}]"


def _work_row(one: MapFigures, cohort: DenseCohort) -> tuple[str, ...]:
    most = max(other.n_windows / other.n_slides for other in cohort.maps)
    mine = one.n_windows / one.n_slides
    maps = [found for slide in cohort.slides for found in slide.maps if found.name == one.name]
    return (
        one.name,
        str(one.n_slides),
        str(one.n_windows),
        f"1/{most / mine:.3g}" if mine else "-",
        str(sum(found.pointing.n_detections for found in maps)),
        str(one.slide_auc),
        "-" if one.agreement is None else f"{one.agreement.share:.4f}",
        "-" if one.agreement is None or not one.agreement.n_either else f"{one.agreement.iou:.4f}",
    )


def dense_json(cohort: DenseCohort) -> str:
    """All figures as JSON; what is not defined is null."""
    record = {
        "format": FORMAT,
        "intervals": {"confidence": 0.95, "resamples": cohort.n_resamples, "seed": cohort.seed},
        "detections": {"threshold": cohort.rule.threshold, "radius_um": cohort.rule.radius_um},
        "maps": [
            {
                "name": one.name,
                "strides": list(one.strides),
                "slides": one.n_slides,
                "windows": one.n_windows,
                "froc": froc_record(one.froc),
                "slide_auc": estimate_record(one.slide_auc),
                "agreement": _agreement(one.agreement),
            }
            for one in cohort.maps
        ],
        "slides": [
            _slide(slide)
            | {"maps": [_map(one) | {"agreement": _agreement(one.agreement)} for one in slide.maps]}
            | {"notes": list(slide.notes)}
            for slide in cohort.slides
        ],
    }
    return json.dumps(record, indent=1, ensure_ascii=False, allow_nan=False) + "\n"


def dense_csv(cohort: DenseCohort) -> str:
    """One row a slide and map."""
    rows = [_slide(slide) | _map(one) for slide in cohort.slides for one in slide.maps]
    cells = [
        [" ".join(map(str, value)) if isinstance(value, list) else value for value in row.values()] for row in rows
    ]
    return "".join(map(csv_row, [list(rows[0]), *cells]))


def _slide(one: DenseSlide) -> dict[str, Any]:
    return {
        "slide": one.slide,
        "tumor": one.has_tumor,
        "lesions": one.n_lesions,
        "isolated_tumor_cells": one.n_isolated,
    }


def _map(one: MapEvaluation) -> dict[str, Any]:
    return {
        "map": one.name,
        "strides": list(one.strides),
        "windows": one.n_windows,
        "places": one.pointing.n_detections,
        "lesions_hit": int((one.pointing.findings.lesion_score > 0).sum()),
        "false_positives": len(one.pointing.findings.false_score),
        "highest_score": one.highest,
    }


def _agreement(one: Agreement | None) -> dict[str, Any] | None:
    if one is None:
        return None
    return {"cells": one.n_cells, "alike": number_record(one.share), "iou": number_record(one.iou)}
