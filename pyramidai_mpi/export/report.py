"""A result as one page that opens anywhere: everything it needs stands within it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import jinja2
import numpy as np

from pyramidai_mpi import __version__
from pyramidai_mpi.export.layers import gantt_uri, level_layer, look_layer, score_layer, slide_layer, tissue_layer
from pyramidai_mpi.export.overlay import scale_bar
from pyramidai_mpi.export.picture import look_colour, open_picture, score_colour
from pyramidai_mpi.export.summary import N_BINS, read_report_summary
from pyramidai_mpi.store.files.placing import placed
from pyramidai_mpi.store.results.summary import read_areas

if TYPE_CHECKING:
    from pathlib import Path

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


def write_report(result: Path, target: Path, slide: Path | None = None, *, overwrite: bool = False) -> None:
    """Write an HTML page of a result: pictures to zoom into, scores and time by level, work by rank, provenance.

    Parameters
    ----------
    result
        Result file.
    target
        HTML file to write; it refers to nothing outside itself.
    slide
        The slide it was made from; without it the tissue mask is shown instead.
    overwrite
        Replace an existing file.

    Raises
    ------
    InputError
        When the result cannot be read, or the slide is another one than the result's.
    OutputExistsError, StorageError
        When the target is in the way or cannot be written.
    """
    inputs = [result] if slide is None else [result, slide]
    with placed(target, overwrite=overwrite, inputs=inputs) as temporary:
        with open_picture(result, slide, long_side=_LONG_SIDE) as picture:
            page = _page(picture)
        temporary.write_text(page, encoding="utf-8")


def _page(picture: Picture) -> str:
    header = picture.header
    summary = read_report_summary(picture.file, header)
    n_levels = len(header.levels)
    batches = summary.execution.batches
    bar_px, bar_label = scale_bar(header.slide.mpp * picture.downsample, picture.size[0])
    environment = jinja2.Environment(
        loader=jinja2.PackageLoader("pyramidai_mpi.export"), autoescape=True, undefined=jinja2.StrictUndefined
    )
    environment.filters["thousands"] = lambda number: f"{number:,}".replace(",", "\u202f")
    environment.filters["seconds"] = _in_seconds
    return environment.get_template("report.html").render(
        header=header,
        summary=summary,
        areas=read_areas(picture.file, header),
        slide_shown=picture.reader is not None,
        base=slide_layer(picture),
        layers=[
            score_layer(picture),
            look_layer(picture),
            tissue_layer(picture),
            *(level_layer(picture, n) for n in reversed(range(n_levels))),
        ],
        aspect=header.slide.l0_size[0] / header.slide.l0_size[1],
        scale_bar_share=bar_px / picture.size[0],
        scale_bar_label=bar_label.replace("um", "µm"),
        score_ramp=[_css(colour) for colour in score_colour(np.linspace(0, 1, 5))],
        look_colours=[_css(colour) for colour in look_colour(np.arange(n_levels), n_levels)],
        histograms={level.number: histogram(level) for level in summary.levels},
        gantt=gantt_uri(batches, len(summary.ranks), n_levels) if len(batches) else None,
        gantt_end_s=float(batches["end_s"].max()) if len(batches) else 0.0,
        ranks=summary.ranks[:_MOST_RANKS_LISTED],
        longest_s=max((rank.wall_s or rank.busy_s for rank in summary.ranks), default=0.0) or 1.0,
        facts=_facts(picture, summary),
        version=__version__,
    )


def histogram(level: LevelFigures) -> list[Bar]:
    """Bars of a level's scores."""
    tallest = max(map(sum, zip(level.stopped_scores, level.zoomed_scores, strict=True))) or 1
    word = "zoomed into" if level.number else "positive"
    return [
        Bar(
            stopped / tallest,
            zoomed / tallest,
            f"{i / N_BINS:.2f} to {(i + 1) / N_BINS:.2f}: {stopped + zoomed} tiles, {zoomed} {word}",
        )
        for i, (stopped, zoomed) in enumerate(zip(level.stopped_scores, level.zoomed_scores, strict=True))
    ]


def _in_seconds(seconds: float | None) -> str:
    if seconds is None:
        return "not told"
    if seconds >= 120:
        return f"{seconds / 60:.1f} min"
    return f"{seconds:.1f} s" if seconds >= 1 else f"{seconds * 1000:.0f} ms"


def _css(colour: np.ndarray[tuple[int, ...], np.dtype[np.float64]]) -> str:
    red, green, blue = np.rint(colour).astype(int).tolist()
    return f"rgb({red} {green} {blue})"


def _facts(picture: Picture, summary: ReportSummary) -> list[Fact]:
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
    facts |= {"written": header.created, "by version": header.software_version, "digest": header.digest or ""}
    facts |= {
        name.replace("_", " "): f"{value:.3f}" if isinstance(value, float) else str(value)
        for name, value in summary.execution.attributes.items()
    }
    return [Fact(name, value) for name, value in facts.items() if value]
