"""A result as one page that opens anywhere: everything it needs stands within it."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import numpy as np

from pyramidai_mpi.base.counts import counted
from pyramidai_mpi.export.explained.layer import explained_layer, explanation_for
from pyramidai_mpi.export.layers import (
    gantt_uri,
    level_layer,
    look_layer,
    score_layer,
    shown_layer,
    slide_layer,
    tissue_layer,
)
from pyramidai_mpi.export.page import css_ramp, look_colours, page_of, score_colours
from pyramidai_mpi.export.picture import open_picture
from pyramidai_mpi.export.shown import KINDS, Show, looks_and_scale
from pyramidai_mpi.export.summary import N_BINS, read_report_summary
from pyramidai_mpi.export.tile_table import level_table
from pyramidai_mpi.export.top_cards import top_cards
from pyramidai_mpi.export.zooms import zooms_of
from pyramidai_mpi.store.files.placing import placed
from pyramidai_mpi.store.results.summary import read_areas

if TYPE_CHECKING:
    from pathlib import Path

    from pyramidai_mpi.export.explained.layer import ExplainedLayer
    from pyramidai_mpi.export.picture import Picture
    from pyramidai_mpi.export.summary import LevelFigures, ReportSummary

_LONG_SIDE = 1600
_MOST_RANKS_LISTED = 64


@dataclass(frozen=True)
class Bar:
    """One bin of a histogram; heights as parts of the tallest bin."""

    stopped: float
    zoomed: float
    label: str


@dataclass(frozen=True)
class Fact:
    """A line of the provenance."""

    name: str
    value: str


def write_report(
    result: Path,
    target: Path,
    slide: Path | None = None,
    *,
    overwrite: bool = False,
    explained: Path | None = None,
) -> None:
    """Write an HTML page of a result: pictures to zoom into, the highest-scored tiles, figures by level and by rank.

    Parameters
    ----------
    result
        Result file.
    target
        HTML file to write; it refers to nothing outside itself.
    slide
        The slide it was made from; without it the tissue mask is shown, and no pictures of tiles.
    overwrite
        Replace an existing file.
    explained
        File of explained tiles of this slide, which become a layer; None shows none.

    Raises
    ------
    InputError
        When the result or the explained tiles cannot be read, or are of another slide.
    OutputExistsError, StorageError
        When the target is in the way or cannot be written.
    """
    inputs = [path for path in (result, slide, explained) if path is not None]
    with placed(target, overwrite=overwrite, inputs=inputs) as temporary:
        with open_picture(result, slide, long_side=_LONG_SIDE) as picture:
            shown = None
            if explained is not None:
                shown = explained_layer(explanation_for(explained, result, picture.header))
            page = _page(picture, shown)
        temporary.write_text(page, encoding="utf-8")


def _page(picture: Picture, explained: ExplainedLayer | None) -> str:
    header = picture.header
    summary = read_report_summary(picture.file, header)
    n_levels = len(header.levels)
    batches = summary.execution.batches
    record = header.prediction
    scales, shown = {}, {}
    for kind in KINDS if record is not None else ():
        looks, scales[kind] = looks_and_scale(picture.file, header, Show(kind))
        shown[kind] = shown_layer(replace(picture, last_look=looks, scale=scales[kind]))
    return page_of(
        "report.html",
        header=header,
        summary=summary,
        areas=read_areas(picture.file, header),
        slide_shown=picture.reader is not None,
        base=slide_layer(picture),
        layers=[
            score_layer(picture),
            *shown.values(),
            *([explained.layer] if explained is not None else []),
            look_layer(picture),
            tissue_layer(picture),
            *(level_layer(picture, n) for n in reversed(range(n_levels))),
        ],
        tables=[level_table(picture.file, header, n) for n in range(n_levels)],
        cards=top_cards(picture),
        zooms=zooms_of(picture),
        prediction=record,
        scales={kind: (scale, css_ramp(scale)) for kind, scale in scales.items()},
        score_ramp=score_colours(np.linspace(0, 1, 5).tolist()),
        look_colours=look_colours(n_levels),
        histograms={level.number: histogram(level) for level in summary.levels},
        gantt=gantt_uri(batches, len(summary.ranks), n_levels) if len(batches) else None,
        gantt_end_s=float(batches["end_s"].max()) if len(batches) else 0.0,
        ranks=summary.ranks[:_MOST_RANKS_LISTED],
        longest_s=max((rank.wall_s or rank.busy_s for rank in summary.ranks), default=0.0) or 1.0,
        facts=_facts(picture, summary, explained),
        explained=explained,
    )


def histogram(level: LevelFigures) -> list[Bar]:
    """Bars of a level's scores."""
    tallest = max(map(sum, zip(level.stopped_scores, level.zoomed_scores, strict=True))) or 1
    return [
        Bar(
            stopped / tallest,
            zoomed / tallest,
            f"{i / N_BINS:.2f} to {(i + 1) / N_BINS:.2f}: {counted(stopped + zoomed, level.noun)}, "
            f"{zoomed} {level.outcome}",
        )
        for i, (stopped, zoomed) in enumerate(zip(level.stopped_scores, level.zoomed_scores, strict=True))
    ]


def _facts(picture: Picture, summary: ReportSummary, explained: ExplainedLayer | None) -> list[Fact]:
    header = picture.header
    facts = {
        "slide": header.slide.name,
        "size": f"{header.slide.l0_size[0]} x {header.slide.l0_size[1]} px",
        "µm/px": f"{header.slide.mpp:g}",
        "format": header.slide.vendor,
        "quick hash": header.slide.quickhash,
        "model": f"{header.model.name} ({', '.join(header.model.classes)}; positive: {header.model.positive_class})",
    }
    facts |= {f"network of level {n}": sha256 for n, sha256 in enumerate(header.model.level_sha256)}
    if header.prediction is not None:
        record = header.prediction
        facts |= {
            "slide prediction": record.words,
            "task": record.task,
            "aggregator": f"{record.method} {record.sha256}",
        }
        facts |= {"prediction digest": record.digest}
    facts |= {"written": header.created, "by version": header.software_version, "digest": header.digest or ""}
    if explained is not None:
        facts |= {"explained tiles": explained.title, "digest of the explained tiles": explained.digest}
    facts |= {
        name.replace("_", " "): f"{value:.3f}" if isinstance(value, float) else str(value)
        for name, value in summary.execution.attributes.items()
    }
    return [Fact(name, value) for name, value in facts.items() if value]
