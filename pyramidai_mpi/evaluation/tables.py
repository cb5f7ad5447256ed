"""An evaluation in words, for the terminal."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from pyramidai_mpi.evaluation.froc import FALSE_POSITIVES_A_SLIDE

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from pyramidai_mpi.evaluation.cohort import CohortEvaluation, Froc
    from pyramidai_mpi.evaluation.ratios import BothMeans
    from pyramidai_mpi.evaluation.slide import DetectionRule, SlideEvaluation

_HEAD = ("slide", "tiles", "reference", "speedup", "kept", "of true", "retention", "seconds", "lesions", "results")
FROC_HEAD = ("lesion FROC", *(f"{rate:g}/slide" for rate in FALSE_POSITIVES_A_SLIDE), "score", "lesions", "slides")
_NAMED = 3
"""How many slides a line names that holds for several."""


def evaluation_lines(cohort: CohortEvaluation) -> Iterator[str]:
    """Tables of an evaluation: slide by slide, all together, tile ROC, FROC."""
    slides = cohort.slides
    with_tumor = sum(one.n_tumor_tiles > 0 or one.n_lesions + one.n_isolated > 0 for one in slides)
    yield f"{len(slides)} slides, {with_tumor} with tumour; {_thresholds(slides)}"
    yield ""
    yield from columns([_HEAD, *(_slide_row(one) for one in slides)])
    for one in slides:
        if one.retention_unknown:
            yield f"{one.slide}: {one.retention_unknown}: not in retention"
        for note in one.notes:
            yield f"{one.slide}: note: {note}"
    yield from _missing_seconds(slides)
    yield ""
    yield from columns(
        [
            ("over slides", "mean of ratios", "ratio of means", "slides"),
            _means_row("positive retention", cohort.retention),
            _means_row("speedup in tiles", cohort.tile_speedup),
            _means_row("speedup in seconds" + _estimated(cohort), cohort.time_speedup),
        ]
    )
    yield ""
    yield from columns(
        [
            ("tile ROC", "AUC, all tiles together", "mean over slides", "tumour tiles", "others"),
            *(
                (
                    f"level {one.level}"
                    + ("" if all(slide.all_tiles for slide in slides) else " (analysed tiles only)"),
                    str(one.pooled),
                    _mean_of_known(one.per_slide),
                    str(one.n_positive),
                    str(one.n_negative),
                )
                for one in cohort.roc
                if one.n_positive + one.n_negative
            ),
        ]
    )
    yield ""
    yield from columns(
        [
            FROC_HEAD,
            *froc_rows("pyramidal run", cohort.pyramid_froc),
            *froc_rows("reference run", cohort.reference_froc),
        ]
    )
    if any(one.n_lesions for one in slides):
        yield places_line(cohort.rule, "level 0's threshold", "tiles")
    else:
        yield "no lesion to find on any slide: no FROC"
    yield ""
    yield f"[95 % intervals: {cohort.n_resamples} draws of slides, seed {cohort.seed}]"


def places_line(rule: DetectionRule, own: str, what: str) -> str:
    """How places were picked, in words: from what, and by whose threshold where the rule names none."""
    lowest = own if rule.threshold is None else f"{rule.threshold:g}"
    return f"places: highest {what} within {rule.radius_um:g} µm, of scores from {lowest} on"


def _thresholds(slides: Sequence[SlideEvaluation]) -> str:
    chosen = {one.thresholds for one in slides}
    if len(chosen) > 1:
        return "thresholds differ between slides"
    return "thresholds " + " ".join(f"{level}={value:g}" for level, value in enumerate(min(chosen)))


def _slide_row(one: SlideEvaluation) -> tuple[str, ...]:
    cost, known = one.cost, not one.retention_unknown
    isolated = f" + {one.n_isolated} isolated cells" if one.n_isolated else ""
    return (
        one.slide,
        "-" if cost is None else str(cost.n_analysed),
        "-" if cost is None else str(cost.n_reference_tiles),
        "-" if cost is None else f"{cost.speedup:.2f}",
        "-" if cost is None or not known else str(cost.kept),
        "-" if cost is None or not known else str(cost.true_positives),
        "-" if cost is None or not known else f"{cost.retention:.4f}",
        _seconds(one),
        f"{one.n_lesions}{isolated}",
        one.sources,
    )


def _seconds(one: SlideEvaluation) -> str:
    if np.isnan(one.seconds.speedup):
        return "-"
    return f"{one.seconds.reference:.4g}/{one.seconds.pyramid:.4g} ({one.seconds.how})"


def _missing_seconds(slides: Sequence[SlideEvaluation]) -> Iterator[str]:
    """One line for each reason: it is mostly the same for many slides."""
    by_reason: dict[str, list[str]] = {}
    for one in slides:
        if one.seconds.unknown:
            by_reason.setdefault(one.seconds.unknown, []).append(one.slide)
    for reason, names in by_reason.items():
        who = "all slides" if 1 < len(names) == len(slides) else ", ".join(names[:_NAMED])
        more = f" and {len(names) - _NAMED} more" if len(names) > _NAMED and len(names) < len(slides) else ""
        yield f"{who}{more}: {reason}: not in speedup in seconds"


def _means_row(name: str, means: BothMeans) -> tuple[str, ...]:
    return name, str(means.mean_of_ratios), str(means.ratio_of_means), str(means.mean_of_ratios.n_slides)


def _estimated(cohort: CohortEvaluation) -> str:
    return f" ({cohort.time_estimated} estimated)" if cohort.time_estimated else ""


def _mean_of_known(values: Sequence[float] | np.ndarray[tuple[int, ...], np.dtype[np.float64]]) -> str:
    known = np.asarray(values)[~np.isnan(values)]
    return f"{known.mean():.4g} ({len(known)})" if len(known) else "-"


def froc_rows(name: str, froc: Froc | None) -> Iterator[tuple[str, ...]]:
    """Row of a FROC under `FROC_HEAD`; none where there is no lesion to find."""
    if froc is not None and froc.n_lesions:
        rates = (f"{sensitivity:.3f}" for sensitivity in froc.curve.at_rates)
        yield name, *rates, str(froc.score), str(froc.n_lesions), str(froc.n_slides)


def columns(rows: Sequence[Sequence[str]]) -> Iterator[str]:
    """Lines of a table, each column as wide as its widest text."""
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    for row in rows:
        yield "  ".join(text.ljust(width) for text, width in zip(row, widths, strict=True)).rstrip()
