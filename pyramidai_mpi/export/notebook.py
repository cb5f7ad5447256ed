"""How an opened result looks: one screen of text in a terminal, the same and a picture of its scores in a notebook."""

from __future__ import annotations

import base64
import io
from dataclasses import dataclass
from html import escape
from typing import TYPE_CHECKING

import numpy as np
from PIL import Image

from pyramidai_mpi.base.errors import printable
from pyramidai_mpi.base.intended_use import claim_of
from pyramidai_mpi.export.heat_pyramid import halved
from pyramidai_mpi.export.picture import score_colour
from pyramidai_mpi.store.results.tables import model_in_words

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    import numpy.typing as npt

    from pyramidai_mpi.export.summary import LevelFigures
    from pyramidai_mpi.pyramid.tissue import Areas
    from pyramidai_mpi.store.results.reader import ResultSummary
    from pyramidai_mpi.store.results.tables import Header

_LONG_SIDE = 480
"""Most pixels of a picture's longer side."""
_READ_LARGER = 4
"""A picture is read at up to so many times its size and made smaller by largest scores, so that no spot is lost."""
_COLUMNS = ("level", "µm/px", "tiles", "zoomed into", "unreadable", "threshold")
_DENSE_COLUMNS = ("level", "µm/px", "stride", "windows", "zoomed into or positive", "unreadable", "threshold")
_LABEL = 9
_RIGHT = "padding:0.1em 0.8em;text-align:right"
_LEFT = "padding:0.1em 0.8em;text-align:left"


@dataclass(frozen=True)
class ResultScreen:
    """What is said of a result.

    Attributes
    ----------
    title
        Its name.
    facts
        Lines of label and text.
    columns
        Heads of the table of levels.
    rows
        Its cells for each level, the coarsest first.
    warning
        What was not looked at; empty for nothing.
    """

    title: str
    facts: tuple[tuple[str, str], ...]
    columns: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]
    warning: str

    @classmethod
    def of(
        cls,
        path: Path,
        header: Header,
        summary: ResultSummary,
        areas: Areas,
        dense: Sequence[LevelFigures] | None = None,
    ) -> ResultScreen:
        """Put together what was read of a result; `dense` are the levels of one with strides, level 0 first."""
        slide, model, noun = header.slide, header.model, "cells" if dense else "tiles"
        facts = (
            ("slide", f"{slide.name}, {slide.l0_size[0]} x {slide.l0_size[1]} px at {slide.mpp:g} µm/px"),
            ("model", f"{model.name}: {model_in_words(header)}"),
            *([("encoder", header.encoder.name)] if header.encoder is not None else []),
            *([("use", claim)] if (claim := claim_of(model.intended_use)) else []),
            ("mode", str(summary.execution.get("mode", "not said"))),
            (
                "tissue",
                f"{areas.tissue:.3g} mm², {areas.positive:.3g} mm² of it in positive {noun}",
            ),
        )
        if dense:
            stride_mode = str(summary.execution.get("stride_mode", "not said"))
            facts = (*facts[:-1], ("strides", f"blocks computed by {stride_mode}"), facts[-1])
            table = _DENSE_COLUMNS, tuple(map(_dense_row, reversed(dense)))
            return cls(f"OpenResult of {path.name}", facts, *table, summary.warning)
        rows = tuple(
            (
                str(level.level),
                f"{level.spacing_um_px:.3g}",
                str(level.analysed),
                f"{level.zoomed}" if level.level else f"{level.zoomed} positive",
                str(level.unreadable),
                f"{level.threshold:g}",
            )
            for level in reversed(summary.levels)
        )
        return cls(f"OpenResult of {path.name}", facts, _COLUMNS, rows, summary.warning)

    def text(self) -> str:
        """As lines of text."""
        widths = [max(map(len, column)) for column in zip(self.columns, *self.rows, strict=True)]
        rows = [map(str.rjust, row, widths) for row in (self.columns, *self.rows)]
        lines = [self.title, *(f"{label.ljust(_LABEL)}{text}" for label, text in self.facts), *map("  ".join, rows)]
        if self.warning:
            lines.append(f"{'warning'.ljust(_LABEL)}{self.warning}")
        return "\n".join(map(printable, lines))

    def html(self, scores: npt.NDArray[np.float32] | None, positive_class: str) -> str:
        """In HTML, with a picture of the scores (H, W; NaN for none); colours are the page's own, light or dark.

        Without scores, as of an encoder, there is no picture.
        """
        facts = "".join(
            f'<tr><th style="{_LEFT}">{escape(label)}</th><td style="{_LEFT}">{escape(printable(text))}</td></tr>'
            for label, text in self.facts
        )
        rows = "".join(f"<tr>{_cells(row)}</tr>" for row in (self.columns, *self.rows))
        warning = f"<p><b>{escape(printable(self.warning))}</b></p>" if self.warning else ""
        picture = "" if scores is None else figure(scores, f"Score of {positive_class} at the last look")
        return (
            '<div style="display:flex;flex-wrap:wrap;gap:1em;align-items:flex-start"><div>'
            f"<b>{escape(printable(self.title))}</b>{warning}<table>{facts}</table><table>{rows}</table></div>"
            f"{picture}</div>"
        )


def _dense_row(level: LevelFigures) -> tuple[str, ...]:
    return (
        str(level.number),
        f"{level.spacing_um_px:.3g}",
        str(level.stride or "-"),
        str(level.analysed),
        f"{level.zoomed} {level.outcome}",
        str(level.unreadable),
        f"{level.threshold:g}",
    )


def spacing_for_picture(header: Header) -> float:
    """µm per pixel at which a result's scores are read for `ResultScreen.html`."""
    of_the_mask = header.mask_downsample * header.slide.mpp
    return max(of_the_mask, max(header.slide.l0_size) * header.slide.mpp / (_READ_LARGER * _LONG_SIDE))


def describe_scores(values: npt.NDArray[np.float32], spacing_um_px: float) -> str:
    """One line about a heatmap (H, W)."""
    height, width = values.shape
    found = values[np.isfinite(values)]
    said = (
        f"scores {found.min():.3g} to {found.max():.3g} on {found.size / values.size:.0%} of it" if found.size else ""
    )
    return f"Heatmap of {width} x {height} px at {spacing_um_px:.4g} µm/px, {said or 'without any score'}"


def figure(values: npt.NDArray[np.float32], caption: str) -> str:
    """A heatmap's picture in HTML, with what its colours stand for."""
    stops = ",".join(
        f"rgb({red:.0f},{green:.0f},{blue:.0f})" for red, green, blue in score_colour(np.linspace(0, 1, 5))
    )
    data = base64.b64encode(png(values)).decode()
    return (
        f'<figure style="margin:0"><img alt="{escape(printable(caption))}" src="data:image/png;base64,{data}" '
        'style="max-width:100%;image-rendering:pixelated;border:1px solid currentColor">'
        f'<figcaption>{escape(printable(caption))}<br>0 <span style="display:inline-block;width:8em;height:0.7em;'
        f'background:linear-gradient(90deg,{stops})"></span> 1</figcaption></figure>'
    )


def png(values: npt.NDArray[np.float32]) -> bytes:
    """A heatmap's picture of at most `_LONG_SIDE` pixels: blue 0, yellow 1/2, red 1, clear where there is no score."""
    while max(values.shape) > _LONG_SIDE:
        values = halved(values)
    shown = np.isfinite(values)
    pixels = np.zeros((*values.shape, 4), np.uint8)
    pixels[shown, :3] = np.rint(score_colour(values[shown]))
    pixels[shown, 3] = 255
    stream = io.BytesIO()
    Image.fromarray(pixels).save(stream, format="PNG", optimize=True)
    return stream.getvalue()


def _cells(row: tuple[str, ...]) -> str:
    return "".join(f'<td style="{_RIGHT}">{escape(printable(cell))}</td>' for cell in row)
